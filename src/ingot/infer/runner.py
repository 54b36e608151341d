"""Forward passes for sequences that lie in the blocks of a cache, each at its own place.

What is read of a sequence in one step is a `Span`; spans of different lengths are padded on the right where they are
run together, and what a pad writes goes to scratch. What adapters put in front of every text is written to a sequence's
first blocks when it begins, and is read from there like any other token. An encoder-decoder's source is encoded at
once; its keys and values stay in a cache of their own for as long as the sequence runs.
"""

from __future__ import annotations

from collections.abc import Sequence as List
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ingot.adapt.load import LanguageModel
from ingot.adapt.methods import length_in_front
from ingot.infer.blocks import BLOCK
from ingot.model.cache import HeldRows, KVCache, SourceRows
from ingot.model.encoder_decoder import EncoderDecoder

PADDED = 512
"""Tokens of one padded pass of several spans, padding included: bounds its mask."""

NARROW = 16
"""Spans up to this long are run together whatever their lengths."""


@dataclass(frozen=True)
class Span:
    """What is read of one sequence in one step. ids: the tokens; begin: the position of the first; blocks: where all of
    the text lies; wanted: how many of the last hidden states are asked for; front: how many tokens an adapter put in
    front; length: of the prompt as the decoder reads it, front included; prefix: how much of that is read in both
    directions; adapters: what acts, None for all that the model has; source_blocks, source: where an encoder-decoder's
    source lies, and its length."""

    ids: List[int]
    begin: int
    blocks: List[int]
    wanted: int
    length: int = 0
    front: int = 0
    prefix: int = 0
    adapters: tuple[str, ...] | None = None
    source_blocks: List[int] = ()
    source: int = 0


class Runner(Protocol):
    """A network and the memory of its cache, in blocks."""

    def run(self, spans: List[Span], layers: int | None = None) -> Tensor:
        """Read the spans; the hidden states that are wanted of each, in line, (R, C). `layers`: through so many of the
        first layers alone, and the final norm."""
        ...

    def head(self, hidden_RC: Tensor) -> Tensor:
        """Logits in float32, (R, V)."""
        ...

    def copy_block(self, source: int, target: int) -> None: ...


class TorchRunner:
    """Any network that writes, through its modules."""

    def __init__(self, model: LanguageModel, num_blocks: int, num_source_blocks: int, kv: torch.dtype) -> None:
        self.model = model
        self.network = model.writer
        self.cache = model.new_cache(num_blocks * BLOCK, kv)
        paired = isinstance(self.network, EncoderDecoder)
        room = num_source_blocks * BLOCK if paired else 0
        self.sources = KVCache(self.network.config, room, model.device, kv)

    def run(self, spans: List[Span], layers: int | None = None) -> Tensor:
        found: dict[int, Tensor] = {}
        for numbers in _passes([len(span.ids) for span in spans]):
            group = [spans[number] for number in numbers]
            with self._acting([span.adapters for span in group]):
                hidden_BTC = self._forward(group, layers)
            for row, (number, span) in enumerate(zip(numbers, group, strict=True)):
                found[number] = hidden_BTC[row, len(span.ids) - span.wanted : len(span.ids)]
        return torch.cat([found[number] for number in range(len(spans))])

    def head(self, hidden_RC: Tensor) -> Tensor:
        logits_RV: Tensor = self.network.head(hidden_RC)
        return logits_RV

    def copy_block(self, source: int, target: int) -> None:
        at, to = (slice(block * BLOCK, (block + 1) * BLOCK) for block in (source, target))
        self.cache.copy(at, to)

    def keep_front(self, tables: List[List[int]], adapters: List[tuple[str, ...] | None]) -> list[int]:
        """Put what adapters have for the beginning of every text into the blocks of new sequences; how many tokens
        each."""
        if not length_in_front(self.network):
            return [0] * len(tables)
        with self._acting(adapters):
            kept: list[int] = self.network.keep_front(self.cache, self._places(tables)).tolist()
        return kept

    def read_sources(
        self, sources: List[List[int]], tables: List[List[int]], adapters: List[tuple[str, ...] | None]
    ) -> list[int]:
        """Encode sources together; how many places each has taken in its blocks."""
        assert isinstance(self.network, EncoderDecoder)
        width = max(map(len, sources))
        lengths_B1 = self._tensor([[len(source)] for source in sources])
        order_BS = torch.arange(width, device=self.model.device).expand(len(sources), -1)
        segments_BS = (order_BS < lengths_B1).long() - 1  # padding is -1
        with self._acting(adapters):
            kept_B = self.network.keep_source(
                self._padded(sources, width), segments_BS, self.sources, self._places(tables)
            )
        kept: list[int] = kept_B.tolist()
        return kept

    def _forward(self, group: list[Span], layers: int | None) -> Tensor:
        width = max(len(span.ids) for span in group)
        ids_BT = self._padded([span.ids for span in group], width)
        order_BT = torch.arange(width, device=self.model.device).expand(len(group), -1)
        counts_B1, begins_B1 = self._tensor([[(len(span.ids), span.begin)] for span in group]).unbind(-1)
        positions_BT = begins_B1 + torch.minimum(order_BT, counts_B1 - 1)
        real_BT = order_BT < counts_B1
        rows = HeldRows.at(self.cache, self._places([span.blocks for span in group]), positions_BT, real_BT)
        if isinstance(self.network, EncoderDecoder):
            lengths_B = self._tensor([span.source for span in group])
            places_BS = self._places([span.source_blocks for span in group])
            source = SourceRows.at(self.sources, places_BS, lengths_B, self.network.dtype)
            return self.network(ids_BT, positions_BT, rows=rows, source=source)
        lengths_B = self._tensor([span.length for span in group])
        prefix_BT = None
        if any(span.begin - span.front < span.prefix for span in group):
            ends_B1 = self._tensor([[span.front + span.prefix] for span in group])
            prefix_BT = positions_BT < ends_B1
        return self.network(ids_BT, positions_BT, prefix_BT=prefix_BT, lengths_B=lengths_B, rows=rows, layers=layers)

    def _acting(self, adapters: List[tuple[str, ...] | None]) -> AbstractContextManager[None]:
        """The adapters of each row."""
        active = self.model.active
        if all(names is None for names in adapters):
            return nullcontext()
        return active.rows([tuple(active.names) if names is None else names for names in adapters])

    def _places(self, tables: List[List[int]]) -> Tensor:
        """Where the tokens of texts lie, (B, S), from their blocks; scratch behind a shorter text's end."""
        blocks_BN = self._padded(tables, max(map(len, tables)))
        inside = torch.arange(BLOCK, device=self.model.device)
        return (blocks_BN[:, :, None] * BLOCK + inside).flatten(1)

    def _padded(self, rows: List[List[int]], width: int) -> Tensor:
        return self._tensor([[*row, *[0] * (width - len(row))] for row in rows])

    def _tensor(self, values: object) -> Tensor:
        return torch.tensor(values, device=self.model.device)


def _passes(lengths: List[int]) -> list[list[int]]:
    """Which spans to run together, by number: the narrow ones at once, others while little of a pass is padding."""
    passes: list[list[int]] = [[number for number, length in enumerate(lengths) if length <= NARROW]]
    wide = sorted((number for number, length in enumerate(lengths) if length > NARROW), key=lambda n: -lengths[n])
    for number in wide:
        last = passes[-1]
        if not last or lengths[last[0]] <= NARROW or lengths[last[0]] * (len(last) + 1) > PADDED:
            passes.append([number])
        else:
            last.append(number)
    return [numbers for numbers in passes if numbers]
