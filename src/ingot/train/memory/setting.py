"""A way to train: everything that its memory depends on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ingot.model.config import ModelConfig
from ingot.train.optimizers.adam8 import CHUNK, is_coded, row_blocks
from ingot.train.optimizers.groups import Kind

Method = Literal["full", "lora"]
Device = Literal["cpu", "cuda"]
FLOAT = 4
"""Bytes of a number: weights, gradients and moments are float32, whatever products are computed in."""


@dataclass(frozen=True)
class Setting:
    """Shapes, batch and method. `batch_rows` rows of `length` tokens a step, in `micro_batches` parts."""

    config: ModelConfig
    length: int
    batch_rows: int
    method: Method = "full"
    optimizer: str = "adamw"
    micro_batches: int = 1
    checkpointing: bool = False
    offload: Literal["none", "optimizer", "layers"] = "none"
    precision: Literal["fp32", "bf16"] = "fp32"
    rank: int = 16
    device: Device = "cpu"

    @property
    def layers_visit(self) -> bool:
        """Whether layers come to the card one by one, which computes them twice."""
        return self.offload == "layers" and self.device == "cuda"

    @property
    def micro_rows(self) -> int:
        """Rows that are computed at a time."""
        return -(-self.batch_rows // min(self.micro_batches, self.batch_rows))

    def state_bytes(self, shape: Sequence[int], kind: Kind) -> float:
        """What the optimiser keeps for a parameter."""
        return STATES[self.optimizer](shape, kind)

    def transient_bytes(self, largest: int) -> float:
        """What it needs beside that while it updates its largest matrix."""
        if self.optimizer == "muon":
            return 5.0 * FLOAT * largest  # the momentum's copy, its products and their sum
        return 6.0 * FLOAT * min(largest, CHUNK) if self.optimizer == "adamw8" else 0.0


def adamw(shape: Sequence[int], kind: Kind) -> float:
    """Two moments and the step's number."""
    return float(2 * FLOAT * math.prod(shape) + FLOAT)


def adamw8(shape: Sequence[int], kind: Kind) -> float:
    """Two bytes a number and two scales a block; small parameters keep float32 moments."""
    if not is_coded(shape):
        return adamw(shape, kind)
    blocks = math.prod(shape[:-1]) * row_blocks(shape[-1])[1]
    return float(2 * math.prod(shape) + 2 * FLOAT * blocks + FLOAT)


def muon(shape: Sequence[int], kind: Kind) -> float:
    """One momentum for a matrix; AdamW's moments for everything else."""
    return float(FLOAT * math.prod(shape)) if kind == "matrix" else adamw(shape, kind)


STATES: dict[str, Callable[[Sequence[int], Kind], float]] = {"adamw": adamw, "adamw8": adamw8, "muon": muon}
"""Optimiser -> bytes of its state for one parameter."""
