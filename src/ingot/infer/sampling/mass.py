"""Probability mass of logits: float32 over the vocabulary, float64 over blocks of it.

Sums are taken block by block, always the same 128 columns together, and the blocks' sums from left to right: a row's
sum has the same bits alone, among others and on any number of threads, which a reduction over the whole row has not.

Legend: R rows, V vocabulary, K blocks of BLOCK columns.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 128


class Mass:
    """share_RV: probabilities times `total_R1`, the largest being 1; below_RV: logits less the largest."""

    def __init__(self, logits_RV: Tensor) -> None:
        self.below_RV = logits_RV - logits_RV.amax(-1, keepdim=True)
        self.share_RV = self.below_RV.exp()
        self.total_R1 = total(self.share_RV)

    @property
    def entropy(self) -> Tensor:
        """(R, 1), in nats: log(total) less the mean of what the logits are below the largest; no share adds nothing."""
        mean_R1 = total(self.below_RV.clamp(min=-1e30).mul_(self.share_RV)) / self.total_R1
        return self.total_R1.log() - mean_R1


def blocks(values_RV: Tensor) -> Tensor:
    """Running sums of the blocks' sums, (R, K) in float64."""
    tail = values_RV.shape[-1] % BLOCK
    whole_RV, rest_RV = values_RV.split((values_RV.shape[-1] - tail, tail), dim=-1)
    sums_RK = whole_RV.unflatten(-1, (whole_RV.shape[-1] // BLOCK, BLOCK)).sum(-1)
    if tail:
        sums_RK = torch.cat((sums_RK, pad(rest_RV, (0, BLOCK - tail)).sum(-1, keepdim=True)), -1)
    return sums_RK.double().cumsum(-1)


def total(values_RV: Tensor) -> Tensor:
    """Sum of each row, (R, 1) in float64."""
    return blocks(values_RV)[:, -1:]


def num_possible(logits_RV: Tensor) -> Tensor:
    """How many tokens may come, (R, 1)."""
    return (logits_RV > -torch.inf).sum(-1, keepdim=True)
