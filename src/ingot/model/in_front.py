"""What a network asks for the tokens that an adapter puts in front of every text. `ingot.adapt.before` answers."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from ingot.model.context import Before


class Front(NamedTuple):
    """A batch with tokens put in front of every text in it; `places_BT`: where its own tokens went."""

    ids_BT: Tensor
    positions_BT: Tensor
    segments_BT: Tensor
    places_BT: Tensor


class InFront(nn.Module):
    """Hangs on a network as `before`."""

    @property
    def length(self) -> int:
        """Positions that it takes from a text's window."""
        raise NotImplementedError

    def remembered(self, network: nn.Module, batch: Tensor) -> Before | None:
        """Keys and values for the rows of a batch, (B, ...); None where there are none. An encoder's, and an
        encoder-decoder's, are those of prefixes alone."""
        raise NotImplementedError

    def put(self, ids_BT: Tensor, segments_BT: Tensor | None) -> Front:
        """Tokens in front of every segment of every row, for what reads on both sides."""
        raise NotImplementedError
