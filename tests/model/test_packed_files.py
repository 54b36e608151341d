"""The cache of packed weights: found again, never stale, never damaged, bounded, private, and no must."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ingot.adapt.load import LanguageModel, load
from ingot.core.cache import cache_directory
from ingot.model import packed_files
from ingot.model.packed import PackedWeight, Packing
from ingot.model.packing import Packer
from tiny import LLAMA, QWEN2, write_model

IDS = [[5, 6, 7, 8]]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    kernels = cache_directory("kernels")
    root = tmp_path / "cache"
    root.mkdir(mode=0o700)
    if kernels is not None:
        (root / "kernels").symlink_to(kernels.resolve())
    monkeypatch.setenv("INGOT_CACHE", str(root))
    return root / "packed"


@pytest.fixture
def packings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How often weights were packed."""
    found: list[str] = []
    whole = Packer.items

    def items(self: Packer) -> object:
        found.append(str(self.plan))
        return whole(self)

    monkeypatch.setattr(Packer, "items", items)
    return found


def logits(model: LanguageModel) -> Tensor:
    return model.logits(IDS)


def files(cache: Path) -> list[Path]:
    return sorted(cache.glob("*"))


@pytest.mark.parametrize("config", [LLAMA, QWEN2])
def test_packed_once(config: dict[str, object], tmp_path: Path, cache: Path, packings: list[str]) -> None:
    path = write_model(tmp_path / "a", config)
    cold = logits(load(path, weights="int4"))
    assert torch.equal(logits(load(path, weights="int4")), cold)
    assert packings == ["int4 in groups of 64"]
    load(path, weights="int8")
    assert packings == ["int4 in groups of 64", "int8"]
    assert len(files(cache)) == 2
    assert all(file.stat().st_mode & 0o077 == 0 for file in (cache, *files(cache)))


def test_items_come_back(tmp_path: Path, cache: Path) -> None:
    """Whatever the sizes: small and large tensors, odd ones, packed ones on a line of their own."""
    directory = cache_directory("packed")
    assert directory is not None
    weights = [PackedWeight.quantized(torch.randn(rows, 70), Packing(8, None)) for rows in (3, 40)]
    weights.append(PackedWeight.quantized(torch.randn(40, 130), Packing(4, 64)))
    items: list[packed_files.Item] = [
        *((f"w{number}", weight) for number, weight in enumerate(weights)),
        ("norm", torch.randn(7)),
        ("table", torch.randn(999, 41).bfloat16()),
        ("numbers", torch.arange(5)),
    ]
    assert packed_files.write(directory / "a.safetensors", items, items)
    found = dict(packed_files.read(directory / "a.safetensors") or ())
    assert found.keys() == dict(items).keys()
    for name, value in items:
        other = found[name]
        if isinstance(value, PackedWeight):
            assert isinstance(other, PackedWeight)
            assert (other.shape, other.bits, other.group) == (value.shape, value.bits, value.group)
            assert torch.equal(other.codes, value.codes)
            assert torch.equal(other.scales, value.scales)
            assert other.codes.data_ptr() % 64 == other.scales.data_ptr() % 64 == 0
        else:
            assert isinstance(other, Tensor)
            assert other.dtype == value.dtype
            assert torch.equal(other, value)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9, 1.0])
def test_a_damaged_file_is_made_again(place: float, tmp_path: Path, cache: Path, packings: list[str]) -> None:
    path = write_model(tmp_path / "a", QWEN2)
    cold = logits(load(path, weights="int8"))
    (file,) = files(cache)
    content = bytearray(file.read_bytes())
    content[min(int(place * len(content)), len(content) - 1)] ^= 4
    file.write_bytes(content)
    assert torch.equal(logits(load(path, weights="int8")), cold)
    file.write_bytes(content[: len(content) // 2])
    assert torch.equal(logits(load(path, weights="int8")), cold)
    assert len(packings) == 3
    assert torch.equal(logits(load(path, weights="int8")), cold)
    assert len(packings) == 3


def test_other_weights_under_the_same_name(tmp_path: Path, cache: Path, packings: list[str]) -> None:
    """Same size, and the old time of change put back: still other weights."""
    path = write_model(tmp_path / "a", LLAMA)
    before, file = logits(load(path, weights="int8")), path / "model.safetensors"
    times = file.stat()
    file.write_bytes((write_model(tmp_path / "b", LLAMA, seed=1) / "model.safetensors").read_bytes())
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file.stat().st_size == times.st_size
    after = logits(load(path, weights="int8"))
    assert not torch.equal(after, before)
    assert torch.equal(after, logits(load(tmp_path / "b", weights="int8")))
    assert len(packings) == 3
    config = path / "config.json"
    config.write_text(config.read_text().replace('"rope_theta": 10000.0', '"rope_theta": 500.0'))
    assert not torch.equal(logits(load(path, weights="int8")), after)
    assert len(packings) == 4


@pytest.mark.parametrize("spoil", ["no-place", "others-write", "full"])
def test_without_a_cache(
    spoil: str, tmp_path: Path, cache: Path, packings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_model(tmp_path / "a", LLAMA)
    expected = logits(load(path, weights="int8"))
    for file in files(cache):
        file.unlink()
    if spoil == "no-place":
        cache.rmdir()
        cache.write_text("a file where the directory should be")
    elif spoil == "others-write":
        cache.chmod(0o777)
    else:
        monkeypatch.setattr(packed_files, "write_tensors", _full_disk)
    assert torch.equal(logits(load(path, weights="int8")), expected)
    assert torch.equal(logits(load(path, weights="int8")), expected)
    assert len(packings) == (5 if spoil == "full" else 3)  # the disk was tried first
    assert not cache.is_dir() or files(cache) == []


def _full_disk(path: Path, *rest: object) -> None:
    path.write_bytes(b"half")
    raise OSError(28, "No space left on device")


def test_the_oldest_go_first(tmp_path: Path, cache: Path, packings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [write_model(tmp_path / name, LLAMA, seed=seed) for seed, name in enumerate("abc")]
    load(paths[0], weights="int8")
    (first,) = files(cache)
    monkeypatch.setattr(packed_files, "LIMIT", int(2.5 * first.stat().st_size))
    load(paths[1], weights="int8")
    os.utime(next(file for file in files(cache) if file != first), (1, 1))
    load(paths[0], weights="int8")  # used again: newer than the second
    load(paths[2], weights="int8")
    assert len(files(cache)) == 2
    load(paths[0], weights="int8")
    assert len(packings) == 3
    load(paths[1], weights="int8")
    assert len(packings) == 4
