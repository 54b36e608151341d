"""The optimisers of a run, behind one handle: which parameters each one updates, their steps, and their state by name.

A method is a function from parameter groups to torch optimisers, in OPTIMIZERS. All keep their state as tensors in
`optimizer.state[parameter]`, so that a checkpoint can hold it without knowing them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ingot.train.distributed.slices import is_sliced, local, sliced_like
from ingot.train.offload import PART_NUMBERS, Elsewhere
from ingot.train.optimizers.adam8 import AdamW8
from ingot.train.optimizers.groups import Group, Kind, parameter_groups, split_groups, tell_groups
from ingot.train.optimizers.muon import Muon
from ingot.train.settings import LoopOptions


def adamw(groups: list[Group], options: LoopOptions) -> dict[Kind, Optimizer]:
    """AdamW (Loshchilov and Hutter 2019), torch's fused one."""
    made = torch.optim.AdamW(_settings(groups), lr=0.0, betas=(options.beta1, options.beta2), fused=True)
    return {group.kind: made for group in groups}


def adamw8(groups: list[Group], options: LoopOptions) -> dict[Kind, Optimizer]:
    """AdamW with 8-bit moments (Dettmers et al. 2022): a quarter of the optimiser's memory."""
    made = AdamW8(_settings(groups), (options.beta1, options.beta2))
    return {group.kind: made for group in groups}


def muon(groups: list[Group], options: LoopOptions) -> dict[Kind, Optimizer]:
    """Muon (Jordan et al. 2024) for matrices, AdamW for everything else."""
    matrices = [group for group in groups if group.kind == "matrix"]
    others = [group for group in groups if group.kind != "matrix"]
    made = adamw(others, options) if others else {}
    return made | ({"matrix": Muon(_settings(matrices))} if matrices else {})


OPTIMIZERS: dict[str, Callable[[list[Group], LoopOptions], dict[Kind, Optimizer]]] = {
    "adamw": adamw,
    "adamw8": adamw8,
    "muon": muon,
}


@dataclass(frozen=True)
class Part:
    """Parameters that are updated together, and who updates each kind of them."""

    groups: list[Group]
    of: dict[Kind, Optimizer]

    def update(self, rate: float) -> None:
        for optimizer in dict.fromkeys(self.of.values()):
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()

    def states(self) -> Iterator[tuple[str, nn.Parameter, dict[str, Tensor]]]:
        """Name, parameter and state of each."""
        for group in self.groups:
            for name, parameter in group.parameters.items():
                yield name, parameter, self.of[group.kind].state[parameter]


class Optimizers:
    """The optimisers of a run as one. With `elsewhere` their states live there and visit the device part by part."""

    def __init__(self, model: nn.Module, options: LoopOptions, elsewhere: Elsewhere | None = None) -> None:
        self.groups = parameter_groups(model, options.weight_decay)
        parts = split_groups(self.groups, PART_NUMBERS) if elsewhere else [self.groups]
        self._parts = [Part(groups, OPTIMIZERS[options.optimizer](groups, options)) for groups in parts]
        self._elsewhere = elsewhere
        self._kept: dict[nn.Parameter, dict[str, Tensor]] = defaultdict(dict)

    def step(self, rate: float) -> None:
        """Update every parameter at this learning rate and forget the gradients."""
        for part in self._parts:
            self._fetch(part)
            part.update(rate)
            self._put_back(part)
        self.zero_grad()

    def _fetch(self, part: Part) -> None:
        for _, parameter, state in part.states() if self._elsewhere else ():
            assert self._elsewhere is not None
            self._elsewhere.fetch(state, parameter.device)

    def _put_back(self, part: Part) -> None:
        for _, parameter, state in part.states() if self._elsewhere else ():
            assert self._elsewhere is not None
            self._elsewhere.put_back(state, self._kept[parameter])

    def zero_grad(self) -> None:
        for group in self.groups:
            for parameter in group.parameters.values():
                parameter.grad = None

    def tell(self, rate: float) -> None:
        """Print the parameter groups."""
        methods = {kind: type(made).__name__ for part in self._parts for kind, made in part.of.items()}
        tell_groups(self.groups, methods, rate)

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor of the optimisers' state, named KEY.PARAMETER."""
        if self._elsewhere:
            self._elsewhere.settle()
        for part in self._parts:
            for name, _, state in part.states():
                yield from ((f"{key}.{name}", value) for key, value in state.items())

    def load(self, saved: dict[str, Tensor]) -> None:
        """Put back what `state` gave."""
        states: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for full, value in saved.items():
            key, _, name = full.partition(".")
            states[name][key] = value
        for part in self._parts:
            for name, parameter, state in part.states():
                state.clear()
                state |= {key: sliced_like(value, parameter) for key, value in states[name].items()}
            self._put_back(part)

    @property
    def bytes(self) -> int:
        """Memory of the state in this process."""
        return sum(local(value).numel() * value.element_size() for _, value in self.state())


def _settings(groups: list[Group]) -> list[dict[str, Any]]:
    """torch's groups; tensors of which each process holds a slice stay apart, because fused updates take no mixture."""
    split = [
        (group.decay, [p for p in group.parameters.values() if is_sliced(p) == sliced])
        for group in groups
        for sliced in (False, True)
    ]
    return [{"params": parameters, "weight_decay": decay} for decay, parameters in split if parameters]
