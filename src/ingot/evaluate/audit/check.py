"""What a check is: it finds its material before any model is loaded, measures rows, and scores the saved rows.

`score` is a pure function of rows and options, as in `ingot.evaluate.task`, so that a report can be made again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ingot.adapt.load import LanguageModel
from ingot.core.report import Cell, Section, Unit
from ingot.evaluate.audit.history import History
from ingot.evaluate.audit.options import AuditOptions

Row = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What every check is given: the options, and what the model's hallmark says of the corpus."""

    options: AuditOptions
    history: History


@dataclass(frozen=True)
class Result:
    """`verdict` sentences stand first in the report; `method` says how it was measured."""

    numbers: dict[str, Cell]
    sections: list[Section]
    verdict: list[str]
    method: str
    units: dict[str, Unit] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """`lacks` names the option that is missing, None where nothing is; `raw` is the name of the file of rows; `options`
    are those that only some checks read."""

    raw: str
    needs_model: bool
    options: tuple[str, ...]
    lacks: Callable[[Setting], str | None]
    prepare: Callable[[Setting], Any]
    measure: Callable[[LanguageModel | None, Any, Setting], list[Row]]
    score: Callable[[list[Row], AuditOptions], Result]
