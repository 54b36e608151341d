"""Layers that stay on disk: each is read when its turn comes, while the one before it computes, and then let go.

Two buffers take turns, so that memory stays the same however many layers there are. A thread fills one from the files,
converting numbers to the type they are computed in, while the other is in use; quantised weights are decoded on the
way. Files are read rather than mapped: faults of a map come page by page, and its pages would count as this process's.
What lies in the files is checked as `load` checks it: names and shapes before anything runs, values when
they are first read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from io import FileIO

import torch
from torch import Tensor

from ingot.core.errors import fail
from ingot.core.model_dir import ModelDir, TensorEntry
from ingot.model.quantized import read_dense_tensor
from ingot.model.weights import DTYPES, check_finite

PIECE, ALONE = 2**20, 2**15
"""Bytes that are read and converted at a time, small enough for a cache; numbers up to which torch starts no thread."""

ALIGNMENT = 64
"""Of each tensor in a buffer, in bytes."""


@dataclass(frozen=True)
class Weight:
    """A weight that stays in its files: `name` there, where its parts lie, how it is held when it is read. `path` and
    `entries` are enough for a plain one; `base` decodes a quantised one."""

    base: ModelDir
    name: str
    entries: tuple[TensorEntry, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def is_plain(self) -> bool:
        return len(self.entries) == 1 and self.entries[0].name == self.name

    @property
    def stored(self) -> int:
        return sum(entry.end - entry.begin for entry in self.entries)

    @property
    def held(self) -> int:
        """Bytes in a buffer."""
        size = self.dtype.itemsize * torch.Size(self.shape).numel()
        return -(-size // ALIGNMENT) * ALIGNMENT


def read_into(weight: Weight, target: Tensor) -> None:
    """Fill a tensor with a weight's values. Raises `wrong-shape` where a quantised one turns out to have another."""
    if weight.is_plain:
        _copy(weight.entries[0], target)
        return
    found = read_dense_tensor(weight.base, weight.name)
    if tuple(found.shape) != weight.shape:
        raise fail("wrong-shape", tensor=weight.name, path=weight.base.path, found=list(found.shape),
                   expected=list(weight.shape))  # fmt: skip
    target.copy_(found)


def _copy(entry: TensorEntry, target: Tensor) -> None:
    """A plain tensor: straight into place, or converted piece by piece where it is stored in another type."""
    dtype, count = DTYPES[entry.dtype], entry.end - entry.begin
    with entry.file.open("rb", buffering=0) as file:
        _expect_order(file.fileno(), entry)
        file.seek(entry.begin)
        if dtype == target.dtype:
            _fill(file, target.view(-1).view(torch.uint8), entry)
            return
        piece, flat = torch.empty(min(PIECE, count), dtype=torch.uint8), target.view(-1)
        for begin in range(0, count, PIECE):
            part = piece[: count - begin]
            _fill(file, part, entry)
            first, numbers = begin // dtype.itemsize, part.view(dtype)
            # pieces that small are copied by this thread alone; more threads would stand in each other's way (LOG.md)
            torch._foreach_copy_(list(flat[first : first + len(numbers)].split(ALONE)), list(numbers.split(ALONE)))


def _check_values(weight: Weight, target: Tensor) -> None:
    """Refuse NaN and infinity, as `check_finite` does, by this thread alone. Raises `not-finite`."""
    largest = torch._foreach_norm(list(target.view(-1).split(ALONE)), torch.inf)
    if not torch.stack(largest).isfinite().all():
        check_finite(weight.name, target, weight.base.path)


def _expect_order(file: int, entry: TensorEntry) -> None:
    """Let the system read further ahead than it does for those who may jump."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, entry.begin, entry.end - entry.begin, os.POSIX_FADV_SEQUENTIAL)


def _fill(file: FileIO, target: Tensor, entry: TensorEntry) -> None:
    """All of a tensor of bytes. Raises `truncated` where the file has become shorter."""
    view: memoryview = target.numpy().data
    done = 0
    while done < len(view):
        count = file.readinto(view[done:])
        if not count:
            raise fail("truncated", tensor=entry.name, path=entry.file, found=file.tell(), expected=entry.end)
        done += count


def forget(weight: Weight) -> None:
    """Ask the system to drop the pages that it keeps of a weight."""
    if hasattr(os, "posix_fadvise"):
        for entry in weight.entries:
            with entry.file.open("rb") as file:
                os.posix_fadvise(file.fileno(), entry.begin, entry.end - entry.begin, os.POSIX_FADV_DONTNEED)


@dataclass
class _Turn:
    """A buffer, which layer it holds or is being filled with, and the tensors in it once that is done."""

    buffer: Tensor
    layer: int | None = None
    tensors: Future[list[Tensor]] | None = None


@dataclass
class DiskLayers:
    """The weights of each layer that stays on disk. One pass at a time may use them, its layers in order."""

    weights: Mapping[int, Sequence[Weight]]
    _checked: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        size = max(sum(weight.held for weight in layer) for layer in self.weights.values())
        self._turns = [_Turn(torch.empty(size, dtype=torch.uint8)) for _ in range(2)]
        self._thread = ThreadPoolExecutor(1, "ingot-disk")
        self._order = sorted(self.weights)

    def take(self, layer: int) -> list[Tensor]:
        """A layer's tensors, to be used until the next one is taken; the next one begins to be read."""
        turn = self._reading(layer, self._turns[0])
        assert turn.tensors is not None
        try:
            found = turn.tensors.result()
        except BaseException:
            turn.layer = None  # a later pass tries again
            raise
        other = self._turns[1] if turn is self._turns[0] else self._turns[0]
        following = self._order[(self._order.index(layer) + 1) % len(self._order)]
        self._reading(following, other)
        return found

    def _reading(self, layer: int, free: _Turn) -> _Turn:
        """The turn that holds a layer or is being filled with it; it begins in the free one where there is none."""
        for turn in self._turns:
            if turn.layer == layer:
                return turn
        free.layer, free.tensors = layer, self._thread.submit(self._fill, layer, free.buffer)
        return free

    def _fill(self, layer: int, buffer: Tensor) -> list[Tensor]:
        found, begin = [], 0
        for weight in self.weights[layer]:
            size = weight.dtype.itemsize * torch.Size(weight.shape).numel()
            target = buffer[begin : begin + size].view(weight.dtype).view(weight.shape)
            read_into(weight, target)
            if layer not in self._checked:
                _check_values(weight, target)
            found.append(target)
            begin += weight.held
        self._checked.add(layer)
        return found
