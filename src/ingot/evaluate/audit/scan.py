"""What a corpus holds of some texts: for each the largest share of it that stands together, and its longest copy.

Runs of n units that a text and a document share are gathered in windows of the document, twice as long as the text
and overlapping by half. The share is that of the text's units which lie in such runs of one window: a copy with a few
words changed still has a large one, and phrases scattered over a long document have not. A copy without any change is
a chain of runs, each one unit behind the last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ingot.data.read import Document
from ingot.evaluate.audit.chunks import Chunk, chunks
from ingot.evaluate.audit.index import Hits, Index, run_units
from ingot.evaluate.audit.units import Places, Units

SMALLEST_WINDOW, LARGEST_WINDOW = 4, 12
"""Of a window, as powers of two."""


@dataclass(frozen=True)
class Place:
    """Where something stands in the corpus."""

    source: str
    line: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line}"


@dataclass
class Copied:
    """What the corpus holds of one text. `spans`: the units found in the best window, as (begin, end); `documents`:
    how many documents hold at least the threshold's share; `longest`: units of the longest copy, which begins at unit
    `longest_at` and is `quote` in the corpus."""

    share: float = 0.0
    place: Place | None = None
    spans: list[tuple[int, int]] = field(default_factory=list)
    documents: int = 0
    longest: int = 0
    longest_at: int = 0
    longest_place: Place | None = None
    quote: str = ""


def scan(texts: Sequence[Units], documents: Iterable[Document], n: int, threshold: float,
         common: int | None = None) -> tuple[Index, list[Copied]]:  # fmt: skip
    """Look for every text in every document. Returns the index too: `coverable` says what could be found at all."""
    index = Index(texts, n, common)
    found = [Copied() for _ in texts]
    for chunk in chunks(documents):
        hits = _inside(index.hits(chunk.units.hashes), chunk, n)
        if len(hits):
            _note_shares(found, hits, chunk, index, threshold)
            _note_longest(found, hits, chunk, n)
            if common is not None:
                _note_whole(found, hits, chunk, index)
    return index, found


def _inside(hits: Hits, chunk: Chunk, n: int) -> Hits:
    """Those that do not reach from one document into the next."""
    return hits.take(chunk.owner(hits.place) == chunk.owner(hits.place + n - 1))


def _note_shares(found: list[Copied], hits: Hits, chunk: Chunk, index: Index, threshold: float) -> None:
    """The best window of each text, and how many documents reach the threshold."""
    sizes = np.ceil(np.log2(2 * np.maximum(index.lengths, 1))).astype(np.int64)
    sizes = np.clip(sizes, SMALLEST_WINDOW, LARGEST_WINDOW)[hits.text]
    owner = chunk.owner(hits.place)
    inside = hits.place - chunk.first[owner]
    text, owner, at = (np.tile(column, 2) for column in (hits.text, owner, hits.at))
    window = np.concatenate([2 * (inside >> sizes), 2 * ((inside + (1 << sizes >> 1)) >> sizes) + 1])
    order = np.lexsort((at, window, owner, text))
    text, owner, window, at = (column[order] for column in (text, owner, window, at))
    begins = _changes(text, owner, window)
    group = np.cumsum(begins) - 1
    covered = np.bincount(group, run_units(group, at, index.n))
    first = np.flatnonzero(begins)
    most = np.minimum(index.coverable[text[first]], 1 << LARGEST_WINDOW >> 1)
    shares = np.minimum(covered / np.maximum(most, 1), 1.0)
    ends = np.append(first[1:], len(text))
    _count_documents(found, text[first], owner[first], shares >= threshold)
    for number in _best(text[first], shares):
        one = found[int(text[first[number]])]
        if shares[number] > one.share:
            one.share = float(shares[number])
            one.place = _place(chunk, int(owner[first[number]]))
            one.spans = spans_of(at[first[number] : ends[number]], index.n)


def _count_documents(found: list[Copied], text: Places, owner: Places, enough: np.ndarray) -> None:
    pairs = np.unique(np.stack([text[enough], owner[enough]]), axis=1)
    for number, count in zip(*np.unique(pairs[0], return_counts=True), strict=True):
        found[int(number)].documents += int(count)


def _note_longest(found: list[Copied], hits: Hits, chunk: Chunk, n: int) -> None:
    """The longest chain of runs of each text."""
    diagonal = hits.place - hits.at
    owner = chunk.owner(hits.place)
    order = np.lexsort((hits.place, diagonal, owner, hits.text))
    hits, diagonal, owner = hits.take(order), diagonal[order], owner[order]
    begins = _changes(hits.text, diagonal, owner, hits.place - np.arange(len(hits)))
    first = np.flatnonzero(begins)
    lengths = np.diff(np.append(first, len(hits))) + n - 1
    for number in _best(hits.text[first], lengths):
        begin, length = first[number], int(lengths[number])
        one = found[int(hits.text[begin])]
        if length > one.longest:
            place = int(hits.place[begin])
            one.longest, one.longest_at = length, int(hits.at[begin])
            one.longest_place = _place(chunk, int(owner[begin]))
            one.quote = chunk.units.written(place, place + length)


def _note_whole(found: list[Copied], hits: Hits, chunk: Chunk, index: Index) -> None:
    """Texts that stand in a document unit for unit, though phrases that many texts share break the chain of runs."""
    diagonal, owner = hits.place - hits.at, chunk.owner(hits.place)
    order = np.lexsort((diagonal, owner, hits.text))
    text, owner, diagonal = hits.text[order], owner[order], diagonal[order]
    first = np.flatnonzero(_changes(text, owner, diagonal))
    counts = np.diff(np.append(first, len(text)))
    for at in first[counts == index.num_runs[text[first]]].tolist():
        number, begin = int(text[at]), int(diagonal[at])
        one, own = found[number], index.hashes[number]
        inside = chunk.first[owner[at]] <= begin and begin + len(own) <= chunk.first[owner[at] + 1]
        if one.longest < len(own) and inside and np.array_equal(chunk.units.hashes[begin : begin + len(own)], own):
            one.longest, one.longest_at, one.longest_place = len(own), 0, _place(chunk, int(owner[at]))
            one.quote = chunk.units.written(begin, begin + len(own))


def spans_of(at: Places, n: int) -> list[tuple[int, int]]:
    """The units that runs from these places cover, as (begin, end), joined where they touch; `at` in order."""
    spans: list[tuple[int, int]] = []
    for begin in at.tolist():
        if spans and begin <= spans[-1][1]:
            spans[-1] = (spans[-1][0], begin + n)
        else:
            spans.append((begin, begin + n))
    return spans


def _best(text: Places, values: np.ndarray) -> list[int]:
    """For each text the number of its greatest value, the first of equal ones."""
    order = np.lexsort((np.arange(len(values)), -values, text))
    kept: list[int] = order[_changes(text[order])].tolist()
    return kept


def _changes(*columns: Places) -> np.ndarray:
    """Where any of the columns has another value than just before."""
    begins = np.zeros(len(columns[0]), np.bool_)
    begins[:1] = True
    for column in columns:
        begins[1:] |= column[1:] != column[:-1]
    return begins


def _place(chunk: Chunk, owner: int) -> Place:
    document = chunk.documents[owner]
    return Place(document.source, document.line)
