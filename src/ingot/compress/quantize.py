"""Quantise a model tensor by tensor into pack-quantized storage (see ingot.model.quantized for how that lies on disk),
or into bitsandbytes' NF4 (ingot.model.nf4_files).

`plan` decides from shapes alone which modules are quantised and with which groups, so everything that can be refused
is refused before the first byte is written. `write` then streams: one tensor is read, quantised, written and dropped.

Which modules: every linear layer but those named in `ignore` and, unless asked for, the output head. Embeddings and
norms stay as they are. A tied head is the embedding and stays. GPT-2's Conv1D weights lie transposed, which
compressed-tensors has no way to say, so transformers could not open the result: refused by name.

Where row lengths ask for two group sizes, config.json has two config groups. transformers loads these as it should by
default; its `dequantize=True` (5.23) reads every layer by the first group and fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ingot.adapt.wrapped import layers, origin
from ingot.compress.source import Weights, digest
from ingot.core.errors import fail, nearest
from ingot.core.model_dir import Draft, ModelDir
from ingot.core.progress import track
from ingot.model import nf4, nf4_files
from ingot.model.families.moe import Experts
from ingot.model.layers import Conv1D
from ingot.model.nf4_linear import check_size
from ingot.model.quantized import Quantization, Scheme, dequantize, read_dense_tensor, stored
from ingot.model.rtn import QUANTIZERS, quantize
from ingot.model.weights import Spec, write_tensors

DEFAULT_GROUP: dict[int, int | None] = {4: 32, 8: None}
"""Columns that share a scale; None: the row."""

NF4_SCHEME = Scheme(4, nf4.BLOCK, (), nf4_files.METHOD)
"""How bitsandbytes' files hold a weight."""


@dataclass(frozen=True)
class Plan:
    """Module -> scheme of all that will be quantised, what that is as a whole, and what config.json will say."""

    schemes: dict[str, Scheme]
    quantization: Quantization
    section: dict[str, Any]


@dataclass
class Written:
    """What was meant, by tensor name, to compare with what is read back; and each module's relative error."""

    digests: dict[str, str] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    num_weights: int = 0


def plan(weights: Weights, bits: int, group_size: int | None, head: bool, ignore: list[str]) -> Plan:
    """Choose modules and groups. Raises `conv1d-not-quantized`, `ignore-nothing`, `group-does-not-divide`."""
    modules = {name: origin(module) for name, module in layers(weights.decoder).items()}
    conv = next((name for name, module in modules.items() if isinstance(module, Conv1D)), None)
    if conv is not None:
        raise fail("conv1d-not-quantized", path=weights.base.path, module=conv)
    linear = {name: module for name, module in modules.items() if isinstance(module, nn.Linear)}
    kept = _kept(linear, weights, head, ignore)
    sizes = {
        name: _group(f"{name}.weight", int(module.in_features), group_size)
        for name, module in linear.items()
        if name not in kept
    }
    if not sizes:
        raise fail("nothing-to-quantize", path=weights.base.path)
    schemes = _schemes(bits, sizes)
    chosen = {name: next(scheme for scheme in schemes if scheme.group_size == size) for name, size in sizes.items()}
    quantization = Quantization(schemes, tuple(sorted(kept)))
    return Plan(chosen, quantization, quantization.section())


def plan_nf4(weights: Weights, head: bool, ignore: list[str]) -> Plan:
    """The same for bitsandbytes' NF4, which takes transposed weights and has blocks of its own.

    Raises `ignore-nothing`, `nf4-size`, and `nf4-experts` where transformers holds many layers in one tensor, which its
    reader of such files does not know.
    """
    modules: dict[str, Any] = {name: origin(module) for name, module in layers(weights.decoder).items()}
    if any(isinstance(module, Experts) for module in modules.values()):
        raise fail("nf4-experts", path=weights.base.path, family=weights.network.config.model_type)
    linear = {name: module for name, module in modules.items() if isinstance(module, nn.Linear | Conv1D)}
    kept = _kept(linear, weights, head, ignore) | ({weights.decoder.family.head} if not head else set())
    chosen = [name for name in linear if name not in kept]
    if not chosen:
        raise fail("nothing-to-quantize", path=weights.base.path)
    for name in chosen:
        check_size(f"{name}.weight", linear[name].weight, weights.base.path)
    section = nf4_files.section(weights.dtype(f"{chosen[0]}.weight"), tuple(sorted(kept)))
    return Plan(dict.fromkeys(chosen, NF4_SCHEME), Quantization((), tuple(sorted(kept))), section)


def write(draft: Draft, weights: Weights, plan: Plan, method: str, label: str) -> Written:
    """Stream the weights into `draft`, quantised as planned."""
    written = Written()
    tensors = _stream(weights, plan, method, written, label)
    write_tensors(draft.path / "model.safetensors", spec(weights, plan), tensors)
    return written


def prove(draft: Draft, written: Written) -> None:
    """Re-open what was written and compare every weight, decoded, with what was meant."""
    model_dir = ModelDir.open(draft.path)
    unequal = sum(digest(read_dense_tensor(model_dir, name)) != meant for name, meant in written.digests.items())
    draft.prove("weights that differ from what was meant", f"{len(written.digests)} tensors, decoded", unequal)


def spec(weights: Weights, plan: Plan) -> Spec:
    """Names, dtypes and shapes of the file, in order."""
    found: Spec = {}
    for name in weights.names:
        module, shape, dtype = name.removesuffix(".weight"), weights.shape(name), weights.dtype(name)
        scheme = plan.schemes.get(module)
        if scheme is None:
            found[name] = (dtype, shape)
        else:
            rows, columns = shape
            if scheme is NF4_SCHEME:
                found |= nf4_files.spec(name, rows * columns)
                continue
            found[f"{module}.weight_packed"] = (torch.int32, (rows, -(-columns * scheme.bits // 32)))
            found[f"{module}.weight_scale"] = (dtype, (rows, columns // scheme.columns_per_scale(columns)))
            found[f"{module}.weight_shape"] = (torch.int64, (2,))
    return found


def _stream(weights: Weights, plan: Plan, method: str, written: Written, label: str) -> Iterator[tuple[str, Tensor]]:
    modules = layers(weights.network)
    for name in track(weights.names, label, len(weights.names)):
        tensor, module = weights.read(name), name.removesuffix(".weight")
        scheme = plan.schemes.get(module)
        if scheme is None:
            written.digests[name] = digest(tensor)
            yield name, tensor
            continue
        if scheme is NF4_SCHEME:
            parts, meant = _in_nf4(name, tensor, isinstance(origin(modules[module]), Conv1D))
        else:
            found = quantize(tensor, scheme.bits, scheme.group_size, QUANTIZERS[method])
            parts, meant = stored(module, found.codes, found.scale, scheme.bits), dequantize(found.codes, found.scale)
        written.digests[name] = digest(meant)
        written.errors[module] = _relative_error(meant, tensor)
        written.num_weights += tensor.numel()
        yield from parts.items()


def _in_nf4(name: str, tensor: Tensor, transposed: bool) -> tuple[dict[str, Tensor], Tensor]:
    """What stores a weight, and what it is decoded to, as the checkpoint has it."""
    matrix = tensor.t().contiguous() if transposed else tensor
    found = nf4.quantize(matrix)
    meant = nf4.dequantize(found, nf4.pairs(), nf4.scale_levels(), tensor.dtype).view(matrix.shape)
    parts = nf4_files.stored(name, found, tuple(matrix.shape), tensor.dtype)
    return parts, meant.t().contiguous() if transposed else meant


def _relative_error(found: Tensor, wanted: Tensor) -> float:
    """||found - wanted|| / ||wanted||, 0 for a weight of zeros."""
    norm = wanted.double().norm()
    return float((found.double() - wanted.double()).norm() / norm) if norm > 0 else 0.0


def _kept(linear: dict[str, Any], weights: Weights, head: bool, ignore: list[str]) -> set[str]:
    """Names of the modules that stay as they are. A tied head is named too: readers see it as a layer of its own."""
    kept = set() if head and "lm_head" in linear else {"lm_head"}
    if head and "lm_head" not in linear:
        raise fail("tied-head", path=weights.base.path)
    for pattern in ignore:
        expression = re.compile(pattern.removeprefix("re:") if pattern.startswith("re:") else re.escape(pattern) + "$")
        found = {name for name in linear if expression.match(name)}
        if not found:
            raise fail("ignore-nothing", pattern=pattern, nearest=nearest(pattern, linear))
        kept |= found
    return kept


def _group(name: str, columns: int, wanted: int | None) -> int | None:
    """The wanted group, or the divisor of the row nearest to it between half and double."""
    if wanted is None or columns % wanted == 0:
        return wanted
    near = [size for size in range(-(-wanted // 2), 2 * wanted + 1) if columns % size == 0]
    if not near:
        sizes = [size for size in range(2, columns + 1) if columns % size == 0]
        raise fail("group-does-not-divide", tensor=name, columns=columns, size=wanted, divisors=sizes)
    return min(near, key=lambda size: (abs(size - wanted), size))


def _schemes(bits: int, sizes: dict[str, int | None]) -> tuple[Scheme, ...]:
    """One scheme for all layers, or one for each group size, aimed at layers by the end of their names."""
    if len(set(sizes.values())) == 1:
        return (Scheme(bits, next(iter(sizes.values()))),)
    ends = {(size, ".".join(name.split(".")[-2:])) for name, size in sizes.items()}
    assert len({end for _, end in ends}) == len(ends), "layers of one name have rows of different lengths"
    by_size = {size: sorted(end for other, end in ends if other == size) for size, _ in sorted(ends, key=str)}
    return tuple(
        Scheme(bits, size, tuple(f"re:.*{re.escape(end)}$" for end in names)) for size, names in by_size.items()
    )
