"""One thread steps the engine; requests cross to it, and pieces of answers cross back.

    event loop                              engine thread
    submit(job), cancel(job)  --commands--> admit, cancel, engine.step()
    job.pieces, job.wake      <--one call per step (not per token)--

The event loop never waits for the engine, and the engine never waits for a reader. Every count that decides whether
a request is admitted lives on the event loop, so it needs no lock; a sequence counts until the engine thread has
really let go of it. A sequence waits here, not in the engine, until a slot is free: cancelling it costs nothing, and
one whose time is over is never begun. What makes no tokens (embeddings) is done in small pieces between the steps.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

from ingot.core.errors import IngotError
from ingot.core.progress import warn
from ingot.infer.options import Sampling
from ingot.infer.reader import Prompt
from ingot.infer.scheduler import Counters
from ingot.infer.sequence import Event, Sequence
from ingot.serve.admission import Admission
from ingot.serve.errors import ApiError, place, refuse
from ingot.serve.job import Job, Piece
from ingot.serve.metrics import Metrics
from ingot.serve.task import Task

MAX_UNREAD = 4096
"""Pieces a reader may fall behind before its request is stopped: bounds memory under slow readers."""


CHECK_SECONDS = 0.5
"""How often an engine without work is checked."""

MAX_FAILURES = 3
"""Steps that may fail in a row before the engine counts as dead."""


class Stepper(Protocol):
    """What the worker needs of ingot.infer.engine.Engine."""

    def submit(self, prompt: Prompt, sampling: Sampling, salt: str, adapters: tuple[str, ...] | None) -> Sequence: ...

    def step(self) -> list[Event]: ...

    def cancel(self, sequence: Sequence) -> None: ...

    @property
    def has_work(self) -> bool: ...

    @property
    def num_blocks(self) -> int: ...

    @property
    def num_free_blocks(self) -> int: ...

    @property
    def counters(self) -> Counters: ...


class Worker:
    """The engine thread and its two queues. All methods but `_run` and below are for the event loop."""

    def __init__(
        self,
        engine: Stepper,
        num_slots: int,
        num_waiting: int,
        metrics: Metrics,
        max_tokens: int,
        check: Callable[[], None],
    ) -> None:
        """`check` raises IngotError where the engine has lost something that does not come back."""
        self.engine = engine
        self.check = check
        self.num_slots = num_slots
        self.admission = Admission(num_slots, num_waiting, max_tokens)
        self.metrics = metrics
        self.jobs: set[Job] = set()
        self.tasks: set[Task] = set()
        self.failure: str | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._waiting: deque[tuple[Job, int]] = deque()
        self._running: dict[Sequence, tuple[Job, int]] = {}
        self._tasks: deque[Task] = deque()
        self._batch: list[tuple[Job, Piece]] = []
        metrics.watch(
            {
                "queue_depth": lambda: len(self._waiting),
                "running": lambda: len(self._running),
                "outstanding_tokens": lambda: self.admission.tokens,
                "slots": lambda: num_slots,
                "kv_blocks": lambda: engine.num_blocks,
                "kv_blocks_held": lambda: engine.num_blocks - engine.num_free_blocks,
                "kv_usage": lambda: 1 - engine.num_free_blocks / max(engine.num_blocks, 1),
            },
            lambda: engine.counters,
        )

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
        self.admission.take(count, sum(job.estimates))
        job.unfinished = set(range(count))
        job.left = dict(enumerate(job.estimates))
        self.jobs.add(job)
        self._commands.put(partial(self._wait, job, count))

    async def compute(self, pieces: Iterator[Any], size: int) -> list[Any]:
        """What an iterator gives, each piece made on the engine thread between two steps; `size`: tokens it reads.
        Leaving (a cancelled task of asyncio) ends it. Raises ApiError, and what the iterator raises."""
        if self.failure is not None:
            raise refuse("http-engine-failed")
        self.admission.take(1, size)
        task = Task(pieces, size, self._loop.create_future())
        self.tasks.add(task)
        self._commands.put(partial(self._tasks.append, task))
        try:
            return await task.future
        finally:
            self.tasks.discard(task)
            self.admission.end(size)

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
        for task in self.tasks:
            task.settle(refuse("http-aborted"))

    @property
    def outstanding(self) -> int:
        """Sequences and tasks that run or wait."""
        return self.admission.sequences

    def _deliver(self, batch: list[tuple[Job, Piece]]) -> None:
        now = time.monotonic()
        self.metrics.tokens.labels("completion").inc(sum(piece.token_id is not None for _, piece in batch))
        self.admission.measure(sum(self._advance(job, piece, now) for job, piece in batch), now)

    def _advance(self, job: Job, piece: Piece, now: float) -> int:
        """Hand a piece to its reader; how many tokens were read and written for it."""
        if piece.choice not in job.unfinished:
            return 0
        job.pieces.append(piece)
        done = self._count(job, piece, now) if piece.token_id is not None else 0
        if piece.finish_reason is not None:
            job.unfinished.discard(piece.choice)
            by_itself = piece.finish_reason in {"stop", "length"}  # what was cut off says nothing about the next one
            self.admission.end(job.left.pop(piece.choice), job.made.get(piece.choice) if by_itself else None)
            self.metrics.finished.labels(piece.finish_reason).inc()
        if not job.unfinished:
            self.jobs.discard(job)
        if len(job.pieces) > MAX_UNREAD and job.error is None:
            job.fail(refuse("http-slow-reader"))
            self.cancel(job, "slow-reader")
        job.wake.set()
        return done

    def _count(self, job: Job, piece: Piece, now: float) -> int:
        """A token came: time it, and take it and, with the first one, its prompt off what is outstanding."""
        done = 1
        if piece.choice in job.last_token:
            self.metrics.gap.observe(now - job.last_token[piece.choice])
        else:
            done += len(job.sequences[piece.choice][0].ids)
            if not job.last_token:
                self.metrics.first_token.observe(now - job.arrived)
        job.last_token[piece.choice] = now
        job.made[piece.choice] = job.made.get(piece.choice, 0) + 1
        taken = min(done, job.left[piece.choice])
        job.left[piece.choice] -= taken
        self.admission.work(taken)
        return done

    def _fail(self, reason: str) -> None:
        self.failure = reason
        for job in list(self.jobs):
            for choice in job.unfinished:
                self.admission.end(job.left[choice])
            job.unfinished.clear()
            job.fail(refuse("http-engine-failed"))
        self.jobs.clear()
        for task in self.tasks:
            task.settle(refuse("http-engine-failed"))
        self.on_failure()

    # From here on: the engine thread.

    def _run(self) -> None:
        try:
            reason = self._work()
        except Exception as error:
            reason = place(error)
        if reason is not None:
            self._call(self._fail, reason)

    def _work(self) -> str | None:
        """Step until told to stop; why not any more, where the engine is lost."""
        failures = 0
        while self._take_commands():
            gone = self._gone()
            if gone is not None:
                return gone
            self._admit()
            try:
                if self.engine.has_work:
                    self._collect(self.engine.step())
                failures = 0
            except Exception as error:
                failures += 1
                self._lose(place(error))
                if failures == MAX_FAILURES:
                    return place(error)
            self._flush()
            self._do_task()
        return None

    def _take_commands(self) -> bool:
        """Carry out what the event loop asked for; waits only when there is nothing to do. False: stop."""
        idle = not self._waiting and not self._running and not self._tasks
        while True:
            try:
                command = self._commands.get(block=idle, timeout=CHECK_SECONDS)
            except queue.Empty:
                return True
            if command is None:
                return False
            command()
            self._flush()
            idle = idle and not self._waiting and not self._tasks

    def _wait(self, job: Job, count: int) -> None:
        self._waiting.extend((job, choice) for choice in range(count))

    def _gone(self) -> str | None:
        try:
            self.check()
        except IngotError as error:
            return str(error)
        return None

    def _admit(self) -> None:
        while self._waiting and self._has_slots(self._waiting[0]):
            job, choice = self._waiting.popleft()
            if time.monotonic() >= job.expires:
                assert job.late is not None
                self._drop(job, choice, job.late)
                self._call(self.metrics.cancelled.labels(job.late.reason).inc)
                continue
            try:
                prompt, sampling = job.sequences[choice]
                self._running[self.engine.submit(prompt, sampling, job.salt, job.adapters)] = (job, choice)
            except IngotError as error:
                self._drop(job, choice, refuse("http-not-runnable", reason=str(error)))
                continue
            except Exception as error:
                self._call(partial(warn, "serve-unexpected", place=place(error)))
                self._drop(job, choice, refuse("http-unexpected"))
                continue
            if not job.has_started:
                job.has_started = True
                self._call(self.metrics.queue.observe, time.monotonic() - job.arrived)

    def _has_slots(self, item: tuple[Job, int]) -> bool:
        """A guided text and its companion take one each; where nothing runs, the engine says what it cannot do."""
        job, choice = item
        needed = 2 if job.sequences[choice][1].is_guided else 1
        held = sum(len(sequence.together) for sequence in self._running)
        return not held or held + needed <= self.num_slots

    def _drop(self, job: Job, choice: int, error: ApiError) -> None:
        """Do not begin a sequence; its client sees why."""
        self._call(job.fail, error)
        self._batch.append((job, Piece(choice, None, "", None, "error")))

    def _do_task(self) -> None:
        """One piece of what makes no tokens; several take turns."""
        if self._tasks and (task := self._tasks.popleft()).advance(self._call):
            self._tasks.append(task)

    def _collect(self, events: list[Event]) -> None:
        for event in events:
            if event.sequence in self._running:
                job, choice = self._running[event.sequence]
                if event.finish_reason is not None:
                    del self._running[event.sequence]
                own = event.sequence
                if event.finish_reason == "error":
                    self._drop(job, choice, _told(own))
                    continue
                scored, own.prompt_logprobs = own.prompt_logprobs, None
                piece = Piece(
                    choice, event.token_id, event.text, event.logprobs, event.finish_reason, own.num_hit, scored,
                    own.incomplete, own.stop_reason if isinstance(own.stop_reason, str) else None,
                )  # fmt: skip
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
        kept = [item for item in self._waiting if item[0] is not job or item[1] not in choices]
        self._waiting.clear()  # the same deque: a request on its way is bound to it
        self._waiting.extend(kept)
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


def _told(sequence: Sequence) -> ApiError:
    """Why a sequence ended by itself without an answer."""
    if sequence.error is None:
        return refuse("http-no-token")
    return refuse("http-bad-answer", reason=str(sequence.error))
