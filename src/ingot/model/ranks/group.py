"""How the processes of one model talk: numbers, sums, and orders from the first.

Two groups of connections, both gloo's: orders may be waited for as long as a server has nothing to do, what follows an
order may not. A process that dies closes its connections, which ends every wait for it at once. Tensors of a card go
through memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
from torch import Tensor

C10D: Any = torch.distributed
"""Its types do not know all that it has. Groups are made by hand: they then belong to a model, not to the process."""

PATIENCE = timedelta(days=365)
"""How long an order may be waited for."""

WAIT = timedelta(seconds=30)
"""How long a process may lag behind in a step before it counts as lost. One that has died is found at once."""

HEAD = 64
"""Numbers at the beginning of a message: what it is, and the shapes of its tensors."""


@dataclass(frozen=True)
class Message:
    """An order: which, its numbers, and tensors of whole numbers, some of which may be missing."""

    kind: int
    numbers: tuple[int, ...] = ()
    tensors: tuple[Tensor | None, ...] = ()

    def head(self) -> Tensor:
        """kind, how many numbers, these, how many tensors, of each its dimensions (-1: missing) and its shape."""
        found = [self.kind, len(self.numbers), *self.numbers, len(self.tensors)]
        for tensor in self.tensors:
            found += [-1] if tensor is None else [tensor.dim(), *tensor.shape]
        assert len(found) <= HEAD
        return torch.tensor(found + [0] * (HEAD - len(found)))

    def body(self) -> Tensor:
        return torch.cat([tensor.flatten().long().cpu() for tensor in self.tensors if tensor is not None])

    @classmethod
    def shapes(cls, head: Tensor) -> tuple[int, tuple[int, ...], list[tuple[int, ...] | None]]:
        """Kind, numbers, and the shapes of the tensors."""
        rest = head.tolist()
        kind, count = rest[:2]
        numbers, rest = tuple(rest[2 : 2 + count]), rest[2 + count :]
        shapes: list[tuple[int, ...] | None] = []
        at = 1
        for _ in range(rest[0]):
            dims = rest[at]
            shapes.append(None if dims < 0 else tuple(rest[at + 1 : at + 1 + dims]))
            at += 1 + max(dims, 0)
        return kind, numbers, shapes


class Group:
    """The processes of one model, `rank` of `size`. What it raises is torch's RuntimeError where another is lost."""

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self._orders = C10D.ProcessGroupGloo(C10D.PrefixStore("orders", store), rank, size, PATIENCE)
        self._work = C10D.ProcessGroupGloo(C10D.PrefixStore("work", store), rank, size, WAIT)

    def send(self, message: Message) -> None:
        """From the first to all."""
        self._spread(self._orders, message.head())
        if any(tensor is not None for tensor in message.tensors):
            self._spread(self._work, message.body())

    def receive(self, device: torch.device) -> Message:
        """The next order, its tensors on a device."""
        head = torch.zeros(HEAD, dtype=torch.long)
        self._spread(self._orders, head)
        kind, numbers, shapes = Message.shapes(head)
        sizes = [torch.Size(shape).numel() for shape in shapes if shape is not None]
        parts: Sequence[Tensor] = ()
        if sizes:
            body = torch.zeros(sum(sizes), dtype=torch.long)
            self._spread(self._work, body)
            parts = body.to(device).split(sizes)
        left = iter(parts)
        return Message(kind, numbers, tuple(None if shape is None else next(left).view(shape) for shape in shapes))

    def spread(self, tensor: Tensor) -> Tensor:
        """The first process's values, in place, on all."""
        return self._staged(tensor, lambda here: self._spread(self._work, here))

    def add(self, tensor: Tensor) -> Tensor:
        """The sum over all, in place, the same to the last bit on each."""
        return self._staged(tensor, lambda here: self._work.allreduce([here], C10D.AllreduceOptions()).wait())

    def collect(self, tensor: Tensor) -> list[Tensor]:
        """Every process's tensor, all of one shape, on the first; nothing on the others."""
        here = tensor.cpu().contiguous()
        options = C10D.GatherOptions()
        options.rootRank = 0
        found = [torch.empty_like(here) for _ in range(self.size)] if self.rank == 0 else []
        self._work.gather([found] if found else [], [here], options).wait()
        return [part.to(tensor.device) for part in found]

    def _spread(self, group: Any, tensor: Tensor) -> None:
        options = C10D.BroadcastOptions()
        options.rootRank = 0
        group.broadcast([tensor], options).wait()

    def _staged(self, tensor: Tensor, work: Any) -> Tensor:
        """Work on a tensor in memory; a CPU's contiguous one is worked on where it is."""
        here = tensor.cpu().contiguous()
        work(here)
        return tensor if here is tensor else tensor.copy_(here)
