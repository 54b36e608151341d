"""Tensors of which each process holds a slice. Of one process alone these functions change nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ingot.model.split import Cut


def is_sliced(tensor: Tensor) -> bool:
    """Whether it is one of torch's DTensors."""
    return hasattr(tensor, "placements")


def cut_of(tensor: Tensor) -> Cut | None:
    """How a tensor is cut; None where every process holds all of it."""
    if not is_sliced(tensor):
        return None
    (place,), mesh = tensor.placements, tensor.device_mesh  # type: ignore[attr-defined]
    return Cut(place.dim % tensor.dim(), mesh.size()) if place.is_shard() else None


def rank_in(tensor: Tensor) -> int:
    """Which of the slices of a tensor lies here."""
    return int(tensor.device_mesh.get_local_rank())  # type: ignore[attr-defined]


def whole(tensor: Tensor) -> Tensor:
    """The tensor gathered from its slices; every process must ask."""
    return tensor.full_tensor() if is_sliced(tensor) else tensor  # type: ignore[attr-defined]


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that lies here, sharing its memory."""
    return tensor.to_local() if is_sliced(tensor) else tensor  # type: ignore[attr-defined]


def sliced_like(saved: Tensor, present: Tensor) -> Tensor:
    """A whole tensor cut as `present` is, if it has the dimension that is cut; else whole on every process."""
    cut = cut_of(present)
    has_it = cut is not None and saved.dim() == present.dim() and saved.shape[cut.dim] == present.shape[cut.dim]
    if not is_sliced(present) or (cut is None and saved.shape != present.shape) or (cut is not None and not has_it):
        return saved.to(present.device)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(saved.to(present.device), present.device_mesh, present.placements)  # type: ignore[attr-defined]


def slice_like(slice_here: Tensor, columns: int, present: Tensor) -> Tensor:
    """This process's slice of a tensor that is shaped and cut as `present` is, but for its number of columns."""
    if not is_sliced(present):
        return slice_here
    from torch.distributed.tensor import DTensor

    shape = torch.Size((*present.shape[:-1], columns))
    stride = torch.empty(shape, device="meta").stride()
    mesh, places = present.device_mesh, present.placements  # type: ignore[attr-defined]
    return DTensor.from_local(slice_here, mesh, places, shape=shape, stride=stride)


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
