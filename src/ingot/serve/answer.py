"""From the engine's pieces to what a client reads: guarded text, calls of tools, counts, reasons to stop.

Streamed and whole answers are made of the same deltas, so they cannot differ. With a guard on, text is handed on only
when no finding can still begin in it, and log-probabilities only at the end of an answer in which nothing was redacted
or blocked, because they would spell out what was taken away. What the guard lets through is then read for calls.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from math import nan

from ingot.guard.guard import Guard, StreamGuard
from ingot.infer.sequence import TokenLogprobs
from ingot.serve.job import Job, Piece
from ingot.serve.tools.call import Call
from ingot.serve.tools.offer import Offer

Part = str | tuple[int, Call]
"""Text, or a complete call with its number in the choice."""


@dataclass(frozen=True)
class Delta:
    """What comes next of one choice, texts and calls in order. `logprobs`: the engine's record of each token in it,
    empty when none were asked; `incomplete`: it ended before it was of its form; `stop`: the stop string that ended
    it."""

    choice: int
    parts: list[Part]
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    finish_reason: str | None = None
    incomplete: bool = False
    stop: str | None = None

    @property
    def text(self) -> str:
        return "".join(part for part in self.parts if isinstance(part, str))

    @property
    def calls(self) -> list[tuple[int, Call]]:
        return [part for part in self.parts if not isinstance(part, str)]


class Choice:
    """One answer growing: takes the engine's pieces, gives deltas."""

    def __init__(
        self, index: int, guard: Guard | None, opening: str = "", offer: Offer | None = None, first: int = 0
    ) -> None:
        self.index = index
        self._first = first  # the prompt's first token, which nothing predicted
        self.opening = opening
        self.num_tokens = 0
        self.num_cached = 0
        self.num_calls = 0
        self.finish_reason: str | None = None
        self.stop: str | None = None
        self.is_cut = False  # ended here while the engine would go on
        self._sum = 0.0
        self._incomplete = False
        self._guard: StreamGuard | None = guard.stream() if guard else None
        self._offer = offer
        self._parser = offer.format.reader(offer.names) if offer else None
        self._held: list[TokenLogprobs] = []

    @property
    def likelihood(self) -> float:
        """Mean log-probability of its tokens, where the engine was asked for them."""
        return self._sum / max(self.num_tokens, 1)

    def push(self, pieces: list[Piece]) -> Delta | None:
        """What may be handed on after these pieces; None when that is nothing."""
        parts: list[Part] = []
        _say(parts, self.opening)
        self.opening = ""
        for piece in pieces:
            if self.finish_reason is None:
                self._read(self._take(piece), parts)
        released: list[TokenLogprobs] = []
        if self._guard is None or (self.finish_reason is not None and not self._changed()):
            released, self._held = self._held, []
        if not parts and not released and self.finish_reason is None:
            return None
        incomplete = self.finish_reason is not None and self._incomplete
        return Delta(self.index, parts, released, self.finish_reason, incomplete, self.stop)

    def _take(self, piece: Piece) -> str:
        """A piece's text as the guard lets it through."""
        if piece.token_id is not None:
            self.num_tokens += 1
        if piece.prompt_logprobs is not None:
            self._held += [entry or TokenLogprobs(self._first, nan, ()) for entry in piece.prompt_logprobs]
        if piece.logprobs is not None:
            self._held.append(piece.logprobs)
            self._sum += piece.logprobs.logprob
        self.num_cached = max(self.num_cached, piece.num_cached)
        self.finish_reason, self._incomplete = piece.finish_reason, piece.incomplete is True
        self.stop = piece.stop
        mark = self._offer.hidden.get(piece.token_id) if self._offer and piece.token_id is not None else None
        text = piece.text + (mark or "")
        if self._guard is None:
            return text
        text = self._guard.push(text)
        if self._blocked():
            self.finish_reason, self.is_cut = "content_filter", piece.finish_reason is None
        elif piece.finish_reason is not None:
            text += self._guard.finish()
            self.finish_reason = "content_filter" if self._blocked() else piece.finish_reason
        return text

    def _read(self, text: str, parts: list[Part]) -> None:
        """Add what a text says to `parts`: text that is no call, and calls."""
        if self._parser is None or self._offer is None:
            _say(parts, text)
            return
        found = self._parser.push(text)
        ended = self.finish_reason
        if ended is not None:
            found += self._parser.finish(ended == "stop")
        for part in found:
            if isinstance(part, str):
                _say(parts, part)
                continue
            parts.append((self.num_calls, part))
            self.num_calls += 1
            if self._offer.single:
                self.finish_reason, self.is_cut = "tool_calls", ended is None
                return
        if self.num_calls and ended == "stop":
            self.finish_reason = "tool_calls"

    def _blocked(self) -> bool:
        return self._guard is not None and self._guard.verdict.action == "block"

    def _changed(self) -> bool:
        return self._guard is not None and self._guard.verdict.action in {"redact", "block"}


def _say(parts: list[Part], text: str) -> None:
    """Add text, to the text before it where there is one."""
    if text and parts and isinstance(parts[-1], str):
        parts[-1] += text
    elif text:
        parts.append(text)


class Answer:
    """All choices of one request, read from its job. `stop(choice, reason)` ends one in the engine."""

    def __init__(self, job: Job, choices: list[Choice], stop: Callable[[int, str], None]) -> None:
        self.job = job
        self.choices = choices
        self._stop = stop

    @property
    def num_tokens(self) -> int:
        """Tokens made so far, over all choices."""
        return sum(choice.num_tokens for choice in self.choices)

    async def deltas(self) -> AsyncIterator[list[Delta]]:
        """What came since the last time, at most one delta a choice, until every choice has ended.

        Raises ApiError when the request was aborted or the engine failed.
        """
        open_choices = {choice.index for choice in self.choices}
        while open_choices:
            await self.job.wake.wait()
            self.job.wake.clear()
            if self.job.error is not None:
                raise self.job.error
            found = self._push(open_choices)
            open_choices -= {delta.choice for delta in found if delta.finish_reason is not None}
            yield found

    def _push(self, open_choices: set[int]) -> list[Delta]:
        pieces, self.job.pieces = self.job.pieces, []
        grouped: dict[int, list[Piece]] = {}
        for piece in pieces:
            if piece.choice in open_choices:
                grouped.setdefault(piece.choice, []).append(piece)
        deltas = [delta for index, group in grouped.items() if (delta := self.choices[index].push(group)) is not None]
        for delta in deltas:
            if delta.finish_reason is not None and self.choices[delta.choice].is_cut:
                self._stop(delta.choice, delta.finish_reason.replace("_", "-"))
        return deltas
