"""The verb `adapters show`: what an adapter is, layer by layer, from its files alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ingot.adapt.files import PREFIX, read_settings
from ingot.adapt.lora import LoRA
from ingot.compress.adapters.low_rank import DOWN, EMBEDDING_DOWN, EMBEDDING_UP, UP, Update
from ingot.core.errors import fail
from ingot.core.model_dir import ModelDir
from ingot.core.options import Options, argument, verb
from ingot.core.progress import say
from ingot.model.weights import check_finite, read_tensor


class AdaptersShowOptions(Options):
    """Show what an adapter is."""

    adapter: Path = argument("the adapter's directory")


@dataclass(frozen=True)
class Layer:
    """One layer: the rank of its update (None where it has none), the factor before it, the norm of what it adds (of
    what it holds, for other methods), and how many numbers that takes."""

    name: str
    rank: int | None
    scale: float | None
    norm: float
    parameters: int


@dataclass(frozen=True)
class Shown:
    """What was printed."""

    facts: dict[str, Any]
    layers: list[Layer]

    def summary(self) -> dict[str, Any]:
        return {**self.facts, "layers": [vars(layer) for layer in self.layers]}


@verb(AdaptersShowOptions)
def adapters_show(options: AdaptersShowOptions) -> Shown:
    """Show what an adapter is. Raises what is wrong with its files."""
    adapter = ModelDir.open(options.adapter)
    if adapter.kind != "adapter":
        raise fail("not-an-adapter", path=options.adapter, kind=adapter.kind)
    settings = read_settings(adapter)
    layers = _layers(adapter, settings)
    numbers = adapter.hallmark.step.numbers if adapter.hallmark else {}
    targets = adapter.config.get("target_modules")
    base, digest = adapter.config.get("base_model_name_or_path"), numbers.get("base_weights")
    facts: dict[str, Any] = {
        "path": str(adapter.path),
        "method": settings.name,
        "targets": targets,
        "parameters": sum(layer.parameters for layer in layers),
        "ranks": sorted({layer.rank for layer in layers if layer.rank is not None}),
        "base": base,
        "base_weights": digest,
    }
    told = ", ".join(targets) if isinstance(targets, list) else targets
    say("adapter-facts", name=adapter.name, method=settings.name, targets=told or "-",
        parameters=f"{facts['parameters']:,}", base=base or "-",
        digest=(digest or "-")[:12])  # fmt: skip
    width = max((len(layer.name) for layer in layers), default=0)
    for layer in layers:
        say("adapter-layer", name=layer.name.ljust(width), rank=layer.rank or "-", norm=f"{layer.norm:.4g}",
            scale="-" if layer.scale is None else f"{layer.scale:g}", parameters=f"{layer.parameters:,}")  # fmt: skip
    return Shown(facts, layers)


def _layers(adapter: ModelDir, settings: object) -> list[Layer]:
    """Tensors of one layer belong together; what is no low-rank update stands for itself, and so do updates of
    parameters, of which only the base says what they are."""
    is_low_rank = isinstance(settings, LoRA) and not settings.parameters
    held: dict[str, Tensor] = {}
    for name, entry in adapter.tensors.items():
        held[name.removeprefix(PREFIX)] = read_tensor(entry)
        check_finite(name, held[name.removeprefix(PREFIX)], adapter.path)
    found = []
    for name in sorted(held):
        for down, up in ((DOWN, UP), (EMBEDDING_DOWN, EMBEDDING_UP)):
            layer = name.removesuffix(f".{down}")
            if layer != name and f"{layer}.{up}" in held and is_low_rank:
                assert isinstance(settings, LoRA)
                update = Update(layer, held[name], held[f"{layer}.{up}"], settings.scale(layer)[1])
                found.append(Layer(layer, update.rank, update.scale, update.norm(), update.numbers))
        if not is_low_rank or not name.endswith((DOWN, UP, EMBEDDING_DOWN, EMBEDDING_UP)):
            norm = float(torch.linalg.vector_norm(held[name].double()))
            found.append(Layer(name, None, None, norm, held[name].numel()))
    return found
