"""Packed weights kept on disk, so that the next load is one read: `packed` in the user's cache (`ingot.core.cache`).

One safetensors file a model and packing, holding all it takes to run: packed weights first, then what stays as it is,
then a checksum of everything. Its name follows from the files it was made from (place, size, inode, times of change),
from config.json and from how they are packed: weights that change get another name, and an old file is never taken for
them. Of a file that was damaged nothing is used: it is made again.

Packed weights are read rather than mapped, into memory of huge pages: streaming them from there is 1.4 times as fast
where they exceed the cache (37 against 27 GB/s on two cores of a Xeon with AMX). The rest is mapped.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from ingot.core.cache import cache_directory, is_ours
from ingot.core.errors import IngotError
from ingot.core.model_dir import ModelDir, TensorEntry, read_header
from ingot.model.huge_pages import HUGE, in_huge_pages
from ingot.model.packed import PackedWeight
from ingot.model.weights import DTYPES, read_tensor, spec_of, write_tensors

LAYOUT = 1
"""Goes up whenever the kernels read weights in another order."""

LIMIT = 20 * 10**9
"""Bytes of files kept; the least recently used go first."""

PARTS = ("codes", "scales", "about")
CHECKSUM, DIGEST = "checksum", 32
SMALL = 1 << 16
"""Bytes up to which a tensor is copied rather than mapped."""

WORDS = 1 << 12
AT_ONCE = 1 << 23

Item = tuple[str, Tensor | PackedWeight]


def place(model_dir: ModelDir, packing: str) -> Path | None:
    """Where a model's file lies or would lie; None where there is no cache."""
    directory = cache_directory("packed")
    if directory is None:
        return None
    found = hashlib.sha256(repr((LAYOUT, packing)).encode() + json.dumps(model_dir.config, sort_keys=True).encode())
    for file in sorted({entry.file.resolve() for entry in model_dir.tensors.values()}):
        state = file.stat()
        found.update(repr((str(file), state.st_size, state.st_ino, state.st_mtime_ns, state.st_ctime_ns)).encode())
    return directory / f"{found.hexdigest()[:32]}.safetensors"


def write(path: Path, items: Iterable[Item], forms: Iterable[Item]) -> bool:
    """Write a file in one step while items come in, packed weights first; False where the disk does not take it.
    `forms`: the same without values, to be told in the file's head."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    spec = spec_of({name: tensor for form in forms for name, tensor in _tensors(*form)})
    try:
        write_tensors(partial, spec | {CHECKSUM: (torch.uint8, (DIGEST,))}, _checked(items))
        partial.chmod(0o600)
        partial.replace(path)
        _bound(path)
    except OSError:
        return False
    finally:
        partial.unlink(missing_ok=True)
    return True


def _checked(items: Iterable[Item]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of items, and behind them their checksum. None is held longer than it takes to write it."""
    sums: list[tuple[str, int]] = []
    for item in items:
        for name, tensor in _tensors(*item):
            sums.append((name, _sum(tensor)))
            yield name, tensor
        del item, tensor
    yield CHECKSUM, torch.tensor(list(_digest(sums)), dtype=torch.uint8)


def read(path: Path | None) -> list[Item] | None:
    """What a file holds; None where there is none, or not what was written."""
    if path is None or not path.exists() or not is_ours(path):
        return None
    try:
        entries = sorted(read_header(path).values(), key=lambda entry: entry.begin)
        tensors = dict(_mapped(path, entries))
        digest = tensors.pop(CHECKSUM)
        if bytes(digest.tolist()) != _digest([(name, _sum(tensor)) for name, tensor in tensors.items()]):
            return None
        os.utime(path)
    except (IngotError, OSError, ValueError, LookupError):
        return None
    return list(_items(tensors))


def _mapped(path: Path, entries: list[TensorEntry]) -> Iterator[tuple[str, Tensor]]:
    begin, end = entries[0].begin, max(entry.end for entry in entries if _is_packed(entry))
    memory = in_huge_pages(end - begin)
    with path.open("rb", buffering=0) as stream:
        _read_together(stream.fileno(), begin, memory)
        rest = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
    for entry in entries:
        if entry.end <= end:
            yield (
                entry.name,
                memory[entry.begin - begin : entry.end - begin].view(DTYPES[entry.dtype]).view(entry.shape),
            )
        elif entry.end - entry.begin <= SMALL:
            yield entry.name, read_tensor(entry)
        else:
            dtype = DTYPES[entry.dtype]
            count = (entry.end - entry.begin) // dtype.itemsize
            yield entry.name, torch.frombuffer(rest, dtype=dtype, count=count, offset=entry.begin).view(entry.shape)


def _read_together(file: int, begin: int, memory: Tensor) -> None:
    """Fill memory from a place of a file on, by all threads: the first touch of its pages takes longer than the read
    where a virtual machine has to ask for them. Raises OSError for a file that ends early."""
    view, size = memoryview(memory.numpy().data), memory.nbytes
    share = -(-size // (torch.get_num_threads() * HUGE)) * HUGE

    def work(first: int) -> None:
        last = min(first + share, size)
        while first < last:
            count = os.preadv(file, [view[first : min(first + AT_ONCE, last)]], begin + first)
            if not count:
                raise OSError("cut off")
            first += count

    with ThreadPoolExecutor() as pool:
        list(pool.map(work, range(0, size, share)))


def _is_packed(entry: TensorEntry) -> bool:
    return entry.name.rpartition(".")[2] in PARTS


def _items(tensors: dict[str, Tensor]) -> Iterator[Item]:
    for name, tensor in tensors.items():
        stem, _, part = name.rpartition(".")
        if part == PARTS[0]:
            numbers = tensors[f"{stem}.{PARTS[2]}"].tolist()
            yield stem, PackedWeight(tensor, tensors[f"{stem}.{PARTS[1]}"], *numbers[:4])
        elif part not in PARTS:
            yield name, tensor


def _tensors(name: str, value: Tensor | PackedWeight) -> Iterator[tuple[str, Tensor]]:
    """An item's tensors. All of a packed weight's are whole multiples of 64 bytes, so that each begins on a line."""
    if isinstance(value, Tensor):
        yield name, value
        return
    about = torch.zeros(8, dtype=torch.int64)
    about[:4] = torch.tensor([value.rows, value.columns, value.bits, value.group])
    yield from zip((f"{name}.{part}" for part in PARTS), (value.codes, value.scales, about), strict=True)


def _digest(sums: list[tuple[str, int]]) -> bytes:
    return hashlib.sha256(repr(sums).encode()).digest()


def _sum(tensor: Tensor) -> int:
    """A weighted sum of a tensor's bytes, as words: as fast as memory, and no single change leaves it as it is."""
    flat = tensor.contiguous().flatten().view(torch.uint8)
    whole = flat[: len(flat) // 8 * 8].view(torch.int64)
    rows = whole[: len(whole) // WORDS * WORDS].view(-1, WORDS).sum(0)
    weights = torch.arange(1, 2 * WORDS, 2)
    rest = whole[len(whole) // WORDS * WORDS :]
    tail = int(flat[len(flat) // 8 * 8 :].long().sum())
    return int((rows * weights).sum()) + 3 * int((rest * weights[: len(rest)]).sum()) + tail


def _bound(newest: Path) -> None:
    """Remove what was used longest ago until the cache is small enough."""
    files = sorted(newest.parent.glob("*.safetensors"), key=lambda file: file.stat().st_mtime, reverse=True)
    total = 0
    for file in files:
        total += file.stat().st_size
        if total > LIMIT and file != newest:
            file.unlink(missing_ok=True)
