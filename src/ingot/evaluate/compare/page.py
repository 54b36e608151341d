"""The report of a comparison: verdicts in words, tests, the differences as a picture, and the items that changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ingot.core.language import text
from ingot.core.report import Cell, Plot, Prose, Section, Series, Table, Unit
from ingot.evaluate.compare.contest import POWER, Contest
from ingot.evaluate.compare.pair import Pair
from ingot.evaluate.compare.words import apart, bounds, metric_label, probability, written
from ingot.evaluate.statistics import Interval
from ingot.evaluate.task import bounds as plotted
from ingot.evaluate.task import cell


@dataclass(frozen=True)
class Compared:
    """Everything the page shows. `names`: of the other models, by `Contest.model`; `kept_nothing`: numbers that are not
    compared, because nothing is kept of them item by item."""

    names: Sequence[str]
    baseline: str
    contests: Sequence[Contest]
    level: float
    samples: int
    seed: int
    kept_nothing: Sequence[str] = ()

    @property
    def family(self) -> list[Contest]:
        return [one for one in self.contests if one.primary]

    @property
    def tested(self) -> int:
        return sum(one.pair is not None for one in self.family)


def sections(found: Compared) -> Iterator[Section]:
    yield Prose(title=text("evaluate-verdict"), text="\n\n".join(sentences(found)))
    yield _tests(found)
    yield from _plots(found)
    if any(not one.primary for one in found.contests):
        yield _explored(found)
    yield from _changed(found)
    yield Prose(title=text("evaluate-method"), text=_method(found))


def sentences(found: Compared) -> list[str]:
    """One a model and primary figure, and one for items that only one side has."""
    said = [_sentence(found, one) for one in found.family]
    partly = [one for one in found.family if one.pair is not None and any(one.pair.left_out)]
    for one in partly:
        assert one.pair is not None
        more, less = one.pair.left_out
        said.append(text("compared-left-out", metric=metric_label(one.metric), model=found.names[one.model],
                         baseline=found.baseline, count=one.pair.count, more=more, less=less))  # fmt: skip
    return said


def _sentence(found: Compared, one: Contest) -> str:
    names = {"metric": metric_label(one.metric), "model": found.names[one.model], "baseline": found.baseline}
    if one.pair is None:
        return text("compared-said-not-comparable", **names, reason=one.reason)
    share, difference = one.pair.source.is_share, one.difference
    values = {"first": written(one.pair.figure(one.pair.first), share),
              "second": written(one.pair.figure(one.pair.second), share)}  # fmt: skip
    shown = apart(difference.value or 0.0, share) + _relative(one.change)
    parts = {"difference": shown, "interval": bounds(difference, share), "p": probability(one.adjusted)}
    verdict = one.verdict(found.level)
    if verdict == "alike":
        return text("compared-said-alike", **names, **values, **parts, detectable=detectable(one))
    code = "compared-said-better" if verdict == "better" else "compared-said-worse"
    return text(code, **names, **values, **parts)


def _relative(change: Interval) -> str:
    return "" if change.value is None else f" ({100 * change.value:+.2f} %)"


def detectable(one: Contest) -> str:
    """The smallest difference that the test would have seen, in words."""
    assert one.pair is not None
    if one.detectable is None:
        identical = np.array_equal(one.pair.first, one.pair.second)
        return text("compared-identical" if identical else "compared-sees-nothing")
    size = apart(one.detectable, one.pair.source.is_share, signed=False)
    if one.change.value and one.difference.value:
        size += f" ({abs(100 * one.detectable * one.change.value / one.difference.value):.2g} %)"
    return text("compared-would-see", size=size, power=f"{100 * POWER:.0f}")


def _tests(found: Compared) -> Table:
    """Every primary figure of every model."""
    rows: list[list[Cell]] = []
    for one in found.family:
        head: list[Cell] = [found.names[one.model], one.task, metric_label(one.metric)]
        if one.pair is None:
            rows.append(
                [*head, None, None, None, None, None, None, None, f"{text('compared-not-comparable')}: {one.reason}"]
            )
            continue
        share = one.pair.source.is_share
        shown = f"{apart(one.difference.value or 0.0, share)}{_relative(one.change)} {bounds(one.difference, share)}"
        smallest = None if one.detectable is None else apart(one.detectable, share, signed=False)
        rows.append([
            *head, one.pair.count, written(one.pair.figure(one.pair.first), share),
            written(one.pair.figure(one.pair.second), share), shown, one.p, one.adjusted, smallest,
            text(f"compared-{one.verdict(found.level)}"),
        ])  # fmt: skip
    columns = [text(f"compared-column-{name}") for name in
               ("model", "task", "figure", "items", "its", "baselines", "difference", "p", "adjusted", "detectable",
                "verdict")]  # fmt: skip
    note = text("compared-tests-note", baseline=found.baseline, level=f"{100 * found.level:g}", count=found.tested,
                power=f"{100 * POWER:.0f}")  # fmt: skip
    return Table(title=text("compared-tests"), columns=columns, rows=rows, note=note)


def _plots(found: Compared) -> Iterator[Plot]:
    """Differences of shares in points, and other figures relative to the baseline's."""
    for is_share, code, y_label in ((True, "compared-plot-shares", "compared-axis-points"),
                                    (False, "compared-plot-others", "compared-axis-percent")):  # fmt: skip
        series = []
        for number, name in enumerate(found.names):
            own = [one for one in found.family if one.model == number and one.pair is not None
                   and one.pair.source.is_share == is_share]  # fmt: skip
            cells = [cell(one.difference if is_share else one.change) for one in own]
            y, low, high = plotted(cells, 100.0)
            if any(value is not None for value in y):
                series.append(Series(name=name, x=[metric_label(one.metric) for one in own], y=y, low=low, high=high))
        if series:
            yield Plot(title=text(code, baseline=found.baseline), kind="bar", series=series, y_label=text(y_label),
                       note=text("evaluate-95"))  # fmt: skip


def _explored(found: Compared) -> Table:
    """Figures that nothing is decided on."""
    rows: list[list[Cell]] = []
    units: dict[str, Unit] = {"p": "number"}
    for one in found.contests:
        if one.primary:
            continue
        if one.pair is None:
            reason = f"{text('compared-not-comparable')}: {one.reason}"
            rows.append([found.names[one.model], metric_label(one.metric), None, None, None, reason, None, None])
            continue
        share = one.pair.source.is_share
        shown = f"{apart(one.difference.value or 0.0, share)}{_relative(one.change)} {bounds(one.difference, share)}"
        rows.append([found.names[one.model], metric_label(one.metric), one.pair.count,
                     written(one.pair.figure(one.pair.first), share), written(one.pair.figure(one.pair.second), share),
                     shown, one.p, one.adjusted])  # fmt: skip
    columns = [text(f"compared-column-{name}") for name in
               ("model", "figure", "items", "its", "baselines", "difference", "p", "corrected")]  # fmt: skip
    return Table(title=text("compared-explored"), columns=columns, rows=rows, note=text("compared-explored-note"),
                 units={columns[6]: units["p"]})  # fmt: skip


def _changed(found: Compared) -> Iterator[Table]:
    """Of each primary figure the items that changed most, in both directions."""
    rows: list[list[Cell]] = []
    for one in found.family:
        if one.pair is not None and one.pair.source.questions:
            rows += [
                [found.names[one.model], metric_label(one.metric), *row] for row in _items(one.pair, found.samples)
            ]
    if rows:
        columns = [text(f"compared-column-{name}") for name in
                   ("model", "figure", "change", "item", "its-answer", "baselines-answer")]  # fmt: skip
        yield Table(title=text("compared-changed"), columns=columns, rows=rows, note=text("compared-changed-note"))


def _items(pair: Pair, samples: int) -> Iterator[list[Cell]]:
    gains = pair.sign * (pair.first - pair.second)
    order = np.argsort(-np.abs(gains), kind="stable")
    for code, side in (("compared-worse", -1), ("compared-better", 1)):
        for place in [at for at in order if side * gains[at] > 0][:samples]:
            at, other = pair.places[place], pair.other_places[place]
            yield [text(code), pair.source.questions[at], pair.source.replies[at], pair.other.replies[other]]


def _method(found: Compared) -> str:
    said = text("compared-method", level=f"{100 * found.level:g}", seed=found.seed, power=f"{100 * POWER:.0f}")
    if not found.kept_nothing:
        return said
    names = text("evaluate-comma").join(map(metric_label, found.kept_nothing))
    return f"{said}\n\n{text('compared-kept-nothing', names=names)}"
