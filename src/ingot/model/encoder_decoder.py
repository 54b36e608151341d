"""Encoder-decoders: a source is read on both sides, a target is written after it.

Packed rows work as in a decoder: segment k of a row of targets sees segment k of the same row of sources, alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ingot.model.attention import visible
from ingot.model.context import default_positions
from ingot.model.transformer import Transformer


class EncoderDecoder(Transformer):
    """A transformer with an encoder and a decoder (Vaswani et al. 2017) and its head.

    A family gives `embedding`, `blocks`, `encode`, `decode`, `head` and `ties`.
    """

    def encode(self, ids_BS: Tensor, positions_BS: Tensor, mask: Tensor | None) -> Tensor:
        """The source's hidden states, (B, S, C). `mask` (B, 1, S, S) or None for everything."""
        raise NotImplementedError

    def decode(
        self, ids_BT: Tensor, positions_BT: Tensor, mask: Tensor, memory_BSC: Tensor, across: Tensor | None
    ) -> Tensor:
        """The target's hidden states, (B, T, C). `across` (B, 1, T, S): which source tokens a target token sees."""
        raise NotImplementedError

    def head(self, hidden: Tensor) -> Tensor:
        """Logits in float32 over the vocabulary, (..., V), of the next target token."""
        raise NotImplementedError

    def forward(
        self,
        ids_BT: Tensor,
        positions_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
        source_ids_BS: Tensor | None = None,
        source_segments_BS: Tensor | None = None,
    ) -> Tensor:
        """Hidden states of the target `ids_BT`, (B, T, hidden). With source segments but none for the target, every
        target token sees the sources that are not padding (-1)."""
        assert source_ids_BS is not None, "an encoder-decoder needs a source"
        positions_BT = default_positions(ids_BT) if positions_BT is None else positions_BT
        if self.before is not None:
            source_ids_BS, _, source_segments_BS, _ = self.before.put(source_ids_BS, source_segments_BS)
        order_BS = default_positions(source_ids_BS)
        inside = across = None
        source_positions_BS = order_BS
        if source_segments_BS is not None:
            inside = (source_segments_BS[:, :, None] == source_segments_BS[:, None, :])[:, None]
            source_positions_BS = within_segment(source_segments_BS)
            across = _across(ids_BT, segments_BT, source_segments_BS)
        memory_BSC = self.encode(source_ids_BS, source_positions_BS, inside)
        order_BT = default_positions(ids_BT)
        pair = None if segments_BT is None else (segments_BT, segments_BT)
        return self.decode(ids_BT, positions_BT, visible(order_BT, order_BT, None, pair), memory_BSC, across)


def within_segment(segments_BS: Tensor) -> Tensor:
    """Positions that start again at 0 with each run of equal numbers, (B, S)."""
    order_BS = default_positions(segments_BS)
    begins_BS = torch.ones_like(segments_BS, dtype=torch.bool)
    begins_BS[:, 1:] = segments_BS[:, 1:] != segments_BS[:, :-1]
    return order_BS - torch.where(begins_BS, order_BS, 0).cummax(1).values


def _across(ids_BT: Tensor, segments_BT: Tensor | None, source_segments_BS: Tensor) -> Tensor:
    """(B, 1, T, S). Padding of the target sees everything: what it computes is never used, but must be a number."""
    if segments_BT is None:
        return (source_segments_BS >= 0)[:, None, None, :].expand(-1, 1, ids_BT.shape[1], -1)
    same_BTS = segments_BT[:, :, None] == source_segments_BS[:, None, :]
    return (same_BTS | (segments_BT < 0)[:, :, None])[:, None]
