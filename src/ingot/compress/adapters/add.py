"""The verb `adapters add`: several adapters of one base to one, by weights.

A method is a function from the updates of one layer, already multiplied by their weights, to one update. What is
proven or told: how far each layer's sum is from the sum that was asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import field_validator

from ingot.adapt.files import CONFIG, read_settings, teaches_both_ways
from ingot.adapt.ia3 import IA3
from ingot.compress.adapters.low_rank import Update, nearest_of_rank, read_low_rank
from ingot.core.errors import fail, nearest
from ingot.core.files import refuse_nonempty
from ingot.core.model_dir import Draft, ModelDir
from ingot.core.options import Options, argument, numbers_listed, option, references_listed, required, verb
from ingot.core.progress import say
from ingot.model.config import PREFIX_LM
from ingot.model.weights import read_tensors, spec_of, write_tensors

CAT_TOLERANCE = 1e-6


class AdaptersAddOptions(Options):
    """Add several adapters of one base."""

    adapters: list[str] = argument("two or more adapter directories", min_length=2)
    out: Path = required("the adapter directory to write")
    method: str = option("cat", "cat (exact, ranks add up), svd (nearest of a rank), or linear (A and B apart: rough)")
    weights: list[float | str] = option([], "a weight for each adapter, comma-separated (default: 1 each)")
    rank: int | None = option(None, "svd: rank of the result (default: the largest of the adapters')", ge=1)

    _weights = field_validator("weights", mode="before")(numbers_listed)
    _adapters = field_validator("adapters", mode="before")(references_listed)


def concatenated(updates: Sequence[Update], rank: int | None) -> Update:
    """The sum, exactly: ranks add up."""
    downs = torch.cat([update.scale * update.down_RI.double() for update in updates])
    ups = torch.cat([update.up_OR.double() for update in updates], 1)
    return Update(updates[0].layer, downs, ups, 1.0, updates[0].is_embedding)


def nearest_sum(updates: Sequence[Update], rank: int | None) -> Update:
    """The matrix of a rank that is nearest to the sum."""
    rank = rank or max(update.rank for update in updates)
    down, up, _ = nearest_of_rank(torch.stack([update.delta() for update in updates]).sum(0), rank)
    return Update(updates[0].layer, down.double(), up.double(), 1.0, updates[0].is_embedding)


def apart(updates: Sequence[Update], rank: int | None) -> Update:
    """Both factors added apart, each by the root of its weight: products of different adapters come in, and the result
    is rough; it keeps the rank. Raises `adapters-ranks`."""
    if len({update.rank for update in updates}) > 1:
        raise fail("adapters-ranks", layer=updates[0].layer, ranks=", ".join(str(update.rank) for update in updates))
    roots = [math.sqrt(abs(update.scale)) for update in updates]
    signs = [math.copysign(1.0, update.scale) for update in updates]
    pairs = list(zip(roots, updates, strict=True))
    down = sum(sign * root * update.down_RI.double() for sign, (root, update) in zip(signs, pairs, strict=True))
    up = sum(root * update.up_OR.double() for root, update in pairs)
    assert isinstance(down, torch.Tensor)
    assert isinstance(up, torch.Tensor)
    return Update(updates[0].layer, down, up, 1.0, updates[0].is_embedding)


ADDITIONS: dict[str, Callable[[Sequence[Update], int | None], Update]] = {
    "cat": concatenated, "svd": nearest_sum, "linear": apart,
}  # fmt: skip


@verb(AdaptersAddOptions)
def adapters_add(options: AdaptersAddOptions) -> ModelDir:
    """Add several adapters of one base to one."""
    refuse_nonempty(options.out)
    if options.method not in ADDITIONS:
        raise fail("unknown-addition", found=options.method, nearest=nearest(options.method, ADDITIONS))
    if options.rank is not None and options.method != "svd":
        raise fail("options-conflict", reason=f"rank acts only with method svd, not {options.method}")
    adapters = [ModelDir.open(path) for path in options.adapters]
    weights = [float(weight) for weight in options.weights] or [1.0] * len(adapters)
    if len(weights) != len(adapters):
        raise fail("merge-weights-count", found=len(weights), expected=len(adapters))
    base = _one_base(adapters)
    with ModelDir.create(options.out, "adapters add", options) as draft:
        draft.parents = adapters
        draft.numbers |= {"base_weights": base} if base else {}
        draft.numbers |= {PREFIX_LM: True} if _one_direction(adapters) else {}
        if isinstance(read_settings(adapters[0]), IA3):
            _add_factors(draft, adapters, weights, options.method)
        else:
            _add_updates(draft, adapters, weights, options)
    return ModelDir.open(options.out)


def _one_base(adapters: Sequence[ModelDir]) -> str | None:
    """The base's digest. Raises `not-an-adapter`, `adapters-bases`."""
    found: dict[str, ModelDir] = {}
    for adapter in adapters:
        if adapter.kind != "adapter":
            raise fail("not-an-adapter", path=adapter.path, kind=adapter.kind)
        digest = adapter.hallmark.step.numbers.get("base_weights") if adapter.hallmark else None
        if digest:
            found.setdefault(digest, adapter)
    if len(found) > 1:
        (first, a), (second, b) = list(found.items())[:2]
        raise fail("adapters-bases", first=a.path, second=b.path, expected=first[:12], found=second[:12])
    return next(iter(found), None)


def _one_direction(adapters: Sequence[ModelDir]) -> bool:
    """Whether all teach their base to read prompts in both directions. Raises `merge-config` where only some do."""
    first, *others = adapters
    for other in others:
        if teaches_both_ways(other) != teaches_both_ways(first):
            raise fail("merge-config", first=first.name, other=other.name, key=PREFIX_LM,
                       found=teaches_both_ways(other), expected=teaches_both_ways(first))  # fmt: skip
    return teaches_both_ways(first)


def _add_updates(
    draft: Draft, adapters: Sequence[ModelDir], weights: Sequence[float], options: AdaptersAddOptions
) -> None:
    """Add low-rank updates layer by layer; a layer that only some adapters change is summed over those."""
    by_layer: dict[str, list[Update]] = {}
    for adapter, weight in zip(adapters, weights, strict=True):
        for update in read_low_rank(adapter)[1]:
            weighed = Update(update.layer, update.down_RI, update.up_OR, weight * update.scale, update.is_embedding)
            by_layer.setdefault(update.layer, []).append(weighed)
    dtype = next(iter(by_layer.values()))[0].down_RI.dtype
    tensors: dict[str, torch.Tensor] = {}
    ranks: dict[str, int] = {}
    errors: dict[str, float] = {}
    for layer, updates in by_layer.items():
        found = ADDITIONS[options.method](updates, options.rank)
        stored = Update(layer, found.down_RI.to(dtype), found.up_OR.to(dtype), 1.0, found.is_embedding)
        wanted = torch.stack([update.delta() for update in updates]).sum(0)
        errors[layer] = float((stored.delta() - wanted).norm() / wanted.norm().clamp(min=1e-300))
        ranks[layer] = found.rank
        tensors |= dict(stored.tensors())
    write_tensors(draft.path / "adapter_model.safetensors", spec_of(tensors), tensors.items())
    draft.write_json(CONFIG, low_rank_config(adapters[0].config, ranks))
    _prove(draft, tensors)
    worst = max(errors, key=lambda layer: errors[layer])
    tolerance = CAT_TOLERANCE if options.method == "cat" and dtype == torch.float32 else math.inf
    if tolerance < math.inf:
        draft.prove("relative error of a layer's sum", f"{len(errors)} layers", errors[worst], tolerance)
    draft.numbers |= {"worst_layer": worst, "worst_error": errors[worst], "rank": max(ranks.values())}
    say("adapters-added", count=len(adapters), method=options.method, layers=len(ranks), rank=max(ranks.values()),
        worst=worst, error=f"{errors[worst]:.2e}")  # fmt: skip


def low_rank_config(like: dict[str, Any], ranks: dict[str, int]) -> dict[str, Any]:
    """adapter_config.json of updates that are not scaled any more, each of a rank of its own."""
    largest = max(ranks.values())
    own = {layer: rank for layer, rank in ranks.items() if rank != largest}
    kept = {
        key: like[key]
        for key in ("task_type", "auto_mapping", "base_model_name_or_path", "fan_in_fan_out")
        if key in like
    }
    return kept | {
        "peft_type": "LORA",
        "r": largest,
        "lora_alpha": largest,
        "lora_dropout": 0.0,
        "target_modules": sorted(ranks),
        "rank_pattern": own,
        "alpha_pattern": own,
        "bias": "none",
        "inference_mode": True,
    }


def _add_factors(draft: Draft, adapters: Sequence[ModelDir], weights: Sequence[float], method: str) -> None:
    """IA3: the weighted sum of factors. Raises `adapters-factors` where methods, layers or `--method` do not fit."""
    if method != "linear":
        raise fail("adapters-factors", reason=f"IA3 adapters are added by --method linear, not {method}")
    held = [dict(read_tensors(adapter)) for adapter in adapters]
    for adapter, tensors in zip(adapters, held, strict=True):
        if not isinstance(read_settings(adapter), IA3) or tensors.keys() != held[0].keys():
            raise fail("adapters-factors", reason=f"{adapter.path} does not scale the layers of {adapters[0].path}")
    summed = {
        name: sum(weight * tensors[name].double() for weight, tensors in zip(weights, held, strict=True))
        for name in held[0]
    }
    written = {name: torch.as_tensor(tensor).to(held[0][name].dtype) for name, tensor in summed.items()}
    write_tensors(draft.path / "adapter_model.safetensors", spec_of(written), written.items())
    draft.write_json(CONFIG, adapters[0].config)
    _prove(draft, written)
    say("adapters-added", count=len(adapters), method=method, layers=len(written), rank="-", worst="-", error="0")


def _prove(draft: Draft, tensors: dict[str, torch.Tensor]) -> None:
    """What was written, re-opened."""
    reopened = ModelDir.open(draft.path)
    read_settings(reopened)
    unequal = sum(not torch.equal(tensor, tensors[name]) for name, tensor in read_tensors(reopened))
    draft.prove("tensors that differ when re-opened", f"{len(tensors)} tensors", unequal)
