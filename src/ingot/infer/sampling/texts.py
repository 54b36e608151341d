"""Texts looked for in what is written, byte by byte, whatever tokens write it.

The state between two tokens is what the written text ends with that begins one of the texts (the state of Aho and
Corasick's automaton, 1975, kept as the bytes themselves). UTF-8 is read as bytes because tokens split characters; a
text stands in the bytes exactly where it stands in the characters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ingot.text.spelling import Spelling

Ids = NDArray[np.int64]


class Finder:
    """Finds `texts` in a growing text. `held`: the longest end of it that begins one of them."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        self.texts = tuple(dict.fromkeys(texts))
        self.held = b""
        self._first = frozenset(text[0] for text in self.texts)

    def push(self, written: bytes) -> set[bytes]:
        """The texts that are complete within these bytes."""
        found: set[bytes] = set()
        for byte in written:
            if not self.held and byte not in self._first:
                continue
            self.held = self._longest(self.held + bytes([byte]))
            found |= {text for text in self.texts if self.held.endswith(text)}
        return found

    def rests(self) -> set[tuple[bytes, int]]:
        """How what was written may go on to complete a text: (the text, how many bytes of it stand already)."""
        ends = [self.held[begin:] for begin in range(len(self.held))]
        return {
            (text, len(end)) for end in ends for text in self.texts if len(end) < len(text) and text.startswith(end)
        }

    def _longest(self, written: bytes) -> bytes:
        ends = (written[begin:] for begin in range(len(written)))
        return next((end for end in ends if any(text.startswith(end) for text in self.texts)), b"")


class Forbidden:
    """Texts that must not come. `ids()`: the tokens that would complete one now."""

    def __init__(self, texts: Sequence[str], spelling: Spelling) -> None:
        self._finder = Finder([text.encode() for text in texts])
        self._spelling = spelling
        holding = [spelling.containing(text) for text in self._finder.texts]
        self._holding: Ids = np.unique(np.concatenate(holding))
        self._completing: dict[bytes, list[Ids]] = {}

    def push(self, written: bytes) -> None:
        self._finder.push(written)

    def ids(self) -> list[Ids]:
        """Lists of tokens, which may overlap."""
        held = self._finder.held
        if held not in self._completing:
            rests = {text[begin:] for text, begin in self._finder.rests()}
            self._completing[held] = [self._spelling.starting_with(rest) for rest in sorted(rests)]
        return [self._holding, *self._completing[held]]


class Wanted:
    """Texts that must come. `missing`: those that have not yet; `plan`: the fewest tokens that write them all.
    `opens`: the next token begins a text, and may lose its space."""

    def __init__(
        self, texts: Sequence[str], spelling: Spelling, usable: frozenset[int] | None, opens: bool = False
    ) -> None:
        self._finder = Finder([text.encode() for text in texts])
        self.missing = set(self._finder.texts)
        self._plans = {text: spelling.cover(text, usable) for text in self._finder.texts}
        losing = spelling.opening.items() if opens else ()
        self._opening = {token: said for token, said in losing if usable is None or token in usable}
        self.unwritable = [text.decode() for text, plans in self._plans.items() if plans[0] is None]

    def push(self, written: bytes) -> None:
        self._opening = {}
        self.missing -= self._finder.push(written)

    @property
    def num_needed(self) -> int:
        """How many tokens it takes at least to write all that is missing."""
        order = self._order()
        return len(self._with(order[0], 0, order)) if order else 0

    def plan(self, room: int) -> list[int] | None:
        """What to write now; None while all would still fit behind one more free token (`room`: tokens that may come).
        Until then a text that was begun may be given up again; from then on the shortest plan is followed."""
        order = self._order()
        if not order or room > self.num_needed:
            return None
        begun = [self._with(text, begin, order) for text, begin in sorted(self._finder.rests()) if text in order]
        return min([self._with(order[0], 0, order), *begun], key=len)

    def _with(self, first: bytes, begin: int, order: list[bytes]) -> list[int]:
        """All of them, the first from a place within it. Where its first token would lose something, another one that
        loses something goes before it: the one that says least."""
        rest = self._plans[first][begin] or self._plan(first)
        others = [token for text in order if text != first for token in self._plan(text)]
        if rest[0] in self._opening:
            rest = [min(self._opening, key=lambda token: (len(self._opening[token]), token)), *rest]
        return [*rest, *others]

    def _order(self) -> list[bytes]:
        return [text for text in self._finder.texts if text in self.missing]

    def _plan(self, text: bytes) -> list[int]:
        return self._plans[text][0] or []
