"""The verb `merge`: one adapter into its base's weights, or several models into one.

Parents are compared before anything is written: architecture, tensor names, shapes and dtypes, tokenizer. Tensors are
streamed, one of each parent in memory at a time. The result has the first parent's config and text files. What is
proven: a sample of tensors, recomputed from the parents, equals what is re-opened; a merged adapter gives the logits
of base and adapter. What is reported: how far the result is from each parent; of an adapter trained on its base in 4
bits, how far its base's own weights take it from what was trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import field_validator
from torch import Tensor

from ingot.adapt.load import LanguageModel, load
from ingot.compress.compare import compare, make_probe, tell
from ingot.compress.drift import drift
from ingot.compress.merge import MERGES, parameters
from ingot.compress.source import Weights, write_config
from ingot.core.errors import fail, nearest
from ingot.core.files import refuse_nonempty
from ingot.core.language import text
from ingot.core.model_dir import Draft, ModelDir
from ingot.core.options import Options, argument, numbers_listed, option, references_listed, required, verb
from ingot.core.progress import track, warn
from ingot.model.decoder import Decoder
from ingot.model.encoder_decoder import EncoderDecoder
from ingot.model.weights import read_tensor, write_tensors
from ingot.text.tokenizer import Tokenizer
from ingot.train.write import sample_ids

PROVEN_TENSORS = 12
PROVEN_ROWS = 4
LOGIT_TOLERANCE = 1e-4
"""Largest logit difference that merging an adapter may make, as a share of the largest logit."""
LOGIT_TOLERANCE_16 = 0.05
"""The same for weights of 16 bits, which merging rounds to 16 bits once more."""

Make = Callable[[str], Tensor]


class MergeOptions(Options):
    """Options of `merge`."""

    models: list[str] = argument("BASE+ADAPTER, or two or more models", min_length=1)
    out: Path = required("the model directory to write")
    method: str | None = option(None, "how several models are merged: linear (default) or slerp")
    t: float | None = option(None, "slerp: 0 is the first model, 1 the second (default: 0.5)", ge=0, le=1)
    weights: list[float | str] = option([], "linear: a weight for each model, comma-separated (default: equal)")
    data: Path | None = option(
        None, "held-out text for the report; without it, tokens drawn from the first model are compared"
    )
    tokens: int = option(32768, "at most about so many tokens are compared", ge=64)
    seed: int = option(0, "seed of the tokens that are compared", ge=0)

    _weights = field_validator("weights", mode="before")(numbers_listed)
    _models = field_validator("models", mode="before")(references_listed)


@verb(MergeOptions)
def merge(options: MergeOptions) -> ModelDir:
    """Merge an adapter into its base, or several models into one."""
    refuse_nonempty(options.out)
    method = _method(options)
    sources = [Weights.open(reference) for reference in options.models]
    for other in sources[1:]:
        check_match(sources[0], other)
    make = partial(_merged, sources, method) if len(sources) > 1 else sources[0].read
    with ModelDir.create(options.out, "merge", options) as draft:
        draft.parents, draft.seed = [parent for source in sources for parent in source.parents], options.seed
        write_config(draft, sources[0])
        _write(draft, sources[0], make)
        draft.prove("tensors that differ when recomputed", *_recompute(draft, sources[0], make))
        draft.numbers = _report(draft, sources, options)
    return ModelDir.open(options.out)


def check_match(first: Weights, other: Weights) -> None:
    """Refuse models that are not of one kind, naming the first thing that differs."""
    for key, found, expected in _differences(first.network.config, other.network.config):
        raise fail("merge-config", first=first.name, other=other.name, key=key, found=found, expected=expected)
    unshared = sorted(set(first.names) ^ set(other.names))
    if unshared:
        owner = first if unshared[0] in first.names else other
        raise fail("merge-tensor-missing", tensor=unshared[0], path=owner.base.path)
    for name in first.names:
        found, expected = ((source.shape(name), str(source.dtype(name))) for source in (other, first))
        if found != expected:
            raise fail(
                "merge-tensor", tensor=name, other=other.base.path, found=found, first=first.name, expected=expected
            )
    _check_text(first.base, other.base)


def _differences(first: Any, other: Any, within: str = "") -> Iterator[tuple[str, object, object]]:
    """(field, found, expected) wherever two configs differ; of fields with a value a layer, the first that differs."""
    for entry in dataclasses.fields(first):
        expected, found = getattr(first, entry.name), getattr(other, entry.name, None)
        if isinstance(expected, tuple) and isinstance(found, tuple) and len(expected) == len(found):
            expected, found = next((pair for pair in zip(expected, found, strict=True) if pair[0] != pair[1]), (0, 0))
        if found == expected:
            continue
        if dataclasses.is_dataclass(expected) and dataclasses.is_dataclass(found):
            yield from _differences(expected, found, f"{entry.name}.")
        else:
            yield within + entry.name, found, expected


def _check_text(first: ModelDir, other: ModelDir) -> None:
    """Equal tokenizers are a condition; another chat template only deserves a word."""
    tokenizers = [
        Tokenizer.open(model.path) if (model.path / "tokenizer.json").exists() else None for model in (first, other)
    ]
    digests = [tokenizer.digest[:12] if tokenizer else "-" for tokenizer in tokenizers]
    if digests[0] != digests[1]:
        raise fail("merge-tokenizer", first=first.path, other=other.path, found=digests[1], expected=digests[0])
    templates = [tokenizer.chat_template if tokenizer else None for tokenizer in tokenizers]
    if templates[0] != templates[1]:
        warn("merge-template", first=first.path, other=other.path)


def _method(options: MergeOptions) -> Callable[..., Tensor]:
    """The chosen method with its parameters; a parameter of another method is refused."""
    given = {name: value for name, value in (("t", options.t), ("weights", options.weights)) if value not in (None, [])}
    if len(options.models) == 1:
        reference = options.models[0]
        if options.method or given:
            raise fail("merge-one-method", name=options.method or next(iter(given)), model=reference)
        if Path(reference).exists() or "+" not in reference:
            raise fail("merge-one-model", model=reference)
        return MERGES["linear"]
    method = options.method or "linear"
    if method not in MERGES:
        raise fail("unknown-merge", found=method, nearest=nearest(method, MERGES))
    for name in given:
        if name not in parameters(method):
            raise fail("merge-parameter", name=name, method=method, known=", ".join(parameters(method)) or "-")
    function = partial(MERGES[method], **given)
    function([torch.zeros(1)] * len(options.models))  # the parameters' own checks, before anything is read or written
    return function


def _merged(sources: list[Weights], method: Callable[..., Tensor], name: str) -> Tensor:
    return method([source.read(name) for source in sources])


def _write(draft: Draft, first: Weights, make: Make) -> None:
    """Stream the merged tensors into the draft."""
    spec = {name: (first.dtype(name), first.shape(name)) for name in first.names}
    names = track(first.names, text("merging"), len(first.names))
    write_tensors(draft.path / "model.safetensors", spec, ((name, make(name)) for name in names))


def _recompute(draft: Draft, first: Weights, make: Make) -> tuple[str, float]:
    """(what was compared, how many differ): tensors spread evenly over the file, made again, compared bit for bit."""
    written = ModelDir.open(draft.path)
    step = max(1, len(first.names) // PROVEN_TENSORS)
    names = first.names[::step]
    unequal = sum(not torch.equal(read_tensor(written.tensors[name]), make(name)) for name in names)
    return f"{len(names)} of {len(first.names)} tensors", unequal


def _report(draft: Draft, sources: list[Weights], options: MergeOptions) -> dict[str, Any]:
    """Compare the re-opened result with each parent, one parent in memory at a time."""
    if options.data:
        draft.read_data(options.data)
    merged, first = load(draft.path), load(sources[0].reference)
    if len(sources) == 1 and not isinstance(first.network, Decoder):
        difference = _prove_logits(draft, first, merged, [sample_ids(first.network)[0].tolist()])
        return {"logit_difference": difference} | drift(sources[0], merged, None)
    probe = make_probe(first, options.data, options.tokens, options.seed)
    if len(sources) == 1:
        numbers = compare(first, merged, probe)
        numbers["logit_difference"] = _prove_logits(draft, first, merged, probe.rows[:PROVEN_ROWS])
        tell(sources[0].name, numbers)
        return numbers | drift(sources[0], merged, probe)
    found = []
    for source in sources:
        parent = first if source is sources[0] else load(source.reference)
        found.append(compare(parent, merged, probe))
        tell(source.name, found[-1])
        found[-1] |= drift(source, parent, probe)
    own = {"bits_per_byte": found[0]["bits_per_byte"]} if "bits_per_byte" in found[0] else {}
    return own | {
        "method": options.method or "linear",
        "parents": [{"name": source.name, **numbers} for source, numbers in zip(sources, found, strict=True)],
    }


def _prove_logits(draft: Draft, before: LanguageModel, after: LanguageModel, rows: list[list[int]]) -> float:
    """Largest difference of logits over the largest logit, on some rows; proven to be small."""
    reads = isinstance(before.network, EncoderDecoder)
    pairs = [
        (before.logits([row], [row] if reads else None), after.logits([row], [row] if reads else None)) for row in rows
    ]
    difference = max(float((a - b).abs().max()) for a, b in pairs) / max(float(a.abs().max()) for a, _ in pairs)
    stored = {entry.dtype for entry in after.model_dir.tensors.values()}
    tolerance = LOGIT_TOLERANCE if stored <= {"F32", "F64"} else LOGIT_TOLERANCE_16
    draft.prove("logit difference over largest logit", f"base+adapter, {len(pairs)} rows", difference, tolerance)
    return difference
