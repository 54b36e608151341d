"""Where the documents of a corpus came from, so that one of them can be named by its number: 8 bytes a document."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from ingot.core.files import write_file
from ingot.core.model_dir import read_json
from ingot.train.account import Item

I = TypeVar("I", bound=Item)  # noqa: E741

LINES, FILES = "lines.bin", "files.json"


class Names:
    """File and line of documents, noted as they stream by."""

    def __init__(self) -> None:
        self._lines: array[int] | Sequence[int] = array("q")
        self._begins: list[int] = []
        self._sources: list[str] = []

    def __len__(self) -> int:
        return len(self._lines)

    def note(self, document: Item) -> None:
        """Remember a document under the next number."""
        assert isinstance(self._lines, array)
        if not self._sources or self._sources[-1] != document.source:
            self._begins.append(len(self._lines))
            self._sources.append(document.source)
        self._lines.append(document.line)

    def noting(self, documents: Iterable[I]) -> Iterator[I]:
        """The documents, remembered under 0, 1, 2..."""
        for document in documents:
            self.note(document)
            yield document

    def line(self, number: int) -> int:
        """The line a document begins at."""
        return int(self._lines[number])

    def __call__(self, number: int) -> str:
        """A document's name, "corpus.jsonl:17"."""
        return f"{self._sources[bisect_right(self._begins, number) - 1]}:{self.line(number)}"

    def write(self, directory: Path) -> None:
        """Keep them for other processes."""
        write_file(directory / LINES, np.asarray(self._lines, np.int64).tobytes())
        write_file(directory / FILES, json.dumps({"begins": self._begins, "sources": self._sources}))

    @classmethod
    def open(cls, directory: Path) -> Names:
        """What `write` kept, mapped read-only."""
        names, files = cls(), read_json(directory / FILES)
        names._begins, names._sources = files["begins"], files["sources"]
        names._lines = np.memmap(directory / LINES, np.int64, "r")  # type: ignore[assignment]
        return names
