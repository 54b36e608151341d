"""Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): momentum, orthogonalised, for matrices.

The update of a matrix is U V' of its momentum's singular value decomposition, so all directions move alike. U V' is
approached by five Newton-Schulz steps, products only, in float32 on CPU and bfloat16 on CUDA. Scaled by
0.2 sqrt(larger side) the update has the root mean square of AdamW's, so one learning rate and decay serve both (Liu et
al. 2025, "Muon is scalable", arXiv 2502.16982, section 2.2). Of a stack of matrices (experts) each is orthogonalised.
Several processes share the matrices among them, whether they hold copies or slices.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ingot.train.distributed.shared_work import num_workers, work_together
from ingot.train.distributed.slices import local

MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS = 5


def orthogonalise(matrix: Tensor, steps: int = STEPS) -> Tensor:
    """(..., M, N) to about U V': its singular values come to lie between 0.7 and 1.2, its directions stay."""
    a, b, c = COEFFICIENTS
    x = matrix.to(torch.bfloat16 if matrix.is_cuda else torch.float32)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrix.dtype)


class Muon(Optimizer):
    """SGD with Nesterov momentum whose update is orthogonalised; decay is decoupled as AdamW's."""

    def __init__(self, groups: list[dict[str, Any]], momentum: float = MOMENTUM) -> None:
        super().__init__(groups, {"lr": 0.0, "weight_decay": 0.0, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient: as many at a time as there are processes, each orthogonalising one.
        Matrices of one size come together, so that none waits for the others."""
        pairs = [(parameter, group) for group in self.param_groups for parameter in group["params"]
                 if parameter.grad is not None]  # fmt: skip
        pairs.sort(key=lambda pair: -pair[0].numel())
        for begin in range(0, len(pairs), num_workers()):
            self._update(pairs[begin : begin + num_workers()])

    def _update(self, pairs: list[tuple[nn.Parameter, dict[str, Any]]]) -> None:
        moved = [self._move(parameter, group["momentum"]) for parameter, group in pairs]
        updates = work_together(moved, [parameter for parameter, _ in pairs], orthogonalise)
        for (parameter, group), update in zip(pairs, updates, strict=True):
            lr, scale = group["lr"], 0.2 * max(parameter.shape[-2:]) ** 0.5
            local(parameter).mul_(1 - lr * group["weight_decay"]).add_(update, alpha=-lr * scale)

    def _move(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        """Take the gradient into the momentum; returns what is to be orthogonalised, as much as lies here."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        gradient, moment = local(parameter.grad), local(state["momentum"])
        moment.lerp_(gradient, 1 - momentum)
        return gradient.lerp(moment, momentum)
