"""The loss of a lesson, as a sum over its targets, whatever the objective.

A sum, not a mean: the caller divides by the targets of the whole batch, so that micro-batches add up to the same
gradient however unevenly their targets are spread. Only positions that predict something reach the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ingot.data.objectives.lesson import Lesson
from ingot.data.pack import segment_positions
from ingot.model.encoder import Encoder
from ingot.model.encoder_decoder import EncoderDecoder
from ingot.model.network import Network
from ingot.train.cross_entropy import PartLoss, cross_entropy, plain_loss


@dataclass(frozen=True)
class Inputs:
    """A lesson as tensors: ids, positions, segments (B, T); the places that predict, flat, and what they must predict;
    the prefix and the encoder's side, where a lesson has them.

    is_alone: every row is one document, with padding behind it at most; is_full: and none; rows: their numbers.
    """

    ids_BT: Tensor
    positions_BT: Tensor
    segments_BT: Tensor
    predictors_N: Tensor
    targets_N: Tensor
    is_alone: bool
    is_full: bool
    rows: NDArray[np.int64]
    prefix_BT: Tensor | None = None
    source_ids_BS: Tensor | None = None
    source_segments_BS: Tensor | None = None

    @classmethod
    def of(cls, lesson: Lesson, device: torch.device) -> Inputs:
        labels = lesson.labels_BT.reshape(-1)
        predictors = np.flatnonzero(labels >= 0)
        tensors = (
            _tensor(array, device) for array in (lesson.prefix_BT, lesson.source_ids_BS, lesson.source_segments_BS)
        )
        return cls(
            _numbers(lesson.ids_BT, device), _numbers(segment_positions(lesson.segments_BT), device),
            _numbers(lesson.segments_BT, device), _numbers(predictors, device), _numbers(labels[predictors], device),
            bool(lesson.segments_BT.max(initial=0) == 0), bool((lesson.segments_BT == 0).all()), lesson.rows, *tensors,
        )  # fmt: skip

    @property
    def num_targets(self) -> int:
        return len(self.targets_N)


def prediction_loss(
    network: Network, inputs: Inputs, part_loss: PartLoss = plain_loss, part_numbers: int | None = None
) -> Tensor:
    """Sum of -log p(target), nats, float32 scalar. `part_numbers`: as in `cross_entropy`."""
    return cross_entropy(network.head, predicting(network, inputs), inputs.targets_N, part_loss, part_numbers)


def predicting(network: Network, inputs: Inputs) -> Tensor:
    """Hidden states (N, C) of the places that predict something."""
    return _hidden(network, inputs).flatten(0, 1)[inputs.predictors_N]


def _hidden(network: Network, inputs: Inputs) -> Tensor:
    """Hidden states (B, T, C). Segments are left out where nothing depends on them, because fused kernels are fastest
    without a mask: in a decoder where rows are one document each, in an encoder where they hold no padding either."""
    ids, positions, segments = inputs.ids_BT, inputs.positions_BT, inputs.segments_BT
    if isinstance(network, EncoderDecoder):
        assert inputs.source_ids_BS is not None, "this objective gives an encoder nothing to read"
        return network(ids, positions, segments, inputs.source_ids_BS.long(), inputs.source_segments_BS)
    if isinstance(network, Encoder):
        return network(ids, positions, None if inputs.is_full else segments)
    is_causal = inputs.is_alone and inputs.prefix_BT is None
    return network(ids, positions, None if is_causal else segments, prefix_BT=inputs.prefix_BT)


def _tensor(array: Any, device: torch.device) -> Tensor | None:
    return None if array is None else torch.from_numpy(np.ascontiguousarray(array)).to(device)


def _numbers(array: Any, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device).long()
