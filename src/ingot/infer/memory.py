"""How much memory keys and values may take, and in which numbers they are kept."""

from __future__ import annotations

from typing import Literal

import torch

from ingot.adapt.load import LanguageModel
from ingot.adapt.methods import length_in_front
from ingot.core.errors import fail
from ingot.core.options import Options, option
from ingot.infer.blocks import BLOCK, blocks_for
from ingot.model.available import free_bytes
from ingot.model.config import ModelConfig
from ingot.model.encoder_decoder import EncoderDecoder

SHARE = 0.25
"""Of the memory that is free, what the cache may grow to by itself. On a CPU it takes only what it has used once."""

GIB = 1 << 30
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}


class Memory(Options):
    """The cache of keys and values."""

    gib: float | None = option(
        None,
        "most memory for keys and values, GiB (default: a quarter of what is free, if the slots need so much)",
        gt=0,
    )
    kv: Literal["auto", "float32", "bfloat16", "int8"] = option(
        "auto", "numbers that keys and values are kept in; auto: as the model computes"
    )

    def dtype(self, model: LanguageModel) -> torch.dtype:
        return model.writer.dtype if self.kv == "auto" else DTYPES[self.kv]

    def blocks(self, model: LanguageModel, num_slots: int) -> tuple[int, int]:
        """Blocks for texts and for an encoder-decoder's sources, scratch included. Raises `cache-too-small`."""
        config = model.writer.config
        each = BLOCK * token_bytes(config, self.dtype(model))
        longest = blocks_for(config.max_length)
        paired = isinstance(model.network, EncoderDecoder)
        num_sources = num_slots * blocks_for(config.max_length + length_in_front(model.network)) + 1 if paired else 0
        free = free_bytes(model.device)
        budget = self.gib * GIB if self.gib else float("inf") if free is None else SHARE * free
        fitting = int((budget - num_sources * each) // each)
        if fitting < 2:
            raise fail("cache-without-room", gib=f"{budget / GIB:.3g}", needed=f"{(2 + num_sources) * each / GIB:.3g}")
        return min(num_slots * longest + 1, fitting), num_sources


def token_bytes(config: ModelConfig, dtype: torch.dtype) -> int:
    """What one token's keys and values take in all layers."""
    head = config.head_dim * dtype.itemsize + (4 if dtype == torch.int8 else 0)
    return 2 * config.num_layers * config.num_kv_heads * head
