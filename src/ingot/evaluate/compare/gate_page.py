"""What a gate's report says: each rule in words, a table of its tests, and how far from its margin each figure is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ingot.core.language import text
from ingot.core.report import Cell, Plot, Prose, Section, Series, Table, Unit
from ingot.evaluate.compare.judge import Ruling
from ingot.evaluate.compare.rules import PAIRED, Rules
from ingot.evaluate.compare.words import apart, bounds, metric_label, probability, written
from ingot.evaluate.statistics import Interval
from ingot.evaluate.task import bounds as plotted
from ingot.evaluate.task import cell


def gate_sections(found: Sequence[Ruling], rules: Rules, model: str, baseline: str) -> Iterator[Section]:
    yield Prose(title=text("evaluate-verdict"), text="\n\n".join(sentence(one, rules) for one in found))
    yield _table(found, rules, model, baseline)
    yield from _plot(found, model, baseline)
    method = text("gating-method", level=_percent(rules.file.level), power=_percent(rules.file.min_power))
    yield Prose(title=text("evaluate-method"), text=method)


def sentence(one: Ruling, rules: Rules) -> str:
    """A rule, what was found, and the verdict with its reason."""
    mark = text(f"gating-{one.verdict}")
    if one.verdict == "not-comparable":
        return text("gating-said-not-comparable", rule=one.rule.source, mark=mark, reason=one.reason)
    assert one.p is not None
    adjusted = probability(one.p if one.adjusted is None else one.adjusted)
    said = text("gating-said", rule=one.rule.source, mark=mark, found=_found(one), test=text(one.test), p=adjusted,
                count=one.count, power=_power_words(one, rules))  # fmt: skip
    return said.strip()


def _found(one: Ruling) -> str:
    """Both figures and their difference, or the one figure, with the interval."""
    shown, share = one.shown or Interval(None), one.is_share
    if one.rule.kind in PAIRED:
        assert one.first is not None
        assert one.second is not None
        figures = {"first": written(one.first, share), "second": written(one.second, share)}
        return text(
            "gating-found-pair", **figures, difference=apart(shown.value or 0.0, share), interval=bounds(shown, share)
        )
    ends = shown.value, shown.low, shown.high
    value, low, high = ("-" if end is None else written(end, share) for end in ends)
    return text("gating-found-one", value=value, low=low, high=high)


def _power_words(one: Ruling, rules: Rules) -> str:
    """What the test could have told, and how many items it would take."""
    if one.power is None:
        return text("gating-no-power") if one.verdict == "cannot-tell" else ""
    assert one.margin is not None
    code = "gating-power-drop" if one.rule.kind == "no_drop" else "gating-power-equal"
    said = text(code, power=_percent(one.power), size=apart(one.margin, one.is_share, signed=False))
    if one.power >= rules.file.min_power:
        return said
    least = _percent(rules.file.min_power)
    if one.needed is None:
        return f"{said} {text('gating-never-enough', least=least)}"
    return f"{said} {text('gating-needed', least=least, needed=f'{one.needed:,}')}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g}"


def _table(found: Sequence[Ruling], rules: Rules, model: str, baseline: str) -> Table:
    names = "rule", "items", "difference", "test", "p", "adjusted", "power", "needed", "verdict", "holds"
    columns = [text(f"gating-column-{name}") for name in names]
    columns[2:2] = [model, baseline]
    rows: list[list[Cell]] = []
    for one in found:
        figures: list[Cell] = [None if v is None else written(v, one.is_share) for v in (one.first, one.second)]
        shown = None if one.shown is None or one.rule.kind not in PAIRED else (
            f"{apart(one.shown.value or 0.0, one.is_share)} {bounds(one.shown, one.is_share)}")  # fmt: skip
        test = text(one.test) if one.test else one.reason
        rows.append([one.rule.source, one.count, *figures, shown, test, one.p, one.adjusted, one.power, one.needed,
                     text(f"gating-{one.verdict}"), one.holds(rules)])  # fmt: skip
    units: dict[str, Unit] = {columns[8]: "percent"}
    note = text("gating-table-note", power=_percent(rules.file.min_power))
    return Table(title=text("gating-rules"), columns=columns, rows=rows, units=units, note=note)


def _plot(found: Sequence[Ruling], model: str, baseline: str) -> Iterator[Plot]:
    """Gains in multiples of the margin that their rule names: one picture for figures of any unit."""
    drawn = [one for one in found if one.margin and one.shown is not None and one.shown.value is not None]
    if not drawn:
        return
    cells = [cell(_in_margins(one)) for one in drawn]
    y, low, high = plotted(cells)
    names: list[float | str | None] = [metric_label(one.rule.metric) for one in drawn]
    margins: list[float | None] = [1.0 if one.rule.kind == "better_by" else -1.0 for one in drawn]
    series = [
        Series(name=model, x=names, y=y, low=low, high=high),
        Series(name=text("gating-margin"), x=names, y=margins),
    ]
    yield Plot(
        title=text("gating-plot", baseline=baseline),
        kind="bar",
        series=series,
        y_label=text("gating-axis"),
        note=f"{text('gating-plot-note')} {text('evaluate-95')}",
    )


def _in_margins(one: Ruling) -> Interval:
    """A gain (better is up) over the margin."""
    assert one.margin
    assert one.shown is not None
    ends = one.shown.low, one.shown.high
    value, low, high = (None if end is None else one.sign * end / one.margin for end in (one.shown.value, *ends))
    return Interval(value, low, high) if one.sign > 0 else Interval(value, high, low)
