"""How a run goes and what it was: numbers that are known before the first step, and after the last."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from ingot.data.pack import Rows
from ingot.model.network import Network
from ingot.train.checkpoint import Place
from ingot.train.distributed.world import World
from ingot.train.machine import choose_precision, default_device
from ingot.train.settings import LoopOptions, TrainingOptions


@dataclass(frozen=True)
class Plan:
    """Length in steps, optionally cut by the clock, rows a batch, the peak learning rate, and the loop's options."""

    max_steps: int
    max_minutes: float | None
    batch_rows: int
    lr: float
    seed: int
    precision: torch.dtype
    options: LoopOptions


@dataclass(frozen=True)
class Result:
    """What a finished run was: steps, targets seen, seconds, mean loss (nats a target) over the last tenth, whether
    blocks were compiled and whether they kept only their inputs, bytes of the optimiser's state, and what went wrong on
    the way."""

    steps: int
    targets: int
    seconds: float
    loss: float
    compiled: bool
    checkpointing: bool
    optimizer_bytes: int
    events: tuple[dict[str, Any], ...]


def precision_of(options: TrainingOptions, width: int, place: Place, world: World) -> torch.dtype:
    """Of products: what a run that goes on was begun in, else as asked or measured, the same for all processes."""
    return world.agree(lambda: place.precision() or choose_precision(options.loop.precision, width, default_device()))


def make_plan(
    options: TrainingOptions,
    rows: Rows,
    batch_tokens: int,
    lr: float,
    network: Network,
    world: World,
    precision: torch.dtype,
) -> Plan:
    """A run's plan: `batch_tokens` in whole rows, as many for every process; steps from --max-steps or --epochs."""
    batch_rows = world.size * max(1, round(batch_tokens / rows.length / world.size))
    steps = options.max_steps or max(1, math.ceil(options.epochs * len(rows) / batch_rows))
    return Plan(steps, options.max_minutes, batch_rows, lr, options.seed, precision, options.loop)
