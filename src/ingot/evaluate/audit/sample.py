"""A seeded sample of the documents of a stream that does not fit into memory; equal texts count once."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ingot.data.read import Document
from ingot.evaluate.audit.index import Index
from ingot.evaluate.audit.units import Units

NEARLY = 0.8
"""Share of a text's runs that another must hold for both to be nearly the same."""

NGRAM = 3


def sample(documents: Iterable[Document], count: int, seed: int, wanted: Callable[[Document], bool]) -> list[Document]:
    """At most `count` of the documents that are wanted: those whose text and seed have the least digests, so the order
    of the corpus does not matter, and adding documents changes little."""
    kept: list[tuple[int, int, Document]] = []
    inside: set[int] = set()
    for number, document in enumerate(documents):
        rank = -_rank(document.text, seed)
        if rank in inside or (len(kept) == count and rank <= kept[0][0]) or not wanted(document):
            continue
        inside.add(rank)
        if len(kept) < count:
            heapq.heappush(kept, (rank, number, document))
        else:
            inside.discard(heapq.heapreplace(kept, (rank, number, document))[0])
    return [document for _, _, document in sorted(kept, key=lambda entry: -entry[0])]


def _rank(text: str, seed: int) -> int:
    key = hashlib.sha256(str(seed).encode()).digest()
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest())


def distinct(texts: Sequence[Units], threshold: float = NEARLY) -> list[int]:
    """Numbers of the texts that hold less than this share of any other kept before them."""
    index = Index(texts, NGRAM)
    dropped = np.zeros(len(texts), np.bool_)
    for number, text in enumerate(texts):
        if not dropped[number]:
            hits = index.hits(text.hashes)
            shares = index.covered(hits.text, hits.at) / np.maximum(index.coverable, 1)
            dropped |= (shares >= threshold) & (np.arange(len(texts)) > number)
    return np.flatnonzero(~dropped).tolist()
