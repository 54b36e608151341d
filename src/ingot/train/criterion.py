"""What a run minimises: a loss, what it is a mean over, and what it tells of each step."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ingot.data.objectives.lesson import Lesson
from ingot.model.network import Network
from ingot.train.cross_entropy import PartLoss
from ingot.train.distributed.world import World
from ingot.train.loss import Inputs, prediction_loss

Loss = Callable[[Network, Inputs, PartLoss], Tensor]
"""A lesson's loss, summed over what it is a mean over; it is told how to compute the loss of a part of the targets,
plain or compiled."""


class Criterion:
    """A loss that is a mean over targets, and tells nothing else. Others derive from it."""

    def __init__(self, loss: Loss = prediction_loss) -> None:
        self._loss = loss

    def begin(self, step: int) -> None:
        """Prepare for the micro-batches of a step."""

    def __call__(self, network: Network, inputs: Inputs, part_loss: PartLoss) -> Tensor:
        """The sum of one micro-batch."""
        return self._loss(network, inputs, part_loss)

    def count(self, lesson: Lesson) -> int:
        """What the sum of a lesson is divided by."""
        return lesson.num_targets

    def numbers(self, world: World) -> dict[str, float]:
        """What the log says of the step that was begun last, beside its loss; every process must ask."""
        return {}
