"""The processes of a run. With one process everything here does nothing."""

from __future__ import annotations

import atexit
import datetime
import logging
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from ingot.core.errors import IngotError, fail

T = TypeVar("T")


PATIENCE = datetime.timedelta(days=30)
"""How long processes wait for what one of them does alone, such as packing a corpus: as long as it takes. One that dies
closes its connections, which ends the others at once."""

GRACE_SECONDS = 3.0
"""How long a process that only heard of an error stays: torchrun ends all when one ends, and one has yet to say why."""

Told = tuple[str, dict[str, object]] | None
"""An error as it goes from one process to another: code and details; an empty code is a crash of its own kind."""


@dataclass(frozen=True)
class World:
    """This process's number and how many there are; its machine's number and how many of those; whether it is the
    first on its machine. `patient`: the group in which processes wait for each other without a limit."""

    rank: int = 0
    size: int = 1
    machine: int = 0
    machines: int = 1
    leads: bool = True
    patient: Any = None

    @classmethod
    def here(cls) -> World:
        """The world that torchrun (or Ray) put this process in; joined on the first call."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
            atexit.register(_leave)
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        world = cls._joined()
        if not world.is_first:
            sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  (until the process ends)
            logging.getLogger("ingot").setLevel(logging.ERROR)
            os.environ["INGOT_PROGRESS"] = "0"
        return world

    @classmethod
    def _joined(cls) -> World:
        """Machines are told apart by the number that torchrun or Ray gives them, else by their name."""
        patient = dist.new_group(backend="gloo", timeout=PATIENCE)
        rank = dist.get_rank()
        places = _gather(os.environ.get("GROUP_RANK", socket.gethostname()), patient)
        machines = list(dict.fromkeys(places))
        leads = places.index(places[rank]) == rank
        return cls(rank, len(places), machines.index(places[rank]), len(machines), leads, patient)

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")

    def agree(self, choose: Callable[[], T]) -> T:
        """What the first process chooses, on every process; where it refuses, all do."""
        made = self._together(choose if self.is_first else None)
        return self.gather(made)[0]  # type: ignore[return-value]

    def once_a_machine(self, work: Callable[[], T]) -> T | None:
        """What this machine's first process makes, None on the others, once it is made on every machine; where one
        refuses, all do."""
        return self._together(work if self.leads else None)

    def gather(self, value: T) -> list[T]:
        """Every process's value, by its number."""
        return [value] if self.size == 1 else _gather(value, self.patient)

    def _together(self, work: Callable[[], T] | None) -> T | None:
        """Do this process's part of some work and wait for the others; an error of one is raised by all."""
        if self.size == 1:
            return work() if work else None
        made, error = None, None
        try:
            made = work() if work else None
        except BaseException as found:
            error = found
        told = _gather(tell(error), self.patient)
        if error is not None:
            raise error
        _raise_told(told)
        return made

    def sum(self, *values: float) -> list[float]:
        """Each value summed over the processes, the same on all."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def mean(self, value: float) -> float:
        """The mean over the processes, the same on all."""
        return self.sum(value)[0] / self.size

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier(group=self.patient)


def _gather(value: T, group: Any) -> list[T]:
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value, group=group)
    return found


def tell(error: BaseException | None) -> Told:
    """An error for another process, in plain types."""
    if error is None:
        return None
    if not isinstance(error, IngotError):
        return "", {}
    details = error.details.items()
    return error.code, {name: value if isinstance(value, int | float) else str(value) for name, value in details}


def _raise_told(told: list[Told]) -> None:
    """Raise what another process has found; where that crashed, end in silence, because it says why itself."""
    found = next((error for error in told if error is not None), None)
    if found is None:
        return
    time.sleep(GRACE_SECONDS)
    code, details = found
    if not code:
        raise SystemExit(1)
    error = fail(code, **details)
    error.is_told = True
    raise error


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
