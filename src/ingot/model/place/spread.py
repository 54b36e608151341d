"""A network whose layers lie in several places: loaded there, and made to run from outside.

Hooks on the layers bring a layer's inputs to its device, fill it from disk when its turn comes and empty it again, and
bring the last output home. The network's own code runs as it is; parameters of layers on disk have no memory between
their turns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ingot.model.available import give_back
from ingot.model.cache import CacheRows
from ingot.model.decoder import Decoder
from ingot.model.place.disk import DiskLayers
from ingot.model.place.layout import Layout
from ingot.model.place.plan import Placement
from ingot.model.quantized import dense_names, read_dense_tensor
from ingot.model.weights import full_name, load_network


def load_spread(layout: Layout, dtype: torch.dtype | None, placement: Placement) -> Decoder:
    """The network of a directory, spread as planned. Raises what `load` raises."""
    on_disk = {number: layout.weights(number, dtype) for number in placement.on_disk}
    absent = {name for number in on_disk for name in layout.layers[number]}
    network = load_network(layout.base, _tensors(layout, placement, absent), dtype, absent=absent)
    assert isinstance(network, Decoder)
    network.rotary.to(placement.home)
    give_back()
    arrange(network.requires_grad_(False), placement, DiskLayers(on_disk) if on_disk else None)
    return network


def _tensors(layout: Layout, placement: Placement, absent: set[str]) -> Iterator[tuple[str, Tensor]]:
    """Every weight that is held, each read to where it belongs."""
    devices = {name: placement.device(number) for number, names in enumerate(layout.layers) for name in names}
    for name in dense_names(layout.base):
        full = full_name(name, layout.shapes)
        if full not in absent:
            yield name, read_dense_tensor(layout.base, name).to(devices.get(full, torch.device(placement.home)))


@dataclasses.dataclass
class Carrier:
    """Brings what layers are called with to their device, each thing once a pass."""

    _moved: dict[tuple[int, torch.device], tuple[Tensor, Tensor]] = dataclasses.field(default_factory=dict)

    def bring(self, value: Any, device: torch.device) -> Any:
        """A tensor, or something that is made of tensors."""
        if isinstance(value, Tensor):
            if value.device == device:
                return value
            key = id(value), device
            if key not in self._moved:
                self._moved[key] = value, value.to(device)  # the first is kept so that its id stays its own
            return self._moved[key][1]
        if isinstance(value, tuple):
            return tuple(self.bring(part, device) for part in value)
        return value.brought(partial(self.bring, device=device)) if isinstance(value, CacheRows) else value

    def forget(self) -> None:
        """A pass is over."""
        self._moved.clear()


def arrange(network: Decoder, placement: Placement, disk: DiskLayers | None) -> None:
    """Make each layer run where it lies."""
    carrier, home = Carrier(), torch.device(placement.home)
    for number, block in enumerate(network.blocks):
        block.register_forward_pre_hook(partial(_enter, carrier, placement.device(number)))
        if disk is not None and number in disk.weights:
            owners = [(block.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2])
                      for name, _ in block.named_parameters()]  # fmt: skip
            resting = [owner._parameters[name] for owner, name in owners]
            block.register_forward_pre_hook(partial(_fill, disk, number, owners))
            block.register_forward_hook(partial(_empty, owners, resting), always_call=True)
    network.backbone.final = partial(_leave, carrier, home, network.backbone.final)  # type: ignore[method-assign]


Owners = list[tuple[nn.Module, str]]
"""The modules of a layer that have parameters, and what these are called."""


def _enter(carrier: Carrier, device: torch.device, block: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(carrier.bring(value, device) for value in args)


def _fill(disk: DiskLayers, number: int, owners: Owners, block: nn.Module, args: tuple[Any, ...]) -> None:
    for (owner, name), tensor in zip(owners, disk.take(number), strict=True):
        owner._parameters[name] = tensor  # type: ignore[assignment]


def _empty(owners: Owners, resting: list[Any], block: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
    for (owner, name), parameter in zip(owners, resting, strict=True):
        owner._parameters[name] = parameter


def _leave(carrier: Carrier, home: torch.device, final: Callable[[Tensor], Tensor], x_BTC: Tensor) -> Tensor:
    """The layers are through, or as many of them as were asked for."""
    carrier.forget()
    return final(x_BTC.to(home))
