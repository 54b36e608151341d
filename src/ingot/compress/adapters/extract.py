"""The verb `adapters extract`: what tuning changed in a model, as an adapter of its base.

The difference of each matrix is replaced by the nearest one of low rank, and the share of its energy (the sum of its
squares) that is kept is told by layer. Norms, embeddings and other modules that differ are kept whole. Biases of
matrices, and an embedding that cannot be parted from its head, have no place in an adapter: they are left out, and
counted. How near the result comes is measured on logits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ingot.adapt.files import CONFIG, PREFIX, base_keys, weights_digest
from ingot.adapt.load import load
from ingot.adapt.targets import HEADS
from ingot.adapt.wrapped import is_linear, is_transposed
from ingot.compress.adapters.add import low_rank_config
from ingot.compress.adapters.low_rank import Update, nearest_of_rank
from ingot.compress.merge_verb import check_match
from ingot.compress.source import Weights
from ingot.core.errors import fail
from ingot.core.files import refuse_nonempty
from ingot.core.language import text
from ingot.core.model_dir import Draft, ModelDir
from ingot.core.options import Options, argument, option, required, verb
from ingot.core.progress import say, track
from ingot.model.decoder import Decoder
from ingot.model.encoder_decoder import EncoderDecoder
from ingot.model.weights import read_tensors, spec_of, write_tensors
from ingot.train.write import sample_ids

ENERGY_TOLERANCE = 1e-4
"""How far the energy that the written update keeps may be from the one that was worked out."""


class AdaptersExtractOptions(Options):
    """Make an adapter of the difference of two models."""

    model: str = argument("the tuned model")
    base: Path = required("the model it was tuned from")
    out: Path = required("the adapter directory to write")
    rank: int = option(16, "largest rank of a layer's update", ge=1)
    energy: float | None = option(
        None, "share of a difference's energy to keep; layers take no more rank than that needs", gt=0, le=1
    )


@dataclass
class Extracted:
    """The adapter as it grows: its tensors, ranks and energies by layer, what is kept whole, what is left out."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    energies: dict[str, float] = field(default_factory=dict)
    whole: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


@verb(AdaptersExtractOptions)
def adapters_extract(options: AdaptersExtractOptions) -> ModelDir:
    """Make an adapter of the difference of two models."""
    refuse_nonempty(options.out)
    tuned, base = Weights.open(options.model), Weights.open(str(options.base))
    check_match(base, tuned)
    with ModelDir.create(options.out, "adapters extract", options) as draft:
        draft.parents = [*base.parents, *tuned.parents]
        found = _difference(tuned, base, options)
        if not found.ranks:
            raise fail("extract-nothing", model=tuned.name, base=base.name)
        write_tensors(draft.path / "adapter_model.safetensors", spec_of(found.tensors), found.tensors.items())
        draft.write_json(CONFIG, _config(found, base))
        draft.numbers["base_weights"] = weights_digest(base.base)
        _prove(draft, found, tuned, base)
        draft.numbers |= _measure(draft, found, tuned, base)
        _tell(draft.numbers, found)
    return ModelDir.open(options.out)


def _difference(tuned: Weights, base: Weights, options: AdaptersExtractOptions) -> Extracted:
    """Tensor by tensor, one pair in memory at a time."""
    found = Extracted()
    for name in track(base.names, text("extracting"), len(base.names)):
        before, after = base.read(name), tuned.read(name)
        if torch.equal(before, after):
            continue
        layer, _, part = _tree_name(base, name).rpartition(".")
        module = base.network.get_submodule(layer)
        is_matrix = is_linear(module) and layer not in HEADS
        if is_matrix and part == "weight":
            _lower(found, layer, _matrix(after, base, layer) - _matrix(before, base, layer), before.dtype, options)
        elif is_matrix or (module is base.network.embedding and not isinstance(base.network, Decoder)):
            found.left_out.append(name)
        else:
            found.whole.append(layer)
            if module is base.network.embedding and base.network.config.tie_embeddings:
                found.whole.append(base.decoder.family.head)
    for layer in dict.fromkeys(found.whole):
        found.tensors |= _all_of(tuned, layer)
    return found


def _lower(
    found: Extracted, layer: str, difference: Tensor, dtype: torch.dtype, options: AdaptersExtractOptions
) -> None:
    """Take one matrix's difference (out, in) in, at a low rank."""
    rank = min(options.rank, *difference.shape)
    down, up, energy = nearest_of_rank(difference, rank, options.energy)
    dtype = torch.float32 if dtype == torch.float64 else dtype
    update = Update(layer, down.to(dtype), up.to(dtype), 1.0)
    found.tensors |= dict(update.tensors())
    found.ranks[layer], found.energies[layer] = update.rank, energy


def _matrix(tensor: Tensor, weights: Weights, layer: str) -> Tensor:
    return tensor.double().t() if is_transposed(weights.network.get_submodule(layer)) else tensor.double()


def _tree_name(weights: Weights, name: str) -> str:
    """A checkpoint's name as the module tree has it: bare backbones lack a prefix."""
    state = weights.network.state_dict()
    outer = next(iter(state)).partition(".")[0]
    return name if name in state else f"{outer}.{name}"


def _stored(weights: Weights, name: str) -> str:
    """The other way round: a name of the module tree as the checkpoint has it."""
    return next(stored for stored in weights.names if _tree_name(weights, stored) == name)


def _all_of(weights: Weights, layer: str) -> dict[str, Tensor]:
    """Every parameter of a module that is kept whole; a tied head's is the embedding's."""
    tied = weights.network.ties.get(f"{layer}.weight")
    if tied:
        return {f"{PREFIX}{layer}.weight": weights.read(_stored(weights, tied))}
    return {
        f"{PREFIX}{layer}.{part}": weights.read(stored)
        for part, _ in weights.network.get_submodule(layer).named_parameters()
        for stored in weights.names
        if _tree_name(weights, stored) == f"{layer}.{part}"
    }


def _config(found: Extracted, base: Weights) -> dict[str, Any]:
    like = base_keys(base.network, base.base, is_layered=True)
    return low_rank_config(like, found.ranks) | {"modules_to_save": list(dict.fromkeys(found.whole)) or None}


def _prove(draft: Draft, found: Extracted, tuned: Weights, base: Weights) -> None:
    """The energy each written update leaves, worked out anew from the files and the two models."""
    reopened = dict(read_tensors(ModelDir.open(draft.path)))
    worst = 0.0
    for layer, energy in found.energies.items():
        name = _stored(base, f"{layer}.weight")
        wanted = _matrix(tuned.read(name), base, layer) - _matrix(base.read(name), base, layer)
        down, up = (reopened[f"{PREFIX}{layer}.{part}.weight"] for part in ("lora_A", "lora_B"))
        left = wanted - Update(layer, down, up, 1.0).delta()
        kept = 1 - float(left.square().sum() / wanted.square().sum())
        worst = max(worst, abs(kept - energy))
    coarse = max(torch.finfo(tensor.dtype).eps for tensor in reopened.values())
    draft.prove("difference of the energy kept, re-opened", f"{len(found.energies)} layers", worst,
                max(ENERGY_TOLERANCE, coarse))  # fmt: skip


def _measure(draft: Draft, found: Extracted, tuned: Weights, base: Weights) -> dict[str, Any]:
    """Energies, and how far base + adapter is from the tuned model in logits, as a share of what tuning changed."""
    worst = min(found.energies, key=lambda layer: found.energies[layer])
    models = [load(reference) for reference in (tuned.reference, str(base.base.path), f"{base.base.path}+{draft.path}")]
    ids = sample_ids(models[0].network)
    source = ids if isinstance(models[0].network, EncoderDecoder) else None
    wanted, plain, near = (model.logits(ids, source) for model in models)
    return {
        "layers": len(found.ranks),
        "largest_rank": max(found.ranks.values()),
        "worst_layer": worst,
        "worst_energy": found.energies[worst],
        "layer_energies": {layer: round(energy, 6) for layer, energy in found.energies.items()},
        "kept_whole": list(dict.fromkeys(found.whole)),
        "left_out": found.left_out,
        "logit_difference": float((near - wanted).norm() / (plain - wanted).norm().clamp(min=1e-30)),
    }


def _tell(numbers: dict[str, Any], found: Extracted) -> None:
    say("extracted", layers=numbers["layers"], rank=numbers["largest_rank"], worst=numbers["worst_layer"],
        energy=f"{numbers['worst_energy']:.1%}", whole=len(numbers["kept_whole"]),
        logits=f"{numbers['logit_difference']:.1%}")  # fmt: skip
    if found.left_out:
        say("extract-left-out", count=len(found.left_out), first=found.left_out[0])
