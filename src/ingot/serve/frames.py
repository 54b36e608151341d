"""How an answer is put on the wire: whole as one object, or as server-sent events.

`Frames` is what a route's answers need; `Chunks` is OpenAI's way of it, around the shapes of chat and text completions.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import orjson

from ingot.serve.answer import Delta
from ingot.serve.errors import ApiError
from ingot.serve.shape import Grown, Shape


class Counts(NamedTuple):
    """Tokens of a request: every prompt once, how many of these were taken from the cache, and all that was made."""

    num_prompt: int
    num_cached: int
    num_completion: int


class Frames(Protocol):
    """Of one request. A stream is `begin`, a `part` for each delta, and `end` or `failed`."""

    def whole(self, shown: list[Grown], counts: Counts) -> dict[str, Any]:
        """The body of a whole answer."""
        ...

    def begin(self, num_choices: int, counts: Counts) -> bytes:
        """What comes before any text."""
        ...

    def part(self, delta: Delta) -> bytes: ...

    def end(self, counts: Counts) -> bytes: ...

    def failed(self, error: ApiError) -> bytes:
        """What ends a stream that broke off."""
        ...


class Chunks:
    """OpenAI's: events without names, the last one [DONE]. `with_usage`: usage in an event of its own, null before."""

    def __init__(self, shape: Shape, with_usage: bool) -> None:
        self._shape = shape
        self._with_usage = with_usage

    def whole(self, shown: list[Grown], counts: Counts) -> dict[str, Any]:
        choices = [self._shape.whole(index, grown) for index, grown in enumerate(shown)]
        return self._shape.whole_head | {"choices": choices, "usage": _usage(counts)}

    def begin(self, num_choices: int, counts: Counts) -> bytes:
        openings = [self._shape.opening(index) for index in range(num_choices)]
        return b"".join(self._event(opening) for opening in openings if opening is not None)

    def part(self, delta: Delta) -> bytes:
        return b"".join(map(self._event, self._shape.chunks(delta)))

    def end(self, counts: Counts) -> bytes:
        last = _data(self._shape.chunk_head | {"choices": [], "usage": _usage(counts)}) if self._with_usage else b""
        return last + b"data: [DONE]\n\n"

    def failed(self, error: ApiError) -> bytes:
        return b"data: " + error.body() + b"\n\n"

    def _event(self, choice: dict[str, Any]) -> bytes:
        more: dict[str, Any] = {"usage": None} if self._with_usage else {}
        return _data(self._shape.chunk_head | {"choices": [choice]} | more)


def _data(content: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(content) + b"\n\n"


def _usage(counts: Counts) -> dict[str, Any]:
    return {
        "prompt_tokens": counts.num_prompt,
        "completion_tokens": counts.num_completion,
        "total_tokens": counts.num_prompt + counts.num_completion,
        "prompt_tokens_details": {"cached_tokens": counts.num_cached},
    }
