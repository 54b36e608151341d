"""Modules that an adapter holds whole: trained copies that stand in for the base's (PEFT's `modules_to_save`)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ingot.adapt.active import Active
from ingot.adapt.wrapped import Wrapped, layers, origin, replace
from ingot.core.errors import fail
from ingot.model.held import is_held


class SavedModule(Wrapped):
    """The copy's output instead of the base's."""

    def __init__(self, base: nn.Module, adapter: str, active: Active) -> None:
        super().__init__(base, adapter, active)
        self.copy = copy.deepcopy(origin(base)).requires_grad_(True)

    def changed(self, x: Tensor, out: Tensor) -> Tensor:
        return self.copy(x)

    def merged(self, part: str, dtype: torch.dtype) -> Tensor:
        return self.copy.get_parameter(part).to(dtype)

    @property
    def num_embeddings(self) -> int:
        return int(self.origin.num_embeddings)  # type: ignore[arg-type]

    def paths(self) -> dict[str, str]:
        return {name: f"copy.{name}" for name, _ in self.copy.named_parameters()}


def save_modules(network: nn.Module, names: list[str], adapter: str, active: Active) -> None:
    """Wrap these modules by copies of themselves. Raises `nf4-save` for what is held in 4 bits, untrainable."""
    found = layers(network)
    for name in names:
        if is_held(found[name]):
            raise fail("nf4-save", module=name)
        replace(network, name, SavedModule(found[name], adapter, active))
