"""The report of a run: loss, learning rate, norms of the gradient (also by layer) and speed, and what went wrong.

Made from `metrics.jsonl` alone, so it can be made again. Long runs are drawn by at most 400 points: the mean of the
steps in between, for the norm the largest, because a mean would hide a spike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ingot.core.language import text
from ingot.core.report import Plot, Prose, Report, Section, Series, Table
from ingot.train.health.gradients import Extremes, extremes

POINTS = 400
LINES = 12
"""Layers drawn at most, evenly chosen; all are judged."""

Line = dict[str, Any]


def training_report(verb: str, options: dict[str, Any], numbers: dict[str, Any], lines: Sequence[Line]) -> Report:
    """The report of a run from its log. `numbers` stand on top."""
    steps = [line for line in lines if "event" not in line]
    events = [line for line in lines if "event" in line]
    sections = [*_plots(steps), Prose(title=text("train-health"), text=verdict(steps)), *_events(events)]
    plain = plain_numbers(numbers)
    return Report(title=text("train-report"), verb=verb, options=options, numbers=plain, sections=sections)


def plain_numbers(numbers: dict[str, Any]) -> dict[str, Any]:
    """Those of a hallmark that a report shows."""
    return {name: value for name, value in numbers.items() if isinstance(value, int | float | str)}


def verdict(steps: Sequence[Line]) -> str:
    """One sentence on each layer whose gradient is far from the others', or one that there is none."""
    found = extremes([line["layers"] for line in steps if "layers" in line])
    sentences = [*_named(found), *([] if found.vanishing or found.exploding else [text("train-layers-well")])]
    return " ".join(sentences)


def _named(found: Extremes) -> Iterator[str]:
    for layer, ratio in found.vanishing.items():
        yield text("train-vanishing", layer=layer, times="∞" if ratio == 0 else f"{1 / ratio:,.0f}")
    for layer, ratio in found.exploding.items():
        yield text("train-exploding", layer=layer, times=f"{ratio:,.0f}")


def _plots(steps: Sequence[Line]) -> Iterator[Section]:
    step, places = text("train-step"), [line["step"] for line in steps]
    prefers = any("accuracy" in line for line in steps)
    loss_unit = "train-unit-preference" if prefers else "train-unit-loss"
    for key, title, unit in (("loss", "train-plot-loss", loss_unit), ("norm", "train-plot-norm", ""),
                             ("lr", "train-plot-lr", ""), ("tokens_per_second", "train-plot-speed", "")):  # fmt: skip
        series = _series(text(title), places, [line[key] for line in steps], largest=key == "norm")
        yield Plot(title=text(title), kind="line", series=[series], x_label=step, y_label=text(unit) if unit else "")
    if prefers:
        yield from _preferences(steps, step, places)
    layered = [line for line in steps if "layers" in line]
    if layered:
        places = [line["step"] for line in layered]
        names = _evenly(list(layered[0]["layers"]))
        drawn = [_series(name, places, [line["layers"].get(name) for line in layered]) for name in names]
        yield Plot(title=text("train-plot-layers"), kind="line", series=drawn, x_label=step)


def _preferences(steps: Sequence[Line], step: str, places: list[int]) -> Iterator[Section]:
    """What only preference tuning says of its steps."""
    for key, title in (("margin", "train-plot-margin"), ("accuracy", "train-plot-accuracy")):
        series = _series(text(title), places, [line.get(key) for line in steps])
        yield Plot(title=text(title), kind="line", series=[series], x_label=step)
    answers = [_series(text(f"train-{key}"), places, [line.get(key) for line in steps])
               for key in ("chosen", "rejected")]  # fmt: skip
    yield Plot(title=text("train-plot-answers"), kind="line", series=answers, x_label=step,
               y_label=text("train-unit-nats"))  # fmt: skip


def _evenly(names: list[str]) -> list[str]:
    if len(names) <= LINES:
        return names
    return [names[round(place * (len(names) - 1) / (LINES - 1))] for place in range(LINES)]


def _series(name: str, steps: list[int], values: list[float | None], largest: bool = False) -> Series:
    """A line of at most POINTS points; each stands at the last step it is made from."""
    size = max(1, -(-len(values) // POINTS))
    x: list[float | str | None] = []
    y: list[float | None] = []
    for begin in range(0, len(values), size):
        group = [value for value in values[begin : begin + size] if value is not None]
        x.append(steps[min(begin + size, len(values)) - 1])
        y.append((max(group) if largest else sum(group) / len(group)) if group else None)
    return Series(name=name, x=x, y=y)


def _events(events: Sequence[Line]) -> Iterator[Section]:
    if not events:
        return
    columns = [text("train-column-step"), text("train-column-event"), text("train-column-reason"),
               text("train-column-loss"), text("train-column-norm"), text("train-column-documents")]  # fmt: skip
    rows = [[event["step"], event["event"], event["reason"], event["loss"], event["norm"],
             ", ".join(event["documents"])] for event in events]  # fmt: skip
    yield Table(title=text("train-events"), columns=columns, rows=rows, note=text("train-events-note"))
