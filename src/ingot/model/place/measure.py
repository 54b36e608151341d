"""How fast this machine reads weights, measured in well under a second: what a plan's prediction rests on.

Memory is read as a step reads it, by a product with one row. Disk is read as a pass will read it: through the same
code, converted or decoded on the way, from pages that the system was asked to forget, because a model larger than
memory finds none of its own there.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import torch
import torch.nn.functional as F

from ingot.model.place.disk import Weight, forget, read_into

MATRIX = 256 * 2**20
"""Bytes of the matrix that is read, more than caches hold."""

SAMPLE, SECONDS = 128 * 2**20, 0.4
"""How much of the layers is read from disk at most, and for how long."""

TURNS = 4


def device_speed(device: str, room: float) -> float:
    """Bytes a second of a product with one row, the best of a few; the matrix takes at most a quarter of `room`."""
    columns = 4096
    rows = max(1, int(min(MATRIX, room / 4)) // (4 * columns))
    matrix, row = torch.ones(rows, columns, device=device), torch.ones(1, columns, device=device)
    best = min(_seconds(matrix, row) for _ in range(TURNS))
    return 4.0 * rows * columns / best


def _seconds(matrix: torch.Tensor, row: torch.Tensor) -> float:
    begin = time.perf_counter()
    F.linear(row, matrix)
    if matrix.is_cuda:
        torch.cuda.synchronize(matrix.device)
    return time.perf_counter() - begin


def disk_speed(weights: Iterable[Weight]) -> float:
    """Stored bytes a second, of weights read as the passes read them."""
    count = seconds = 0.0
    for weight in weights:
        forget(weight)
        target = torch.zeros(weight.shape, dtype=weight.dtype)  # its pages are there, as a buffer's are
        begin = time.perf_counter()
        read_into(weight, target)
        count, seconds = count + weight.stored, seconds + time.perf_counter() - begin
        if count >= SAMPLE or seconds > SECONDS:
            break
    return count / seconds
