"""Running many programs: a worker a core, outcomes in the order of the programs, and proof first that the walls stand.

The verdict on a program comes from its checker, which runs none of it; a worker that is lost is replaced and its
program tried once more, so that no outcome is that of a broken worker, unless it is the program that breaks it.
"""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

from ingot.core.errors import fail
from ingot.evaluate.sandbox.ladder import Protection
from ingot.evaluate.sandbox.probes import PROBES
from ingot.evaluate.sandbox.program import Limits, Outcome, Program
from ingot.evaluate.sandbox.worker import Worker, WorkerLostError


class Pool:
    """Workers and how well they are walled in. Use as a context. Raises `sandbox-unprotected` where the walls are none
    and `unprotected` was not asked for, `sandbox-leaks` where a probe got through, `sandbox-broken` where none starts.
    """

    def __init__(
        self,
        workers: int | None = None,
        limits: Limits | None = None,
        unprotected: bool = False,
        without: Sequence[str] = (),
    ) -> None:
        self.limits, self.without = limits or Limits(), without
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
        self.cores = [cores[number % len(cores)] for number in range(workers or len(cores))]
        self.workers: list[Worker] = []
        try:
            self.workers.extend(self._started(core) for core in self.cores)
            self.protection = self._proven(unprotected)
        except BaseException:
            self.close()
            raise

    def _started(self, core: int) -> Worker:
        try:
            return Worker(core, self.limits, self.without)
        except WorkerLostError as lost:
            raise fail("sandbox-broken", reason=lost) from None

    def _proven(self, unprotected: bool) -> Protection:
        """What stands in every worker, after the probes failed to get out of the first."""
        outcomes = [self._alone(worker, PROBES["begin"]) for worker in self.workers]
        if not all(outcome.passed for outcome in outcomes):
            raise fail("sandbox-broken", reason=outcomes[0].cause)
        protection = Protection(self.workers[0].mechanisms)
        if protection.level == "none":
            if not unprotected:
                missing = "; ".join(f"{name}: {reason}" for name, reason in protection.missing.items())
                raise fail("sandbox-unprotected", missing=missing)
            return protection
        for name, program in PROBES.items():
            if self._alone(self.workers[0], program).verdict not in ("blocked", "passed"):
                raise fail("sandbox-leaks", probe=name)
        return protection

    def _alone(self, worker: Worker, program: Program) -> Outcome:
        try:
            worker.send(program)
            return worker.receive()
        except WorkerLostError as lost:
            raise fail("sandbox-broken", reason=lost) from None

    def run(self, programs: Iterable[Program]) -> Iterator[Outcome]:
        """Outcomes in order. No more programs are taken ahead than workers can hold."""
        waiting = enumerate(programs)
        running: dict[Worker, tuple[int, Program, int]] = {}
        done: dict[int, Outcome] = {}
        idle, following = deque(self.workers), 0
        exhausted = False
        while not exhausted or running or following in done:
            while idle and not exhausted and len(done) < 64:
                given = next(waiting, None)
                exhausted = given is None
                if given is not None:
                    worker = idle.popleft()
                    running[self._give(worker, given[1])] = (*given, 1)
            if running and following not in done:
                self._collect(running, done, idle)
            while following in done:
                yield done.pop(following)
                following += 1

    def _give(self, worker: Worker, program: Program) -> Worker:
        """The worker that has the program now: this one, or the one in its place."""
        try:
            worker.send(program)
            return worker
        except WorkerLostError:
            fresh = self._replaced(worker)
            fresh.send(program)
            return fresh

    def _collect(
        self, running: dict[Worker, tuple[int, Program, int]], done: dict[int, Outcome], idle: deque[Worker]
    ) -> None:
        """Wait until some have ended, and take what came of them."""
        by_channel = {worker.channel: worker for worker in running}
        for channel in select.select(list(by_channel), [], [])[0]:
            worker = by_channel[channel]
            number, program, tries = running.pop(worker)
            try:
                done[number] = worker.receive()
                idle.append(worker)
            except WorkerLostError as lost:
                fresh = self._replaced(worker)
                if tries == 1:
                    running[self._give(fresh, program)] = (number, program, 2)
                else:
                    done[number] = Outcome("error", f"its checker ended: {lost}", 0.0, 0.0, "", 0)
                    idle.append(fresh)

    def _replaced(self, worker: Worker) -> Worker:
        worker.close()
        place = self.workers.index(worker)
        self.workers[place] = self._started(self.cores[place])
        return self.workers[place]

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.close()
        self.workers = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def run_programs(programs: Iterable[Program], unprotected: bool = False) -> Iterator[Outcome]:
    """Outcomes of programs, in order, with a worker a core. Raises what `Pool` raises."""
    with Pool(unprotected=unprotected) as pool:
        yield from pool.run(programs)
