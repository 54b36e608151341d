"""Log-probabilities of whole answers, whatever else lies in their row.

Letters: N rows, B of them in a batch, T tokens a row, S segments of the fullest row.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ingot.adapt.active import Active
from ingot.core.progress import progress
from ingot.data.objectives.lesson import Lesson
from ingot.model.network import Network
from ingot.train.arrangement import arranged
from ingot.train.cross_entropy import token_logprobs
from ingot.train.distributed.sharing import Sharing
from ingot.train.loop import plain_lesson
from ingot.train.loss import Inputs, predicting
from ingot.train.plan import Plan
from ingot.train.preference.sheet import Sheet

Floats = NDArray[np.float32]


def answer_logprobs(network: Network, inputs: Inputs, width: int) -> Tensor:
    """Log-probability (nats, float32) of the targets of each segment, (B, S), 0 where there is none. `width`: S."""
    each_N = token_logprobs(network.head, predicting(network, inputs), inputs.targets_N)
    height, length = inputs.ids_BT.shape
    segment_N = inputs.segments_BT.flatten()[inputs.predictors_N]
    place_N = inputs.predictors_N // length * width + segment_N
    return each_N.new_zeros(height * width).index_add(0, place_N, each_N).view(height, width)


@dataclass(frozen=True)
class Scorer:
    """A network that reads whole sheets without learning from them, its dropout off, alone or with other processes.

    `adapters`: those that act; None: all there are.
    """

    network: Network
    plan: Plan
    sharing: Sharing
    active: Active

    def score(self, sheet: Sheet, label: str, adapters: Sequence[str] | None = None) -> Floats:
        """Log-probability of every answer, (N, S), on every process, with a bar under this label."""
        was_training = self.network.training
        self.network.eval()
        found = np.zeros(sheet.sides_NS.shape, np.float32)
        with torch.no_grad(), arranged(self.network, self.plan.options), progress(label, len(sheet.rows)) as advance:
            for begin in range(0, len(sheet.rows), self.plan.batch_rows):
                rows_B = np.arange(begin, begin + self.plan.batch_rows) % len(sheet.rows)
                for rows, logprobs in self._batch(sheet, rows_B, adapters):
                    found[rows] = logprobs
                advance(min(begin + len(rows_B), len(sheet.rows)))
        self.sharing.settle()
        self.network.train(was_training)
        return found

    def _batch(
        self, sheet: Sheet, rows_B: NDArray[np.int64], adapters: Sequence[str] | None
    ) -> list[tuple[NDArray[np.int64], Floats]]:
        """Rows with the log-probabilities of their answers, of every process."""
        lesson = plain_lesson(sheet.rows.take(rows_B), 0, 0)
        parts = self.sharing.parts(lesson, self.plan.options.micro_batches)
        here = [(part.rows, self._part(part, sheet.width, adapters).cpu().numpy()) for part in parts]
        return [pair for pairs in self.sharing.world.gather(here) for pair in pairs]

    def _part(self, part: Lesson, width: int, adapters: Sequence[str] | None) -> Tensor:
        device = self.network.embedding.weight.device
        enabled = self.plan.precision != torch.float32
        with self._acting(adapters, len(part.rows)), torch.autocast(device.type, torch.bfloat16, enabled=enabled):
            return answer_logprobs(self.network, Inputs.of(part, device), width)

    @contextlib.contextmanager
    def _acting(self, adapters: Sequence[str] | None, rows: int) -> Iterator[None]:
        if adapters is None:
            yield
            return
        with self.active.rows([tuple(adapters)] * rows):
            yield
