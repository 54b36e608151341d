"""The decoder's step in one C++ call: a runner for packed weights, with its cache.

It runs where every layer of a Llama-like decoder holds packed integers and nothing else acts on it (`fused_spec` says
where not). Hidden states stay float32 between layers whatever the weights are. Keys and values lie in blocks of 16
tokens: float32, bfloat16, or int8 with a scale for each token and head; arithmetic with them is float32.

A row's result is the same in every bit alone or in a batch, for any cutting of its prompt and any number of threads.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence as List
from itertools import accumulate

import torch
from torch import Tensor

from ingot.adapt.load import LanguageModel
from ingot.infer.blocks import BLOCK, blocks_for
from ingot.infer.capacity import token_bytes
from ingot.infer.fused_angles import AngleTables
from ingot.infer.fused_spec import describe
from ingot.infer.runner import Span
from ingot.model.huge_pages import in_huge_pages
from ingot.model.kernels.decoder import NativeDecoder, Step
from ingot.model.kernels.library import Kernels

KV = (torch.float32, torch.bfloat16, torch.int8)
"""How keys and values are kept, in the order in which pages.h numbers them."""

SLACK = 64
"""Bytes behind the last block: where a head is no whole number of vectors its last one reaches so far."""


class FusedRunner:
    """A network that `refusal` has nothing against, and the blocks of its texts. Block 0 is nobody's."""

    def __init__(self, model: LanguageModel, found: Kernels, num_blocks: int, kv: torch.dtype) -> None:
        self.model, self.network = model, model.decoder
        self._described, self.num_blocks = describe(self.network), num_blocks
        size = BLOCK * token_bytes(model.config, kv)
        self._pool_NB = in_huge_pages(num_blocks * size + SLACK)[:-SLACK].view(num_blocks, size)
        spec = self._described.spec
        spec.kv, spec.pool, spec.tiles = KV.index(kv), self._pool_NB.data_ptr(), found.tiles
        self.has_taps = False
        self._angles = AngleTables(self.network)
        self._decoder = NativeDecoder(found.library, spec)

    def run(self, spans: List[Span], layers: int | None = None) -> Tensor:
        """Read the spans; the hidden states that are wanted of each, in line, (R, C), float32. `layers`: through so
        many of the first layers alone, and the final norm."""
        counts = [len(span.ids) for span in spans]
        places = [range(span.begin, span.begin + count) for span, count in zip(spans, counts, strict=True)]
        blocks = [span.blocks[: blocks_for(place.stop)] for span, place in zip(spans, places, strict=True)]
        ids = array("q", [token for span in spans for token in span.ids])
        tables = array("i", [block for held in blocks for block in held])
        self._check(ids, tables, blocks, places)
        wanted = [span.wanted for span in spans]
        offsets = [0, *accumulate(map(len, blocks))]
        rows = [array("i", row) for row in (counts, [span.begin for span in spans], offsets, wanted)]
        step = Step(
            _address(ids), *map(_address, rows), _address(tables),
            self._angles.at(places, [span.length for span in spans]),
            len(spans), torch.get_num_threads(), self.model.config.num_layers if layers is None else layers,
        )  # fmt: skip
        hidden_RC = torch.empty(sum(wanted), self.model.config.hidden_size)
        self._decoder.step(step, hidden_RC.data_ptr())
        return hidden_RC

    def _check(self, ids: array[int], tables: array[int], blocks: List[List[int]], places: List[range]) -> None:
        """That nothing is read or written outside of what there is."""
        assert min(ids) >= 0
        assert max(ids) < self.model.config.vocab_size
        assert min(tables) > 0
        assert max(tables) < self.num_blocks
        assert all(len(held) == blocks_for(place.stop) for held, place in zip(blocks, places, strict=True))

    def head(self, hidden_RC: Tensor) -> Tensor:
        """Logits in float32, (R, V)."""
        hidden_RC = hidden_RC.float().contiguous()
        logits_RV = torch.empty(len(hidden_RC), self.model.config.vocab_size)
        self._decoder.head(hidden_RC.data_ptr(), len(hidden_RC), torch.get_num_threads(), logits_RV.data_ptr())
        return logits_RV

    def copy_block(self, source: int, target: int) -> None:
        self._pool_NB[target] = self._pool_NB[source]


def _address(numbers: array[int]) -> int:
    return numbers.buffer_info()[0]
