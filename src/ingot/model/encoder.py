"""Encoders: ids in, hidden states that see the text on both sides out, and the head that predicts masked tokens."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ingot.model.context import both_ways, default_positions
from ingot.model.in_front import Front
from ingot.model.transformer import Transformer


class Encoder(Transformer):
    """An encoder-only transformer (Devlin et al. 2018) with its masked-language-model head.

    A family gives `embedding`, `blocks`, `embed`, `head` and `ties`. Blocks are called as a decoder's are.
    """

    head: Callable[[Tensor], Tensor]
    """Hidden states to logits in float32 over the vocabulary, (..., V), of the token that stands at each position."""

    def embed(self, ids_BT: Tensor, positions_BT: Tensor, types_BT: Tensor | None) -> Tensor:
        """What the first block reads, (B, T, C)."""
        raise NotImplementedError

    def final(self, x_BTC: Tensor) -> Tensor:
        """What follows the last block: nothing, for most."""
        return x_BTC

    def forward(
        self,
        ids_BT: Tensor,
        positions_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
        types_BT: Tensor | None = None,
    ) -> Tensor:
        """Hidden states, (B, T, hidden). Tokens see all tokens of their own segment (equal number in `segments_BT`);
        `types_BT`: which of two sentences a token belongs to, where the family knows (default: the first)."""
        if self.before is not None:
            return self._behind(self.before.put(ids_BT, segments_BT), types_BT)
        positions_BT = default_positions(ids_BT) if positions_BT is None else positions_BT
        return self._through(ids_BT, positions_BT, segments_BT, types_BT)

    def _behind(self, front: Front, types_BT: Tensor | None) -> Tensor:
        """Hidden states of a batch's own tokens, read behind what was put in front of each text."""
        if types_BT is not None:
            types_BT = torch.zeros_like(front.ids_BT).scatter(1, front.places_BT, types_BT)
        x_BTC = self._through(front.ids_BT, front.positions_BT, front.segments_BT, types_BT)
        return x_BTC.gather(1, front.places_BT[..., None].expand(-1, -1, x_BTC.shape[-1]))

    def _through(
        self, ids_BT: Tensor, positions_BT: Tensor, segments_BT: Tensor | None, types_BT: Tensor | None
    ) -> Tensor:
        mask_of = both_ways(self.config, positions_BT, segments_BT)
        x_BTC = self.embed(ids_BT, positions_BT, types_BT)
        angles_of = self.angles(positions_BT, None, x_BTC.dtype)
        for block, window, rope in zip(self.blocks, self.config.windows, self.config.ropes, strict=True):
            x_BTC = block(x_BTC, angles_of[rope], mask_of[window], None)
        return self.final(x_BTC)
