"""One thread steps the engine; requests cross to it, and pieces of answers cross back.

    event loop                              engine thread
    submit(job), cancel(job)  --commands--> admit, cancel, engine.step()
    job.pieces, job.wake      <--one call per step (not per token)--

The event loop never waits for the engine, and the engine never waits for a reader. Every count that decides whether
a request is admitted lives on the event loop, so it needs no lock; a sequence counts until the engine thread has
really let go of it. A sequence waits here, not in the engine, until a slot is free: cancelling it costs nothing.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from ingot.core.errors import IngotError
from ingot.core.progress import warn
from ingot.infer.options import Sampling
from ingot.infer.reader import Prompt
from ingot.infer.sequence import Event, Sequence, TokenLogprobs
from ingot.serve.errors import ApiError, refuse
from ingot.serve.metrics import Metrics

MAX_UNREAD = 4096
"""Pieces a reader may fall behind before its request is stopped: bounds memory under slow readers."""


CHECK_SECONDS = 0.5
"""How often an engine without work is checked."""

MAX_FAILURES = 3
"""Steps that may fail in a row before the engine counts as dead."""


class Stepper(Protocol):
    """What the worker needs of ingot.infer.engine.Engine."""

    def submit(self, prompt: Prompt, sampling: Sampling) -> Sequence: ...

    def step(self) -> list[Event]: ...

    def cancel(self, sequence: Sequence) -> None: ...

    @property
    def has_work(self) -> bool: ...


@dataclass(frozen=True)
class Piece:
    """What one step did for one sequence. `token_id` is None when no token was made (a cancelled sequence)."""

    choice: int
    token_id: int | None
    text: str
    logprobs: TokenLogprobs | None = None
    finish_reason: str | None = None


@dataclass(eq=False)
class Job:
    """A request on its way: the sequences to run, and what came back and is not yet read."""

    sequences: list[tuple[Prompt, Sampling]]
    arrived: float = field(default_factory=time.monotonic)
    pieces: list[Piece] = field(default_factory=list)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    error: ApiError | None = None
    unfinished: set[int] = field(default_factory=set)
    cancelling: set[int] = field(default_factory=set)
    last_token: dict[int, float] = field(default_factory=dict)

    def fail(self, error: ApiError) -> None:
        """Let the reader see this error instead of further pieces."""
        self.error = self.error or error
        self.wake.set()


class Worker:
    """The engine thread and its two queues. All methods but `_run` and below are for the event loop."""

    def __init__(
        self,
        engine: Stepper,
        num_slots: int,
        num_waiting: int,
        metrics: Metrics,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """`check` raises IngotError where the engine has lost something that does not come back."""
        self.engine = engine
        self.check = check
        self.num_slots = num_slots
        self.capacity = num_slots + num_waiting
        self.metrics = metrics
        self.outstanding = 0
        self.jobs: set[Job] = set()
        self.failure: str | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._waiting: deque[tuple[Job, int]] = deque()
        self._running: dict[Sequence, tuple[Job, int]] = {}
        self._batch: list[tuple[Job, Piece]] = []
        metrics.watch(lambda: len(self._waiting), lambda: len(self._running), num_slots)

    def start(self) -> None:
        """Begin to step; call it on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="ingot-engine", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """End the thread after the step it is in."""
        self._commands.put(None)
        await asyncio.to_thread(self._thread.join)

    def submit(self, job: Job) -> None:
        """Queue a request. Raises ApiError when the queue is full or the engine is gone."""
        if self.failure is not None:
            raise refuse("http-engine-failed")
        count = len(job.sequences)
        if count > self.capacity:
            raise refuse("http-too-many", param="n", found=count, limit=self.capacity)
        if self.outstanding + count > self.capacity:
            raise refuse("http-queue-full", headers={"retry-after": "1"}, limit=self.capacity)
        self.outstanding += count
        job.unfinished = set(range(count))
        self.jobs.add(job)
        self._commands.put(partial(self._waiting.extend, [(job, choice) for choice in range(count)]))

    def cancel(self, job: Job, reason: str, choice: int | None = None) -> None:
        """Stop all of a request, or one of its choices; the slots are free when the engine's current step ends."""
        choices = (job.unfinished if choice is None else job.unfinished & {choice}) - job.cancelling
        job.cancelling |= choices
        if choices:
            self.metrics.cancelled.labels(reason).inc(len(choices))
            self._commands.put(partial(self._cancel, job, frozenset(choices)))

    def abort(self) -> None:
        """Stop every request, each with an error its client sees."""
        for job in list(self.jobs):
            job.fail(refuse("http-aborted"))
            self.cancel(job, "aborted")

    def _deliver(self, batch: list[tuple[Job, Piece]]) -> None:
        now = time.monotonic()
        self.metrics.tokens.labels("completion").inc(sum(piece.token_id is not None for _, piece in batch))
        for job, piece in batch:
            if piece.choice not in job.unfinished:
                continue
            job.pieces.append(piece)
            if piece.token_id is not None:
                self._time(job, piece.choice, now)
            if piece.finish_reason is not None:
                job.unfinished.discard(piece.choice)
                self.outstanding -= 1
            if not job.unfinished:
                self.jobs.discard(job)
            if len(job.pieces) > MAX_UNREAD and job.error is None:
                job.fail(refuse("http-slow-reader"))
                self.cancel(job, "slow-reader")
            job.wake.set()

    def _time(self, job: Job, choice: int, now: float) -> None:
        if choice in job.last_token:
            self.metrics.gap.observe(now - job.last_token[choice])
        elif not job.last_token:
            self.metrics.first_token.observe(now - job.arrived)
        job.last_token[choice] = now

    def _fail(self, reason: str) -> None:
        self.failure = reason
        for job in list(self.jobs):
            self.outstanding -= len(job.unfinished)
            job.unfinished.clear()
            job.fail(refuse("http-engine-failed"))
        self.jobs.clear()
        self.on_failure()

    # From here on: the engine thread.

    def _run(self) -> None:
        failures = 0
        while self._take_commands():
            gone = self._gone()
            if gone is not None:
                self._call(self._fail, gone)
                return
            self._admit()
            try:
                if self.engine.has_work:
                    self._collect(self.engine.step())
                failures = 0
            except Exception as error:
                failures += 1
                self._lose(place(error))
                if failures == MAX_FAILURES:
                    self._call(self._fail, place(error))
                    return
            self._flush()

    def _take_commands(self) -> bool:
        """Carry out what the event loop asked for; waits only when there is nothing to do. False: stop."""
        idle = not self._waiting and not self._running
        while True:
            try:
                command = self._commands.get(block=idle, timeout=CHECK_SECONDS)
            except queue.Empty:
                return True
            if command is None:
                return False
            command()
            self._flush()
            idle = idle and not self._waiting

    def _gone(self) -> str | None:
        try:
            self.check()
        except IngotError as error:
            return str(error)
        return None

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self.num_slots:
            job, choice = self._waiting.popleft()
            try:
                self._running[self.engine.submit(*job.sequences[choice])] = (job, choice)
            except IngotError as error:
                self._call(job.fail, refuse("http-not-runnable", reason=str(error)))
                self._batch.append((job, Piece(choice, None, "", None, "error")))

    def _collect(self, events: list[Event]) -> None:
        for event in events:
            if event.sequence in self._running:
                job, choice = self._running[event.sequence]
                if event.finish_reason is not None:
                    del self._running[event.sequence]
                piece = Piece(choice, event.token_id, event.text, event.logprobs, event.finish_reason)
                self._batch.append((job, piece))

    def _lose(self, where: str) -> None:
        """A step raised: the engine has ended what ran, what waits goes on."""
        self._call(partial(warn, "serve-step-failed", place=where))
        for job, choice in self._running.values():
            self._call(job.fail, refuse("http-engine-failed"))
            self._batch.append((job, Piece(choice, None, "", None, "error")))
        self._running.clear()

    def _cancel(self, job: Job, choices: frozenset[int]) -> None:
        ended = [choice for other, choice in self._waiting if other is job and choice in choices]
        self._waiting = deque(item for item in self._waiting if item[0] is not job or item[1] not in choices)
        for sequence, (other, choice) in list(self._running.items()):
            if other is job and choice in choices:
                self.engine.cancel(sequence)
                del self._running[sequence]
                ended.append(choice)
        self._batch += [(job, Piece(choice, None, "", None, "cancelled")) for choice in ended]

    def _flush(self) -> None:
        if self._batch:
            batch, self._batch = self._batch, []
            self._call(self._deliver, batch)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)


def place(error: BaseException) -> str:
    """Kind of error, file and line; never its message."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" ({trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno})" if trace else ""
    return f"{type(error).__name__}{where}"
