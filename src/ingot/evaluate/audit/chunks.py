"""A corpus as a stream of chunks of about a million characters, whole documents each, as units: memory is bounded.

A document longer than a chunk comes in several, the next beginning a little before the end of the last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ingot.data.read import Document
from ingot.evaluate.audit.units import Places, Units, split

CHUNK = 1 << 20
OVERLAP = 1 << 13
"""Characters of a long document that stand in two chunks; spans up to half of this are never cut."""


@dataclass(frozen=True)
class Chunk:
    """Documents that follow each other, as one row of units. `owner`: which of the documents a unit belongs to.
    `first`: the first unit of each document, and behind the last one the number of units."""

    documents: list[Document]
    units: Units
    owner: Places
    first: Places

    def text(self, number: int) -> str:
        """The text of a document, folded to NFC."""
        begin, end = self.first[number], self.first[number + 1]
        return self.units.written(int(begin), int(end))


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
    units = split("\n".join(document.text for document in documents))
    lengths = [len(document.text) for document in documents]
    if len(units.text) != sum(lengths) + len(lengths) - 1:  # composing made it shorter
        parts = [split(document.text) for document in documents]
        return _joined(documents, parts)
    ends = np.cumsum(np.array(lengths) + 1)
    owner = np.searchsorted(ends, units.begins, "right")
    return Chunk(documents, units, owner, np.searchsorted(owner, np.arange(len(documents) + 1)))


def _joined(documents: list[Document], parts: list[Units]) -> Chunk:
    offsets = np.cumsum([0, *(len(part.text) + 1 for part in parts)])
    owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    units = Units(
        "\n".join(part.text for part in parts),
        np.concatenate([part.hashes for part in parts]),
        np.concatenate([part.begins + offset for part, offset in zip(parts, offsets[:-1], strict=True)]),
        np.concatenate([part.ends + offset for part, offset in zip(parts, offsets[:-1], strict=True)]),
    )
    return Chunk(documents, units, owner, np.searchsorted(owner, np.arange(len(documents) + 1)))
