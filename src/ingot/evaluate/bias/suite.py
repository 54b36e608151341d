"""What a suite is: it reads its items, asks one model, and scores the saved rows of that model to findings.

Like the tasks of `evaluate`: `measure` returns plain rows that are saved before anything is scored, `score` is a pure
function of them. A suite brings its control: something that every model of the kind can do. Where a model cannot, its
findings are withheld, because a model that says nothing prefers nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ingot.adapt.load import LanguageModel
from ingot.core.language import text
from ingot.core.report import Section, Unit
from ingot.data.objectives.options import Form
from ingot.evaluate.bias.finding import Finding
from ingot.evaluate.bias.options import BiasOptions
from ingot.evaluate.statistics import Interval
from ingot.evaluate.task import Row


@dataclass(frozen=True)
class Control:
    """A share that must lie above `chance`, with the whole of its interval, or that must reach `least`."""

    label: str
    estimate: Interval
    chance: float | None = None
    least: float | None = None

    @property
    def passed(self) -> bool:
        if self.least is not None:
            return self.estimate.value is not None and self.estimate.value >= self.least
        return self.estimate.low is not None and self.estimate.low > (self.chance or 0.0)

    @property
    def reason(self) -> str:
        """Why findings are withheld, "" where they are not."""
        if self.passed:
            return ""
        value = "–" if self.estimate.value is None else f"{100 * self.estimate.value:.1f} %"
        if self.least is not None:
            return text("bias-below", label=self.label, value=value, least=f"{100 * self.least:.0f} %")
        return text("bias-near-chance", label=self.label, value=value, chance=f"{100 * (self.chance or 0.0):.0f} %")


@dataclass(frozen=True)
class Example:
    """One item with a gap, as the page shows it. `size` is signed, towards `first`."""

    key: str
    size: float
    unit: Unit
    first: str
    second: str


@dataclass(frozen=True)
class Scored:
    """What the rows of one model say."""

    findings: list[Finding]
    controls: list[Control] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)


@dataclass(frozen=True)
class Suite:
    """`options` names those that only some suites read. `title` and `method` are codes of sentences: its name, and what
    each figure is. `forms`: the kinds of model that can be asked."""

    prepare: Callable[[BiasOptions], Sequence[Any]]
    measure: Callable[[LanguageModel, Sequence[Any], BiasOptions], list[Row]]
    score: Callable[[Sequence[Row], int], Scored]
    title: str
    method: str
    options: tuple[str, ...] = ()
    forms: tuple[Form, ...] = ("decoder",)


def withhold(findings: Sequence[Finding], *controls: Control) -> list[Finding]:
    """The findings without values where a control failed."""
    reason = next((control.reason for control in controls if not control.passed), "")
    return [one.without_value(reason) if reason else one for one in findings]
