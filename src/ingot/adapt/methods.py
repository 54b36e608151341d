"""The methods by which a model is tuned through a few parameters of an adapter's own.

A method is one file: how it wraps the network (`attach`), its settings, their keys in PEFT's config (`keys`, `read`),
and whether it can be merged into weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ingot.adapt.active import Active
from ingot.adapt.before import BeforeText, Part
from ingot.adapt.dora import DoRA
from ingot.adapt.ia3 import IA3
from ingot.adapt.lora import LoRA
from ingot.adapt.prefix import Prefix, PrefixPart
from ingot.adapt.prompt import Prompt
from ingot.adapt.wrapped import Wrapped, plain_name, replace, wrapped
from ingot.core.errors import fail
from ingot.model.transformer import Transformer


class Settings(Protocol):
    """A method with its numbers."""

    @property
    def name(self) -> str: ...

    @property
    def peft_type(self) -> str: ...

    @property
    def can_merge(self) -> bool: ...

    def keys(self) -> dict[str, Any]:
        """Its keys in adapter_config.json."""

    def attach(self, network: nn.Module, adapter: str, active: Active) -> None:
        """Put it on a network in place."""


def _lora(config: dict[str, Any], path: Path) -> Settings:
    return (DoRA if config.get("use_dora") else LoRA).read(config, path)


READERS: dict[str, Callable[[dict[str, Any], Path], Settings]] = {
    "LORA": _lora,
    "IA3": IA3.read,
    "PREFIX_TUNING": Prefix.read,
    "PROMPT_TUNING": Prompt.read,
}
"""PEFT's types -> how their settings are read."""


def put_on(network: nn.Module, settings: Settings, adapter: str, active: Active) -> None:
    """Freeze the network and put an adapter on it, under a name, behind those it has."""
    network.requires_grad_(False)
    active.add(adapter)
    settings.attach(network, adapter, active)
    for layer in _blind_to_rows(network, adapter):
        active.refusals.setdefault(adapter, layer)


def parts(network: nn.Module, adapter: str | None = None) -> Iterator[tuple[str, Wrapped | Part]]:
    """What adapters brought, by name in the module tree; of one adapter, or all."""
    yield from wrapped(network, adapter)
    for name, module in network.named_modules():
        if isinstance(module, Part) and adapter in (None, module.adapter):
            yield name, module


def tensor_names(network: nn.Module, adapter: str) -> dict[str, str]:
    """An adapter's tensors: their names in PEFT's files (less the prefix) -> in the network's state."""
    found: dict[str, str] = {}
    for name, module in parts(network, adapter):
        outer = "" if isinstance(module, Part) else f"{plain_name(name)}."
        found |= {f"{outer}{part}": f"{name}.{path}" for part, path in module.paths().items()}
    return found


def merge(network: nn.Module, all_settings: list[Settings]) -> None:
    """Put the adapters into the weights in place: every wrapped layer becomes its base, changed.

    Computed in float64 and rounded once. Raises `adapter-cannot-merge`.
    """
    for settings in all_settings:
        if not settings.can_merge:
            raise fail("adapter-cannot-merge", method=settings.name)
    outermost = {name: module for name, module in wrapped(network) if not name.endswith(".base_layer")}
    with torch.no_grad():
        for name, module in outermost.items():
            base = module.origin
            found = {part: module.merged(part, torch.float64) for part, _ in base.named_parameters()}
            for part, tensor in found.items():
                parameter = base.get_parameter(part)
                changed = nn.Parameter(tensor.to(parameter.dtype).contiguous(), requires_grad=False)
                setattr(base.get_submodule(part.rpartition(".")[0]), part.rpartition(".")[2], changed)
            replace(network, name, base)


def tensors(network: nn.Module, adapter: str) -> dict[str, Tensor]:
    """An adapter's tensors as files hold them, under PEFT's names less the prefix."""
    state = network.state_dict()
    for name, part in parts(network, adapter):
        if isinstance(part, PrefixPart):
            state[f"{name}.prompt_embeddings"] = part.numbers().detach()
    return {name: state[path] for name, path in tensor_names(network, adapter).items()}


def begin(network: nn.Module, adapter: str, ids: Sequence[int]) -> None:
    """Start what an adapter puts in front of texts from a text."""
    for _, part in parts(network, adapter):
        if isinstance(part, Part):
            part.begin(network, ids)


def length_in_front(network: nn.Module) -> int:
    """Positions that adapters take from every text's window."""
    before = network.before if isinstance(network, Transformer) else None
    return before.length if isinstance(before, BeforeText) else 0


def _blind_to_rows(network: nn.Module, adapter: str) -> Iterator[str]:
    """Layers an adapter changes that see tokens without their rows (experts), or are not called (the output head)."""
    head = getattr(getattr(network, "family", None), "head", None)
    for name, _ in wrapped(network, adapter):
        plain = plain_name(name)
        if ".experts." in f".{plain}" or plain in (head, "lm_head"):
            yield plain
