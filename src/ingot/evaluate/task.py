"""What a task is: it reads its items, measures one model on them, and scores the rows of all models together.

`measure` returns plain rows, one an item, which are saved before anything is scored; `score` is a pure function of
saved rows. A report can therefore be scored again without a model, and gives the same numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ingot.core import report
from ingot.core.errors import fail
from ingot.core.report import Cell, Section, Unit
from ingot.data.objectives.options import Form
from ingot.evaluate.entrants import Entrant
from ingot.evaluate.item_values import ItemValues
from ingot.evaluate.options import EvaluateOptions
from ingot.evaluate.statistics import Interval
from ingot.text.tokenizer import Tokenizer

Row = dict[str, Any]
"""One item's raw result, plain JSON; a float that is not finite is written as its word."""


@dataclass(frozen=True)
class Comparison:
    """Rows of one task for every entrant, in the same order of items. `baseline` is an index of `entrants`."""

    entrants: list[Entrant]
    rows: list[list[Row]]
    baseline: int
    seed: int
    samples: int = 3

    def column(self, entrant: int, name: str) -> list[Any]:
        return [row[name] for row in self.rows[entrant]]

    def require_same_items(self, *names: str) -> None:
        """Every entrant has the same items in the same order. Raises `evaluate-rows-differ`."""
        items = [[[row[name] for name in names] for row in rows] for rows in self.rows]
        for entrant, found in zip(self.entrants, items, strict=True):
            if found != items[0]:
                raise fail("evaluate-rows-differ", model=entrant.name, first=self.entrants[0].name)

    @property
    def others(self) -> list[int]:
        """Indices of all but the baseline."""
        return [index for index in range(len(self.entrants)) if index != self.baseline]


@dataclass(frozen=True)
class TaskResult:
    """`numbers` holds one dict an entrant; `verdict` sentences stand first in the report; `method` is the code of the
    sentence that says how it was measured; `columns` names those numbers that stand in the table of all models."""

    numbers: list[dict[str, Cell]]
    sections: list[Section]
    method: str
    verdict: list[str] = field(default_factory=list)
    units: dict[str, Unit] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """`prepare` reads and checks the items before any model is loaded. `raw` begins the names of the saved rows.
    `options` names those that only some tasks read, this one among them. `forms`: the kinds of model that can be asked;
    `check` refuses a tokenizer without what its kind is asked with. `journal`: what decides the rows beside the model;
    where it is given, `measure` also takes a journal, and saves each row there as it comes. `about`: what is saved of
    the items beside the rows. `values` says what one model's rows hold item by item, by the names of its numbers: what
    comparisons, gates and audits read."""

    raw: str
    prepare: Callable[[EvaluateOptions], Sequence[Any]]
    measure: Callable[..., list[Row]]
    score: Callable[[Comparison], TaskResult]
    values: Callable[[Sequence[Row], Entrant, Mapping[str, Any]], dict[str, ItemValues]]
    options: tuple[str, ...]
    needs_template: bool = False
    forms: tuple[Form, ...] = ("decoder",)
    check: Callable[[Tokenizer, Form], None] | None = None
    journal: Callable[[Any, EvaluateOptions], dict[str, Any]] | None = None
    about: Callable[[Any], dict[str, Any]] | None = None


def cell(interval: Interval) -> Cell:
    """An interval as a report shows it: with bounds where it has finite ones, else the value alone."""
    value, low, high = interval.value, interval.low, interval.high
    if value is None or low is None or high is None or not all(map(math.isfinite, (value, low, high))):
        return value
    return report.Interval(value=value, low=low, high=high)


def bounds(cells: Sequence[Cell], factor: float = 1.0) -> tuple[list[float | None], ...]:
    """Values, lower and upper bounds of cells for a plot, times `factor`; a value without bounds stands for both."""
    values: list[list[float | None]] = [[], [], []]
    for found in cells:
        if isinstance(found, report.Interval):
            parts: tuple[float | None, ...] = found.value, found.low, found.high
        else:
            parts = (report.plain_number(found),) * 3
        for column, part in zip(values, parts, strict=True):
            column.append(None if part is None else part * factor)
    return values[0], values[1], values[2]


def dump_rows(rows: Sequence[Row]) -> str:
    """Rows as JSON lines. Floats keep every digit."""
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def parse_rows(text: str) -> list[Row]:
    """Back from JSON lines."""
    return [json.loads(line) for line in text.split("\n") if line]


def word_if_infinite(value: float) -> float | str:
    """JSON has no inf: it is written as "inf", and float() reads it back."""
    return value if math.isfinite(value) else str(value)
