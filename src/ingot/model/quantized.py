"""Storage of quantised weights: compressed-tensors' "pack-quantized" and "int-quantized", both symmetric integers, and
bitsandbytes' NF4 (in `ingot.model.nf4_files`).

A module `m` is stored as `m.weight_packed` (int32, rows x ceil(columns * bits / 32)), `m.weight_scale` (rows x groups)
and `m.weight_shape`, or, int-quantized, as `m.weight` (int8) and `m.weight_scale`. A weight is code * scale. What the
storage cannot say is in `config.json: quantization_config`, read here strictly: a scheme that is not understood
(zero points, quantised activations, float codes) is refused by name rather than decoded to something else.

This file knows how codes lie on disk; how they are chosen is `ingot.model.rtn`. `read_dense` gives every weight under
its plain name, decoded; running on the codes themselves is `ingot.model.packed_load`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ingot.core.errors import fail
from ingot.core.model_dir import ModelDir
from ingot.model import nf4_files
from ingot.model.weights import read_tensor

METHOD = "compressed-tensors"
FORMATS = ("pack-quantized", "int-quantized")
PARTS = ("weight_packed", "weight_scale", "weight_shape")
BITS = (4, 8)
NO_MATCH = 3
ENDS = re.compile(rf"\.weight(_({'|'.join(part.removeprefix('weight_') for part in PARTS)})"
                  rf"|\.({'|'.join(map(re.escape, nf4_files.PARTS))}))$")  # fmt: skip
"""What a weight's tensors are called behind its module's name, beside its own."""


@dataclass(frozen=True)
class Scheme:
    """How the weights of some modules are stored. `group_size` None: one scale for a whole row."""

    bits: int
    group_size: int | None
    targets: tuple[str, ...] = ("Linear",)
    format: str = "pack-quantized"

    def columns_per_scale(self, columns: int) -> int:
        return self.group_size or columns


@dataclass(frozen=True)
class Quantization:
    """What config.json says about quantised weights."""

    schemes: tuple[Scheme, ...]
    ignore: tuple[str, ...]

    @classmethod
    def of(cls, config: Mapping[str, Any], path: Path) -> Quantization | None:
        """Read it from a config.json, None for a model that is not quantised. `path` is for the error."""
        section = config.get("quantization_config")
        if section is None:
            return None
        found = section.get("quant_method") if isinstance(section, dict) else section
        if found == nf4_files.METHOD:
            nf4_files.check_section(section, path)
            return cls((), tuple(section.get("llm_int8_skip_modules") or ()))
        if found != METHOD:
            raise fail("unknown-quantization", path=path, found=found, known=f"{METHOD}, {nf4_files.METHOD}")
        groups = section.get("config_groups") or {}
        schemes = tuple(_scheme(name, group, section, path) for name, group in sorted(groups.items()))
        return cls(schemes, tuple(section.get("ignore") or ()))

    @property
    def is_nf4(self) -> bool:
        """Whether it is bitsandbytes' (`ingot.model.nf4_files`), which has no schemes: each weight describes itself."""
        return not self.schemes

    def section(self) -> dict[str, Any]:
        """`quantization_config` as it stands in config.json."""
        groups = {f"group_{number}": _group(scheme) for number, scheme in enumerate(self.schemes)}
        return {
            "quant_method": METHOD,
            "format": self.schemes[0].format,
            "quantization_status": "compressed",
            "config_groups": groups,
            "ignore": list(self.ignore),
        }

    def scheme(self, module: str) -> Scheme | None:
        """The scheme of a linear module: by full name first, then by pattern, then by class; None when ignored."""
        if any(_matches(pattern, module) for pattern in self.ignore):
            return None
        ranked = [(_rank(target, module), scheme) for scheme in self.schemes for target in scheme.targets]
        best = min(ranked, key=lambda pair: pair[0], default=(NO_MATCH, None))
        return best[1] if best[0] < NO_MATCH else None


class Codes(NamedTuple):
    """A weight: codes int8 (rows, columns), scale (rows, groups), and how many bits a code has."""

    codes: Tensor
    scale: Tensor
    bits: int


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes (int8, rows x columns, from -2^(bits-1)) packed into int32 words, rows x ceil(columns * bits / 32).

    Codes are stored with 2^(bits-1) added, the first in a word's lowest bits; the tail of a row's last word is zero.
    """
    per_word = 32 // bits
    rows, columns = codes.shape
    unsigned = codes.to(torch.int64) + (1 << (bits - 1))
    padded = torch.nn.functional.pad(unsigned, (0, -columns % per_word)).view(rows, -1, per_word)
    words = (padded << _shifts(bits)).sum(dim=-1)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32)


def unpack(words: Tensor, bits: int, columns: int) -> Tensor:
    """The codes (int8, rows x columns) in words that `pack` made."""
    unsigned = (words.to(torch.int64)[..., None] >> _shifts(bits)) & ((1 << bits) - 1)
    return (unsigned.flatten(1)[:, :columns] - (1 << (bits - 1))).to(torch.int8)


def dequantize(codes: Tensor, scale: Tensor) -> Tensor:
    """code * scale in the scale's dtype. codes (rows, columns), scale (rows, groups); groups divides columns."""
    rows, groups = scale.shape
    return (codes.view(rows, groups, -1).to(scale.dtype) * scale[..., None]).view(codes.shape)


def stored(module: str, codes: Tensor, scale: Tensor, bits: int) -> dict[str, Tensor]:
    """The tensors that store one weight, pack-quantized, by name."""
    shape = torch.tensor(codes.shape, dtype=torch.int64)
    parts = (pack(codes, bits), scale, shape)
    return {f"{module}.{part}": tensor for part, tensor in zip(PARTS, parts, strict=True)}


def read_dense(model_dir: ModelDir) -> Iterator[tuple[str, Tensor]]:
    """Every weight under its plain name, one at a time; quantised ones decoded. Plain directories pass through.

    Raises `unknown-quantization`, `quantization-mismatch` naming the tensor.
    """
    for name in dense_names(model_dir):
        yield name, read_dense_tensor(model_dir, name)


def dense_names(model_dir: ModelDir) -> list[str]:
    """The plain names of a directory's weights: `m.weight_packed`, `m.weight_scale`,
    `m.weight_shape`, and NF4's parts -> `m.weight`."""
    if Quantization.of(model_dir.config, model_dir.path) is None:
        return list(model_dir.tensors)
    return list(dict.fromkeys(ENDS.sub(".weight", name) for name in model_dir.tensors))


def read_dense_tensor(model_dir: ModelDir, name: str) -> Tensor:
    """One weight by its plain name, decoded when it is stored quantised."""
    if nf4_files.is_stored(model_dir, name):
        return nf4_files.read_dense(model_dir, name)
    found = read_codes(model_dir, name)
    return dequantize(found.codes, found.scale) if found else _read(model_dir, name)


def read_codes(model_dir: ModelDir, name: str) -> Codes | None:
    """What one weight, by its plain name, is stored as; None where that is no codes. Raises as `read_dense`."""
    module = name.removesuffix(".weight")
    if f"{module}.weight_scale" not in model_dir.tensors or name == module:
        return None
    quantization = Quantization.of(model_dir.config, model_dir.path)
    scheme = quantization.scheme(module) if quantization else None
    if scheme is None:
        raise fail("quantization-mismatch", path=model_dir.path, tensor=name,
                   found="weight_scale", expected="no scheme for this module")  # fmt: skip
    scale = _read(model_dir, f"{module}.weight_scale")
    if scheme.format == "int-quantized":
        codes = _read(model_dir, name)
    else:
        rows, columns = _read(model_dir, f"{module}.weight_shape").tolist()
        words = _read(model_dir, f"{module}.weight_packed")
        _expect(model_dir, name, "weight_packed", list(words.shape), [rows, -(-columns * scheme.bits // 32)])
        codes = unpack(words, scheme.bits, columns)
    groups = codes.shape[1] / scheme.columns_per_scale(codes.shape[1])
    _expect(model_dir, name, "weight_scale", list(scale.shape), [codes.shape[0], groups])
    return Codes(codes, scale, scheme.bits)


def coded(model_dir: ModelDir, quantization: Quantization | None) -> dict[str, Scheme]:
    """Plain name of each weight that is stored as codes -> their scheme."""
    if quantization is None:
        return {}
    modules = [name.removesuffix(".weight_scale") for name in model_dir.tensors if name.endswith(".weight_scale")]
    schemes = {f"{module}.weight": quantization.scheme(module) for module in modules}
    return {name: scheme for name, scheme in schemes.items() if scheme is not None}


def _read(model_dir: ModelDir, name: str) -> Tensor:
    if name not in model_dir.tensors:
        raise fail("missing-tensor", tensor=name, path=model_dir.path)
    return read_tensor(model_dir.tensors[name])


def _expect(model_dir: ModelDir, name: str, part: str, found: list[int], expected: list[float]) -> None:
    if found != expected:
        expectation = f"{[round(extent, 3) for extent in expected]}"
        raise fail("quantization-mismatch", path=model_dir.path, tensor=name,
                   found=f"{part} {found}", expected=f"{part} {expectation}")  # fmt: skip


def _shifts(bits: int) -> Tensor:
    return torch.arange(0, 32, bits, dtype=torch.int64)


def _matches(pattern: str, module: str) -> bool:
    """compressed-tensors' name matching: `re:` begins a regular expression, anything else is the whole name."""
    if pattern.startswith("re:"):
        return re.match(pattern[3:], module) is not None
    return pattern == module


def _rank(target: str, module: str) -> int:
    """How specifically a target means a linear module, as compressed-tensors orders it: name, pattern, class."""
    if _matches(target, module):
        return 1 if target.startswith("re:") else 0
    return 2 if target == "Linear" else NO_MATCH


def _group(scheme: Scheme) -> dict[str, Any]:
    weights: dict[str, Any] = {"num_bits": scheme.bits, "type": "int", "symmetric": True, "dynamic": False}
    weights |= {"strategy": "group", "group_size": scheme.group_size} if scheme.group_size else {"strategy": "channel"}
    return {"targets": list(scheme.targets), "weights": weights, "format": scheme.format}


def _scheme(name: str, group: Any, section: Mapping[str, Any], path: Path) -> Scheme:
    """One config group, or `unknown-quantization` naming the field that we do not read."""
    weights = group.get("weights") or {}
    form = group.get("format") or section.get("format")
    wrong = {
        "format": form not in FORMATS,
        "weights.num_bits": weights.get("num_bits") not in BITS,
        "weights.type": weights.get("type", "int") != "int",
        "weights.symmetric": weights.get("symmetric", True) is not True,
        "weights.strategy": weights.get("strategy") not in ("group", "channel"),
        "weights.actorder": weights.get("actorder") not in (None, "weight", "static"),
        "input_activations": group.get("input_activations") is not None,
        "output_activations": group.get("output_activations") is not None,
    }
    for field, is_wrong in wrong.items():
        if is_wrong:
            found = {"format": form}.get(field, (group | {f"weights.{k}": v for k, v in weights.items()}).get(field))
            raise fail("unknown-quantization", path=path, found=f"{name}.{field} = {found!r}",
                       known="symmetric 4- or 8-bit integer weights, by group or row")  # fmt: skip
    size = weights.get("group_size") if weights["strategy"] == "group" else None
    return Scheme(weights["num_bits"], size, tuple(group.get("targets") or ()), str(form))
