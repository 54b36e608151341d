"""Memory in huge pages, for what is streamed from or looked up all over: packed weights, keys and values."""

from __future__ import annotations

import mmap

import torch
from torch import Tensor

HUGE = 1 << 21


def in_huge_pages(size: int) -> Tensor:
    """Zeros, so many bytes, which the system gives as they are first written; they begin with a huge page, where it has
    such."""
    memory = mmap.mmap(-1, size + HUGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # shared memory has small pages
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    whole = torch.frombuffer(memory, dtype=torch.uint8)
    first = -whole.data_ptr() % HUGE
    return whole[first : first + size]
