"""What a search over recipes found: the front as a picture, every trial as a row, and the winner measured again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from ingot.core.format import label, unit_of
from ingot.core.language import language, text
from ingot.core.report import Cell, Plot, Prose, Report, Section, Series, Table, Unit
from ingot.evaluate.compare.contest import contests
from ingot.evaluate.compare.contestants import Contestant, open_contestants
from ingot.evaluate.compare.page import Compared, sentences
from ingot.evaluate.search.spec import Objective
from ingot.evaluate.search.study import Study, Trial
from ingot.train.search.space import defaults, shown

LEVEL = 0.05
"""Of the comparison on the locked half."""


@dataclass(frozen=True)
class Tested:
    """Figures on what no trial looked at, and the report they come from."""

    figures: dict[str, float]
    report: Path | None


@dataclass(frozen=True)
class Searched:
    """A search that has ended. `tested`: by the number of the trial; `looks`: settings ever measured on that half."""

    study: Study
    tested: Mapping[int, Tested]
    looks: int

    @property
    def is_stock(self) -> bool:
        """Whether the first trial is the recipe as it stands."""
        return len(defaults(self.study.space)) == len(self.study.space)

    def name(self, number: int) -> str:
        """A trial's name for people."""
        return text("search-stock") if number == 0 and self.is_stock else text("search-named", number=number + 1)


def search_report(found: Searched, options: dict[str, Any]) -> Report:
    study, numbers = found.study, dict[str, Cell]()
    winner = study.winner
    for objective in study.objectives:
        numbers[f"search.{objective.name}"] = study.trials[winner].figures[objective.name]
        numbers[f"test.{objective.name}"] = found.tested[winner].figures[objective.name]
    numbers |= {"winner": winner + 1, "trials": len(study.trials), "front": len(study.front),
                "failed": sum(trial.state == "failed" for trial in study.trials),
                "total_seconds": round(study.seconds, 1)}  # fmt: skip
    numbers |= {f"best.{name}": value for name, value in study.trials[winner].values.items()}
    units: dict[str, Unit] = {key: unit_of(key) for key in numbers}
    return Report(title=text("search-recipe-title"), verb="search", options=options, numbers=numbers, units=units,
                  sections=[*_sections(found)])  # fmt: skip


def _sections(found: Searched) -> Iterator[Section]:
    study = found.study
    said = [text("search-winner", name=found.name(study.winner), values=shown(study.trials[study.winner].values),
                 count=len(study.front), trials=len(study.trials)), *_against_stock(found)]  # fmt: skip
    yield Prose(title=text("evaluate-verdict"), text="\n\n".join(said))
    yield _again(found)
    for first, second in combinations(study.objectives, 2):
        yield _front(found, first, second)
    yield _table(found)


def _against_stock(found: Searched) -> list[str]:
    """The winner and the recipe as it stands, item by item on the locked half."""
    winner = found.study.winner
    reports = [found.tested[number].report for number in (winner, 0) if number in found.tested]
    if winner == 0 or len(reports) < 2:
        return [text("search-stays")] if winner == 0 and found.is_stock else []
    own, stock = (_first(path) for path in reports if path is not None)
    tests = contests([own], stock, LEVEL, 0)
    return sentences(Compared([found.name(winner)], found.name(0), tests, LEVEL, 0, 0))


def _first(report: Path) -> Contestant:
    everyone = open_contestants(report)
    return next(one for one in everyone if one.is_baseline)


def _again(found: Searched) -> Table:
    """Each objective on both halves; the drop is how much of the first was luck."""
    rows: list[list[Cell]] = []
    for number, tested in found.tested.items():
        for objective in found.study.objectives:
            before, after = found.study.trials[number].figures[objective.name], tested.figures[objective.name]
            drop = objective.sign * (after - before) / abs(before) if before else None
            rows.append([found.name(number), _label(objective), before, after, drop])
    columns = [text(f"search-column-{name}") for name in ("setting", "objective", "searched", "tested", "drop")]
    return Table(title=text("search-again"), columns=columns, rows=rows, units={columns[-1]: "percent"},
                 note=text("search-again-note", looks=found.looks))  # fmt: skip


def _front(found: Searched, first: Objective, second: Objective) -> Plot:
    study = found.study
    front = sorted(study.front, key=lambda at: study.trials[at].figures[first.name])
    others = [at for at, trial in enumerate(study.trials) if trial.state == "done" and at not in front]
    groups = {text("search-on-front"): front, text("search-off-front"): others}
    groups |= {found.name(at): [at] for at in dict.fromkeys((study.winner, 0)) if study.trials[at].state == "done"}
    series = [
        Series(name=name, x=[study.trials[at].figures[first.name] for at in places],
               y=[study.trials[at].figures[second.name] for at in places])
        for name, places in groups.items() if places
    ]  # fmt: skip
    better = text("search-plot-note", first=_better(first), second=_better(second))
    return Plot(title=f"{_label(first)} × {_label(second)}", kind="scatter", series=series, x_label=_label(first),
                y_label=_label(second), note=better)  # fmt: skip


def _table(found: Searched) -> Table:
    study = found.study
    names, front = list(study.space), set(study.front)
    heads = [_label(objective) for objective in study.objectives]
    columns = [text("search-column-trial"), *names, *heads, text("search-column-on-front"),
               text("search-column-seconds"), text("search-column-state")]  # fmt: skip
    rows: list[list[Cell]] = [
        [number + 1, *(trial.values[name] for name in names),
         *(trial.figures.get(objective.name) for objective in study.objectives), number in front, trial.seconds,
         _state(trial)]
        for number, trial in enumerate(study.trials)
    ]  # fmt: skip
    units: dict[str, Unit] = {head: unit_of(one.name) for head, one in zip(heads, study.objectives, strict=True)}
    return Table(title=text("search-trials"), columns=columns, rows=rows, note=text("search-trials-note"),
                 units=units | {text("search-column-seconds"): "seconds"})  # fmt: skip


def _state(trial: Trial) -> str:
    return text("search-reached") if trial.state == "done" else f"{text('search-failed')}: {trial.reason}"


def _label(objective: Objective) -> str:
    return label(objective.name, "zh-TW" if language() == "zh" else "en")


def _better(objective: Objective) -> str:
    return text("search-less" if objective.sign > 0 else "search-more", name=_label(objective))
