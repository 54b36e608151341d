"""Units of long texts at numpy's speed, with the place of each: what `ingot.data.clean.units` splits one text into.

A unit is a word, or one character of a script without spaces; case, width and punctuation do not count. The classes
of all characters come from the patterns of that module, so both always agree on what a unit is; only the numbers that
stand for units differ. Characters are folded one by one (NFKC, lower case), so that every unit keeps its place in the
text as it is written.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingot.data.clean.units import MIX, ONE, UNIT, Hashes

Places = NDArray[np.int64]

BASE = np.uint64(0x9E3779B97F4A7C15)
INVERSE = np.uint64(pow(int(BASE), -1, 1 << 64))

SINGLE = np.uint32(1 << 31)
"""Marks the number of a character that is a unit by itself; other numbers above 0 are parts of words."""

BLOCK = 256
"""Characters that are looked at together for whether any of them folds."""

MANY = np.uint32(0xFFFFFFFF)
"""The number of a character that folds to several."""

HALF_WIDTH_MARKS = re.compile("[\uff9e\uff9f]")
"""Half-width sound marks join the kana before them, which folding one by one would miss."""


@dataclass(frozen=True)
class Units:
    """The units of `text` in order: a number each, and where it begins and ends. `text` is the one that was given,
    composed (NFC)."""

    text: str
    hashes: Hashes
    begins: Places
    ends: Places

    def __len__(self) -> int:
        return len(self.hashes)

    def written(self, begin: int, end: int) -> str:
        """The text from one unit to before another, as it stands."""
        return self.text[self.begins[begin] : self.ends[end - 1]] if end > begin else ""


def compose(text: str) -> str:
    """The text with its accents composed (NFC), as `split` wants it."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFKC" if HALF_WIDTH_MARKS.search(text) else "NFC", text)


def split(text: str) -> Units:
    """The units of a text."""
    return split_composed(compose(text))


def split_composed(text: str) -> Units:
    """The same of a text that is composed already. A word's number is the sum of its characters' numbers times powers
    of BASE, from its own first character on: all of the text is multiplied and summed at once, then each sum set back
    to its word's beginning."""
    numbers, places = _numbers(text)
    is_single = numbers >= SINGLE
    is_word = (numbers != 0) & ~is_single
    begins, ends = is_word.copy(), is_word.copy()
    begins[1:] &= ~is_word[:-1]
    ends[:-1] &= ~is_word[1:]
    first, last = np.flatnonzero(begins | is_single), np.flatnonzero(ends | is_single)
    if not len(first):
        return Units(text, np.empty(0, np.uint64), first, first)
    powers, inverses = _powers(max(16, len(numbers).bit_length()))
    terms = numbers.astype(np.uint64)
    terms *= powers[: len(numbers)]
    hashes = _mixed(np.add.reduceat(terms, first) * inverses[first])
    if places is None:
        return Units(text, hashes, first, last + 1)
    return Units(text, hashes, places[first], places[last] + 1)


def _mixed(hashes: Hashes) -> Hashes:
    hashes ^= hashes >> np.uint64(31)
    hashes *= MIX
    hashes ^= hashes >> np.uint64(29)
    return hashes


def _numbers(text: str) -> tuple[NDArray[np.uint32], Places | None]:
    """The numbers of the folded characters, and the place in the text that each comes from, where these are not one
    for one: a few characters become several."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    single, several = _folds()
    numbers = single[codes]
    longer = np.flatnonzero(numbers == MANY)
    if not len(longer):
        return numbers, None
    pieces = [several[code] for code in codes[longer].tolist()]
    lengths = np.ones(len(codes), np.int64)
    lengths[longer] = [len(piece) for piece in pieces]
    spread = np.repeat(numbers, lengths)
    spread[spread == MANY] = np.concatenate(pieces)
    return spread, np.repeat(np.arange(len(codes)), lengths)


@functools.cache
def _folds() -> tuple[NDArray[np.uint32], dict[int, NDArray[np.uint32]]]:
    """The number of the folded form of every character: 0 where it is no part of a unit, MANY where it is several."""
    kinds = _kinds()
    numbers = np.arange(1, sys.maxunicode + 2, dtype=np.uint32) * (kinds > 0)
    numbers[kinds == 2] |= SINGLE
    single, several = numbers.copy(), dict[int, NDArray[np.uint32]]()
    for code in filter(_may_fold, range(0, sys.maxunicode + 1, BLOCK)):
        for character in map(chr, range(code, code + BLOCK)):
            found = numbers[[ord(one) for one in unicodedata.normalize("NFKC", character).lower()]]
            if len(found) == 1 or not found.any():
                single[ord(character)] = found[0]
            else:
                single[ord(character)] = MANY
                several[ord(character)] = found
    return single, several


def _may_fold(begin: int) -> bool:
    """Whether any character of a block is another when folded."""
    block = "".join(map(chr, range(begin, begin + BLOCK)))
    return unicodedata.normalize("NFKC", block).lower() != block


def _kinds() -> NDArray[np.uint8]:
    """Of every character: 0, 1 for a part of words, 2 for a unit by itself."""
    kinds = np.zeros(sys.maxunicode + 1, np.uint8)
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    for match in UNIT.finditer(every):
        kinds[match.start() : match.end()] = 2 if ONE.match(match[0]) else 1
    return kinds


@functools.cache
def _powers(bits: int) -> tuple[Hashes, Hashes]:
    """The first powers of BASE, and of its inverse, modulo 2**64."""
    ones = np.full((2, 1 << bits), 1, np.uint64)
    ones[0, 1:], ones[1, 1:] = BASE, INVERSE
    powers = np.cumprod(ones, axis=1).astype(np.uint64)
    return powers[0], powers[1]
