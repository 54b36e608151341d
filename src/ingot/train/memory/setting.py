"""A way to train: everything that its memory depends on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from ingot.adapt.methods import Settings
from ingot.model.config import ModelConfig
from ingot.train.method import LOW_RANK, RANK, LoRAOptions, Method, PromptOptions, settings_of
from ingot.train.optimizers.adam8 import CHUNK, is_coded, row_blocks
from ingot.train.optimizers.groups import Kind

Device = Literal["cpu", "cuda"]
FLOAT = 4
"""Bytes of a number: weights, gradients and moments are float32, whatever products are computed in."""


@dataclass(frozen=True)
class Setting:
    """Shapes, batch and method. `batch_rows` rows of `length` tokens a step, in `micro_batches` parts; `held`: the
    numbers that a frozen base is kept in."""

    config: ModelConfig
    length: int
    batch_rows: int
    method: Method = "full"
    optimizer: str = "adamw"
    micro_batches: int = 1
    checkpointing: bool = False
    offload: Literal["none", "optimizer", "layers"] = "none"
    precision: Literal["fp32", "bf16"] = "fp32"
    held: torch.dtype = torch.float32
    rank: int = RANK
    lora: LoRAOptions = field(default_factory=LoRAOptions)
    prompt: PromptOptions = field(default_factory=PromptOptions)
    device: Device = "cpu"

    @property
    def adapter(self) -> Settings | None:
        """The adapter that trains; None where every weight does."""
        if self.method == "full":
            return None
        return settings_of(self.method, self.rank, self.lora, self.prompt, self.config)

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


def loop_flags(setting: Setting) -> str:
    """How a setting computes its steps, as options of the training verbs."""
    return (f"--loop.optimizer {setting.optimizer} --loop.micro-batches {setting.micro_batches} "
            f"--loop.checkpointing {'on' if setting.checkpointing else 'off'}"
            + (f" --loop.offload {setting.offload}" if setting.offload != "none" else ""))  # fmt: skip


def method_flags(setting: Setting) -> str:
    """What a setting trains, as options of `tune`."""
    given: dict[str, object] = {"method": setting.method}
    if setting.method in LOW_RANK:
        given["rank"] = setting.rank
    for name, group in (("lora", setting.lora), ("prompt", setting.prompt)):
        given |= {f"{name}.{key}": value for key, value in group.model_dump(exclude_defaults=True).items()}
    return " ".join(f"--{key} {value}" for key, value in given.items())


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
