"""The verb `annotate`: the page on which people compare or rate answers, and what becomes of their votes.

Without --export, --merge, --report or --close it serves the page until stopped; with them it does what they ask, on the
same store, also while the page runs elsewhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingot.core.errors import fail
from ingot.core.files import refuse_nonempty, write_file
from ingot.core.options import verb
from ingot.core.progress import say, warn
from ingot.evaluate.people.answers import read_answers, warn_of_names
from ingot.evaluate.people.gold import read_gold
from ingot.evaluate.people.options import AnnotateOptions
from ingot.evaluate.people.rubric import read_rubric
from ingot.evaluate.people.server import listen, serve
from ingot.evaluate.people.store import Store
from ingot.evaluate.people.study import Study
from ingot.evaluate.people.votes import dump_votes, read_votes


@dataclass(frozen=True)
class Annotated:
    """What lies in the store now, and what was written."""

    votes: int
    share: float
    written: dict[str, Any] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        return {"votes": self.votes, "done_share": round(self.share, 4), **self.written}


@verb(AnnotateOptions)
def annotate(options: AnnotateOptions) -> Annotated:
    """Serve the page, or do what --export, --merge, --report and --close ask."""
    works = options.export or options.merge or options.report or options.close
    if options.export is not None and options.export.exists():
        raise fail("out-not-empty", path=options.export)
    if options.report is not None:
        refuse_nonempty(options.report)
    with contextlib.ExitStack() as stack:
        listener = None if works else stack.enter_context(listen(options.host, options.port))
        study = stack.enter_context(_opened(options))
        if listener is not None:
            if options.overlap > len(options.annotators):
                warn("people-overlap", overlap=options.overlap, annotators=len(options.annotators))
            serve(study, listener)
            return Annotated(len(study.store.votes()), study.queue.share_done)
        return _worked(options, study)


@contextlib.contextmanager
def _opened(options: AnnotateOptions) -> Iterator[Study]:
    """Everything is read and checked before the store is touched."""
    rubric = read_rubric(options.rubric)
    items = read_answers(options.answers)
    gold = read_gold(options.gold, options.mode, rubric)
    if options.mode == "pairwise":
        warn_of_names(items)
    store = Store(options.store)
    try:
        yield Study(items, gold, options.mode, rubric, store, options.annotators, options.overlap)
    finally:
        store.close()


def _worked(options: AnnotateOptions, study: Study) -> Annotated:
    """Merge, close, export and report, in this order."""
    written: dict[str, Any] = {}
    for path in options.merge:
        added, refused = study.take(read_votes(path))
        say("people-merged", path=path, added=added, refused=refused)
        written |= {"added": written.get("added", 0) + added, "refused": written.get("refused", 0) + refused}
    if options.close:
        study.store.end(study.clock())
        say("people-closed")
    votes = study.store.votes()
    if options.export is not None:
        write_file(options.export, dump_votes(votes))
        if read_votes(options.export) != votes:
            raise fail("people-export-not-proven", path=options.export)
        say("people-exported", path=options.export, count=len(votes))
        written["export"] = str(options.export)
    if options.report is not None:
        written |= _reported(options, study, options.report)
    return Annotated(len(votes), study.queue.share_done, written)


def _reported(options: AnnotateOptions, study: Study, out: Path) -> dict[str, Any]:
    from ingot.evaluate.people.report import study_report  # imports torch, which the page does without
    from ingot.evaluate.task import dump_rows

    raw = {"raw/votes.jsonl": dump_votes(study.store.votes()), "raw/trail.jsonl": dump_rows(study.store.trail())}
    shown = options.model_dump(mode="json", exclude={"store", "host", "port"})
    report = study_report(study, shown, options.seed).write(out, raw)
    say("people-reported", path=report.summary()["report"])
    return report.summary()
