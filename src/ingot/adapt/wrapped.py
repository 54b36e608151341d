"""What all adapters share that wrap a layer: the layer is kept and called, nothing of it is copied or declared anew.

A wrapped layer may be wrapped again: adapters stack by wrapping what they find. What can be wrapped is anything with
`in_features`, `out_features`, `weight` and `bias`; a layer that stores its weight in few bits gives it decoded.

Names: the module tree has `q_proj.base_layer`, checkpoints of the base say `q_proj` (`plain_name`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ingot.adapt.active import Active
from ingot.core.errors import fail
from ingot.model.held import HeldLinear
from ingot.model.layers import Conv1D


class Wrapped(nn.Module):
    """A layer with one adapter's update around it.

    A method gives `parts` (the names of its tensors in PEFT's files, which are those of its parameters), `changed` and
    `merged`.
    """

    parts: ClassVar[tuple[str, ...]] = ()

    def __init__(self, base: nn.Module, adapter: str, active: Active) -> None:
        super().__init__()
        self.base_layer, self.adapter, self.active = base, adapter, active

    def forward(self, x: Tensor) -> Tensor:
        out = self.base_layer(x)
        rows = self.active.of(self.adapter, x)
        if rows is None:
            return self.changed(x, out)
        return out.index_copy(0, rows, self.changed(x[rows], out[rows])) if len(rows) else out

    def changed(self, x: Tensor, out: Tensor) -> Tensor:
        """What becomes of the layer's output."""
        raise NotImplementedError

    def merged(self, part: str, dtype: torch.dtype) -> Tensor:
        """The base's `weight` or `bias` with this and all inner updates, computed in `dtype`, as the base stores it."""
        return self.inner(part, dtype)

    def inner(self, part: str, dtype: torch.dtype) -> Tensor:
        """The same without this update."""
        base = self.base_layer
        found = base.merged(part, dtype) if isinstance(base, Wrapped) else base.get_parameter(part).to(dtype)
        assert isinstance(found, Tensor)
        return found

    def taken_out(self, part: str, merged: Tensor) -> Tensor:
        """What `merged` was before this update was merged into it, computed in its dtype.

        Raises `adapter-cannot-unmerge` where the adapter alone does not say.
        """
        raise fail("adapter-cannot-unmerge", adapter=self.adapter, kind=type(self).__name__)

    @property
    def origin(self) -> nn.Module:
        """The layer below all wrappers."""
        return origin(self)

    @property
    def in_features(self) -> int:
        return features(self.base_layer)[0]

    @property
    def out_features(self) -> int:
        return features(self.base_layer)[1]

    @property
    def weight(self) -> Tensor:
        """What the layer multiplies by, for those who read a weight rather than call the layer: the output head."""
        return self.merged("weight", self.origin.weight.dtype)  # type: ignore[arg-type]

    @property
    def bias(self) -> Tensor | None:
        if getattr(self.origin, "bias", None) is None:
            return None
        return self.merged("bias", self.origin.weight.dtype)  # type: ignore[arg-type]

    def paths(self) -> dict[str, str]:
        """Name of each of the adapter's tensors in PEFT's files -> its parameter here."""
        return {part: part for part in self.parts}


def origin(layer: nn.Module) -> nn.Module:
    """The layer below all wrappers."""
    while isinstance(layer, Wrapped):
        layer = layer.base_layer
    return layer


def like(layer: nn.Module) -> Tensor:
    """A tensor that lies where the layer's weight does, in its numbers."""
    own = origin(layer)
    found: Any = own.place if isinstance(own, HeldLinear) else own.weight
    return found


def beside(weight: Tensor) -> dict[str, Any]:
    """Where and in what numbers an adapter is held beside a weight: in float32 at least, in however few bits the base
    is kept, because small steps would be lost in fewer."""
    return {"device": weight.device, "dtype": torch.promote_types(weight.dtype, torch.float32)}


def is_transposed(layer: nn.Module) -> bool:
    """Whether the weight lies as (in, out)."""
    return isinstance(origin(layer), Conv1D)


def is_linear(layer: nn.Module) -> bool:
    """Whether it can be wrapped as a matrix product, from its attributes: low-bit layers are welcome."""
    return hasattr(layer, "in_features") and hasattr(layer, "out_features")


def features(layer: nn.Module) -> tuple[int, int]:
    """How many numbers a linear layer reads and gives."""
    return int(layer.in_features), int(layer.out_features)  # type: ignore[arg-type]


def plain_name(name: str) -> str:
    """A module's or parameter's name without wrappers: as it stands in the base's checkpoint."""
    return re.sub(r"\.base_layer(?=\.|$)", "", name)


def layers(network: nn.Module) -> dict[str, nn.Module]:
    """Every module by its plain name, the outermost where one is wrapped; what adapters brought is left out."""
    found: dict[str, nn.Module] = {}
    own: list[str] = []
    for name, module in network.named_modules():
        if any(name.startswith(prefix) for prefix in own):
            continue
        found[name] = module
        if isinstance(module, Wrapped):
            own.append(f"{name}.")
    return {name: module for name, module in found.items() if name and name.partition(".")[0] != "before"}


def wrapped(network: nn.Module, adapter: str | None = None) -> Iterator[tuple[str, Wrapped]]:
    """The wrappers by their names in the module tree, outer before inner; of one adapter, or all."""
    for name, module in network.named_modules():
        if isinstance(module, Wrapped) and adapter in (None, module.adapter):
            yield name, module


def replace(network: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module where another stands."""
    parent, _, child = name.rpartition(".")
    holder: Any = network.get_submodule(parent)
    if isinstance(holder, nn.ModuleList):
        holder[int(child)] = module
    else:
        setattr(holder, child, module)
