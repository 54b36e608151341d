"""Work on whole tensors, shared by the processes that hold slices or copies of them.

Of a handful of tensors each goes to one process, is worked on there, and comes back: the work is that of one process to
the last bit, done once, and divided by their number (Muon as Jordan et al. 2024 and Liu et al. 2025, arXiv 2502.16982,
distribute it).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from ingot.model.split import Cut
from ingot.train.distributed.slices import cut_of

Work = Callable[[Tensor], Tensor]
"""From a whole tensor to one of the same shape and type."""


def num_workers() -> int:
    """How many processes share the work with this one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def work_together(slices: Sequence[Tensor], like: Sequence[Tensor], work: Work) -> list[Tensor]:
    """What lies here of `work(whole)` for each of at most `num_workers()` tensors.

    `slices` is what lies here of the tensors, `like` says how each is cut. Every process must ask for the same ones.
    """
    if num_workers() == 1:
        return [work(tensor) for tensor in slices]
    jobs = [_Job(tensor, cut_of(model), tuple(model.shape), owner)
            for owner, (tensor, model) in enumerate(zip(slices, like, strict=True))]  # fmt: skip
    wholes = [job.gather() for job in jobs]
    done = next((work(tensor) for tensor in wholes if tensor is not None), None)
    return [job.spread(done) for job in jobs]


@dataclass(frozen=True)
class _Job:
    """One tensor: what lies here of it, how it is cut, its whole shape, and the process that works on it."""

    here: Tensor
    cut: Cut | None
    shape: tuple[int, ...]
    owner: int

    @property
    def is_mine(self) -> bool:
        return dist.get_rank() == self.owner

    def gather(self) -> Tensor | None:
        """The whole tensor, on its owner only."""
        if self.cut is None:
            return self.here if self.is_mine else None
        sent = self._filled(self.here)
        received = [torch.empty_like(sent) for _ in range(self.cut.parts)] if self.is_mine else None
        dist.gather(sent, received, dst=self.owner)
        dim = self.cut.dim
        # contiguous, because products of a strided matrix round differently
        return torch.cat(received, dim).narrow(dim, 0, self.shape[dim]).contiguous() if received else None

    def spread(self, done: Tensor | None) -> Tensor:
        """What belongs here of that which the owner has done."""
        if self.cut is None:
            result = done.contiguous() if self.is_mine and done is not None else torch.empty_like(self.here)
            dist.broadcast(result, src=self.owner)
            return result
        result = torch.empty_like(self._filled(self.here))
        dist.scatter(result, self._parts(done) if self.is_mine and done is not None else None, src=self.owner)
        return result.narrow(self.cut.dim, 0, self.here.shape[self.cut.dim])

    def _parts(self, done: Tensor) -> list[Tensor]:
        assert self.cut is not None
        bounds = [self.cut.bounds(self.shape[self.cut.dim], part) for part in range(self.cut.parts)]
        return [self._filled(done.narrow(self.cut.dim, begin, end - begin)) for begin, end in bounds]

    def _filled(self, part: Tensor) -> Tensor:
        """A slice filled up with zeros to the length of the first one: collectives want equal lengths."""
        assert self.cut is not None
        dim = self.cut.dim
        missing = self.cut.bounds(self.shape[dim], 0)[1] - part.shape[dim]
        padding = [0, 0] * (part.dim() - 1 - dim) + [0, missing]
        return F.pad(part, padding).contiguous() if missing else part.contiguous()
