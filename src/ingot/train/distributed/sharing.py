"""What the loop does for the other processes around a step. Alone, nothing.

All ways of sharing give the gradients of one process: sums over the whole batch, because the loss is a sum over its
targets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from ingot.core.errors import fail
from ingot.data.objectives.lesson import Lesson
from ingot.model.network import Network
from ingot.train.distributed.slices import is_sliced, whole
from ingot.train.distributed.world import World
from ingot.train.settings import LoopOptions


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Sharing:
    """What the loop must know. `splits_rows`: each process trains on its own rows; `averages`: gradients arrive divided
    by the number of processes; `summed`: parameters whose gradients the loop must add up over the processes; `settle`
    is to be called after a forward pass that no backward pass follows."""

    world: World = field(default_factory=World)
    splits_rows: bool = True
    averages: bool = False
    summed: tuple[nn.Parameter, ...] = ()
    settle: Callable[[], None] = _nothing

    def parts(self, lesson: Lesson, micro_batches: int) -> list[Lesson]:
        """This process's share of a lesson in micro-batches, as many on every process."""
        rows = np.arange(len(lesson.rows))
        rows = rows[self.world.rank :: self.world.size] if self.splits_rows else rows
        return [lesson.part(part) for part in np.array_split(rows, min(micro_batches, len(rows)))]

    @property
    def loss_scale(self) -> float:
        """What to multiply the loss by before going back through it."""
        return float(self.world.size) if self.averages else 1.0

    def total_loss(self, loss: float) -> float:
        """The whole batch's loss from this process's."""
        return self.world.sum(loss)[0] if self.splits_rows else loss

    def add_up(self) -> None:
        """Add up over the processes the gradients that no hook has added up. One that no process has stays away."""
        if self.world.size == 1 or not self.summed:
            return
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.summed]
        there = gradients[0].new_tensor([p.grad is not None for p in self.summed])
        flat = torch.cat([there, *(gradient.flatten() for gradient in gradients)])
        torch.distributed.all_reduce(flat)
        there, *parts = flat.split([len(there), *(p.numel() for p in self.summed)])
        for parameter, part, holders in zip(self.summed, parts, there.tolist(), strict=True):
            parameter.grad = part.view_as(parameter) if holders else None

    def spread_chance(self, seed: int, step: int) -> None:
        """Let the processes drop different numbers: those behind the first draw from streams of their own. (Where all
        see the same rows they must draw the same.)"""
        if self.splits_rows and not self.world.is_first:
            torch.manual_seed(hash((seed, step, self.world.rank)) & (2**63 - 1))

    def gathered(self, network: Network, make: Callable[[], Network]) -> Network:
        """The whole network again, in one that `make` makes; every process must ask."""
        if not any(map(is_sliced, network.parameters())):
            return network
        made = make().to(self.world.device)
        found = made.state_dict()
        with torch.no_grad():
            for name, tensor in network.state_dict().items():
                found[name].copy_(whole(tensor))
        return made


ALONE = Sharing()
"""One process."""


def share(network: Network, options: LoopOptions, world: World) -> Sharing:
    """Prepare the network in place for this world.

    Raises `parallel-alone` when a way of sharing was asked of one process, and what the way itself refuses.
    """
    strategy = options.parallel
    if world.size == 1:
        if strategy != "auto":
            raise fail("parallel-alone", strategy=strategy)
        return ALONE
    from ingot.train.distributed.strategies import STRATEGIES

    return STRATEGIES["ddp" if strategy == "auto" else strategy](network, world)
