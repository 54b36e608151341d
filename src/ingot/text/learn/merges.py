"""Learning merges (Sennrich et al. 2016, arXiv 1508.07909) from word counts, in 64 bits and bounded memory.

The trainer of `tokenizers` counts pairs in 32 bits, so that on large corpora the commonest words vanish from the
vocabulary (its issue 437); this one gives the same merges where that one is right: the commonest pair first, of equally
common pairs the one with the lower ids, and a count of an occurrence in each word it overlaps.

All words lie in one array of symbols, with a BORDER between words, and arrays that say where the next and previous
living symbol stands. A heap holds the pairs by count; an entry whose count has changed since is put back when it comes
up. A merge touches all its occurrences at once, in numpy; one of FEW occurrences, as most are, goes through them in a
plain loop over the same arrays, which costs less than numpy's calls.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ingot.core.progress import progress
from ingot.text.learn.parts import by_frequency

Ints = NDArray[np.int64]
Symbols = NDArray[np.int32]

BORDER, DEAD = -1, -2
SEPARATOR = 0xFF
"""A byte that UTF-8 never uses."""
MAX_SYMBOLS = 10_000_000
"""Symbols of distinct words learnt from, the most frequent words first: about 0.8 GB."""
MIN_COUNT = 2
"""A pair seen once is chance."""
FEW = 60
"""Occurrences up to which the loop is faster than numpy, about."""


@dataclass(frozen=True)
class Corpus:
    """Distinct words as symbols: `symbols` has a BORDER before, between and after words; `owner` is the word of each
    symbol, `counts` how often each word occurs."""

    symbols: Symbols
    owner: Symbols
    counts: Ints

    @classmethod
    def of(cls, words: Iterable[tuple[Sequence[int], int]]) -> Corpus:
        """From (symbol ids, count) of each word."""
        flat, counts = [BORDER], []
        for ids, count in words:
            flat += ids
            flat.append(BORDER)
            counts.append(count)
        return cls._counted(np.asarray(flat, np.int32), counts)

    @classmethod
    def of_bytes(cls, words: Sequence[tuple[str, int]], ids: Sequence[int]) -> Corpus:
        """From (word, count), each byte of a word's UTF-8 being the symbol `ids[byte]`."""
        table = np.asarray(ids, np.int32)
        table[SEPARATOR] = BORDER
        separator = bytes([SEPARATOR])
        flat = separator.join([b"", *(word.encode() for word, _ in words), b""])
        return cls._counted(table[np.frombuffer(flat, np.uint8)], [count for _, count in words])

    @classmethod
    def _counted(cls, symbols: Symbols, counts: Sequence[int]) -> Corpus:
        """With the owner of each symbol: so many borders stand before it, less one."""
        owner = np.cumsum(symbols == BORDER, dtype=np.int32) - np.int32(1)
        return cls(symbols, owner, np.asarray(counts, np.int64))


def frequent_words(counts: Mapping[str, int], limit: int = MAX_SYMBOLS) -> list[tuple[str, int]]:
    """The most frequent words whose UTF-8 fits into `limit` bytes, in an order that depends on nothing else."""
    ordered = by_frequency(counts)
    ends = np.cumsum([len(word.encode()) for word in ordered])
    kept = max(1, int(np.searchsorted(ends, limit, side="right")))
    return [(word, counts[word]) for word in ordered[:kept]]


@dataclass
class Learner:
    """The state of learning. `tokens` grows by one with each merge; `run` gives the merges in order."""

    corpus: Corpus
    tokens: list[str]
    prefix: str = ""
    """Stands before a token that continues a word (WordPiece's ##), and is left out when it is appended."""
    counts: dict[int, int] = field(default_factory=dict)
    heap: list[tuple[int, int, int]] = field(default_factory=list)
    steps: list[tuple[Symbols, list[int]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.symbols = self.corpus.symbols.copy()
        place = np.arange(len(self.symbols), dtype=np.int32)
        self.next, self.previous = place + 1, place - 1
        self.ids = {token: id for id, token in enumerate(self.tokens)}
        here = np.flatnonzero((self.symbols[:-1] >= 0) & (self.symbols[1:] >= 0)).astype(np.int32)
        self._add(_key(self.symbols[here], self.symbols[here + 1]), here, self._weights(here))
        self._seen = [each.data for each in (self.symbols, self.next, self.previous, self.corpus.owner)]
        self._numbers = self.corpus.counts.data

    def run(self, vocab_size: int) -> list[tuple[str, str]]:
        """Merge until there are `vocab_size` tokens, or no pair occurs MIN_COUNT times."""
        merges: dict[tuple[str, str], None] = {}
        with progress("choose tokens", vocab_size) as advance:
            while len(self.tokens) < vocab_size and self.heap:
                count, key, where = heapq.heappop(self.heap)
                if -count != self.counts[key]:
                    self._push(key, where)
                    continue
                first, second = key >> 32, key & 0xFFFFFFFF
                pair = (self.tokens[first], self.tokens[second])
                merges.pop(pair, None)
                merges[pair] = None
                places = self._places(where)
                merge = self._merge_few if len(places) <= FEW else self._merge_many
                merge(first, second, self._token(*pair), places)
                advance(len(self.tokens))
        return list(merges)

    def _token(self, first: str, second: str) -> int:
        """The id of the joined token, which another pair may have made before."""
        joined = first + second.removeprefix(self.prefix)
        if joined not in self.ids:
            self.ids[joined] = len(self.tokens)
            self.tokens.append(joined)
        return self.ids[joined]

    def _merge_many(self, first: int, second: int, new: int, places: Symbols) -> None:
        """Put `new` where first and second meet, and bring the counts of the neighbouring pairs up to date."""
        left = self._occurrences(first, second, places)
        right = self.next[left]
        before, after = self.previous[left], self.next[right]
        weights = self._weights(left)
        old_after = self.symbols[after]
        self.symbols[left], self.symbols[right] = new, DEAD
        old_before, new_after = self.symbols[before], self.symbols[after]
        self.next[left], self.previous[after] = after, left
        has_before, has_after = np.flatnonzero(old_before >= 0), np.flatnonzero(old_after >= 0)
        old_before, old_after, new_after = old_before[has_before], old_after[has_after], new_after[has_after]
        changed = np.concatenate([weights[has_before], weights[has_after]])
        self._take(np.concatenate([_key(old_before, first), _key(second, old_after)]), changed)
        where = np.concatenate([before[has_before], left[has_after]])
        self._add(np.concatenate([_key(old_before, new), _key(new, new_after)]), where, changed)

    def _merge_few(self, first: int, second: int, new: int, places: Symbols) -> None:
        """The same in a loop. A pair that one step makes and a later one breaks (of abab, between them) comes to 0."""
        symbols, next, previous, owner = self._seen
        numbers = self._numbers
        changed: defaultdict[int, int] = defaultdict(int)
        made: defaultdict[int, list[int]] = defaultdict(list)
        for left in sorted(set(places.tolist())):
            right = next[left]
            if symbols[left] != first or symbols[right] != second:
                continue
            before, after, weight = previous[left], next[right], numbers[owner[left]]
            symbols[left], symbols[right] = new, DEAD
            next[left], previous[after] = after, left
            if (symbol := symbols[before]) >= 0:
                changed[symbol << 32 | first] -= weight
                changed[key := symbol << 32 | new] += weight
                made[key].append(before)
            if (symbol := symbols[after]) >= 0:
                changed[second << 32 | symbol] -= weight
                changed[key := new << 32 | symbol] += weight
                made[key].append(left)
        self._change(changed, made)

    def _change(self, changed: Mapping[int, int], made: Mapping[int, list[int]]) -> None:
        """Count what a loop changed, and queue the pairs it made."""
        flat: list[int] = []
        begins = [0]
        counts, step = self.counts, len(self.steps) << 32
        for key, by in changed.items():
            total = counts.get(key, 0) + by
            if total >= MIN_COUNT:
                counts[key] = total
                if key in made:
                    self._push(key, step | len(begins) - 1)
                    flat += made[key]
                    begins.append(len(flat))
            elif key in counts:
                counts[key] = total
        self.steps.append((np.asarray(flat, np.int32), begins))

    def _occurrences(self, first: int, second: int, places: Symbols) -> Symbols:
        """Of the places where the pair once stood, those where it still does; of aaa only the first two."""
        places = places[self.symbols[places] == first]
        places = places[self.symbols[self.next[places]] == second]
        if first != second or len(places) < 2:
            return places
        places = np.unique(places)
        chained = np.append(False, places[1:] == self.next[places[:-1]])
        run_begin = np.maximum.accumulate(np.where(chained, 0, np.arange(len(places))))
        kept: Symbols = places[(np.arange(len(places)) - run_begin) % 2 == 0]
        return kept

    def _take(self, keys: Ints, weights: Ints) -> None:
        for key, lost in zip(*_sums(keys, weights)[:2], strict=True):
            if key in self.counts:
                self.counts[key] -= lost

    def _add(self, keys: Ints, places: Symbols, weights: Ints) -> None:
        """Count pairs that have come to be at some places, and queue them. Pairs below MIN_COUNT are let go: a pair
        only grows in the merge that makes it, but for the rare token that two pairs make."""
        found, gained, borders, order = _sums(keys, weights)
        begins = [*borders.tolist(), len(keys)]
        step = len(self.steps)
        self.steps.append((places[order], begins))
        for group, (key, count) in enumerate(zip(found, gained, strict=True)):
            total = self.counts.get(key, 0) + count
            if total >= MIN_COUNT:
                self.counts[key] = total
                self._push(key, step << 32 | group)

    def _push(self, key: int, where: int) -> None:
        if self.counts[key] >= MIN_COUNT:
            heapq.heappush(self.heap, (-self.counts[key], key, where))

    def _places(self, where: int) -> Symbols:
        places, begins = self.steps[where >> 32]
        group = where & 0xFFFFFFFF
        return places[begins[group] : begins[group + 1]]

    def _weights(self, places: Symbols) -> Ints:
        weights: Ints = self.corpus.counts[self.corpus.owner[places]]
        return weights


def _key(first: Symbols | int, second: Symbols | int) -> Ints:
    """A pair as one number; numbers are ordered as pairs are."""
    return np.asarray(first, np.int64) << 32 | np.asarray(second, np.int64)


def _sums(keys: Ints, weights: Ints) -> tuple[list[int], list[int], Ints, Ints]:
    """Each distinct key, the sum of its weights, where its group begins, and the order that groups the keys."""
    if not len(keys):
        return [], [], keys, keys
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    begins = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    return ordered[begins].tolist(), np.add.reduceat(weights[order], begins).tolist(), begins, order
