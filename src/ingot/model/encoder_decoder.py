"""Encoder-decoders: a source is read on both sides, a target is written after it.

Packed rows work as in a decoder: segment k of a row of targets sees segment k of the same row of sources, alone. To
write, a source is encoded once and each layer's keys and values of it are kept (`keep_source`); the target then goes on
token by token over two caches, its own and that of the sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from ingot.model.attention import visible
from ingot.model.cache import CacheRows, HeldRows, Keys, KVCache, SourceRows
from ingot.model.context import Behind, Recorder, behind, default_positions, key_positions
from ingot.model.transformer import Transformer

Memory = Tensor | SourceRows
"""What cross attention looks at: the source's hidden states (B, S, C), or keys and values that were kept of them."""


class CrossAttention(Protocol):
    """The attention of a decoder's layer to the source."""

    def keys(self, read: Tensor) -> Keys:
        """Keys and values of what is looked at."""
        ...


def source_keys(attention: CrossAttention, layer: int, memory: Memory) -> Keys:
    """The keys and values of the source for one layer, made now or long ago."""
    return memory.held(layer) if isinstance(memory, SourceRows) else attention.keys(memory)


@dataclass(frozen=True)
class Target:
    """What a decoder's layers need to know of one pass. positions_BT, keys_BS: where its tokens stand, and those they
    look at; mask (B, 1, T, S): which of these they see; across, broadcast to (B, 1, T, S): which of the source's (None:
    all); rows: the cache that holds what was read before, if there is one."""

    positions_BT: Tensor
    keys_BS: Tensor
    mask: Tensor
    memory: Memory
    across: Tensor | None
    rows: CacheRows | None = None


class EncoderDecoder(Transformer):
    """A transformer with an encoder and a decoder (Vaswani et al. 2017) and its head.

    A family gives `embedding`, `blocks`, `encode`, `decode`, `cross_attentions`, `head` and `ties`. What adapters put
    in front as tokens stands before the source, what they put there as keys and values before the target.
    """

    takes_prefix = True

    def encode(self, ids_BS: Tensor, positions_BS: Tensor, mask: Tensor | None) -> Tensor:
        """The source's hidden states, (B, S, C). `mask` (B, 1, S, S) or None for everything."""
        raise NotImplementedError

    def decode(self, ids_BT: Tensor, target: Target) -> Tensor:
        """The target's hidden states, (B, T, C)."""
        raise NotImplementedError

    @property
    def cross_attentions(self) -> Sequence[CrossAttention]:
        """The decoder's attentions to the source, in the order of its layers."""
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
        rows: HeldRows | None = None,
        source: SourceRows | None = None,
    ) -> Tensor:
        """Hidden states of the target `ids_BT`, (B, T, hidden). With source segments but none for the target, every
        target token sees the sources that are not padding (-1). With `rows` and `source`, each row goes on with the
        target and looks at the source that caches hold; positions then count from the end of what `keep_front` wrote.
        """
        positions_BT = default_positions(ids_BT) if positions_BT is None else positions_BT
        if rows is not None and source is not None:
            keys_BS = key_positions(rows)
            mask = visible(positions_BT, keys_BS, None)
            return self.decode(ids_BT, Target(positions_BT, keys_BS, mask, source, source.visible(), rows))
        assert source_ids_BS is not None, "an encoder-decoder needs a source"
        source_ids_BS, source_segments_BS = self._with_front(source_ids_BS, source_segments_BS)
        across = None if source_segments_BS is None else _across(ids_BT, segments_BT, source_segments_BS)
        memory_BSC = self._encoded(source_ids_BS, source_segments_BS)
        order_BT = default_positions(ids_BT)
        pair = None if segments_BT is None else (segments_BT, segments_BT)
        mask = visible(order_BT, order_BT, None, pair)
        return self.decode(ids_BT, self._behind_front(Target(positions_BT, positions_BT, mask, memory_BSC, across)))

    def _behind_front(self, target: Target) -> Target:
        """A target that sees what adapters put in front of it."""
        before = None if self.before is None else self.before.remembered(self, target.positions_BT)
        if before is None:
            return target
        positions_BT, keys_BS, seen = behind(
            before, target.positions_BT, target.positions_BT, target.keys_BS, {None: target.mask}
        )
        mask = seen[None]
        assert mask is not None
        return replace(target, positions_BT=positions_BT, keys_BS=keys_BS, mask=mask, rows=Behind(before))

    def remember(self, ids_BT: Tensor) -> Recorder:
        """The keys and values of the decoder's layers once it read `ids_BT`, which were also the source."""
        recorder, order_BT = Recorder(), default_positions(ids_BT)
        mask = visible(order_BT, order_BT, None)
        self.decode(ids_BT, Target(order_BT, order_BT, mask, self._encoded(ids_BT, None), None, recorder))
        return recorder

    def keep_source(self, ids_BS: Tensor, segments_BS: Tensor, cache: KVCache, places_BS: Tensor) -> Tensor:
        """Encode sources and write every decoder layer's keys and values of them to a cache. How many each row has
        there, (B,): its tokens, and those that an adapter puts in front of them."""
        front_BS, inside_BS = self._with_front(ids_BS, segments_BS)
        assert inside_BS is not None
        memory_BSC = self._encoded(front_BS, inside_BS)
        places_BS, length = places_BS[:, : front_BS.shape[1]], front_BS.shape[1]
        rows = HeldRows(cache, places_BS, places_BS, default_positions(front_BS), length)
        for layer, attention in enumerate(self.cross_attentions):
            rows.append(layer, attention.keys(memory_BSC))
        return (inside_BS >= 0).sum(1)

    def source_states(self, ids_BS: Tensor, segments_BS: Tensor) -> Tensor:
        """Hidden states of a source's own tokens, (B, S, C), read behind what adapters put in front of it."""
        if self.before is None:
            return self._encoded(ids_BS, segments_BS)
        front = self.before.put(ids_BS, segments_BS)
        memory_BSC = self._encoded(front.ids_BT, front.segments_BT)
        return memory_BSC.gather(1, front.places_BT[..., None].expand(-1, -1, memory_BSC.shape[-1]))

    def _with_front(self, ids_BS: Tensor, segments_BS: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Sources and their segments, behind what an adapter puts in front of each."""
        if self.before is None:
            return ids_BS, segments_BS
        front = self.before.put(ids_BS, segments_BS)
        return front.ids_BT, front.segments_BT

    def _encoded(self, ids_BS: Tensor, segments_BS: Tensor | None) -> Tensor:
        """The sources' hidden states, (B, S, C), each segment read alone."""
        if segments_BS is None:
            return self.encode(ids_BS, default_positions(ids_BS), None)
        inside = (segments_BS[:, :, None] == segments_BS[:, None, :])[:, None]
        return self.encode(ids_BS, within_segment(segments_BS), inside)


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
