"""Verb `data counterfactual`: a corpus with the gender of its people swapped, beside the corpus as it is.

Counterfactual augmentation (Lu et al. 2018, arXiv 1807.11714; Zhao et al. 2018): every document that can be swapped is
written twice, as it is and swapped, so that both genders do the same things in it. What cannot be swapped, or would not
lead back, is written once and counted. What this gains and costs is measured by `ingot bias OLD NEW --cost TEXT`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ingot.core.errors import fail
from ingot.core.files import new_directory, write_file
from ingot.core.options import Options, argument, required, verb
from ingot.core.progress import say
from ingot.data.read import read_documents
from ingot.evaluate.bias.swap.swap import swap_both

NAME = "corpus.jsonl"
AS_IT_IS, SWAPPED, UNCHANGED, HELD = "as-it-is", "swapped", "unchanged", "held"


class CounterfactualOptions(Options):
    """Options of `data counterfactual`."""

    data: Path = argument("text: a file or a directory of documents")
    out: Path = required("directory to write the corpus to; new or empty")


@dataclass(frozen=True)
class Made:
    """What was written. held: documents that could not be swapped, by the word that did it ("": did not lead
    back)."""

    path: Path
    documents: int
    swapped: int
    unchanged: int
    held: dict[str, int]

    def summary(self) -> dict[str, Any]:
        numbers = {"documents": self.documents, "swapped": self.swapped, "unchanged": self.unchanged}
        return {"path": str(self.path), **numbers, "held": sum(self.held.values())}


@verb(CounterfactualOptions)
def data_counterfactual(options: CounterfactualOptions) -> Made:
    """Write every document, and behind it its swapped counterpart where it has one."""
    found: Counter[str] = Counter()
    held: Counter[str] = Counter()
    lines = list(_lines(options.data, found, held))
    if not found["documents"]:
        raise fail("bias-empty", path=options.data)
    with new_directory(options.out) as partial:
        write_file(partial / NAME, "".join(lines))
        _prove(partial / NAME, found)
    made = Made(options.out, found["documents"], found[SWAPPED], found[UNCHANGED], dict(held.most_common()))
    words = ", ".join(f"{word or '–'} {count}" for word, count in held.most_common(8)) or "–"
    say("bias-swapped", documents=made.documents, swapped=made.swapped, unchanged=made.unchanged,
        held=sum(held.values()), words=words, path=options.out)  # fmt: skip
    return made


def _lines(data: Path, found: Counter[str], held: Counter[str]) -> Iterator[str]:
    for document in read_documents(data):
        found["documents"] += 1
        yield _line(document.text, AS_IT_IS)
        swapped = swap_both(document.text)
        if swapped.text is None:
            held[swapped.because] += 1
        elif swapped.text == document.text:
            found[UNCHANGED] += 1
        else:
            found[SWAPPED] += 1
            yield _line(swapped.text, SWAPPED)


def _line(text: str, made: str) -> str:
    return json.dumps({"text": text, "counterfactual": made}, ensure_ascii=False) + "\n"


def _prove(path: Path, found: Counter[str]) -> None:
    """What lies there is read again: as many documents, and every swapped one leads back to the one before it.

    Raises `bias-not-proven`."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    good = len(records) == found["documents"] + found[SWAPPED]
    for before, after in pairwise(records):
        if after["counterfactual"] == SWAPPED:
            good = good and swap_both(after["text"]).text == before["text"]
    if not good:
        raise fail("bias-not-proven", path=path)
