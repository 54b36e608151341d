"""bitsandbytes' 4-bit files, read and written: NF4 with double quantisation.

A weight `m.weight` is stored as its places under that name (uint8, n/2 x 1), `m.weight.absmax` (scales),
`m.weight.nested_absmax`, both lists of values (`quant_map`, `nested_quant_map`), and the rest as JSON in the bytes of
`m.weight.quant_state.bitsandbytes__nf4`. transformers and vLLM open such directories. What is stored otherwise (fp4,
8 bits, scales that are not rounded) is refused by name. GPT-2's weights, which lie transposed, are stored as (out, in).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ingot.core.errors import fail
from ingot.core.model_dir import ModelDir
from ingot.model.nf4 import BLOCK, NESTED_BLOCK, NF4, dequantize, levels, pairs, scale_levels
from ingot.model.weights import Spec, read_tensor, spec_of

METHOD = "bitsandbytes"
STATE = "quant_state.bitsandbytes__nf4"
PARTS = ("absmax", "nested_absmax", "quant_map", "nested_quant_map", STATE)
STATE_BYTES = 256
"""Room for the JSON, filled up with spaces: a file's header comes before its numbers are known."""

TRANSPOSED = ("gpt2",)
DTYPES = ("float32", "float16", "bfloat16")


def section(dtype: torch.dtype, kept: tuple[str, ...]) -> dict[str, Any]:
    """`quantization_config` as it stands in config.json."""
    return {
        "quant_method": METHOD,
        "load_in_4bit": True,
        "load_in_8bit": False,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": str(dtype).removeprefix("torch."),
        "bnb_4bit_quant_storage": "uint8",
        "llm_int8_skip_modules": list(kept),
    }


def check_section(found: Mapping[str, Any], path: Path) -> None:
    """Raises `unknown-quantization` naming the first key that says something else."""
    expected = {
        "load_in_4bit": (True,),
        "bnb_4bit_quant_type": ("nf4",),
        "bnb_4bit_use_double_quant": (True,),
        "bnb_4bit_quant_storage": ("uint8", None),
    }
    for key, allowed in expected.items():
        if found.get(key) not in allowed:
            raise fail("unknown-quantization", path=path, found=f"{key} = {found.get(key)!r}",
                       known="bitsandbytes' NF4 with double quantisation")  # fmt: skip


def stored(name: str, weight: NF4, shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors that store one weight of this shape (out, in) and dtype, by name."""
    state = {
        "quant_type": "nf4",
        "blocksize": BLOCK,
        "dtype": str(dtype).removeprefix("torch."),
        "shape": list(shape),
        "nested_blocksize": NESTED_BLOCK,
        "nested_dtype": "float32",
        "nested_offset": weight.mean.item(),
    }
    text = json.dumps(state).ljust(STATE_BYTES).encode()
    assert len(text) == STATE_BYTES, text
    packed = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    parts = (weight.scales, weight.nested, levels(), scale_levels(), packed)
    return {name: weight.places[:, None]} | {f"{name}.{part}": held for part, held in zip(PARTS, parts, strict=True)}


def spec(name: str, numbers: int) -> Spec:
    """What `stored` gives for a weight of so many numbers."""
    blocks = numbers // BLOCK
    empty = NF4(
        torch.empty(numbers // 2, dtype=torch.uint8, device="meta"),
        torch.empty(blocks, dtype=torch.uint8, device="meta"),
        torch.empty(-(-blocks // NESTED_BLOCK), device="meta"),
        torch.zeros(()),
    )
    return spec_of(stored(name, empty, (), torch.float32))


def is_stored(model_dir: ModelDir, name: str) -> bool:
    """Whether a weight is held in NF4 there."""
    return f"{name}.{STATE}" in model_dir.tensors


def read(model_dir: ModelDir, name: str) -> tuple[NF4, dict[str, Any]]:
    """A weight's bytes and what is said of them. Raises `quantization-mismatch` naming the tensor, `missing-tensor`."""
    held = {part: _read(model_dir, f"{name}.{part}") for part in PARTS}
    try:
        state = json.loads(bytes(held[STATE].tolist()))
        numbers = int(torch.Size(state["shape"]).numel())
        kind = tuple(state[key] for key in ("quant_type", "blocksize", "nested_blocksize", "nested_dtype"))
        mean, known = torch.tensor(float(state["nested_offset"])), state["dtype"] in DTYPES
    except (ValueError, KeyError, TypeError) as error:
        raise _mismatch(model_dir, name, f"{STATE}: {type(error).__name__} {error}", "bitsandbytes' JSON") from None
    if kind != ("nf4", BLOCK, NESTED_BLOCK, "float32") or not known:
        raise _mismatch(model_dir, name, state, f"nf4 in blocks of {BLOCK}, scales in blocks of {NESTED_BLOCK}")
    for part, values in (("quant_map", levels()), ("nested_quant_map", scale_levels())):
        if not torch.equal(held[part], values):
            raise _mismatch(model_dir, name, f"another {part}", "NF4's")
    places = _read(model_dir, name).flatten()
    blocks = numbers // BLOCK
    found = (len(places), len(held["absmax"]), len(held["nested_absmax"]))
    expected = (numbers // 2, blocks, -(-blocks // NESTED_BLOCK))
    if found != expected or numbers % BLOCK:
        raise _mismatch(model_dir, name, f"{found} bytes and scales", f"{expected} for shape {state['shape']}")
    return NF4(places, held["absmax"], held["nested_absmax"], mean), state


def read_dense(model_dir: ModelDir, name: str) -> Tensor:
    """A weight decoded, as its architecture has it."""
    weight, state = read(model_dir, name)
    numbers = dequantize(weight, pairs(), scale_levels(), getattr(torch, state["dtype"]))
    matrix = numbers.view(state["shape"])
    return matrix.t().contiguous() if model_dir.config.get("model_type") in TRANSPOSED else matrix


def find(model_dir: ModelDir, name: str) -> NF4 | None:
    """A weight's bytes where they are stored."""
    return read(model_dir, name)[0] if is_stored(model_dir, name) else None


def _read(model_dir: ModelDir, name: str) -> Tensor:
    if name not in model_dir.tensors:
        raise fail("missing-tensor", tensor=name, path=model_dir.path)
    return read_tensor(model_dir.tensors[name])


def _mismatch(model_dir: ModelDir, name: str, found: object, expected: str) -> Exception:
    return fail("quantization-mismatch", path=model_dir.path, tensor=name, found=found, expected=expected)
