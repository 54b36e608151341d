"""What the report says of gaps: shares by group and language beside guessing, differences, samples, and words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from ingot.core.language import text
from ingot.core.progress import warn
from ingot.core.report import Cell, Plot, Section, Series, Table, Unit
from ingot.evaluate.cloze.item import AFTER, BEFORE
from ingot.evaluate.cloze.views import (
    WHOLE,
    Group,
    View,
    commonest,
    difference,
    guessing,
    make_groups,
    make_views,
    mean_nats,
    mean_widened,
    share,
)
from ingot.evaluate.task import Comparison, Row, TaskResult, bounds, cell
from ingot.evaluate.world import LANGUAGE_LABELS

ITEM = ("id", "lang", "group", "before", "fillers", "after", "right")
GROUP_LABELS = {None: "evaluate-gaps-all", BEFORE: "evaluate-gaps-before", AFTER: "evaluate-gaps-after"}
SAMPLE_COLUMNS = (
    "evaluate-model", "evaluate-gaps-group", "evaluate-judged", "evaluate-gap", "evaluate-expected", "evaluate-chosen",
    "evaluate-p-right",
)  # fmt: skip
GAP = "____"


def score(comparison: Comparison) -> TaskResult:
    """Shares, differences, samples and a verdict from the rows."""
    comparison.require_same_items(*ITEM)
    rows = comparison.rows[0]
    groups, views = make_groups(rows), make_views(comparison)
    for found in views:
        if found[0].tied:
            warn("evaluate-gaps-tied", model=found[0].name, count=found[0].tied, total=len(rows))
    pairs = zip(views, comparison.rows, strict=True)
    numbers = [_numbers(found, groups, own, comparison.seed) for found, own in pairs]
    sections: list[Section] = [_plot(views, groups, rows), _table(views, groups, rows)]
    if comparison.others:
        sections.append(_differences(comparison, groups, views))
    return TaskResult(
        numbers=numbers,
        method="evaluate-method-cloze",
        sections=[*sections, _asked(comparison), _samples(comparison, views)],
        verdict=[*_verdicts(comparison, groups, views)],
        units={
            key: "percent" for found in numbers for key in found if not key.endswith(("_nats", "_items", "_widened"))
        },
    )


def _numbers(views: Sequence[View], groups: Sequence[Group], rows: Sequence[Row], seed: int) -> dict[str, Cell]:
    whole, everything = views[0], range(len(rows))
    found = {f"{view.prefix}{group.key}": cell(share(view, rows, group.places)) for view in views for group in groups}
    if new := _new(rows):
        found["cloze_new"] = cell(share(whole, rows, new))
    found |= {"cloze_guessing": guessing(rows, everything), "cloze_commonest": commonest(rows, everything)}
    return {**found, "cloze_nats": cell(mean_nats(whole, rows, seed)), "cloze_tied_share": whole.tied / len(rows),
            "cloze_widened": mean_widened(rows), "cloze_items": len(rows)}  # fmt: skip


def _new(rows: Sequence[Row]) -> list[int]:
    """Items whose true text the trained text does not contain."""
    return [place for place, row in enumerate(rows) if row["seen"] is False]


def label(group: Group) -> str:
    """The group's name for people."""
    name = text(GROUP_LABELS[group.group]) if group.group in GROUP_LABELS else str(group.group)
    if group.lang is None:
        return name
    return f"{name} · {text(LANGUAGE_LABELS[group.lang]) if group.lang in LANGUAGE_LABELS else group.lang}"


def _table(views: Sequence[Sequence[View]], groups: Sequence[Group], rows: Sequence[Row]) -> Table:
    """Every group, beside guessing; and the items whose sentence is new."""
    shown = [(label(group), group.places) for group in groups]
    shown += [(text("evaluate-gaps-new"), new)] if (new := _new(rows)) else []
    flat = [view for found in views for view in found]
    heads = [text("evaluate-guessing"), text("evaluate-commonest"), *(view.name for view in flat)]
    cells: list[list[Cell]] = [
        [name, len(places), guessing(rows, places), commonest(rows, places),
         *(cell(share(view, rows, places)) for view in flat)]
        for name, places in shown
    ]  # fmt: skip
    units: dict[str, Unit] = dict.fromkeys(heads, "percent")
    columns = [text("evaluate-gaps-group"), text("evaluate-gaps"), *heads]
    note = text("evaluate-gaps-note")
    return Table(title=text("evaluate-gaps-title"), columns=columns, rows=cells, units=units, note=note)


def _plot(views: Sequence[Sequence[View]], groups: Sequence[Group], rows: Sequence[Row]) -> Plot:
    """Shares by group and language, guessing last."""
    named = [group for group in groups if group.group is not None and group.lang is not None]
    names = [label(group) for group in named]
    series = []
    for view in (view for found in views for view in found):
        y, low, high = bounds([cell(share(view, rows, group.places)) for group in named])
        series.append(Series(name=view.name, x=[*names], y=y, low=low, high=high))
    chance = [guessing(rows, group.places) for group in named]
    series.append(Series(name=text("evaluate-guessing"), x=[*names], y=[*chance]))
    return Plot(title=text("evaluate-gaps-plot"), kind="bar", series=series, unit="percent", note=text("evaluate-95"))


def _differences(comparison: Comparison, groups: Sequence[Group], views: Sequence[Sequence[View]]) -> Table:
    """Every other model against the baseline, item by item."""
    rows, base = comparison.rows[0], views[comparison.baseline][0]
    cells: list[list[Cell]] = []
    for own in (views[index][0] for index in comparison.others):
        for group in groups:
            only = [int(((one.right & ~two.right)[group.places]).sum()) for one, two in ((own, base), (base, own))]
            apart = difference(own, base, rows, group.places, comparison.seed)
            cells.append([own.name, label(group), cell(apart), *only])
    head = text("evaluate-difference")
    columns = [text("evaluate-model"), text("evaluate-gaps-group"), head, text("evaluate-only-this"),
               text("evaluate-only-that", baseline=base.name)]  # fmt: skip
    title, note = text("evaluate-gaps-against", baseline=base.name), text("evaluate-gaps-paired-note")
    return Table(title=title, columns=columns, rows=cells, units={head: "percent"}, note=note)


def _asked(comparison: Comparison) -> Table:
    """How each model was asked, by its kind."""
    asked: list[list[Cell]] = [
        [entrant.name, entrant.form, text(f"evaluate-asked-{entrant.form}"), mean_widened(rows)]
        for entrant, rows in zip(comparison.entrants, comparison.rows, strict=True)
    ]
    codes = "evaluate-model", "evaluate-kind-of-model", "evaluate-asked", "evaluate-widened"
    columns = [text(code) for code in codes]
    return Table(title=text("evaluate-asked-title"), columns=columns, rows=asked, note=text("evaluate-asked-note"))


def _samples(comparison: Comparison, views: Sequence[Sequence[View]]) -> Table:
    """A few items of every model, group and language, right and wrong, with what the model chose."""
    cells: list[list[Cell]] = []
    for rows, (view, *_) in zip(comparison.rows, views, strict=True):
        shown: Counter[tuple[str, str, bool]] = Counter()
        for place in sorted(range(len(rows)), key=lambda n: (rows[n]["group"], rows[n]["lang"], not view.right[n])):
            row, right = rows[place], bool(view.right[place])
            kind = row["group"], row["lang"], right
            shown[kind] += 1
            if shown[kind] <= comparison.samples:
                group = Group("", row["group"], row["lang"], [])
                chosen = row["fillers"][int(np.argmax(row["nats"]))]
                written = f"{row['before']}{GAP}{row['after']}"
                mark = text("evaluate-right" if right else "evaluate-wrong")
                expected = row["fillers"][row["right"]]
                cells.append(
                    [view.name, label(group), mark, written, expected, chosen, float(np.exp(-view.nats[place]))]
                )
    columns = [text(code) for code in SAMPLE_COLUMNS]
    note = text("evaluate-gap-samples-note")
    return Table(title=text("evaluate-samples"), columns=columns, rows=cells, units={columns[-1]: "percent"}, note=note)


def _verdicts(comparison: Comparison, groups: Sequence[Group], views: Sequence[Sequence[View]]) -> Iterator[str]:
    """In plain words: how many gaps each model fills rightly, and whether it can be told apart from the baseline."""
    rows, base = comparison.rows[0], views[comparison.baseline][0]
    by_group = [group for group in groups if group.lang is None]
    chance = _percent(guessing(rows, range(len(rows))))
    for found in views:
        for view in found:
            shares = [(label(group), _percent(share(view, rows, group.places).value)) for group in by_group]
            rest = text("evaluate-comma").join(f"{name} {value}" for name, value in shares[1:])
            code = "evaluate-verdict-gaps" if view.prefix == WHOLE else "evaluate-verdict-gaps-left"
            yield text(code, model=found[0].name, share=shares[0][1], count=len(rows), chance=chance, shares=rest)
    for own in (views[index][0] for index in comparison.others):
        yield _against(own, base, rows, comparison.seed)


def _against(own: View, base: View, rows: Sequence[Row], seed: int) -> str:
    apart = difference(own, base, rows, range(len(rows)), seed)
    names = {"model": own.name, "baseline": base.name}
    if apart.value is None or apart.low is None or apart.high is None:
        return text("evaluate-verdict-gaps-unknown", **names)
    better = "evaluate-verdict-gaps-better" if apart.value > 0 else "evaluate-verdict-gaps-worse"
    code = better if apart.excludes_zero else "evaluate-verdict-gaps-alike"
    value, low, high = (100 * bound for bound in (apart.value, apart.low, apart.high))
    written = f"{abs(value):.1f}" if apart.excludes_zero else f"{value:+.1f}"
    return text(code, **names, value=written, low=f"{low:+.1f}", high=f"{high:+.1f}")


def _percent(value: float | None) -> str:
    return f"{100 * (value or 0):.0f} %"
