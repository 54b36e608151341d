"""The verb `quantize`: a model directory with 8- or 4-bit weights, and what that costs, measured on what is re-opened.

The result is smaller on disk and opens in transformers (with its compressed-tensors package) as it does here. What
writes multiplies by its codes as they are, where `--weights auto` can; the report says the speed it measured, before
and after, and how the result ran.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from ingot.adapt.load import load
from ingot.compress.compare import compare, make_probe, tell, tokens_per_second
from ingot.compress.quantize import DEFAULT_GROUP, Plan, Written, plan, plan_nf4, prove, spec, write
from ingot.compress.source import Weights, write_config
from ingot.core.errors import fail, nearest
from ingot.core.files import refuse_nonempty
from ingot.core.language import text
from ingot.core.model_dir import Draft, ModelDir
from ingot.core.options import Options, argument, option, required, verb
from ingot.core.progress import say
from ingot.model.quantized import ENDS
from ingot.model.rtn import QUANTIZERS

NF4 = "nf4"
SPEEDS = ("tokens_per_second_before", "tokens_per_second")


class QuantizeOptions(Options):
    """Options of `quantize`."""

    model: str = argument("the model: DIR, or DIR+ADAPTER to merge the adapter first")
    out: Path = required("the model directory to write")
    bits: Literal[4, 8] | None = option(None, "bits a weight: 8 (default) or 4; nf4 has 4")
    group_size: int | Literal["row"] | None = option(
        None, "columns that share a scale, or 'row' (default: 32 at 4 bits, row at 8)"
    )
    method: str = option("mse", "how scales are chosen: mse (least squared error), absmax; or bitsandbytes' nf4")
    head: bool = option(False, "quantise the output head too, where it is not tied to the embedding")
    ignore: list[str] = option([], "layers to leave as they are, by name or re:PATTERN")
    data: Path | None = option(
        None, "held-out text for the report; without it, tokens drawn from the model are compared"
    )
    tokens: int = option(32768, "at most about so many tokens are compared", ge=64)
    seed: int = option(0, "seed of the tokens that are compared", ge=0)


@verb(QuantizeOptions)
def quantize(options: QuantizeOptions) -> ModelDir:
    """Round a model's weights to 8 or 4 bits and report the cost."""
    refuse_nonempty(options.out)
    if options.method not in (*QUANTIZERS, NF4):
        raise fail("unknown-quantizer", found=options.method, nearest=nearest(options.method, (*QUANTIZERS, NF4)))
    weights = Weights.open(options.model)
    planned = _plan(options, weights)
    for scheme in planned.quantization.schemes[1:]:
        say("group-adjusted", size=scheme.group_size, layers=", ".join(scheme.targets))
    with ModelDir.create(options.out, "quantize", options) as draft:
        draft.parents, draft.seed = weights.parents, options.seed
        write_config(draft, weights, {"quantization_config": planned.section})
        written = write(draft, weights, planned, options.method, text("quantizing"))
        prove(draft, written)
        draft.numbers = _sizes(draft, weights, planned, written) | _measure(draft, weights, options)
        _tell(weights.name, draft.numbers)
    return ModelDir.open(options.out)


def _plan(options: QuantizeOptions, weights: Weights) -> Plan:
    """What is quantised and how; options that NF4 fixes are refused beside it."""
    if options.method != NF4:
        bits = options.bits or 8
        return plan(weights, bits, _group_size(options, bits), options.head, options.ignore)
    for name, found, reason in (("bits", options.bits, "nf4 has 4"), ("group_size", options.group_size, "nf4 has 64")):
        if found not in (None, 4) or (name == "group_size" and found):
            raise fail("bad-option", name=name, found=found, reason=reason)
    return plan_nf4(weights, options.head, options.ignore)


def _group_size(options: QuantizeOptions, bits: int) -> int | None:
    if options.group_size is None:
        return DEFAULT_GROUP[bits]
    if isinstance(options.group_size, str):
        return None
    if options.group_size < 2:
        raise fail("bad-option", name="group_size", found=options.group_size, reason="it must be 2 or more, or 'row'")
    return options.group_size


def _sizes(draft: Draft, weights: Weights, planned: Plan, written: Written) -> dict[str, Any]:
    """Bytes of the weights' files before and after, bits a quantised weight, and the error of each layer."""
    before = sum(file.stat().st_size for file in {entry.file for entry in weights.base.tensors.values()})
    stored = {
        name: dtype.itemsize * _count(shape)
        for name, (dtype, shape) in spec(weights, planned).items()
        if ENDS.sub(".weight", name).removesuffix(".weight") in planned.schemes
    }
    worst = max(written.errors, key=lambda module: written.errors[module])
    return {
        "bits": next(iter(planned.schemes.values())).bits,
        "bytes_before": before,
        "bytes": (draft.path / "model.safetensors").stat().st_size,
        "bits_per_weight": 8 * sum(stored.values()) / written.num_weights,
        "quantized_layers": len(written.errors),
        "worst_layer": worst,
        "worst_error": written.errors[worst],
        "layer_errors": {module: round(error, 6) for module, error in written.errors.items()},
    }


def _measure(draft: Draft, weights: Weights, options: QuantizeOptions) -> dict[str, Any]:
    """Compare the original with what is re-opened from the draft."""
    original, after = load(weights.reference), load(draft.path)
    probe = make_probe(original, options.data, options.tokens, options.seed)
    if options.data:
        draft.read_data(options.data)
    found = compare(original, after, probe)
    after = load(draft.path, weights="auto")  # as it is written with, and no longer decoded
    speed = dict(zip(SPEEDS, tokens_per_second([original, after], probe), strict=True))
    return found | speed | {"weights": after.weights}


def _tell(name: str, numbers: dict[str, Any]) -> None:
    before, after = numbers["bytes_before"], numbers["bytes"]
    say("quantized", layers=numbers["quantized_layers"], bits=numbers["bits_per_weight"],
        before=before / 1e6, after=after / 1e6, share=after / before)  # fmt: skip
    say("worst-layer", layer=numbers["worst_layer"], error=numbers["worst_error"])
    tell(name, numbers)
    say("speed", before=numbers["tokens_per_second_before"], after=numbers["tokens_per_second"],
        weights=numbers["weights"])  # fmt: skip


def _count(shape: tuple[int, ...]) -> int:
    product = 1
    for extent in shape:
        product *= extent
    return product
