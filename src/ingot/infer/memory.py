"""How much memory keys and values may take, and in which numbers they are kept, as options."""

from __future__ import annotations

from typing import Literal

from ingot.core.options import Options, option


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
