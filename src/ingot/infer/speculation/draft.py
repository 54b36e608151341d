"""Guess with a smaller network: another model, or the first layers of the one that checks (LayerSkip, Elhoushi 2024).

A draft model's keys and values lie in a cache of its own under the same block numbers as the text's. The first layers
of the model itself need none: they go on with the keys and values that the whole model has made, and what they write
there for a guess is what the whole model would write.

A guess is drawn with the number that the token itself will be drawn with, so that equal distributions guess right at
any temperature.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

from ingot.infer.blocks import BLOCK
from ingot.infer.runner import Runner, Span
from ingot.infer.sampling import NO_TOKEN, sample
from ingot.infer.sequence import Sequence

AT_ONCE = 512
"""Tokens that a draft model reads in one pass when it begins with a text."""


@dataclass
class _Read:
    """How much of a text the network has read, and the guesses behind it. `blocks`: where; a text that had to give up
    its blocks has others when it goes on."""

    blocks: list[int]
    count: int = 0
    draft: list[int] = field(default_factory=list)


class Draft:
    """`runner` guesses, with its first `layers` alone if given. `shares`: it is the runner that checks."""

    def __init__(self, runner: Runner, tokens: int, layers: int | None = None, shares: bool = False) -> None:
        self.runner, self.tokens, self.layers, self.shares = runner, tokens, layers, shares
        self._read: WeakKeyDictionary[Sequence, _Read] = WeakKeyDictionary()

    def guess(self, sequences: list[Sequence]) -> list[list[int]]:
        """As many tokens for each as it may still write, but one, and as its blocks have room for."""
        reads = {each: self._begin(each) for each in sequences if _room(each, self.tokens) > 0}
        for depth in range(self.tokens):
            pairs = [(s, read) for s, read in reads.items() if len(read.draft) == depth < _room(s, self.tokens)]
            if not pairs:
                break
            logits_RV = self.runner.head(self.runner.run([_span(*pair) for pair in pairs], self.layers))
            requests = [replace(s.request(), position=len(s.tokens) + depth) for s, _ in pairs]
            for (sequence, read), token in zip(pairs, sample(logits_RV, requests)[0].tolist(), strict=True):
                if token != NO_TOKEN:  # rules that leave none here end the guess
                    read.count = sequence.num_known + len(read.draft)
                    read.draft.append(token)
        return [list(reads[each].draft) if each in reads else [] for each in sequences]

    def _begin(self, sequence: Sequence) -> _Read:
        """What was read and is still so, and all but the last token of what is new."""
        read = self._read.get(sequence)
        if read is None or read.blocks is not sequence.blocks:
            read = self._read[sequence] = _Read(sequence.blocks)
        certain = read.count - max(0, len(read.draft) - 1)
        for guessed, token in zip(read.draft[:-1], sequence.known(certain, len(read.draft)), strict=False):
            if guessed != token:
                break
            certain += 1
        read.count, read.draft = sequence.num_known - 1 if self.shares else certain, []
        while sequence.num_known - 1 - read.count > AT_ONCE:
            self.runner.run([_span(sequence, read, AT_ONCE)], self.layers)
            read.count += AT_ONCE
        return read


def _room(sequence: Sequence, most: int) -> int:
    """How many tokens may be guessed."""
    return min(most, sequence.room - 1, BLOCK * len(sequence.blocks) - sequence.front_cached - sequence.num_known)


def _span(sequence: Sequence, read: _Read, count: int | None = None) -> Span:
    """The next `count` tokens of a text, or all of it and its guesses that are not read yet."""
    known = sequence.known(read.count, sequence.num_known - read.count if count is None else count)
    guessed = read.draft[max(0, read.count - sequence.num_known) :] if count is None else []
    return Span(
        ids=[*known, *guessed],
        begin=sequence.front_cached + read.count,
        blocks=sequence.blocks,
        wanted=0 if count else 1,
        length=sequence.front_cached + len(sequence.start.ids),
        front=sequence.front_cached,
        adapters=sequence.adapters,
    )
