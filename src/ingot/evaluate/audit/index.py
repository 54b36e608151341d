"""An index of a few texts, against which any amount of other text is laid: which runs of n units do they share?

The small side is indexed and the large one streams by, so memory grows with the texts alone. A run that more than
`common` different texts hold is a phrase of the benchmark ("which of the following is true"), says nothing about any
one of them, and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingot.data.clean.units import Hashes, ngrams
from ingot.evaluate.audit.units import Places, Units

Flags = NDArray[np.bool_]

LARGEST_FILTER = 26
"""Of a filter that most runs of the corpus do not pass: 64 MiB."""


class Members:
    """A set of 64-bit numbers that is asked for many at a time."""

    def __init__(self, keys: Hashes) -> None:
        self.keys = keys
        bits = min(LARGEST_FILTER, max(12, 5 + len(keys).bit_length()))
        self._shift = np.uint64(64 - bits)
        self._filter = np.zeros(1 << bits, np.bool_)
        self._filter[keys >> self._shift] = True

    def find(self, wanted: Hashes) -> tuple[Places, Places]:
        """(places in `wanted`, places in `keys`) of those that are members."""
        if not len(self.keys):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        likely = np.flatnonzero(self._filter[wanted >> self._shift])
        at = np.minimum(np.searchsorted(self.keys, wanted[likely]), len(self.keys) - 1)
        found = self.keys[at] == wanted[likely]
        return likely[found], at[found]


@dataclass(frozen=True)
class Hits:
    """Shared runs, one an entry: of which text, at which of its units, and at which unit of the other side."""

    text: Places
    at: Places
    place: Places

    def __len__(self) -> int:
        return len(self.text)

    def take(self, which: Places | Flags) -> Hits:
        return Hits(self.text[which], self.at[which], self.place[which])


class Index:
    """Every run of n units of the texts, with all its places. `coverable`: units of each text that lie in such runs;
    `num_runs`: how many of its runs are looked for."""

    def __init__(self, texts: Sequence[Units], n: int, common: int | None = None) -> None:
        self.n = n
        self.lengths = np.array([len(text) for text in texts], np.int64)
        grams = [ngrams(text.hashes, n) for text in texts]
        text = np.repeat(np.arange(len(texts)), [len(found) for found in grams])
        at = np.concatenate([np.empty(0, np.int64), *(np.arange(len(found)) for found in grams)])
        every = np.concatenate([np.empty(0, np.uint64), *grams])
        order = np.lexsort((at, text, every))
        every, text, at = every[order], text[order], at[order]
        if common is not None:
            kept = _rare(every, text, common)
            every, text, at = every[kept], text[kept], at[kept]
        keys, self._first, self._counts = np.unique(every, return_index=True, return_counts=True)
        self._text, self._at = text, at
        self.hashes = [text.hashes for text in texts]
        self.num_runs = np.bincount(text, minlength=len(texts))
        self._members = Members(keys)
        self.coverable = self.covered(text, at)

    def hits(self, hashes: Hashes) -> Hits:
        """All runs that a row of units shares with the texts, by its places."""
        places, keys = self._members.find(ngrams(hashes, self.n))
        counts = self._counts[keys]
        entries = np.repeat(self._first[keys], counts) + _counting(counts)
        return Hits(self._text[entries], self._at[entries], np.repeat(places, counts))

    def covered(self, text: Places, at: Places) -> Places:
        """How many units of each text lie in runs that begin at these places; any order, repeated or not."""
        pairs = np.unique(np.stack([text, at]), axis=1) if len(text) else np.empty((2, 0), np.int64)
        return np.bincount(pairs[0], run_units(pairs[0], pairs[1], self.n), len(self.lengths)).astype(np.int64)


def run_units(group: Places, at: Places, n: int) -> Places:
    """How many units each run adds to those before it; ordered by group and place."""
    added = np.full(len(at), n, np.int64)
    if len(at) > 1:
        same = group[1:] == group[:-1]
        added[1:][same] = np.minimum(n, np.diff(at))[same]
    return added


def _rare(every: Hashes, text: Places, common: int) -> Flags:
    """Runs held by no more than `common` different texts; ordered by run and text."""
    _, inverse = np.unique(every, return_inverse=True)
    new = np.ones(len(every), np.bool_)
    new[1:] = (inverse[1:] != inverse[:-1]) | (text[1:] != text[:-1])
    holders = np.bincount(inverse, new)
    kept: Flags = holders[inverse] <= common
    return kept


def _counting(counts: Places) -> Places:
    """0, 1, .. up to each count: [2, 3] -> [0, 1, 0, 1, 2]."""
    ends = np.cumsum(counts)
    return np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - counts, counts)
