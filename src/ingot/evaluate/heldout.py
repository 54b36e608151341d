"""Which documents of a text the models' training held out, as their hallmarks tell.

`pretrain` holds out a share of the documents by their text and its seed alone, so the same documents can be found again
in the same files. Nothing is guessed: a model whose hallmark names no such training on these very files is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ingot.core.errors import fail
from ingot.core.files import path_digest
from ingot.core.lineage import learning_steps
from ingot.data.manifest import heldout_files
from ingot.data.read import Document, data_files, is_heldout


def held_out(documents: Sequence[Document], data: Path, references: Sequence[str]) -> list[Document]:
    """Those of the documents of `data` that no model was trained on. All of them, where a manifest names what is held
    out. Raises `evaluate-no-heldout`, `evaluate-heldout-empty`."""
    if heldout_files(data) != [data]:
        return list(documents)
    splits = {split for reference in references for split in training_splits(reference, data)}
    kept = [document for document in documents if all(is_heldout(document.text, *split) for split in splits)]
    if not kept:
        raise fail("evaluate-heldout-empty", data=data, count=len(documents))
    return kept


def training_splits(reference: str, data: Path) -> Iterator[tuple[float, int]]:
    """Share and seed of each time that a model learnt from these files. Raises `evaluate-no-heldout`."""
    digests = {path_digest(file) for file, _ in data_files(data)}
    steps = [step for step in learning_steps(reference) if digests & {source.digest for source in step.data}]
    if not steps:
        raise fail("evaluate-no-heldout", model=reference, data=data, reason="no training on these files")
    for step in steps:
        reads_text = step.verb != "tune" or step.options.get("as_text")  # of conversations nothing is held out
        share = step.options.get("corpus", {}).get("heldout") if reads_text else None
        if share is None or step.seed is None:
            raise fail("evaluate-no-heldout", model=reference, data=data, reason=f"{step.verb} that held out nothing")
        yield float(share), step.seed
