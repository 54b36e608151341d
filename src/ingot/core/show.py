"""The verb `show`: what a directory holds, and the chain of steps that made it, oldest first. Reads only headers.

Takes a model, adapter or tokenizer directory, `model+adapter`, or a report directory. What it says of the past comes
from hallmark.json alone; `ingot verify` is what checks it against the bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from ingot.core.format import label, show_bytes, unit_of
from ingot.core.format import show as show_value
from ingot.core.hallmark import Ancestor, Hallmark, Step
from ingot.core.language import language, text
from ingot.core.model_dir import ModelDir, TensorEntry, split_reference
from ingot.core.options import Options, argument, verb
from ingot.core.progress import say
from ingot.core.report import JSON_NAME, Language, Report

SHAPE = {
    "layers": ("num_hidden_layers", "n_layer"),
    "width": ("hidden_size", "n_embd"),
    "heads": ("num_attention_heads", "n_head"),
    "kv_heads": ("num_key_value_heads",),
    "vocabulary": ("vocab_size",),
    "context": ("max_position_embeddings", "n_positions"),
}
"""What the architecture line names, and the config keys it is read from (Llama's and GPT-2's)."""


class ShowOptions(Options):
    """Options of `show`."""

    path: str = argument("a model, adapter or tokenizer directory, DIR+ADAPTER, or a report directory")


@dataclass(frozen=True)
class Shown:
    """What `show` found out, ready to print."""

    facts: dict[str, Any]

    def summary(self) -> dict[str, Any]:
        return self.facts


@verb(ShowOptions)
def show(options: ShowOptions) -> Shown:
    """Print what a directory holds and how it came to be."""
    if (Path(options.path) / JSON_NAME).exists():
        return Shown(_show_report(Path(options.path)))
    model, adapters = split_reference(options.path)
    facts = _show_directory(ModelDir.open(model))
    shown = [_show_directory(ModelDir.open(adapter)) for adapter in adapters]
    return Shown({**facts, "adapters": shown} if shown else facts)


def _show_report(path: Path) -> dict[str, Any]:
    report = Report.open(path)
    say("show-report", path=path, title=report.title, verb=report.verb, created=report.created)
    for name, value in report.numbers.items():
        shown = show_value(value, report.units.get(name) or unit_of(name), _spoken())
        say("show-number", name=label(name, _spoken()), value=shown)
    return {"kind": "report", "title": report.title, **report.summary()}


def _show_directory(directory: ModelDir) -> dict[str, Any]:
    """Print one directory; returns the same facts as plain JSON."""
    say("show-head", path=directory.path, kind=text(f"show-{directory.kind}"))
    facts = {"path": str(directory.path), "kind": directory.kind, "digest": directory.digest, **_shape(directory)}
    if directory.tensors:
        facts |= _weights(directory)
    names = [file.name for file in directory.text_files()]
    if names:
        say("show-text", files=", ".join(names))
    chain = list(lineage(directory.hallmark)) if directory.hallmark else []
    if not chain:
        say("show-no-hallmark")
    else:
        say("show-chain", count=len(chain))
    for number, ancestor in enumerate(chain, start=1):
        _say_step(number, ancestor, chain)
    steps = [ancestor.model_dump(mode="json") for ancestor in chain]
    return {**facts, "text_files": names, "steps": steps}


def lineage(hallmark: Hallmark) -> Iterator[Ancestor]:
    """Every step that led here, each after its parents, the directory's own last."""
    own = Ancestor(digest=hallmark.digest, step=hallmark.step)
    known = {one.digest: one for one in (*hallmark.ancestry, own)}
    seen: set[str] = set()

    def visit(one: Ancestor) -> Iterator[Ancestor]:
        if one.digest in seen:
            return
        seen.add(one.digest)
        for parent in one.step.parents:
            if parent.digest in known:
                yield from visit(known[parent.digest])
        yield one

    for one in (*reversed(hallmark.ancestry), own):
        yield from visit(one)


def _shape(directory: ModelDir) -> dict[str, Any]:
    """The architecture line; an adapter's is its method and rank."""
    config = directory.config
    if directory.kind == "adapter":
        facts = {name: config[name] for name in ("peft_type", "r", "lora_alpha", "base_model_name_or_path")
                 if config.get(name) is not None}  # fmt: skip
    else:
        found = {name: next((config[key] for key in keys if config.get(key) is not None), None)
                 for name, keys in SHAPE.items()}  # fmt: skip
        facts = {name: value for name, value in found.items() if value is not None}
        if "model_type" in config:
            facts = {"model_type": config["model_type"], **facts}
    if facts:
        say("show-shape", shape=", ".join(f"{text(f'show-{name}')} {value}" for name, value in facts.items()))
    return facts


def _weights(directory: ModelDir) -> dict[str, Any]:
    """Parameters, storage types and size, from the headers alone."""
    parameters = num_parameters(directory)
    dtypes = Counter({entry.dtype: 0 for entry in directory.tensors.values()})
    for entry in directory.tensors.values():
        dtypes[entry.dtype] += entry.end - entry.begin
    files = {entry.file for entry in directory.tensors.values()}
    size = sum(file.stat().st_size for file in files)
    kinds = [name for name, _ in dtypes.most_common()]
    say("show-weights", parameters=f"{parameters:,}", dtypes=", ".join(kinds), size=show_bytes(size), files=len(files))
    return {"num_parameters": parameters, "dtypes": kinds, "bytes": size}


def num_parameters(directory: ModelDir) -> int:
    """How many weights the model has; packed ones are counted as what they unpack to."""
    groups = (directory.config.get("quantization_config") or {}).get("config_groups") or {}
    bits = next((group["weights"]["num_bits"] for group in groups.values() if group.get("weights")), 8)
    return sum(_count(name, entry, bits) for name, entry in directory.tensors.items())


def _count(name: str, entry: TensorEntry, bits: int) -> int:
    """Weights in one tensor: none in the scales and shapes that go with packed ones."""
    if name.endswith((".weight_scale", ".weight_shape", ".weight_zero_point", ".weight_g_idx")):
        return 0
    return prod(entry.shape) * (32 // bits if name.endswith(".weight_packed") else 1)


def _say_step(number: int, ancestor: Ancestor, chain: list[Ancestor]) -> None:
    """One step: when, from which steps and data, its numbers and its proofs."""
    step, places = ancestor.step, {one.digest: at for at, one in enumerate(chain, start=1)}
    took = show_value(step.seconds, "seconds", _spoken())
    say("show-step", number=number, verb=step.verb, finished=step.finished or "?", time=took)
    inputs = [f"{parent.name} ({_place(parent.digest, places)})" for parent in step.parents]
    inputs += [f"{data.name} ({data.licence or text('show-licence-unknown')})" for data in step.data]
    if inputs:
        say("show-inputs", inputs=", ".join(inputs))
    _say_numbers(step)
    for proof in step.proof:
        say("show-proof", check=proof.check, compared=proof.compared, difference=f"{proof.difference:g}",
            tolerance=f"{proof.tolerance:g}")  # fmt: skip


def _place(digest: str, places: dict[str, int]) -> str:
    """The step that made a parent, or the beginning of its digest where no hallmark tells."""
    return text("show-from-step", number=places[digest]) if digest in places else digest[:12]


def _say_numbers(step: Step) -> None:
    shown = [f"{label(name, _spoken())} {show_value(value, unit_of(name), _spoken())}"
             for name, value in step.numbers.items() if isinstance(value, str | int | float)]  # fmt: skip
    if shown:
        say("show-numbers", numbers=", ".join(shown))


def _spoken() -> Language:
    return "zh-TW" if language() == "zh" else "en"
