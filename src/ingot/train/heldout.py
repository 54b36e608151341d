"""The loss on rows that are only measured."""

from __future__ import annotations

import torch

from ingot.data.objectives.objective import Objective
from ingot.data.pack import Rows
from ingot.model.network import Network
from ingot.train.loss import Inputs, prediction_loss


@torch.no_grad()
def rows_loss(network: Network, objective: Objective, rows: Rows) -> tuple[float, int]:
    """Sum of the loss over the targets that the objective makes of these rows, nats, and how many targets those are."""
    device = network.embedding.weight.device
    total, count = 0.0, 0
    for step in range(len(rows)):
        lesson = objective.lesson(rows.batch(step, 1, 0), 0, step)
        if lesson.num_targets:
            total += float(prediction_loss(network, Inputs.of(lesson, device)))
            count += lesson.num_targets
    return total, count
