"""What guesses, and whether it pays.

Guessing costs time: the guesses' own, and that of checking them. Whether it gains more is measured while text is
written, apart for each number of texts that are written together: guessing goes on while a token takes less time with
it than without; where it does not, it pauses, longer each time, and is tried again. As guesses never change an answer,
no answer depends on what was measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from ingot.core.errors import fail
from ingot.infer.fused import FusedRunner
from ingot.infer.runner import TorchRunner
from ingot.infer.runners import make_runner
from ingot.infer.scheduler import Reading
from ingot.infer.sequence import Event, Sequence
from ingot.infer.speculation.draft import Draft
from ingot.infer.speculation.lookup import Lookup
from ingot.infer.speculation.options import Speculation
from ingot.model.encoder_decoder import EncoderDecoder

TRIAL = 3
"""Steps of each kind before they are compared."""

FIRST_PAUSE = 256
LONGEST_PAUSE = 4096
"""Steps without guessing after a trial that did not pay; doubled each time."""

MEMORY = 0.8
"""How much of an average stays when a new figure comes."""


class Guesser(Protocol):
    tokens: int

    def guess(self, sequences: list[Sequence]) -> list[list[int]]:
        """What may follow each of these texts."""
        ...


@dataclass
class Balance:
    """Seconds a token, plain and guessed, averaged; and what is to be done next."""

    plain: float | None = None
    guessed: float | None = None
    trial: int = TRIAL
    is_plain: bool = True
    pause: int = FIRST_PAUSE

    def note(self, seconds: float, guesses: bool) -> None:
        """A step's seconds a token; `guesses`: something was guessed in it."""
        if guesses:
            self.guessed = _average(self.guessed, seconds)
        else:
            self.plain = _average(self.plain, seconds)
        self.trial -= guesses or self.is_plain
        if self.trial <= 0:
            self._decide()

    def _decide(self) -> None:
        if self.is_plain:
            self.is_plain, self.trial, self.guessed = False, TRIAL, None
        elif self.plain is not None and self.guessed is not None and self.guessed >= self.plain:
            self.is_plain, self.trial = True, self.pause
            self.pause = min(2 * self.pause, LONGEST_PAUSE)
        else:
            self.trial, self.pause = FIRST_PAUSE, FIRST_PAUSE


class Proposer:
    """Guesses with `guesser`, where that pays or `always`; without one, never."""

    def __init__(
        self, guesser: Guesser | None, always: bool = False, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.guesser, self.always, self._clock = guesser, always, clock
        self._balances: dict[int, Balance] = {}
        self._has_guessed = False

    @property
    def ahead(self) -> int:
        """How many tokens a guess may have."""
        return self.guesser.tokens if self.guesser else 0

    def propose(self, ready: list[Sequence]) -> None:
        """Give those who write their drafts."""
        writing = [sequence for sequence in ready if not sequence.is_reading]
        if self.guesser is None or not writing or not (self.always or not self._balance(len(writing)).is_plain):
            return
        for sequence, draft in zip(writing, self.guesser.guess(writing), strict=True):
            sequence.draft = draft
            self._has_guessed |= bool(draft)

    @contextmanager
    def timed(self, planned: list[Reading]) -> Iterator[list[Event]]:
        """Take the time of a step in which nothing but writing goes on; gives the list that its events go to."""
        num_writing = sum(not reading.sequence.is_reading for reading in planned)
        began, events, self._has_guessed = self._clock(), list[Event](), False
        yield events
        if self.guesser is not None and events and num_writing == len(planned):
            self._balance(num_writing).note((self._clock() - began) / len(events), self._has_guessed)

    def _balance(self, rows: int) -> Balance:
        return self._balances.setdefault(rows, Balance())


def make_proposer(options: Speculation, runner: FusedRunner | TorchRunner, num_blocks: int) -> Proposer:
    """Raises `speculation-needs-decoder`, `draft-vocabulary`, `layers-too-many`."""
    if options.kind == "off":
        return Proposer(None)
    if options.kind == "lookup":
        return Proposer(Lookup(options.tokens), options.always)
    if isinstance(runner.network, EncoderDecoder) or runner.network.config.prefix_lm:
        raise fail("speculation-needs-decoder", kind=options.kind, path=runner.model.model_dir.path)
    if options.kind == "draft":
        return Proposer(Draft(_draft_runner(options, runner, num_blocks), options.tokens), options.always)
    every = runner.network.config.num_layers
    layers = options.layers or max(1, every // 3)
    if layers >= every:
        raise fail("layers-too-many", found=layers, every=every)
    return Proposer(Draft(runner, options.tokens, layers, shares=True), options.always)


def _draft_runner(
    options: Speculation, runner: FusedRunner | TorchRunner, num_blocks: int
) -> FusedRunner | TorchRunner:
    """The smaller model, on the same kind of weights as the one that checks."""
    from ingot.adapt.load import load

    assert options.draft is not None
    weights = "dense" if runner.model.weights == "dense" else "int8"
    model = load(options.draft, str(runner.model.device), weights=weights)
    sizes = (model.decoder.config.vocab_size, runner.network.config.vocab_size)
    if sizes[0] != sizes[1]:
        raise fail("draft-vocabulary", path=options.draft, found=sizes[0], expected=sizes[1])
    return make_runner(model, num_blocks, 0, model.decoder.dtype)


def _average(held: float | None, new: float) -> float:
    return new if held is None else MEMORY * held + (1 - MEMORY) * new
