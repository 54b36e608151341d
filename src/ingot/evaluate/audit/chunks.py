"""A corpus as a stream of chunks of whole documents, a quarter of a million characters each: memory is bounded.

A document longer than a chunk comes in several, the next beginning a little before the end of the last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ingot.data.read import Document
from ingot.evaluate.audit.units import Places, Units, compose, split_composed

CHUNK = 1 << 18
OVERLAP = 1 << 13
"""Characters of a long document that stand in two chunks; spans up to half of this are never cut."""


@dataclass(frozen=True)
class Chunk:
    """Documents that follow each other, as one row of units. `first`: the first unit of each document, and behind the
    last one the number of units."""

    documents: list[Document]
    units: Units
    first: Places

    def owner(self, units: Places) -> Places:
        """Which of the documents these units belong to."""
        return np.searchsorted(self.first, units, "right") - 1


def chunks(documents: Iterable[Document]) -> Iterator[Chunk]:
    """All documents, in order; several or a part of one in each chunk."""
    gathered: list[Document] = []
    size = 0
    for document in documents:
        for part in _parts(document):
            if gathered and size + len(part.text) > CHUNK:
                yield _chunk(gathered)
                gathered, size = [], 0
            gathered.append(part)
            size += len(part.text)
    if gathered:
        yield _chunk(gathered)


def _parts(document: Document) -> Iterator[Document]:
    if len(document.text) <= CHUNK:
        yield document
        return
    for begin in range(0, len(document.text) - OVERLAP, CHUNK - OVERLAP):
        part = document.text[begin : begin + CHUNK]
        yield Document(part, document.source, document.line + document.text.count("\n", 0, begin), document.licence)


def _chunk(documents: list[Document]) -> Chunk:
    texts = [compose(document.text) for document in documents]
    units = split_composed("\n".join(texts))
    begins = np.cumsum([0, *(len(text) + 1 for text in texts)])
    return Chunk(documents, units, np.searchsorted(units.begins, begins))
