"""One request on its way through the engine: its tokens, its text, and why it ended.

Holds no tensors. The engine says which token came next; the sequence keeps the counts that penalties need, decodes
text without splitting characters, watches for stop strings and decides when it is finished.
"""

from __future__ import annotations

import secrets
from collections.abc import Hashable
from copy import copy
from dataclasses import dataclass, replace
from typing import Literal

from ingot.adapt.generation import Generation
from ingot.core.errors import IngotError, fail
from ingot.core.progress import warn
from ingot.infer.answer import AnswerDecoder
from ingot.infer.constraint.matcher import Matcher
from ingot.infer.controls import Request
from ingot.infer.options import Sampling
from ingot.infer.reader import Start
from ingot.infer.sampling import NO_TOKEN
from ingot.infer.sampling.state import State
from ingot.infer.stop import StopGate

FinishReason = Literal["stop", "length", "cancelled", "error"]

FRESH_SEED_BITS = 32
"""Seeds drawn for requests without one: short enough to type again."""


@dataclass(frozen=True)
class TokenLogprobs:
    """Natural-log probability of the chosen token, and (token, log-probability) of the most likely ones."""

    token_id: int
    logprob: float
    alternatives: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Event:
    """One token of one sequence. `text` is what may be shown now: the texts of all events are the whole text."""

    sequence: Sequence
    token_id: int
    text: str
    finish_reason: FinishReason | None
    logprobs: TokenLogprobs | None = None


class Sequence:
    """What is read, how to go on from it, and what came of it so far. Compared by identity.

    tokens: all that was generated, an end token and the tokens of a stop string included. text: what they say up to
    an end token or stop string. seed: the one that was used. finish_reason: None while running, "stop" (end token or
    stop string, see stop_reason; or a constraint that leaves nothing to say), "length" (max_tokens, the window, or all
    memory of the cache), "cancelled", "error" (a step failed, or see `error`: the answer is not what its constraint
    asks for). num_hit: how many tokens of the prompt were not read, because the cache held them. prompt_logprobs:
    of what the writing side reads before it writes; None for its first token.

    The engine's: num_cached: how many of start.ids and tokens the cache holds, in `blocks`; num_seen: the most it
    has held before the blocks had to be given up; front_cached: how many tokens lie before them, put there by an
    adapter; source_cached: how many tokens of the source, and of what an adapter puts in front of it,
    `source_blocks` hold. draft: tokens that are guessed to come next. root: what the first block hangs on, None
    where its blocks are not shared; node: what the first block that is not published hangs on. taps: layers whose
    hidden states are asked for beside the last one's. pair: where a request is guided, itself and the companion
    that reads the same answer behind the negative prompt and draws nothing; both have the same pair.
    """

    def __init__(
        self,
        number: int,
        start: Start,
        sampling: Sampling,
        generation: Generation,
        limit: int,
        decoder: AnswerDecoder | None,
        root: Hashable = None,
        adapters: tuple[str, ...] | None = None,
        matcher: Matcher | None = None,
    ) -> None:
        self.id = number
        self.start = start
        self.sampling = sampling
        self.adapters = adapters
        self.seed = secrets.randbits(FRESH_SEED_BITS) if sampling.seed is None else sampling.seed
        self.tokens: list[int] = []
        self.logprobs: list[TokenLogprobs] | None = None if sampling.logprobs is None else []
        self.prompt_logprobs: list[TokenLogprobs | None] | None = None if sampling.prompt_logprobs is None else [None]
        self.finish_reason: FinishReason | None = None
        self.stop_reason: int | str | None = None
        self.error: IngotError | None = None
        self.num_hit = self.num_seen = self.num_cached = 0
        self.root = root
        self.taps: tuple[int, ...] = ()
        self.pair: tuple[Sequence, ...] = ()
        self._limit = limit
        self._generation = generation
        self._state = State(sampling, self.seed, start.ids, generation, limit, decoder)
        self._decoder = decoder
        self._gate = StopGate(sampling.stop, sampling.include_stop_in_output)
        self._matcher = matcher
        self._is_proven = False
        self._pieces: list[str] = []
        self.forget_cache()

    def forget_cache(self) -> None:
        """Everything has to be read again."""
        self.num_seen = max(self.num_seen, self.num_cached)
        self.blocks: list[int] = []
        self.source_blocks: list[int] = []
        self.draft: list[int] = []
        self.num_cached = self.num_published = self.front_cached = self.source_cached = 0
        self.node: Hashable = self.root

    def accompany(self, leader: Sequence) -> None:
        """Read from now on whatever `leader` writes."""
        self.tokens = leader.tokens
        self.pair = leader.pair = (leader, self)

    @property
    def together(self) -> tuple[Sequence, ...]:
        """What runs, waits and gives way at once: itself, and its companion."""
        return self.pair or (self,)

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def incomplete(self) -> bool | None:
        """Is the text less than what its constraint asks for? None without one."""
        return None if self._matcher is None else not self._is_proven

    @property
    def prompt_ids(self) -> list[int]:
        return self.start.prompt

    @property
    def source_left(self) -> int:
        """How many tokens of the source the encoder has to read."""
        return 0 if self.source_cached else len(self.start.source)

    @property
    def next_position(self) -> int:
        """Where the next token stands in the cache."""
        return self.front_cached + self.num_cached

    @property
    def num_known(self) -> int:
        """Tokens read and written."""
        return len(self.start.ids) + len(self.tokens)

    @property
    def num_left(self) -> int:
        """How many known tokens the cache has not seen yet: 1 while generating, more while the prompt is read; 0 where
        the other of a pair is waited for."""
        return self.num_known - self.num_cached

    @property
    def room(self) -> int:
        """How many tokens may still be written."""
        return self._limit - len(self.tokens)

    @property
    def is_reading(self) -> bool:
        """Whether more has to be read than the last token."""
        return self.source_left > 0 or self.num_left > 1

    def num_next(self, most: int) -> int:
        """How many tokens to run through the model next: `most`, but a prefix is never cut."""
        return min(self.num_left, max(most, self.start.prefix if self.num_cached == 0 else 0))

    def known(self, begin: int, count: int) -> list[int]:
        """Some of what was read and written, in order."""
        split = len(self.start.ids)
        if begin >= split:
            return self.tokens[begin - split : begin - split + count]
        return self.start.ids[begin : begin + count] + self.tokens[: max(0, begin + count - split)]

    def request(self) -> Request:
        """What drawing the next token needs to know."""
        request = self._state.request()
        if self._matcher is None or request.forced is not None:
            return request
        return replace(request, grammar=self._matcher.allowed())

    def fork(self) -> Sequence:
        """A text that goes on from here by itself and says nothing. It lies in the same blocks, which its owner must
        hold for it. Not of a request whose texts are watched or constrained."""
        assert self._matcher is None
        other = copy(self)
        other.tokens, other.blocks = list(self.tokens), list(self.blocks)
        other._state, other._decoder, other._pieces = self._state.fork(), None, []
        return other

    def accept(self, token_id: int, logprobs: TokenLogprobs | None, surprise: float | None = None) -> Event:
        """Take the next token; finish if it ends the sequence. `surprise`: what Mirostat steers by, in bits."""
        assert self.finish_reason is None
        if token_id == NO_TOKEN:
            return self._fail()
        forced = self._state.forced is not None
        if self._matcher is not None and not self._matcher.accept(token_id, forced):
            return self._fail()
        self.tokens.append(token_id)
        self._state.push(token_id, surprise)
        if self.logprobs is not None and logprobs is not None:
            self.logprobs.append(logprobs)
        text = self._advance(token_id, forced)
        self._pieces.append(text)
        self._prove()
        return Event(self, token_id, text, self.finish_reason, logprobs)

    def _prove(self) -> None:
        """At the end: is the text what was asked for? One that was cut may be, by chance."""
        if self.finish_reason not in ("stop", "length"):
            return
        missing = [text for text in self.sampling.force_words if text not in self.text]
        if missing:
            self.error = fail("force-words-not-met", text=missing[0])
        if self._matcher is not None and (self.finish_reason == "stop" or self._matcher.may_end):
            reason = self._matcher.prove(self.text)
            self._is_proven = reason is None
            if reason is not None:
                self.error = fail("constraint-not-met", reason=reason)
        if self.error is not None:
            self.finish_reason = "error"

    def _fail(self) -> Event:
        """Its own rules left no token: they contradict each other here, which concerns no other sequence."""
        if self._matcher is None:
            warn("no-token-left", position=len(self.tokens) + 1)
        else:
            self.error = fail("constraint-dead-end", tokens=len(self.tokens), reason=self._matcher.complaint or "-")
        text = self._rest()
        self._pieces.append(text)
        self.finish_reason, self.stop_reason = "error", None
        return Event(self, NO_TOKEN, text, self.finish_reason)

    def _advance(self, token_id: int, forced: bool) -> str:
        """The text this token lets out. An end that was forced because no more tokens fit is no end of the text."""
        if token_id in self._generation.eos_ids and not self.sampling.ignore_eos:
            cut = forced and len(self.tokens) == self._limit
            self.finish_reason, self.stop_reason = ("length", None) if cut else ("stop", token_id)
            return self._rest()
        if token_id in self.sampling.stop_token_ids:
            self.finish_reason, self.stop_reason = "stop", token_id
            return self._show(token_id) + self._rest() if self.sampling.include_stop_in_output else self._rest()
        text = self._show(token_id)
        if self._gate.found is not None:
            self.finish_reason, self.stop_reason = "stop", self._gate.found
        elif self._matcher is not None and self._matcher.must_end:
            self.finish_reason = "stop"
            text += self._rest()
        elif len(self.tokens) == self._limit:
            self.finish_reason = "length"
            text += self._rest()
        return text

    def _show(self, token_id: int) -> str:
        """What is certain of a token's text, and of what was held back before it."""
        return self._gate.push(self._decoder.push(token_id)) if self._decoder else ""

    def _rest(self) -> str:
        """What was held back: an unfinished character, the beginning of a stop string that did not come."""
        text = self._gate.push(self._decoder.finish()) if self._decoder else ""
        if self._gate.found is not None:
            self.stop_reason = self._gate.found
            self.finish_reason = "stop"
        return text + self._gate.finish()
