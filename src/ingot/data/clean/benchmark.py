"""Benchmark files, and the documents that hold parts of them: runs of n units that a document shares with an item.

GPT-3 (Brown et al. 2020, arXiv 2005.14165, appendix C) looks for 13 words; here a unit is a word, or a character where
scripts have no spaces. An item is one record (of .csv a row, of .txt and .md a line), all its texts joined. Items
shorter than n units cannot be looked for; they are counted and told of, not passed over in silence.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingot.core.errors import fail
from ingot.data.clean.page import Page
from ingot.data.clean.units import ONE, Hashes, hash_units, ngrams, normalise, split_units
from ingot.data.files import kind, read_lines, read_records

KINDS = (".jsonl", ".json", ".parquet", ".csv", ".txt", ".md")


@dataclass(frozen=True)
class Item:
    """One thing asked by a benchmark: the file and line it stands on."""

    file: str
    line: int


@dataclass(frozen=True)
class Match:
    """An item found in a document, and the first run of units they share."""

    item: int
    shared: str


class Index:
    """Every run of n units of the benchmark files, sorted, each with the first item it occurs in."""

    def __init__(self, n: int, grams: Hashes, owners: NDArray[np.int32]) -> None:
        self.n = n
        self._grams = grams
        self._owners = owners

    def match(self, page: Page) -> list[Match]:
        """The items a page shares a run with, in the order in which they turn up; empty almost always."""
        grams = ngrams(page.hashes, self.n)
        if not len(self._grams) or not len(grams):
            return []
        places = np.minimum(np.searchsorted(self._grams, grams), len(self._grams) - 1)
        hits = np.flatnonzero(self._grams[places] == grams)
        first: dict[int, int] = {}
        for hit in hits:
            first.setdefault(int(self._owners[places[hit]]), int(hit))
        return [Match(item, join_units(page.units[at : at + self.n])) for item, at in first.items()]

    def save(self, directory: Path) -> None:
        """Write it where other processes can map it."""
        np.save(directory / "grams.npy", self._grams)
        np.save(directory / "owners.npy", self._owners)

    @classmethod
    def open(cls, directory: Path, n: int) -> Index:
        grams, owners = (np.load(directory / f"{name}.npy", mmap_mode="r") for name in ("grams", "owners"))
        return cls(n, grams, owners)


@dataclass(frozen=True)
class Benchmarks:
    """The items of all benchmark files, those too short to look for, and the index."""

    items: list[Item]
    short: dict[str, int]
    index: Index


def read_benchmarks(paths: list[Path], n: int) -> Benchmarks:
    """Read benchmark files, or folders of them. Raises `unknown-benchmark-type`, `empty-benchmark`."""
    items: list[Item] = []
    short: dict[str, int] = {}
    grams: list[Hashes] = []
    for file in benchmark_files(paths):
        before = len(items)
        short[str(file)] = 0
        for line, text in _texts(file):
            found = ngrams(hash_units(split_units(normalise(text))), n)
            grams.append(found)
            items.append(Item(str(file), line))
            short[str(file)] += not len(found)
        if len(items) == before:
            raise fail("empty-benchmark", path=file)
    return Benchmarks(items, short, _index(n, grams))


def join_units(units: list[str]) -> str:
    """Units as text: a space between words, none beside a character of a script without spaces."""
    text = ""
    for unit in units:
        text += unit if not text or ONE.match(unit) or ONE.match(text[-1]) else f" {unit}"
    return text


def _index(n: int, grams: list[Hashes]) -> Index:
    owners = np.repeat(np.arange(len(grams), dtype=np.int32), [len(found) for found in grams])
    unique, first = np.unique(np.concatenate([np.empty(0, np.uint64), *grams]), return_index=True)
    return Index(n, unique, owners[first].astype(np.int32))


def benchmark_files(paths: list[Path]) -> Iterator[Path]:
    """The files, those of folders in the order of their names. Raises `unknown-benchmark-type`."""
    for path in paths:
        files = sorted(file for file in path.rglob("*") if kind(file) in KINDS) if path.is_dir() else [path]
        if not files or kind(files[0]) not in KINDS:
            raise fail("unknown-benchmark-type", path=path, known=", ".join(KINDS))
        yield from files


def _texts(file: Path) -> Iterator[tuple[int, str]]:
    """Line (or record) and text of each item."""
    if kind(file) == ".csv":
        yield from ((line, "\n".join(row)) for line, row in csv_rows(file))
    elif kind(file) in {".txt", ".md"}:
        yield from ((number, line) for number, line in enumerate(read_lines(file), start=1) if line.strip())
    else:
        yield from ((number, "\n".join(strings_in(record))) for number, record in read_records(file))


def csv_rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of each row that is not blank."""
    reader = csv.reader(read_lines(file))
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise fail("bad-record", path=file, line=reader.line_num, reason=str(error)) from error


def strings_in(value: Any) -> Iterator[str]:
    """All texts in a JSON value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from strings_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from strings_in(part)
