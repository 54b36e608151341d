"""Encoders: ids in, hidden states that see the text on both sides out, and the head that predicts masked tokens."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ingot.model.cache import CacheRows
from ingot.model.context import Before, Behind, Recorder, both_ways, default_positions
from ingot.model.in_front import InFront
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
            return self._behind(self.before, ids_BT, segments_BT, types_BT)
        positions_BT = default_positions(ids_BT) if positions_BT is None else positions_BT
        mask_of = both_ways(self.config, positions_BT, segments_BT)
        return self._through(ids_BT, positions_BT, types_BT, mask_of, None)

    def remember(self, ids_BT: Tensor) -> Recorder:
        recorder, positions_BT = Recorder(), default_positions(ids_BT)
        self._through(ids_BT, positions_BT, None, both_ways(self.config, positions_BT, None), recorder)
        return recorder

    def _behind(self, before: InFront, ids_BT: Tensor, segments_BT: Tensor | None, types_BT: Tensor | None) -> Tensor:
        """Hidden states of a batch's own tokens, read behind what was put in front of each text."""
        front = before.put(ids_BT, segments_BT)
        if types_BT is not None:
            types_BT = torch.zeros_like(front.ids_BT).scatter(1, front.places_BT, types_BT)
        mask_of = both_ways(self.config, front.positions_BT, front.segments_BT)
        rows, positions_BT, kept = None, front.positions_BT, before.remembered(self, ids_BT)
        if kept is not None:
            mask_of = {window: _with_prefix(mask, kept) for window, mask in mask_of.items()}
            rows, positions_BT = Behind(kept), positions_BT + kept.lengths_B[:, None]
        x_BTC = self._through(front.ids_BT, positions_BT, types_BT, mask_of, rows)
        return x_BTC.gather(1, front.places_BT[..., None].expand(-1, -1, x_BTC.shape[-1]))

    def _through(
        self,
        ids_BT: Tensor,
        positions_BT: Tensor,
        types_BT: Tensor | None,
        mask_of: dict[int | None, Tensor | None],
        rows: CacheRows | None,
    ) -> Tensor:
        x_BTC = self.embed(ids_BT, positions_BT, types_BT)
        angles_of = self.angles(positions_BT, None, x_BTC.dtype)
        for block, window, rope in zip(self.blocks, self.config.windows, self.config.ropes, strict=True):
            x_BTC = block(x_BTC, angles_of[rope], mask_of[window], rows)
        return self.final(x_BTC)


def _with_prefix(mask: Tensor | None, kept: Before) -> Tensor:
    """A mask (B, 1, T, T) with the keys of a prefix in front, which every token sees."""
    assert mask is not None
    there_BV = torch.arange(kept.length, device=mask.device) < kept.lengths_B[:, None]
    front = there_BV[:, None, None].expand(-1, -1, mask.shape[2], -1)
    return torch.cat((front, mask.expand(len(front), -1, -1, -1)), -1)
