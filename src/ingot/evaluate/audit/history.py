"""Which documents of a corpus a model learnt from, as its hallmark tells; nothing is guessed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ingot.core.errors import IngotError
from ingot.data.manifest import heldout_files
from ingot.data.read import is_heldout
from ingot.evaluate.heldout import training_splits


@dataclass(frozen=True)
class History:
    """`known`: the hallmark names these very files. `splits`: share and seed of what each training on them held out,
    none where a manifest names held-out files (`heldout`), so that all of the corpus was learnt."""

    known: bool
    splits: tuple[tuple[float, int], ...] = ()
    heldout: tuple[Path, ...] = ()

    def learnt(self, text: str) -> bool:
        """Whether any training read this document."""
        return not self.splits or any(not is_heldout(text, *split) for split in self.splits)

    @property
    def holds_out(self) -> bool:
        """Whether anything is known that the model did not learn from."""
        return self.known and (bool(self.heldout) or any(share > 0 for share, _ in self.splits))


def history_of(reference: str | None, corpus: Path) -> History:
    """What the hallmark of a model says of a corpus."""
    files = tuple(file for file in heldout_files(corpus) if file != corpus)
    if reference is None:
        return History(False, (), files)
    try:
        found = tuple(training_splits(reference, corpus))
    except IngotError as error:
        if error.code != "evaluate-no-heldout":
            raise
        return History(False, (), files)
    return History(True, () if files else found, files)
