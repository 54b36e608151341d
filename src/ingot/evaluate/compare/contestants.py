"""The models of saved reports, each with what its rows hold item by item. No model is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ingot.core.errors import fail, nearest
from ingot.core.report import Interval, Report, unique_names
from ingot.evaluate.entrants import baseline_index
from ingot.evaluate.evaluate import item_values, saved
from ingot.evaluate.item_values import ItemValues


@dataclass(frozen=True)
class Contestant:
    """A model of a report. `metrics`: its figures by the names of the report's numbers; `tasks`: which task each is of;
    `is_baseline`: it is the one its report compares with; `others`: numbers with an interval that are in no `metrics`,
    because nothing is kept of them item by item."""

    name: str
    place: Path
    metrics: dict[str, ItemValues]
    tasks: dict[str, str]
    is_baseline: bool
    others: Sequence[str] = ()


def open_contestants(path: Path) -> list[Contestant]:
    """All models of a report of `evaluate`. Raises what `saved` does, and what a task raises for rows of an earlier
    version."""
    report, raw = saved(path)
    found = item_values(report, raw)
    baseline = baseline_index([entrant for entrant, _ in found], report.options["baseline"])
    contestants = []
    for number, (entrant, tasks) in enumerate(found):
        metrics = {name: values for own in tasks.values() for name, values in own.items()}
        owners = {name: task for task, own in tasks.items() for name in own}
        others = [name for name in _with_intervals(report, entrant.name) if name not in metrics]
        contestants.append(Contestant(entrant.name, path, metrics, owners, number == baseline, others))
    return contestants


def _with_intervals(report: Report, model: str) -> list[str]:
    """Names of a model's numbers that are estimates."""
    begin = f"{model}."
    return [
        name.removeprefix(begin)
        for name, value in report.numbers.items()
        if name.startswith(begin) and isinstance(value, Interval)
    ]


def named(contestants: Sequence[Contestant]) -> list[str]:
    """Each one's name, behind its report's where a name stands twice."""
    twice = {name for name, count in Counter(one.name for one in contestants).items() if count > 1}
    return unique_names(
        [f"{one.place.resolve().name}/{one.name}" if one.name in twice else one.name for one in contestants]
    )


def chosen(contestants: Sequence[Contestant], name: str | None, option: str, baseline: bool = False) -> Contestant:
    """The model of a report that was named; without a name the only one or, where `baseline` says so, the one that the
    report compares with. Raises `compared-which-model` or `compared-unknown-model`."""
    names = [one.name for one in contestants]
    if name is None and len(contestants) > 1 and not baseline:
        raise fail("compared-which-model", path=contestants[0].place, names=", ".join(names), option=option)
    if name is None:
        return next(one for one in contestants if one.is_baseline or len(contestants) == 1)
    if name not in names:
        raise fail("compared-unknown-model", name=name, path=contestants[0].place, nearest=nearest(name, names))
    return contestants[names.index(name)]
