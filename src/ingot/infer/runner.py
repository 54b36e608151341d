"""One forward pass for a group of sequences, each at its own place in the cache.

A group is padded on the right: what a pad writes lies behind the sequence's end, where nothing looks before it is
overwritten. What adapters put in front of every text is written to a slot when its sequence first runs, and is read
from there like any other token. An encoder-decoder's source is encoded at the same time; its keys and values stay in a
cache of their own for as long as the sequence has its slot. Caches grow with the longest text they have held.
"""

from __future__ import annotations

from collections.abc import Sequence as List

import torch
from torch import Tensor

from ingot.adapt.load import LanguageModel
from ingot.adapt.methods import length_in_front
from ingot.infer.sequence import Sequence
from ingot.model.cache import KVCache, SlotRows, SourceRows
from ingot.model.encoder_decoder import EncoderDecoder

FIRST_CAPACITY = 256
"""Tokens a slot holds before a cache first grows."""


class Runner:
    """A network and what it keeps of the sequences in its slots."""

    def __init__(self, model: LanguageModel, num_slots: int) -> None:
        self.model = model
        self.network = model.writer
        self.cache = self._new_cache(num_slots)
        self.sources = self._new_cache(num_slots) if isinstance(self.network, EncoderDecoder) else None

    def run(self, group: list[Sequence], most: int) -> Tensor:
        """Run each sequence's next tokens, `most` of them; the last hidden state, (R, D), of those with none left."""
        self._read_sources([sequence for sequence in group if sequence.source_left])
        self._keep_front([sequence for sequence in group if sequence.num_cached == 0])
        counts = [sequence.num_next(most) for sequence in group]
        width = max(counts)
        rows = [sequence.next_ids(count) for sequence, count in zip(group, counts, strict=True)]
        ids_BT = self._padded(rows, width)
        positions_BT = self._tensor([range(each.next_position, each.next_position + width) for each in group])
        self._make_room(self.cache, max(sequence.next_position for sequence in group) + width)
        hidden_BTD = self._forward(group, ids_BT, positions_BT)
        for sequence, count in zip(group, counts, strict=True):
            sequence.num_cached += count
        done = [row for row, sequence in enumerate(group) if sequence.num_left == 0]
        found: Tensor = hidden_BTD[done, [counts[row] - 1 for row in done]]
        return found

    def _forward(self, group: list[Sequence], ids_BT: Tensor, positions_BT: Tensor) -> Tensor:
        slots_B = self._tensor([sequence.slot for sequence in group])
        rows = SlotRows.at(self.cache, slots_B, positions_BT)
        if self.sources is not None:
            lengths_B = self._tensor([sequence.source_cached for sequence in group])
            return self.network(ids_BT, positions_BT, rows=rows, source=SourceRows.at(self.sources, slots_B, lengths_B))
        lengths_B = self._tensor([sequence.front_cached + len(sequence.start.ids) for sequence in group])
        prefix_BT = None
        if any(sequence.num_cached < sequence.start.prefix for sequence in group):
            inside_BT = positions_BT - self._tensor([[sequence.front_cached] for sequence in group])
            prefix_BT = inside_BT < self._tensor([[sequence.start.prefix] for sequence in group])
        return self.network(ids_BT, positions_BT, prefix_BT=prefix_BT, lengths_B=lengths_B, rows=rows)

    def _keep_front(self, group: list[Sequence]) -> None:
        """Put what adapters have for the beginning of every text into the slots of these sequences."""
        length = length_in_front(self.network)
        if not group or not length:
            return
        self._make_room(self.cache, length)
        kept_B = self.network.keep_front(self.cache, self._tensor([sequence.slot for sequence in group]))
        for sequence, kept in zip(group, kept_B.tolist(), strict=True):
            sequence.front_cached = kept

    def _read_sources(self, group: list[Sequence]) -> None:
        """Encode the sources of these sequences, together."""
        if not group:
            return
        assert self.sources is not None
        assert isinstance(self.network, EncoderDecoder)
        width = max(sequence.source_left for sequence in group)
        self._make_room(self.sources, width + length_in_front(self.network))
        ids_BS = self._padded([sequence.start.source for sequence in group], width)
        order_BS = torch.arange(width, device=self.model.device).expand(ids_BS.shape)
        lengths_B1 = self._tensor([[len(sequence.start.source)] for sequence in group])
        segments_BS = (order_BS < lengths_B1).long() - 1  # padding is -1
        slots_B = self._tensor([sequence.slot for sequence in group])
        kept_B = self.network.keep_source(ids_BS, segments_BS, self.sources, slots_B)
        for sequence, kept in zip(group, kept_B.tolist(), strict=True):
            sequence.source_cached = kept

    def _new_cache(self, num_slots: int) -> KVCache:
        capacity = min(self.model.config.max_length, FIRST_CAPACITY)
        return KVCache(self.model.config, num_slots, capacity, self.model.device, self.network.dtype)

    def _make_room(self, cache: KVCache, length: int) -> None:
        """Grow a cache by doubling, at most to the model's window."""
        if length > cache.capacity:
            cache.grow(max(length, min(2 * cache.capacity, self.model.config.max_length)))

    def _padded(self, rows: List[List[int]], width: int) -> Tensor:
        return self._tensor([[*row, *[0] * (width - len(row))] for row in rows])

    def _tensor(self, values: List[object]) -> Tensor:
        return torch.tensor(values, device=self.model.device)
