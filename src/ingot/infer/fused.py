"""The decoder's step in one C++ call: its cache, and the call.

Runs where every layer of a Llama-like decoder holds packed integers and nothing else acts on it; where not, `of` says
why. Hidden states stay float32 between layers whatever the weights are. Keys and values lie in blocks of 16 tokens:
float32, bfloat16, or int8 with a scale for each token and head; arithmetic with them is float32.

A row's result is the same in every bit alone or in a batch, for any cutting of its prompt and any number of threads.
"""

from __future__ import annotations

import ctypes
import mmap
from array import array
from collections.abc import Sequence as List
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor

from ingot.adapt.load import LanguageModel
from ingot.infer.fused_angles import AngleTables
from ingot.infer.fused_spec import Description, describe, refusal
from ingot.infer.sequence import Sequence
from ingot.model.config import ModelConfig
from ingot.model.kernels.decoder import Step
from ingot.model.kernels.library import Kernels, kernels

BLOCK = 16
"""Tokens in a block."""

KV = Literal["float32", "bfloat16", "int8"]
KV_BYTES: dict[str, int] = {"float32": 4, "bfloat16": 2, "int8": 1}
"""How keys and values are stored, in the order in which pages.h numbers them -> bytes a number."""

VECTOR = 16
SCALE_BYTES = 4


class FusedRunner:
    """A network and the blocks of its sequences. Block 0 is nobody's."""

    def __init__(self, described: Description, library: Kernels, num_blocks: int, kv: KV) -> None:
        self._described, self._kernels = described, library
        self._config = described.network.config
        self.num_blocks, self.bytes_per_block = num_blocks, bytes_per_block(self._config, kv)
        memory = mmap.mmap(-1, num_blocks * self.bytes_per_block, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_HUGEPAGE)
        self._pool_NB = torch.frombuffer(memory, dtype=torch.uint8).view(num_blocks, -1)
        described.spec.kv, described.spec.pool = list(KV_BYTES).index(kv), self._pool_NB.data_ptr()
        self._angles = AngleTables(described.network)
        self._decoder = library.ingot_decoder(ctypes.byref(described.spec))

    def __del__(self) -> None:
        self._kernels.ingot_forget(self._decoder)

    @classmethod
    def of(cls, model: LanguageModel, num_blocks: int, kv: KV | None = None) -> FusedRunner | str:
        """A runner, or why there is none: "device", "adapters", "kernels", or what `refusal` says. `kv` None:
        bfloat16 for a bfloat16 network, else float32."""
        if model.device.type != "cpu":
            return "device"
        if model.adapters:
            return "adapters"
        library, reason = kernels(), refusal(model.network)
        if reason is not None:
            return reason
        if library is None:
            return "kernels"
        chosen: KV = "bfloat16" if model.decoder.dtype == torch.bfloat16 else "float32"
        return cls(describe(model.decoder), library, num_blocks, kv or chosen)

    def run(self, group: list[Sequence], counts: List[int], wanted: List[int]) -> Tensor:
        """Read the next `counts[i]` tokens of each sequence; the hidden states of the last `wanted[i]` of them, in
        line, (R, C)."""
        positions = [range(each.next_position, each.next_position + count) for each, count in zip(group, counts, strict=True)]
        ids = array("q", [token for each, count in zip(group, counts, strict=True) for token in each.next_ids(count)])
        blocks = [each.blocks[: -(-place.stop // BLOCK)] for each, place in zip(group, positions, strict=True)]
        tables = array("i", [block for own in blocks for block in own])
        self._check(ids, counts, wanted, positions, blocks, tables)
        offsets = [0, *accumulate(len(own) for own in blocks)]
        rows = [array("i", numbers) for numbers in (counts, [place.start for place in positions], offsets, wanted)]
        angles = self._angles.at(positions, [len(each.start.ids) for each in group])
        step = Step(ids.buffer_info()[0], *(row.buffer_info()[0] for row in rows), tables.buffer_info()[0], angles,
                    len(group), torch.get_num_threads())  # fmt: skip
        hidden_RC = torch.empty(sum(wanted), self._config.hidden_size)
        if not self._kernels.ingot_step(self._decoder, ctypes.byref(step), hidden_RC.data_ptr()):
            raise MemoryError
        return hidden_RC

    def _check(self, ids: array, counts: List[int], wanted: List[int], positions: list[range], blocks: list[list[int]], tables: array) -> None:
        """Nothing that C++ would read outside of."""
        assert len(ids) == sum(counts)
        assert min(counts) > 0
        assert all(0 <= most <= count for most, count in zip(wanted, counts, strict=True))
        assert min(ids) >= 0
        assert max(ids) < self._config.vocab_size
        assert all(len(own) * BLOCK >= place.stop for own, place in zip(blocks, positions, strict=True))
        assert min(tables) >= 0
        assert max(tables) < self.num_blocks

    def head(self, hidden_RC: Tensor) -> Tensor:
        """Logits, float32 (R, V)."""
        hidden_RC = hidden_RC.float().contiguous()
        logits_RV = torch.empty(len(hidden_RC), self._config.vocab_size)
        if not self._kernels.ingot_head(self._decoder, hidden_RC.data_ptr(), len(hidden_RC), torch.get_num_threads(), logits_RV.data_ptr()):
            raise MemoryError
        return logits_RV

    def copy_block(self, source: int, target: int) -> None:
        """Make one block hold what another holds."""
        self._pool_NB[target] = self._pool_NB[source]


def bytes_per_block(config: ModelConfig, kv: KV) -> int:
    """What a block of all layers takes; heads are padded to whole vectors."""
    padded = -(-config.head_dim // VECTOR) * VECTOR
    scales = SCALE_BYTES if kv == "int8" else 0
    return 2 * BLOCK * config.num_layers * config.num_kv_heads * (padded * KV_BYTES[kv] + scales)
