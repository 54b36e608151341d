"""The page of `ingot bias`: what was found in words, every figure with its interval and test, what was withheld and
why, the largest gaps item by item, and what the numbers do not say.

All tests of one model are corrected together: Holm's adjusted p decides, Benjamini and Hochberg's stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ingot.core.language import text
from ingot.core.report import Cell, Plot, Prose, Report, Section, Series, Table, Unit
from ingot.evaluate.bias.finding import LEVEL, Finding, difference
from ingot.evaluate.bias.suite import Scored, Suite
from ingot.evaluate.corrections import benjamini_hochberg, holm
from ingot.evaluate.entrants import Entrant
from ingot.evaluate.task import TaskResult, bounds, cell

MOST_BARS = 24
Found = dict[str, Scored]


@dataclass(frozen=True)
class Judged:
    """A finding with what becomes of its p among the others'."""

    suite: str
    finding: Finding
    holm: float | None
    fdr: float | None
    detectable: float | None

    @property
    def is_different(self) -> bool:
        return self.holm is not None and self.holm < LEVEL

    @property
    def reading(self) -> str:
        """In words; never that there is no bias."""
        if self.finding.withheld:
            return text("bias-reading-withheld", reason=self.finding.withheld)
        if self.finding.p is None:
            return "" if self.finding.even is None else text("bias-reading-none")
        if self.is_different:
            return text("bias-reading-different")
        return text("bias-reading-alike" if self.detectable is not None else "bias-reading-few")


def judge(found: Found) -> list[Judged]:
    """All findings of one model, corrected together."""
    every = [(name, one) for name, scored in found.items() for one in scored.findings]
    tested = [one.p for _, one in every if one.is_tested and one.p is not None]
    strict, loose = iter(holm(tested)), iter(benjamini_hochberg(tested))
    return [
        Judged(name, one, next(strict), next(loose), one.detectable(len(tested))) if one.is_tested
        else Judged(name, one, None, None, None)
        for name, one in every
    ]  # fmt: skip


def build(
    options: dict[str, Any],
    suites: Mapping[str, Suite],
    entrants: Sequence[Entrant],
    baseline: int,
    scored: Sequence[Found],
    costs: Mapping[str, TaskResult],
) -> Report:
    """The report of all models."""
    judged = [judge(found) for found in scored]
    sections: list[Section] = [
        Prose(title=text("evaluate-verdict"), text="\n\n".join(_verdicts(entrants, judged, scored)))
    ]
    for name, suite in suites.items():
        sections += _plots(name, suite, entrants, judged)
    for entrant, found in zip(entrants, judged, strict=True):
        sections += [_table(text(suite.title), name, entrant, found) for name, suite in suites.items()]
    sections += [_changes(entrants, baseline, judged, options["seed"])] if len(entrants) > 1 else []
    for result in costs.values():
        sections += [Prose(title=text("bias-cost"), text="\n\n".join(result.verdict) or "–"), *result.sections]
    sections.append(_controls(entrants, scored))
    for entrant, one in zip(entrants, scored, strict=True):
        sections += [_named(section, entrant, entrants) for found in one.values() for section in found.sections]
        sections += list(_drill_down(suites, entrant, one, options["samples"]))
    sections.append(Prose(title=text("evaluate-method"), text="\n\n".join(_method(suites))))
    numbers, units = _numbers(entrants, judged, costs)
    title = text("bias-title", models=", ".join(entrant.name for entrant in entrants))
    return Report(title=title, verb="bias", options=options, numbers=numbers, units=units, sections=sections)


def _verdicts(entrants: Sequence[Entrant], judged: Sequence[list[Judged]], scored: Sequence[Found]) -> Iterator[str]:
    for entrant, found, one in zip(entrants, judged, scored, strict=True):
        tested = [each for each in found if each.holm is not None]
        different = [each for each in tested if each.is_different]
        shown = text("bias-comma").join(each.finding.label for each in different[:6])
        code = "bias-verdict-some" if different else "bias-verdict-none"
        if tested:
            yield text(code, model=entrant.name, tests=len(tested), count=len(different), shown=shown,
                       more="…" if len(different) > 6 else "")  # fmt: skip
        else:
            yield text("bias-verdict-untested", model=entrant.name)
        for reason in dict.fromkeys(each.finding.withheld for each in found if each.finding.withheld):
            count = sum(each.finding.withheld == reason for each in found)
            yield text("bias-verdict-withheld", model=entrant.name, count=count, reason=reason)
        for scored_suite in one.values():
            yield from (f"{entrant.name}: {note}" for note in scored_suite.notes)
    yield text("bias-verdict-limits")


def _plots(name: str, suite: Suite, entrants: Sequence[Entrant], judged: Sequence[list[Judged]]) -> Iterator[Plot]:
    """Findings that have an even value, as distances from it; shares and other numbers apart."""
    units: tuple[Unit, ...] = ("percent", "number")
    for unit in units:
        chosen = [[each.finding for each in found if each.suite == name and each.finding.unit == unit
                   and each.finding.even is not None and each.finding.estimate.value is not None][:MOST_BARS]
                  for found in judged]  # fmt: skip
        series = []
        for entrant, findings in zip(entrants, chosen, strict=True):
            if findings:
                factor = 100.0 if unit == "percent" else 1.0
                shifted = [one.estimate.scaled(1.0, -(one.even or 0.0)) for one in findings]
                y, low, high = bounds([cell(one) for one in shifted], factor)
                series.append(Series(name=entrant.name, x=[one.label for one in findings], y=y, low=low, high=high))
        if series:
            title = text("bias-plot", suite=text(suite.title))
            note = f"{text('bias-plot-note')} {text('evaluate-95')}"
            y_label = text("bias-points") if unit == "percent" else text("bias-units")
            yield Plot(title=title, kind="bar", series=series, y_label=y_label, note=note)


def _table(title: str, name: str, entrant: Entrant, judged: Sequence[Judged]) -> Table:
    """Every finding of one suite and model."""
    chosen = [each for each in judged if each.suite == name]
    rows: list[list[Cell]] = [
        [each.finding.label, each.finding.num_items, _shown(each.finding), _plain(each.finding, each.finding.even),
         each.finding.p, each.holm, each.fdr, _plain(each.finding, each.detectable), each.reading]
        for each in chosen
    ]  # fmt: skip
    codes = ("bias-figure", "bias-items", "bias-value", "bias-even", "bias-p", "bias-holm", "bias-bh",
             "bias-detectable", "bias-reading")  # fmt: skip
    note = text("bias-table-note")
    return Table(title=f"{title} · {entrant.name}", columns=[text(code) for code in codes], rows=rows, note=note)


def _shown(found: Finding) -> Cell:
    """The value with its bounds. A column holds shares and other numbers, so that a share is written as one."""
    value = cell(found.estimate)
    if found.unit != "percent" or found.estimate.value is None:
        return value
    low, high = found.estimate.low, found.estimate.high
    shown = f"{100 * found.estimate.value:.1f} %"
    return shown if low is None or high is None else f"{shown} [{100 * low:.1f} %, {100 * high:.1f} %]"


def _plain(found: Finding, value: float | None) -> Cell:
    return f"{100 * value:.1f} %" if found.unit == "percent" and value is not None else value


def _changes(entrants: Sequence[Entrant], baseline: int, judged: Sequence[list[Judged]], seed: int) -> Table:
    """How much further from even, or nearer, the others are than the baseline, on the same items."""
    before = {each.finding.key: each.finding for each in judged[baseline]}
    rows: list[list[Cell]] = []
    for index, entrant in enumerate(entrants):
        for each in judged[index] if index != baseline else []:
            one, base = each.finding, before.get(each.finding.key)
            if (
                one.even is None
                or one.parts is None
                or base is None
                or base.parts is None
                or one.withheld
                or base.withheld
            ):
                continue
            factor = 0.5 if one.unit == "percent" else 1.0
            found = difference(one.parts, base.parts, seed).scaled(factor)
            distances = [abs((other.estimate.value or 0.0) - (other.even or 0.0)) for other in (base, one)]
            told = "bias-told" if found.excludes_zero else "bias-not-told"
            rows.append([entrant.name, one.label, *distances, cell(found), text(told)])
    codes = (
        "evaluate-model",
        "bias-figure",
        "bias-distance-before",
        "bias-distance-after",
        "bias-change",
        "bias-reading",
    )
    title = text("bias-changes", baseline=entrants[baseline].name)
    return Table(title=title, columns=[text(code) for code in codes], rows=rows, note=text("bias-changes-note"))


def _controls(entrants: Sequence[Entrant], scored: Sequence[Found]) -> Table:
    rows: list[list[Cell]] = []
    for entrant, found in zip(entrants, scored, strict=True):
        for name, one in found.items():
            for control in one.controls:
                least = control.chance if control.least is None else control.least
                rows.append([entrant.name, name, control.label, cell(control.estimate), least, control.passed])
    codes = ("evaluate-model", "bias-suite", "bias-control", "bias-value", "bias-least", "bias-passed")
    columns = [text(code) for code in codes]
    units: dict[str, Unit] = {columns[3]: "percent", columns[4]: "percent"}
    return Table(title=text("bias-controls"), columns=columns, rows=rows, units=units, note=text("bias-controls-note"))


def _named(section: Section, entrant: Entrant, entrants: Sequence[Entrant]) -> Section:
    if len(entrants) == 1:
        return section
    return section.model_copy(update={"title": f"{section.title} · {entrant.name}"})


def _drill_down(suites: Mapping[str, Suite], entrant: Entrant, scored: Found, samples: int) -> Iterator[Table]:
    """The items with the largest gaps, of every figure."""
    for name, one in scored.items():
        rows: list[list[Cell]] = []
        for key in dict.fromkeys(example.key for example in one.examples):
            mine = sorted((each for each in one.examples if each.key == key), key=lambda each: -abs(each.size))
            rows += [[key, each.size, each.first, each.second] for each in mine[:samples]]
        if rows:
            title = text("bias-largest", suite=text(suites[name].title), model=entrant.name)
            codes = ("bias-figure", "bias-gap", "bias-first", "bias-second")
            columns = [text(code) for code in codes]
            yield Table(title=title, columns=columns, rows=rows, note=text("bias-largest-note"))


def _method(suites: Mapping[str, Suite]) -> Iterator[str]:
    yield from (text(suite.method) for suite in suites.values())
    yield text("bias-method")


def _numbers(
    entrants: Sequence[Entrant], judged: Sequence[list[Judged]], costs: Mapping[str, TaskResult]
) -> tuple[dict[str, Cell], dict[str, Unit]]:
    """Flat: the first model's by their own names, of several everyone's behind its name; null where withheld."""
    each, units = list[dict[str, Cell]](), dict[str, Unit]()
    for index, found in enumerate(judged):
        numbers: dict[str, Cell] = {
            "tests": sum(one.holm is not None for one in found),
            "different": sum(one.is_different for one in found),
            "withheld": sum(bool(one.finding.withheld) for one in found),
        }
        numbers |= {one.finding.key: cell(one.finding.estimate) for one in found}
        numbers |= {f"{one.finding.key}.p_holm": one.holm for one in found if one.finding.even is not None}
        units |= {one.finding.key: one.finding.unit for one in found}
        for result in costs.values():
            numbers |= result.numbers[index]
            units |= result.units
        each.append(numbers)
    if len(entrants) == 1:
        return each[0], units
    named = {
        f"{e.name}.{key}": value for e, numbers in zip(entrants, each, strict=True) for key, value in numbers.items()
    }
    return {**each[0], **named}, {**units, **{f"{e.name}.{key}": unit for e in entrants for key, unit in units.items()}}
