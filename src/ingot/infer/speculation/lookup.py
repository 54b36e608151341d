"""Guess from the text itself: what followed the last words when they stood there before (prompt lookup, Saxena 2023).

Every ending of a text of up to LONGEST tokens is remembered with the place behind it, once a token, so that a guess
costs the same however long the text is.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from ingot.infer.sequence import Sequence

LONGEST = 4
SHORTEST = 2
"""Tokens that must agree before what followed is guessed to follow again."""


class Lookup:
    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self._indices: WeakKeyDictionary[Sequence, _Index] = WeakKeyDictionary()

    def guess(self, sequences: list[Sequence]) -> list[list[int]]:
        found = []
        for sequence in sequences:
            index = self._indices.setdefault(sequence, _Index())
            index.extend(sequence)
            found.append(index.guess(min(self.tokens, sequence.room - 1)))
        return found


class _Index:
    """A text, and behind which places each of its short runs of tokens stands last and last but one."""

    def __init__(self) -> None:
        self._text: list[int] = []
        self._places: dict[tuple[int, ...], tuple[int, int | None]] = {}

    def extend(self, sequence: Sequence) -> None:
        for token in sequence.known(len(self._text), sequence.num_known - len(self._text)):
            self._text.append(token)
            for size in range(SHORTEST, min(LONGEST, len(self._text)) + 1):
                run = tuple(self._text[-size:])
                before = self._places.get(run)
                self._places[run] = (len(self._text), before[0] if before else None)

    def guess(self, count: int) -> list[int]:
        for size in range(min(LONGEST, len(self._text)), SHORTEST - 1, -1):
            _, before = self._places[tuple(self._text[-size:])]
            if before is not None:
                return self._repeated(before, count)
        return []

    def _repeated(self, begin: int, count: int) -> list[int]:
        """What stands from `begin` on; behind the end, what stood as long before."""
        found = self._text[begin : begin + count]
        period = len(self._text) - begin
        while len(found) < count:
            found.append(found[-period])
        return found
