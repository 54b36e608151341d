"""What drawing a request's next token has to know of the tokens before it.

Advanced once for each token, in order, and read as an immutable `Request`: whatever the engine does (drafts tokens and
verifies them, throws a cache away and reads the text again), the same tokens make the same state. Only what the request
asks for is kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from copy import copy, deepcopy

from ingot.adapt.generation import Generation
from ingot.core.errors import fail
from ingot.infer.answer import AnswerDecoder
from ingot.infer.controls import Request
from ingot.infer.options import Sampling
from ingot.infer.sampling.dry import Dry
from ingot.infer.sampling.texts import Forbidden, Wanted
from ingot.text.spelling import Spelling


class State:
    """`read`: what the answer goes on from; `limit`: its most tokens. Raises `tokenizer-not-bytewise`,
    `force-words-unwritable`, `force-words-do-not-fit`."""

    def __init__(
        self,
        own: Sampling,
        seed: int,
        read: Sequence[int],
        generation: Generation,
        limit: int,
        decoder: AnswerDecoder | None,
    ) -> None:
        self._own, self._seed, self._generation, self._limit = own, seed, generation, limit
        self._position = 0
        self._is_first_read = len(read) == 1
        self._end_ids = generation.eos_ids | set(own.stop_token_ids)
        self._bias = _bias(own, decoder)
        self._counts = Counts(read, own.penalty_last_n)
        self._mu = 2 * own.mirostat_tau
        self._dry: Dry | None = None
        self._forbidden: Forbidden | None = None
        self._wanted: Wanted | None = None
        self._stops: Forbidden | None = None
        self._spelling: Spelling | None = None
        self._is_opening = False
        if decoder is not None and (own.bad_words or own.force_words or own.dry_multiplier):
            self._watch(decoder, read)

    def _watch(self, decoder: AnswerDecoder, read: Sequence[int]) -> None:
        """Begin to look at what the tokens write."""
        own, spelling = self._own, decoder.spelling
        self._spelling, self._is_opening = spelling, decoder.begins_text
        if own.dry_multiplier:
            self._dry = Dry(own, spelling, read)
        if own.bad_words:
            self._forbidden = Forbidden(own.bad_words, spelling)
        if own.force_words:
            usable = self._usable(len(spelling.written))
            self._wanted = Wanted(own.force_words, spelling, usable, self._is_opening)
            self._stops = Forbidden(own.stop, spelling) if own.stop else None
            self._check_wanted(self._wanted)

    def _usable(self, size: int) -> frozenset[int]:
        allowed = range(size) if self._own.allowed_token_ids is None else self._own.allowed_token_ids
        return frozenset(allowed) - self._generation.banned_ids - self._end_ids

    def _check_wanted(self, wanted: Wanted) -> None:
        if wanted.unwritable:
            raise fail("force-words-unwritable", text=wanted.unwritable[0])
        if wanted.num_needed > self._room:
            raise fail("force-words-do-not-fit", needed=wanted.num_needed, limit=self._room)

    @property
    def _room(self) -> int:
        """How many tokens of text may still come."""
        return self._limit - self._position - (self._generation.forced_last is not None)

    @property
    def _may_end(self) -> bool:
        return self._wanted is None or not self._wanted.missing

    @property
    def forced(self) -> int | None:
        """The token that the model's directory wants here whatever its logits say. What a request asks for goes before
        that: no end before `min_tokens` and the texts it wants, none with `ignore_eos`."""
        own = self._generation
        may_end = self._position >= self._own.min_tokens and not self._own.ignore_eos and self._may_end
        if own.forced_last is not None and may_end and self._position == self._limit - 1:
            return own.forced_last
        return own.forced_first if self._position == 0 and self._is_first_read else None

    def fork(self) -> State:
        """The same, to be advanced by itself. Not where texts are watched."""
        assert self._spelling is None
        other = copy(self)
        other._counts = deepcopy(self._counts)
        return other

    def request(self) -> Request:
        """What the samplers read."""
        plan = None if self._wanted is None else self._wanted.plan(self._room)
        stops = None if self._may_end else self._stops
        return Request(
            self._own,
            self._seed,
            self._position,
            self._counts.seen,
            self._end_ids,
            self._generation.banned_ids,
            self.forced,
            may_end=self._may_end,
            bias=self._bias,
            repeats={} if self._dry is None else self._dry.penalties(),
            allowed=self._own.allowed_token_ids if plan is None else plan[:1],
            forbidden=[ids for texts in (self._forbidden, stops) if texts is not None for ids in texts.ids()],
            mu=self._mu,
        )

    def push(self, token: int, surprise: float | None) -> None:
        """One more token of the answer."""
        self._position += 1
        self._counts.push(token)
        if self._own.mirostat:
            assert surprise is not None
            self._mu -= self._own.mirostat_eta * (surprise - self._own.mirostat_tau)
        if self._dry is not None:
            self._dry.push(token)
        if self._spelling is not None and token < len(self._spelling.written) and self._spelling.written[token]:
            written = self._spelling.written[token]
            said = self._spelling.opening.get(token, written) if self._is_opening else written
            self._is_opening = False
            for texts in (self._forbidden, self._wanted, self._stops):
                if texts is not None:
                    texts.push(said)


class Counts:
    """`seen`: {token: how often the answer has it}, 0 for one that was only read; of the last tokens alone where
    `window` says how many."""

    def __init__(self, read: Sequence[int], window: int | None) -> None:
        self.seen: dict[int, int] = dict.fromkeys(read if window is None else read[-window:], 0)
        self._window = window
        self._last: deque[tuple[int, bool]] = deque(((token, False) for token in read), window or 0)

    def push(self, token: int) -> None:
        """One more token of the answer."""
        if self._window is None:
            self.seen[token] = self.seen.get(token, 0) + 1
            return
        self._last.append((token, True))
        self.seen = {}
        for other, is_answer in self._last:
            self.seen[other] = self.seen.get(other, 0) + is_answer


def _bias(own: Sampling, decoder: AnswerDecoder | None) -> Mapping[int, float]:
    """{token: what to add}. A text stands for every token of its encoding."""
    found: dict[int, float] = {}
    for key, value in own.logit_bias.items():
        tokens = {key} if isinstance(key, int) else set(decoder.tokenizer.encode(key)) if decoder is not None else set()
        for token in tokens:
            found[token] = found.get(token, 0.0) + value
    return found
