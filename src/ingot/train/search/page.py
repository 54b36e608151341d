"""What a search found, as numbers, as a table of its trials and as curves."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

from ingot.core.language import text
from ingot.core.model_dir import Draft
from ingot.core.report import Cell, Plot, Section, Series, Table
from ingot.train.search.search import TRIALS, Found
from ingot.train.search.study import Trial
from ingot.train.write import add_to_report

STATES = {"done": "search-reached", "pruned": "search-pruned", "failed": "search-failed"}
"""What a trial's end is called."""


def record(draft: Draft, found: Found) -> None:
    """Numbers to the hallmark, the trials as a file beside the weights, table and curves to the report."""
    draft.numbers |= numbers(found)
    (draft.path / TRIALS).write_bytes(found.study.path.read_bytes())
    add_to_report(draft, sections(found))


def numbers(found: Found) -> dict[str, Any]:
    """For the hallmark."""
    trials = found.study.trials
    return {
        "search_trials": len(trials),
        "search_pruned": sum(trial.state == "pruned" for trial in trials),
        "search_failed": sum(trial.state == "failed" for trial in trials),
        "search_trial_steps": found.bench.steps,
        "search_heldout_documents": found.bench.documents,
        "search_heldout_targets": found.bench.judge.num_targets,
        "search_loss_start": round(found.bench.start, 4),
        "search_loss_defaults": None if trials[0].loss is None else round(trials[0].loss, 4),
        "search_loss_best": round(found.best.loss or 0.0, 4),
        "search_best_trial": found.study.best + 1,
        "search_best": found.best.values,
        "search_seconds": round(found.study.seconds, 1),
    }


def sections(found: Found) -> list[Section]:
    """For the report."""
    return [_table(found), _losses(found.study.trials), _curves(found)]


def _table(found: Found) -> Table:
    names = list(found.study.space)
    columns = [text("search-column-trial"), *names, text("search-column-loss"), text("search-column-state"),
               text("search-column-seconds")]  # fmt: skip
    rows: list[list[Cell]] = [
        [number, *(trial.values[name] for name in names), trial.loss, text(STATES[trial.state]), trial.seconds]
        for number, trial in enumerate(found.study.trials, start=1)
    ]
    note = text("search-note", steps=found.bench.steps, documents=f"{found.bench.documents:,}",
                targets=f"{found.bench.judge.num_targets:,}", start=f"{found.bench.start:.4f}",
                best=found.study.best + 1)  # fmt: skip
    return Table(title=text("search-title"), columns=columns, rows=rows, note=note,
                 units={text("search-column-seconds"): "seconds"})  # fmt: skip


def _losses(trials: list[Trial]) -> Plot:
    """The loss of each trial, and the best so far."""
    places: list[float | str | None] = [*range(1, len(trials) + 1)]
    losses = [trial.loss for trial in trials]
    lows = accumulate((math.inf if loss is None else loss for loss in losses), min)
    best: list[float | None] = [None if low == math.inf else low for low in lows]
    series = [Series(name=text("search-column-loss"), x=places, y=losses),
              Series(name=text("search-best-so-far"), x=places, y=best)]  # fmt: skip
    unit = text("train-unit-loss")
    return Plot(
        title=text("search-plot"), kind="line", series=series, x_label=text("search-column-trial"), y_label=unit
    )


def _curves(found: Found) -> Plot:
    """Each trial's loss as it went on; all begin with the model as it came."""
    best = found.study.best
    series = [
        Series(name=text("search-curve-best" if number == best else "search-curve", number=number + 1),
               x=[0, *(step for step, _ in trial.curve)], y=[found.bench.start, *(loss for _, loss in trial.curve)])
        for number, trial in enumerate(found.study.trials)
    ]  # fmt: skip
    return Plot(title=text("search-curves"), kind="line", series=series, x_label=text("train-step"),
                y_label=text("train-unit-loss"))  # fmt: skip
