"""How many blocks of keys and values a model may have: what is asked for, as bytes and blocks."""

from __future__ import annotations

import torch

from ingot.adapt.load import LanguageModel
from ingot.adapt.methods import length_in_front
from ingot.core.errors import fail
from ingot.infer.blocks import BLOCK, blocks_for
from ingot.infer.memory import Memory
from ingot.model.available import free_bytes
from ingot.model.config import ModelConfig
from ingot.model.encoder_decoder import EncoderDecoder

SHARE = 0.25
"""Of the memory that is free, what the cache may grow to by itself. On a CPU it takes only what it has used once."""

GIB = 1 << 30
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}


def kv_dtype(memory: Memory, model: LanguageModel) -> torch.dtype:
    return kept_in(memory, model.writer.dtype)


def kept_in(memory: Memory, computed: torch.dtype) -> torch.dtype:
    """The numbers of keys and values of a model that computes in these."""
    return computed if memory.kv == "auto" else DTYPES[memory.kv]


def count_blocks(memory: Memory, model: LanguageModel, num_slots: int) -> tuple[int, int]:
    """Blocks for texts and for an encoder-decoder's sources, scratch included. Raises `cache-without-room`,
    `place-cache`."""
    front = length_in_front(model.network)
    paired = isinstance(model.network, EncoderDecoder)
    return blocks_within(_budget(memory, model), model.writer.config, kv_dtype(memory, model), num_slots, paired, front)


def blocks_within(
    budget: float, config: ModelConfig, kv: torch.dtype, num_slots: int, paired: bool, front: int = 0
) -> tuple[int, int]:
    """The same of a budget in bytes; `paired`: whether there are sources; `front`: tokens in front of every text."""
    each = BLOCK * token_bytes(config, kv)
    longest = blocks_for(config.max_length)
    num_sources = num_slots * blocks_for(config.max_length + front) + 1 if paired else 0
    fitting = budget / each - num_sources
    if fitting < 2:
        raise fail("cache-without-room", gib=f"{budget / GIB:.3g}", needed=f"{(2 + num_sources) * each / GIB:.3g}")
    return int(min(num_slots * longest + 1, fitting)), num_sources


def _budget(memory: Memory, model: LanguageModel) -> float:
    """Bytes that the cache may take: what is asked for, what a plan has left for it, or a share of what is free. Raises
    `place-cache`."""
    if model.placement is not None:
        planned = model.placement.cache
        if memory.gib and memory.gib * GIB > planned:
            raise fail("place-cache", gib=memory.gib, planned=f"{planned / GIB:.3g}")
        return memory.gib * GIB if memory.gib else planned
    sharing = model.ranks.size if model.ranks is not None and model.device.type == "cpu" else 1
    if memory.gib:
        return memory.gib * GIB / sharing
    free = free_bytes(model.device)
    return float("inf") if free is None else SHARE * free / sharing


def token_bytes(config: ModelConfig, dtype: torch.dtype) -> int:
    """What one token's keys and values take in all layers."""
    head = config.head_dim * dtype.itemsize + (4 if dtype == torch.int8 else 0)
    return 2 * config.num_layers * config.num_kv_heads * head
