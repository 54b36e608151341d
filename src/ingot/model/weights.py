"""Tensors in and out of safetensors, one at a time.

Reading goes by the headers ModelDir checked, through a memory map. Writing needs the shapes up front (the header
comes first in the file) and then streams, so no step ever holds a whole model that it only passes through.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ingot.core.errors import fail, nearest
from ingot.core.model_dir import ModelDir, TensorEntry, read_header
from ingot.model.config import ModelConfig
from ingot.model.held import HeldLinear
from ingot.model.network import Network, make_network
from ingot.model.packed import PackedWeight

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}

IGNORED = (".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias", "rotary_emb.inv_freq")
"""Buffers that old checkpoints carry and the config determines anyway."""

Spec = dict[str, tuple[torch.dtype, tuple[int, ...]]]
"""What a file will hold: name -> dtype and shape."""


def read_tensor(entry: TensorEntry) -> Tensor:
    """One tensor, its own copy. Raises `dtype-not-supported`."""
    if entry.dtype not in DTYPES:
        raise fail("dtype-not-supported", tensor=entry.name, path=entry.file, found=entry.dtype)
    raw = np.fromfile(entry.file, dtype=np.uint8, count=entry.end - entry.begin, offset=entry.begin)
    return torch.from_numpy(raw).view(DTYPES[entry.dtype]).view(entry.shape)


def read_tensors(model_dir: ModelDir) -> Iterator[tuple[str, Tensor]]:
    """All tensors of a directory, one by one, in the order they lie on disk."""
    for entry in sorted(model_dir.tensors.values(), key=lambda entry: (entry.file.name, entry.begin)):
        yield entry.name, read_tensor(entry)


def write_tensors(path: Path, spec: Spec, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Write a safetensors file while `tensors` come in, in the spec's order. Re-opened and checked at the end."""
    with path.open("wb") as stream:
        stream.write(_header(spec))
        for (name, (dtype, shape)), (given, tensor) in zip(spec.items(), tensors, strict=True):
            assert (given, tensor.dtype, tuple(tensor.shape)) == (name, dtype, shape), (name, given, tensor.shape)
            stream.write(tensor.detach().contiguous().cpu().flatten().view(torch.uint8).numpy().data)
    assert list(read_header(path)) == list(spec)


def spec_of(tensors: dict[str, Tensor]) -> Spec:
    return {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}


def _header(spec: Spec) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, shape) in spec.items():
        size = dtype.itemsize
        for extent in shape:
            size *= extent
        entries[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def check_finite(name: str, tensor: Tensor, path: Path) -> None:
    """Refuse NaN and infinity. Least and most say whether there are any, in a tenth of the time that a mask takes."""
    if tensor.is_floating_point() and tensor.numel() and not all(end.isfinite() for end in torch.aminmax(tensor)):
        raise fail("not-finite", tensor=name, path=path, count=int((~torch.isfinite(tensor)).sum()))


def load_network(
    model_dir: ModelDir,
    tensors: Iterable[tuple[str, Tensor | PackedWeight]],
    dtype: torch.dtype | None = torch.float32,
    hold: Callable[[Network], Mapping[str, HeldLinear]] | None = None,
    find: Callable[[str], object] | None = None,
    as_stored: Container[str] = (),
    absent: Collection[str] = (),
    prepare: Callable[[Network], None] | None = None,
) -> Network:
    """The network with these weights, strictly: nothing missing, nothing left over, every shape and value right.

    `hold` puts layers of few bits in place and gives the one that holds a weight, each filled as soon as its weight is
    read: by what `find` has of that name already, or by the tensor. `as_stored`: what is kept in its own dtype.
    `absent`: names of weights that are not to be held; they keep no memory. `prepare`: what to change of the network
    before its weights are there.
    """
    config = ModelConfig.read(model_dir.config, model_dir.path / "config.json")
    with torch.device("meta"):
        network = make_network(config)
    if prepare:
        prepare(network)
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    held = hold(network) if hold else {}
    state: dict[str, Tensor] = {}
    for name, tensor in tensors:
        full = full_name(name, expected)
        if not isinstance(tensor, Tensor):
            held[full].fill(tensor)
            continue
        if not name.endswith(IGNORED):
            _take(state, full, tensor, expected, network.ties, model_dir, None if full in as_stored else dtype)
        if full in held and full not in network.ties:
            weight = state.pop(full)
            held[full].fill((find and find(name)) or weight)
    _check_ties(state, network.ties, model_dir)
    filled = {name for name, layer in held.items() if layer.is_filled}
    missing = sorted(expected.keys() - state.keys() - filled - set(absent))
    if missing:
        raise fail("missing-tensor", tensor=missing[0], path=model_dir.path)
    network.load_state_dict(state, strict=not absent, assign=True)
    network.reset_buffers()
    return network.eval()


def full_name(name: str, expected: Iterable[str]) -> str:
    """Checkpoints of a bare backbone lack the outer prefix (GPT-2's own do)."""
    prefix = next(iter(expected)).partition(".")[0]
    return name if name in expected or f"{prefix}.{name}" not in expected else f"{prefix}.{name}"


def _take(
    state: dict[str, Tensor],
    name: str,
    tensor: Tensor,
    expected: dict[str, tuple[int, ...]],
    ties: dict[str, str],
    model_dir: ModelDir,
    dtype: torch.dtype | None,
) -> None:
    """Check one tensor against the architecture and keep it, in `dtype` where one is given."""
    path = model_dir.path
    if name not in expected and name not in ties:
        raise fail("unexpected-tensor", tensor=name, path=path, nearest=nearest(name, expected))
    if name in expected and tuple(tensor.shape) != expected[name]:
        raise fail("wrong-shape", tensor=name, path=path, found=list(tensor.shape), expected=list(expected[name]))
    check_finite(name, tensor, path)
    state[name] = tensor.to(dtype) if dtype else tensor


def _check_ties(state: dict[str, Tensor], ties: dict[str, str], model_dir: ModelDir) -> None:
    """A tied tensor may be stored twice only when both are equal, value for value."""
    for name, original in ties.items():
        if name in state and original in state and not torch.equal(state.pop(name), state[original]):
            raise fail("tie-mismatch", path=model_dir.path)
