"""A request on its way through the engine, and the pieces that come back. Belongs to the event loop."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field

from ingot.infer.options import Sampling
from ingot.infer.reader import Prompt
from ingot.infer.sequence import TokenLogprobs
from ingot.serve.errors import ApiError, refuse


@dataclass(frozen=True)
class Piece:
    """What one step did for one sequence. `token_id` is None when no token was made (a cancelled sequence);
    `num_cached`: prompt tokens that came from the cache; `prompt_logprobs`: of every token of the prompt, told with the
    first of the answer where they were asked for; `incomplete`: whether the text is less yet than what it is asked to
    be; `stop`: the text that ended it, where one was asked for and came."""

    choice: int
    token_id: int | None
    text: str
    logprobs: TokenLogprobs | None = None
    finish_reason: str | None = None
    num_cached: int = 0
    prompt_logprobs: list[TokenLogprobs | None] | None = None
    incomplete: bool | None = None
    stop: str | None = None


@dataclass(eq=False)
class Job:
    """The sequences to run, and what came back and is not yet read.

    estimates: tokens that each sequence will take, prompt included; salt: whose prefixes it may share; adapters: those
    that act, None for all; expires: when it is no use to anybody any more (`time.monotonic`), and `late` what its
    client is then told. made, left: tokens of an
    answer so far, and of its estimate still to come.
    """

    sequences: list[tuple[Prompt, Sampling]]
    arrived: float = field(default_factory=time.monotonic)
    estimates: list[int] = field(default_factory=list)
    salt: str = ""
    adapters: tuple[str, ...] | None = None
    expires: float = math.inf
    late: ApiError | None = None
    pieces: list[Piece] = field(default_factory=list)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    error: ApiError | None = None
    has_started: bool = False
    unfinished: set[int] = field(default_factory=set)
    cancelling: set[int] = field(default_factory=set)
    last_token: dict[int, float] = field(default_factory=dict)
    made: dict[int, int] = field(default_factory=dict)
    left: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.estimates = self.estimates or [len(prompt.ids) for prompt, _ in self.sequences]

    def fail(self, error: ApiError) -> None:
        """Let the reader see this error instead of further pieces."""
        self.error = self.error or error
        self.wake.set()


def latest(arrived: float, seconds: float, deadline_ms: int | None) -> tuple[float, ApiError]:
    """When a request is no use any more, and what its client is then told: `seconds` are the server's, `deadline_ms` is
    the request's own."""
    if deadline_ms is None or deadline_ms / 1000 >= seconds:
        return arrived + seconds, refuse("http-timeout")
    return arrived + deadline_ms / 1000, refuse("http-deadline", milliseconds=deadline_ms)
