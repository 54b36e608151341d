"""The page of `tune-temperature`: the decision, the curves it rests on, and what it was checked on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ingot.core.language import text
from ingot.core.report import Cell, Plot, Prose, Report, Section, Series, Table, Unit
from ingot.evaluate.statistics import Values
from ingot.evaluate.task import bounds, cell
from ingot.evaluate.temperature.choose import mean_interval
from ingot.evaluate.temperature.decide import Decision, Halves, share
from ingot.evaluate.temperature.options import TuneTemperatureOptions
from ingot.evaluate.temperature.scores import Scores

METHODS = {True: "temperature-method-labels", False: "temperature-method-entropy"}


def build(options: TuneTemperatureOptions, model: str, decision: Decision, scores: Scores, halves: Halves) -> Report:
    """The report; its numbers are those of the summary."""
    method = METHODS[decision.standing is not None]
    sections: list[Section] = [Prose(title=text("temperature-verdict"), text=decision.sentence)]
    sections += _curves(options, decision, scores, halves)
    sections += [_table(options, decision, scores, halves), Prose(title=text("temperature-how"), text=text(method))]
    units: dict[str, Unit] = {"accuracy": "percent", "gain_on_other_half": "percent", "answers_cut_share": "percent",
                              "turning_lost_share": "percent"}  # fmt: skip
    return Report(title=text("temperature-title", model=model), verb="tune-temperature",
                  options=options.model_dump(mode="json"), numbers=decision.numbers, sections=sections,
                  units={name: unit for name, unit in units.items() if name in decision.numbers})  # fmt: skip


def _curves(options: TuneTemperatureOptions, decision: Decision, scores: Scores, halves: Halves) -> Iterator[Section]:
    chosen = decision.temperature
    marked = "" if chosen is None else text("temperature-marked", temperature=f"{chosen:g}")
    if scores.single is not None and scores.majority is not None:
        _, _, single, most = _shares(options)
        series = [
            _accuracy(single, options.temperatures, scores.single),
            _accuracy(most, options.temperatures, scores.majority),
        ]
        if chosen is not None:
            place = options.temperatures.index(chosen)
            right = 100 * float(scores.by(options.aim)[:, place].mean())
            series.append(Series(name=text("temperature-chosen"), x=[chosen], y=[right]))
        yield Plot(title=text("temperature-plot-right"), kind="line", series=series, x_label=text("temperature"),
                   y_label="%", note=f"{text('evaluate-95')} {marked}".strip())  # fmt: skip
    warm = [place for place, one in enumerate(options.temperatures) if one > 0 and scores.entropy[:, place].mean() > 0]
    x = [options.temperatures[place] for place in warm]
    cells = [cell(mean_interval(scores.entropy[:, place])) for place in warm]
    y, low, high = bounds(cells)
    if warm:
        yield Plot(title=text("temperature-plot-entropy"), kind="line",
                   series=[Series(name=text("temperature-entropy"), x=list(x), y=y, low=low, high=high)],
                   x_label=text("temperature"), y_label=text("temperature-nats"), note=marked)  # fmt: skip


def _accuracy(name: str, grid: Sequence[float], values: Values) -> Series:
    y, low, high = bounds([cell(share(column)) for column in values.T], 100.0)
    return Series(name=name, x=list(grid), y=y, low=low, high=high)


def _table(options: TuneTemperatureOptions, decision: Decision, scores: Scores, halves: Halves) -> Table:
    columns: dict[str, list[Cell]] = {text("temperature"): [*options.temperatures]}
    columns |= _right(options, decision, scores, halves)
    columns[text("temperature-nats")] = [float(column.mean()) for column in scores.entropy.T]
    columns[text("temperature-cut")] = [float(column.mean()) for column in scores.cut.T]
    columns[text("temperature-tokens")] = [float(column.mean()) for column in scores.tokens.T]
    shares = (*_shares(options), text("temperature-cut"))
    return Table(
        title=text("temperature-table"),
        columns=list(columns),
        rows=[list(row) for row in zip(*columns.values(), strict=True)],
        units={name: "percent" for name in columns if name in shares},
        note=text("temperature-table-note", first=len(halves[0]), second=len(halves[1])),
    )


def _shares(options: TuneTemperatureOptions) -> list[str]:
    names = ("temperature-first-half", "temperature-second-half")
    return [*map(text, names), text("temperature-single"), text("temperature-majority", samples=options.samples)]


def _right(
    options: TuneTemperatureOptions, decision: Decision, scores: Scores, halves: Halves
) -> dict[str, list[Cell]]:
    if scores.single is None or scores.majority is None:
        return {}
    values = scores.by(options.aim)
    first, second, single, most = _shares(options)
    found: dict[str, list[Cell]] = {first: [cell(share(column)) for column in values[halves[0]].T]}
    if decision.standing is not None:
        found[text("temperature-standing")] = [_standing(decision, place) for place in range(len(options.temperatures))]
    return found | {
        second: [cell(share(column)) for column in values[halves[1]].T],
        single: [cell(share(column)) for column in scores.single.T],
        most: [cell(share(column)) for column in scores.majority.T],
    }


def _standing(decision: Decision, place: int) -> str:
    assert decision.standing is not None
    if place == decision.standing.best:
        return text("temperature-is-best")
    return text("temperature-is-like" if place in decision.standing.kept else "temperature-is-worse")
