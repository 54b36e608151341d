"""Tensors of which each process holds a slice. Of one process alone these functions change nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def is_sliced(tensor: Tensor) -> bool:
    """Whether it is one of torch's DTensors."""
    return hasattr(tensor, "placements")


def whole(tensor: Tensor) -> Tensor:
    """The tensor gathered from its slices; every process must ask."""
    return tensor.full_tensor() if is_sliced(tensor) else tensor  # type: ignore[attr-defined]


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that lies here, sharing its memory."""
    return tensor.to_local() if is_sliced(tensor) else tensor  # type: ignore[attr-defined]


def sliced_like(saved: Tensor, present: Tensor) -> Tensor:
    """A whole tensor cut as `present` is."""
    if not is_sliced(present) or saved.shape != present.shape:
        return saved.to(present.device)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(saved.to(present.device), present.device_mesh, present.placements)  # type: ignore[attr-defined]


def norms(tensors: Sequence[Tensor]) -> list[float]:
    """The norm of each whole tensor; every process must ask."""
    each = torch._foreach_norm([local(tensor) for tensor in tensors])
    squares = torch.stack([norm.to(each[0].device) for norm in each]).double().square()
    cut = [is_sliced(t) and any(place.is_shard() for place in t.placements) for t in tensors]  # type: ignore[attr-defined]
    if any(cut):
        mask = torch.tensor(cut, device=squares.device)
        parts = torch.where(mask, squares, 0.0)
        torch.distributed.all_reduce(parts)
        squares = torch.where(mask, parts, squares)
    return squares.sqrt().tolist()
