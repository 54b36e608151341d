"""The verb `adapters unmerge`: take adapters out of weights they were merged into.

Possible where the update is known from the adapter alone: low-rank updates are subtracted, factors divided by. DoRA's
lengths replaced those of the base, which nothing remembers; copies replaced whole modules.

Merging rounded to the weights' storage type, so the base does not come back bit for bit. What is proven: merged again,
the result gives what it was taken from; what is told, with `--base`: how far it is from the base itself.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ingot.adapt.files import teaches_both_ways
from ingot.adapt.load import load
from ingot.compress.source import Weights, write_config
from ingot.core.errors import fail
from ingot.core.files import refuse_nonempty
from ingot.core.language import text
from ingot.core.model_dir import Draft, ModelDir
from ingot.core.options import Options, argument, option, required, verb
from ingot.core.progress import say, track
from ingot.model.config import PREFIX_LM
from ingot.model.encoder_decoder import EncoderDecoder
from ingot.model.quantized import read_dense_tensor
from ingot.model.weights import read_tensor, write_tensors
from ingot.train.write import sample_ids

ROUNDING = 4
"""Roundings to the storage type that the way out and back may cost, in units of the largest number of a tensor."""


class AdaptersUnmergeOptions(Options):
    """Take adapters out of weights they were merged into."""

    model: str = argument("MERGED+ADAPTER: the merged model, and what to take out of it")
    out: Path = required("the model directory to write")
    base: Path | None = option(None, "the base they were trained on, to measure how near the result comes to it")


@verb(AdaptersUnmergeOptions)
def adapters_unmerge(options: AdaptersUnmergeOptions) -> ModelDir:
    """Take adapters out of weights again."""
    refuse_nonempty(options.out)
    weights = Weights.open(options.model, any_base=True)
    if not weights.adapters:
        raise fail("unmerge-no-adapter", model=options.model)
    base = ModelDir.open(options.base) if options.base else None
    with ModelDir.create(options.out, "adapters unmerge", options) as draft:
        draft.parents = weights.parents
        write_config(draft, weights, {PREFIX_LM: False} if any(map(teaches_both_ways, weights.adapters)) else {})
        spec = {name: (weights.dtype(name), weights.shape(name)) for name in weights.names}
        names = track(weights.names, text("unmerging"), len(weights.names))
        stream = ((name, weights.unmerged(name)) for name in names)
        write_tensors(draft.path / "model.safetensors", spec, stream)
        _prove(draft, weights)
        draft.numbers |= _measure(draft, weights, base)
        say("unmerged", **draft.numbers)
    return ModelDir.open(options.out)


def _prove(draft: Draft, weights: Weights) -> None:
    """Merged again, each tensor is what it was, but for rounding."""
    written = ModelDir.open(draft.path)
    worst = 0.0
    for name in weights.names:
        before, after = read_tensor(weights.base.tensors[name]), read_tensor(written.tensors[name])
        again = weights.changed(name, after)
        step = torch.finfo(before.dtype).eps * max(float(before.abs().max()), float(after.abs().max()), 1e-30)
        worst = max(worst, float((again.double() - before.double()).abs().max()) / step)
    draft.prove("largest difference when merged again, in roundings of the largest number",
                f"{len(weights.names)} tensors", worst, ROUNDING)  # fmt: skip


def _measure(draft: Draft, weights: Weights, base: ModelDir | None) -> dict[str, Any]:
    """Largest difference of weights and of logits to the base, where it is given."""
    if base is None:
        return {"weight_difference": None, "logit_difference": None, "identical": None}
    written = ModelDir.open(draft.path)
    different = 0.0
    for name, entry in written.tensors.items():
        different = max(different, _far(read_dense_tensor(base, name), read_tensor(entry)))
    found, expected = load(draft.path), load(base.path)
    ids = sample_ids(found.network)
    source = ids if isinstance(found.network, EncoderDecoder) else None
    logits = float((found.logits(ids, source) - expected.logits(ids, source)).abs().max())
    return {"weight_difference": different, "logit_difference": logits, "identical": different == 0}


def _far(first: Tensor, second: Tensor) -> float:
    return float((first.double() - second.double()).abs().max()) if first.shape == second.shape else math.inf
