"""Whether the layers of a run keep only their inputs: chosen by what the machine has left, before the first step.

What is rehearsed is the very network that is about to train, with its adapters and what is frozen, copied to where
tensors take no memory, on the first micro-batch of its own data, with its own loss. A rehearsal takes a quarter of a
second and its imports one more, so a bound that is far too high is asked first: where even that fits, nothing is
rehearsed.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ingot.adapt.methods import length_in_front
from ingot.adapt.wrapped import features, is_linear
from ingot.core.format import show_bytes
from ingot.core.progress import say, warn
from ingot.data.objectives.lesson import Lesson
from ingot.model.available import free_bytes
from ingot.model.config import ModelConfig
from ingot.model.network import Network
from ingot.train.cross_entropy import PART_NUMBERS, SMALLEST_PART, plain_loss
from ingot.train.loss import Inputs
from ingot.train.memory.setting import FLOAT, Device, Setting, loop_flags
from ingot.train.plan import Plan

if TYPE_CHECKING:
    from ingot.train.criterion import Criterion
    from ingot.train.memory.predict import Needs

SPARE = 1.12
"""How many times what was predicted must be free: predictions were up to 10.5 % too low (`benchmarks/memory.py`)."""


@dataclass(frozen=True)
class Beginning:
    """A run that is about to begin: its network, its plan, its criterion, and this process's part of the first step."""

    network: Network
    plan: Plan
    criterion: Criterion
    lesson: Lesson

    @property
    def device(self) -> torch.device:
        return self.network.embedding.weight.device

    @property
    def setting(self) -> Setting:
        """As the plan sees it, without checkpointing. The network is there, so of the method only the holes it leaves
        in the heap matter: those of a low-rank update, the most, wherever few parameters train."""
        options, (rows, length) = self.plan.options, self.lesson.ids_BT.shape
        sizes = [(p.numel(), p.requires_grad) for p in self.network.parameters()]
        is_full = 2 * sum(size for size, trains in sizes if trains) > sum(size for size, _ in sizes)
        kind: Device = "cuda" if self.device.type == "cuda" else "cpu"
        return Setting(self.network.config, length, rows, "full" if is_full else "lora", options.optimizer,
                       micro_batches=options.micro_batches, offload=options.offload, device=kind,
                       precision="bf16" if self.plan.precision == torch.bfloat16 else "fp32")  # fmt: skip

    def needs(self, setting: Setting) -> Needs:
        """What the run would take in a setting, beyond the process and the weights, which are there."""
        from ingot.train.memory.predict import training
        from ingot.train.memory.rehearsal import Scene

        part = self.lesson.part(slice(setting.micro_rows))
        scene = Scene(lambda wanted: copied(self.network, wanted.config), lambda *_: part, self._loss)
        return replace(training(setting, 0.0, scene), weights=0.0)

    def _loss(self, network: Network, inputs: Inputs, part_numbers: int) -> Tensor:
        return self.criterion(network, inputs, plain_loss)

    def bound(self) -> float:
        """Bytes that the first step stays far below: every layer keeps what it reads and gives four times, and all
        scores of attention; nothing is freed, and all of it leaves holes."""
        setting, config = self.setting, self.network.config
        lesson = self.lesson.part(slice(setting.micro_rows))
        sides = [lesson.ids_BT] if lesson.source_ids_BS is None else [lesson.ids_BT, lesson.source_ids_BS]
        width = sum(side.shape[1] for side in sides) + 2 * length_in_front(self.network)
        modules = [module for module in self.network.modules() if not isinstance(module, nn.Embedding)]
        linear = [features(module) for module in modules if is_linear(module)]
        own = (p for module in modules if not is_linear(module) for p in module.parameters(recurse=False))
        layers = sum(map(sum, linear)) + sum(sum(p.shape) for p in own)
        trained = sum(p.numel() for p in self.network.parameters() if p.requires_grad)
        largest = max(math.prod(shape) for shape in linear)
        scores = len(self.network.blocks) * config.num_heads * width
        logits = max(PART_NUMBERS[setting.device], SMALLEST_PART * config.vocab_size)
        numbers = 4 * len(lesson.rows) * width * (layers + scores) + 4 * (logits + largest) + 8 * trained
        return 2.0 * FLOAT * numbers + 1e9 * (setting.device == "cuda")


def choose_checkpointing(beginning: Beginning) -> bool:
    """Whether to: where the run would not fit into what is free without it. Says why it does, and what else would fit
    where it does not fit with it either."""
    free = free_bytes(beginning.device)
    setting = beginning.setting
    if free is None or setting.layers_visit or beginning.bound() <= free:
        return False
    beginning.criterion.begin(0)
    try:
        without = beginning.needs(setting).total
        if SPARE * without <= free:
            return False
        with_it = beginning.needs(replace(setting, checkpointing=True)).total
    except RuntimeError as error:  # a rehearsal has no numbers, and shapes may depend on them
        warn("memory-unforeseen", reason=str(error).partition("\n")[0])
        return False
    sizes = {"needs": show_bytes(without), "less": show_bytes(with_it), "free": show_bytes(free)}
    if SPARE * with_it <= free:
        say("checkpointing-chosen", **sizes)
    else:
        warn("memory-too-little", settings=_that_fit(beginning, free), **sizes)
    return True


def _that_fit(beginning: Beginning, free: float) -> str:
    """Settings that fit, as options, or a dash."""
    from ingot.train.memory.propose import propose

    found = propose(beginning.setting, free / SPARE, beginning.needs, same_model=True)
    return "; ".join(f"{loop_flags(setting)} ({show_bytes(needs.total)})" for setting, needs in found) or "-"


def copied(network: Network, config: ModelConfig) -> Network:
    """A copy, cut to the layers of a shorter config. Made among tensors without memory, it takes none."""
    buffers: dict[int, object] = {id(buffer): buffer.clone() for buffer in network.buffers()}  # deepcopy cannot
    found = copy.deepcopy(network, buffers)
    blocks = {id(block) for block in found.blocks}
    if config.num_layers < network.config.num_layers:
        for module in list(found.modules()):
            if isinstance(module, nn.ModuleList) and len(module) and id(module[0]) in blocks:
                del module[config.num_layers :]
        found.config = config
    return found
