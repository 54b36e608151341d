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
LONGEST = 1 << 12
"""Characters after which the factors of a word's hash begin again; a power of two."""

SPACE, WORD, SINGLE = 0, 1, 2
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


def split(text: str) -> Units:
    """The units of a text."""
    text = unicodedata.normalize("NFKC" if HALF_WIDTH_MARKS.search(text) else "NFC", text)
    codes, places = _folded(text)
    kinds = _kinds()[codes]
    kept = np.flatnonzero(kinds)
    if not len(kept):
        return Units(text, np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int64))
    kinds, codes = kinds[kept], codes[kept]
    starts = np.ones(len(kept), np.bool_)
    starts[1:] = (kinds[1:] == SINGLE) | (kinds[:-1] == SINGLE) | (np.diff(kept) > 1)
    first = np.flatnonzero(starts)
    lengths = np.diff(np.append(first, len(kept)))
    inside = np.arange(len(kept)) - np.repeat(first, lengths)
    terms = (codes.astype(np.uint64) + np.uint64(1)) * _factors()[inside & (LONGEST - 1)]
    last = kept[first + lengths - 1]
    return Units(text, _mixed(np.add.reduceat(terms, first)), places[kept[first]], places[last] + 1)


def _mixed(hashes: Hashes) -> Hashes:
    hashes ^= hashes >> np.uint64(31)
    hashes *= MIX
    hashes ^= hashes >> np.uint64(29)
    return hashes


def _folded(text: str) -> tuple[NDArray[np.uint32], Places]:
    """Folded characters, and the place in the text that each comes from; a few characters become several."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    single, several = _folds()
    folded = single[codes]
    places = np.arange(len(codes), dtype=np.int64)
    longer = np.flatnonzero(folded == MANY)
    if not len(longer):
        return folded, places
    pieces = [several[code] for code in codes[longer].tolist()]
    lengths = np.ones(len(codes), np.int64)
    lengths[longer] = [len(piece) for piece in pieces]
    spread = np.repeat(folded, lengths)
    spread[spread == MANY] = np.concatenate(pieces)
    return spread, np.repeat(places, lengths)


MANY = np.uint32(0xFFFFFFFF)


@functools.cache
def _folds() -> tuple[NDArray[np.uint32], dict[int, NDArray[np.uint32]]]:
    """The folded form of every character: one, or (MANY) several; what folds to no unit at all is a space."""
    single = np.arange(sys.maxunicode + 1, dtype=np.uint32)
    several: dict[int, NDArray[np.uint32]] = {}
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if code < 0xA0 or 0x4E00 <= code <= 0x9FFF or 0xAC00 <= code <= 0xD7A3:
            folded = character.lower()
        elif 0xD800 <= code <= 0xDFFF or (unicodedata.category(character) == "Cn"):
            continue
        else:
            folded = unicodedata.normalize("NFKC", character).lower()
        if len(folded) == 1:
            single[code] = ord(folded)
        elif not UNIT.search(folded):
            single[code] = ord(" ")
        else:
            single[code] = MANY
            several[code] = np.array([ord(one) for one in folded], np.uint32)
    return single, several


@functools.cache
def _kinds() -> NDArray[np.uint8]:
    """SPACE, WORD or SINGLE of every folded character."""
    kinds = np.zeros(sys.maxunicode + 1, np.uint8)
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    for match in UNIT.finditer(every):
        kinds[match.start() : match.end()] = SINGLE if ONE.match(match[0]) else WORD
    return kinds


@functools.cache
def _factors() -> Hashes:
    return np.cumprod(np.full(LONGEST, BASE, np.uint64)).astype(np.uint64)
