"""Weights and optimiser states that live one step further away: a card's in the computer's memory, a CPU's in files
mapped into memory, whose pages the system may write back and drop when it needs the room.

Offloaded layers come to the card one at a time, are computed, and leave; they come again for the backward pass, which
computes the layer once more from its input (ZeRO-Infinity, Rajbhandari et al. 2021, arXiv 2104.07857). Their gradients
go home with them and are applied there. On CPU the numbers are the same to the last bit, because nothing else changes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ingot.core.errors import fail
from ingot.model.network import Network
from ingot.train.distributed.world import World
from ingot.train.rematerialise import Call
from ingot.train.settings import LoopOptions

SMALL = 1024
"""Numbers of a tensor that is not worth moving."""

PART_NUMBERS = 1 << 25
"""Numbers whose optimiser states are brought back at a time: 256 MiB of AdamW's."""


@dataclass(frozen=True)
class Elsewhere:
    """Where the tensors of a device live when they are not needed: `keep` takes one there."""

    device: torch.device
    folder: Path

    def keep(self, tensor: Tensor) -> Tensor:
        """A copy that takes no memory of the device."""
        if self.device.type == "cuda":
            return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor)
        return self._mapped(tensor.detach())

    def _mapped(self, tensor: Tensor) -> Tensor:
        """A copy in a file that has no name any more, so that nothing is left behind however the run ends."""
        with tempfile.NamedTemporaryFile(dir=self.folder) as file:
            _reserve(file.fileno(), tensor.numel() * tensor.element_size())
            kept = torch.from_file(file.name, shared=True, size=tensor.numel(), dtype=tensor.dtype)
        return kept.view(tensor.shape).copy_(tensor)

    def fetch(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Bring an optimiser's state of one parameter to where the parameter is; a CPU works where the state lies."""
        for key, value in state.items():
            state[key] = value.to(device, non_blocking=True)

    def put_back(self, state: dict[str, Tensor], kept: dict[str, Tensor]) -> None:
        """Take it away again; `kept` holds the places found for it the first time."""
        for key, value in state.items():
            if value.numel() < SMALL or value is kept.get(key) or (self.device.type == "cuda" and not value.is_cuda):
                continue
            if key in kept:
                kept[key].copy_(value, non_blocking=True)
            else:
                kept[key] = self.keep(value)
            state[key] = kept[key]

    def settle(self) -> None:
        """Until everything put back has arrived."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _reserve(file: int, size: int) -> None:
    """Make a file so large, for certain: a mapped page that finds the disk full would kill the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.truncate(file, size)


def move(network: Network, options: LoopOptions, device: torch.device, folder: Path, world: World) -> Network:
    """Move a network to its device, all but the layers that `--loop.offload layers` leaves at home.

    Raises `offload-parallel` with several processes, `offload-compile` when compiling was asked for.
    """
    if options.offload != "none" and world.size > 1:
        raise fail("offload-parallel", size=world.size)
    if options.offload != "layers":
        return network.to(device)
    if options.compile == "on" and device.type == "cuda":
        raise fail("offload-compile")
    elsewhere, leaving = Elsewhere(device, folder), {id(parameter) for parameter in at_home(network)}
    for parameter in network.parameters():
        parameter.data = elsewhere.keep(parameter.data) if id(parameter) in leaving else parameter.data.to(device)
    for module in network.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
    return network


def at_home(network: Network) -> list[nn.Parameter]:
    """The parameters of layers that leave the device: all but tables, which others may look up (T5's positions)."""
    found: dict[int, nn.Parameter] = {}
    for block in network.blocks:
        tables = {id(module.weight) for module in block.modules() if isinstance(module, nn.Embedding)}
        found |= {id(parameter): parameter for parameter in block.parameters() if id(parameter) not in tables}
    return list(found.values())


Bring = Callable[[Tensor], Tensor]
"""A copy of a weight where it is to be used."""


def visiting(bring: Bring) -> Call:
    """Layers called with copies of their weights, for `rematerialised`, which lets the copies go after either pass."""
    return lambda block: partial(_visit, block, bring)


def _visit(block: nn.Module, bring: Bring, *args: Any, **kwargs: Any) -> Any:
    """The copies are part of the graph, so gradients go home."""
    guests = {name: bring(parameter) for name, parameter in block.named_parameters()}
    visit = block.__dict__.pop("forward")  # or it would be called again, in place of the layer's own
    try:
        return functional_call(block, guests, args, kwargs)
    finally:
        block.forward = visit
