"""The loss of a step of preferences, and what is told of it: margin, accuracy, how likely the answers are.

Everything is a sum over pairs (KTO: answers), so micro-batches and processes add up to the whole batch's gradient. What
is no sum, KTO's estimate of how far the model has come, is computed of the whole batch before the first micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ingot.data.objectives.lesson import Lesson
from ingot.model.network import Network
from ingot.train.criterion import Criterion
from ingot.train.cross_entropy import PartLoss
from ingot.train.distributed.sharing import Sharing
from ingot.train.distributed.world import World
from ingot.train.loop import plain_lesson
from ingot.train.loss import Inputs
from ingot.train.plan import Plan
from ingot.train.preference.losses import LOSSES, REFERENCED, REWARDS, LossName, Side
from ingot.train.preference.score import Floats, answer_logprobs
from ingot.train.preference.sheet import CHOSEN, NOTHING, REJECTED, Sheet
from ingot.train.preference.tally import Tally

Estimate = Callable[[int], Tensor]
"""From a step."""


@dataclass(frozen=True)
class Wish:
    """A loss with its parameters."""

    name: LossName
    parameters: dict[str, float]

    def loss(self, chosen: Side, rejected: Side, **more: Tensor) -> Tensor:
        return LOSSES[self.name](chosen, rejected, **self.parameters, **more)

    def reward(self, side: Side) -> Tensor:
        return self.parameters["beta"] * REWARDS[self.name](side)

    @property
    def asks_reference(self) -> bool:
        return self.name in REFERENCED

    @property
    def is_paired(self) -> bool:
        return self.name != "kto"


class Preference(Criterion):
    """A wish, of the rows of a sheet. `reference_NS`, where the wish asks for one; `estimate` gives how far the model
    has come from it at a step, where it asks for that; `after` is told each step's numbers."""

    def __init__(self, wish: Wish, sheet: Sheet, reference_NS: Floats | None, estimate: Estimate | None,
                 after: Callable[[dict[str, float]], None]) -> None:  # fmt: skip
        super().__init__()
        self.wish, self.sheet, self.reference_NS = wish, sheet, reference_NS
        self.estimate, self.after = estimate, after
        self.tally = self._tally()
        self.more: dict[str, Tensor] = {}

    def _tally(self) -> Tally:
        return Tally(has_reference=self.reference_NS is not None, is_paired=self.wish.is_paired)

    def begin(self, step: int) -> None:
        self.tally = self._tally()
        if self.estimate is not None:
            self.more = {"kl": self.estimate(step)}

    def count(self, lesson: Lesson) -> int:
        """Pairs, or answers."""
        answers = np.count_nonzero(self.sheet.sides_NS[lesson.rows] != NOTHING)
        return int(answers) // 2 if self.wish.is_paired else int(answers)

    def __call__(self, network: Network, inputs: Inputs, part_loss: PartLoss) -> Tensor:
        logprobs_BS = answer_logprobs(network, inputs, self.sheet.width)
        chosen, rejected = sides(self.sheet, inputs.rows, logprobs_BS, self.reference_NS)
        self.tally.add(self.wish.reward, chosen, rejected)
        return self.wish.loss(chosen, rejected, **self.more).sum()

    def numbers(self, world: World) -> dict[str, float]:
        found = self.tally.numbers(world) | {name: round(float(value), 5) for name, value in self.more.items()}
        self.after(found)
        return found


def sides(
    sheet: Sheet, rows_B: NDArray[np.int64], logprobs_BS: Tensor, reference_NS: Floats | None
) -> tuple[Side, Side]:
    """The better and the worse answers of some rows."""

    def on_device(values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(logprobs_BS.device)

    tokens_BS = on_device(sheet.tokens(rows_B))
    reference_BS = None if reference_NS is None else on_device(reference_NS[rows_B])
    found = []
    for side in (CHOSEN, REJECTED):
        place_P = on_device(sheet.places(rows_B, side))
        reference_P = None if reference_BS is None else reference_BS.flatten()[place_P]
        found.append(Side(logprobs_BS.flatten()[place_P], tokens_BS.flatten()[place_P], reference_P))
    return found[0], found[1]


def divergence(sheet: Sheet, kept_NS: Floats, network: Network, plan: Plan, sharing: Sharing) -> Estimate:
    """How far the model has come from its reference, at a step: the mean log-ratio of answers to other prompts, at
    least 0, over a batch of them that is as large as the batch that is learnt (KTO, equation 8 and section 4.2)."""
    return partial(_divergence, sheet, kept_NS, network, plan, sharing)


@torch.no_grad()
def _divergence(sheet: Sheet, kept_NS: Floats, network: Network, plan: Plan, sharing: Sharing, step: int) -> Tensor:
    device = network.embedding.weight.device
    lesson = plain_lesson(sheet.rows.batch(step, plan.batch_rows, plan.seed), 0, 0)
    total, count = 0.0, 0
    for part in sharing.parts(lesson, plan.options.micro_batches):
        with torch.autocast(device.type, torch.bfloat16, enabled=plan.precision != torch.float32):
            logprobs_BS = answer_logprobs(network, Inputs.of(part, device), sheet.width)
        strangers, _ = sides(sheet, part.rows, logprobs_BS, kept_NS)
        total, count = total + float(strangers.ratio.sum()), count + len(strangers)
    sharing.settle()
    total, number = sharing.world.sum(total, count)
    return torch.tensor(max(0.0, total / number), device=device)
