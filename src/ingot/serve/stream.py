"""The answer to one generation request as an ASGI response: whole, or as server-sent events.

One place watches for everything that can end a request early: the client going away (the slots are freed at once),
the time limit, an abort, a failed engine. Before the first byte such an end is an HTTP status; after it, it is a
event instead of the usual end, because a client cannot tell a cut stream from a finished one otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ingot.serve.answer import Answer
from ingot.serve.errors import ApiError, refuse
from ingot.serve.frames import Counts, Frames
from ingot.serve.shape import Grown

EVENT_STREAM = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",
}
LAST_WORDS_SECONDS = 1.0
"""How long an error event may take to reach a client that has stopped reading."""


@dataclass(frozen=True)
class Plan:
    """How to answer: framed how, streamed or not, prompt tokens, answers written to each prompt and shown of them,
    extra headers."""

    frames: Frames
    stream: bool
    num_prompt: int
    num_written: int
    num_shown: int
    headers: dict[str, str]


class Reply(Response):
    """Sends the answer of one job. `cancel(reason)` frees what it still holds in the engine."""

    def __init__(self, answer: Answer, plan: Plan, queue_seconds: float, cancel: Callable[[str], None]) -> None:
        self.answer = answer
        self.plan = plan
        self.queue_seconds = queue_seconds
        self.cancel = cancel
        self.begun = False
        self.outcome = "ok"
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run to whichever end comes first; nothing is left in the engine afterwards."""
        work = self._streamed(send) if self.plan.stream else self._whole(scope, receive, send)
        job = self.answer.job
        now = time.monotonic()
        loop = asyncio.get_running_loop()
        waiting = loop.call_later(max(job.arrived + self.queue_seconds - now, 0), self._stop_waiting)
        assert job.late is not None
        try:
            gone = await until_gone(work, receive, job.expires - now, job.late)
            self.outcome = "disconnected" if gone else "ok"
        except ApiError as error:
            self.outcome = error.reason
            scope["state"]["error"] = error.kind.code
            await self._refuse(error, scope, receive, send)
        finally:
            waiting.cancel()
            self.cancel(self.outcome)

    def _stop_waiting(self) -> None:
        """The time to wait for a slot is over."""
        if not self.answer.job.has_started:
            self.answer.job.fail(refuse("http-queue-timeout", seconds=self.queue_seconds, headers={"retry-after": "5"}))

    async def _whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        grown = [Grown() for _ in self.answer.choices]
        async for deltas in self.answer.deltas():
            for delta in deltas:
                grown[delta.choice].add(delta)
        body = self.plan.frames.whole([grown[index] for index in self._shown()], self._counts())
        self.begun = True
        await Response(orjson.dumps(body), 200, self.plan.headers, "application/json")(scope, receive, send)

    def _shown(self) -> list[int]:
        """Which choices are answered with: of those to one prompt the likeliest, where more were written than asked."""
        found: list[int] = []
        every, written = self.answer.choices, self.plan.num_written
        for first in range(0, len(every), written):
            ranked = sorted(range(first, first + written), key=lambda index: -every[index].likelihood)
            kept = ranked[: self.plan.num_shown]
            found += kept if self.plan.num_shown < written else sorted(kept)
        return found

    async def _streamed(self, send: Send) -> None:
        async for deltas in self.answer.deltas():
            if not self.begun:
                await self._begin(send)
            await _send_body(send, b"".join(map(self.plan.frames.part, deltas)))
        await _send_body(send, self.plan.frames.end(self._counts()), more=False)

    async def _begin(self, send: Send) -> None:
        headers = [(name.encode(), value.encode()) for name, value in (EVENT_STREAM | self.plan.headers).items()]
        self.begun = True
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _send_body(send, self.plan.frames.begin(len(self.answer.choices), self._counts()))

    def _counts(self) -> Counts:
        return Counts(self.plan.num_prompt, self.num_cached, self.answer.num_tokens)

    @property
    def num_cached(self) -> int:
        """Prompt tokens that were taken from the cache: those of each prompt's first answer."""
        return sum(choice.num_cached for choice in self.answer.choices[:: self.plan.num_written])

    async def _refuse(self, error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.begun:
            error.headers = error.headers | self.plan.headers
            await error.response(scope["path"])(scope, receive, send)
            return
        with contextlib.suppress(TimeoutError):
            last = self.plan.frames.failed(error)
            await asyncio.wait_for(_send_body(send, last, more=False), LAST_WORDS_SECONDS)


async def _send_body(send: Send, body: bytes, *, more: bool = True) -> None:
    if body or not more:
        await send({"type": "http.response.body", "body": body, "more_body": more})


async def until_gone(work: Coroutine[Any, Any, None], receive: Receive, seconds: float, late: ApiError) -> bool:
    """Run `work` until it ends or the client goes away (True). Raises `late` when the time is over, or what `work`
    raises."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({working, leaving}, timeout=max(seconds, 0), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
            return False
        if leaving.done():
            return True
        raise late
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
