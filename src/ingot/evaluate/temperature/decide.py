"""The decision and its evidence: chosen on one half of the questions, checked on the other.

With labels the check can overrule the choice: a temperature that is not better on questions it was not chosen by, than
those it had beaten, is none. Without labels nothing can be checked but whether both halves turn at the same place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ingot.core.language import text
from ingot.core.report import Cell
from ingot.evaluate.statistics import Interval, Values, wilson
from ingot.evaluate.task import cell
from ingot.evaluate.temperature.choose import LEVEL, Standing, gain, mean_interval, stand
from ingot.evaluate.temperature.options import Aim
from ingot.evaluate.temperature.scores import Scores
from ingot.evaluate.temperature.turning import LOST, WIDEST, Turning, turn

Halves = tuple[list[int], list[int]]


@dataclass(frozen=True)
class Decision:
    """temperature: None where it cannot be told; sentence: why; evidence: plain values that go with the temperature;
    numbers: for the summary and the report."""

    temperature: float | None
    sentence: str
    numbers: dict[str, Cell]
    evidence: dict[str, Any]
    standing: Standing | None = None
    turning: Turning | None = None


def by_labels(scores: Scores, halves: Halves, grid: Sequence[float], aim: Aim, seed: int) -> Decision:
    """The lowest of the temperatures that right answers do not tell from the best, or none."""
    values = scores.by(aim)
    first, second = values[halves[0]], values[halves[1]]
    standing = stand(first, seed)
    gained = None if standing.chosen is None else gain(second, standing.chosen, standing.dropped)
    holds = gained is not None and (gained.value or 0.0) > 0
    place = standing.chosen if holds else None
    return Decision(
        temperature=None if place is None else grid[place],
        sentence=_labels_said(standing, gained, holds, values, halves, grid),
        numbers=_labels_numbers(standing, gained, place, scores, second, grid),
        evidence=_labels_evidence(standing, gained, first, second, grid, aim),
        standing=standing,
    )


def by_entropy(scores: Scores, halves: Halves, grid: Sequence[float], seed: int) -> Decision:
    """The turning point of the entropy, or none."""
    found = turn(grid, scores.entropy, seed)
    parts = [turn(grid, scores.entropy[half], seed).interval.value for half in halves]
    place = found.place if found.is_clear else None
    numbers: dict[str, Cell] = {"turning_point": cell(found.interval), "turning_lost_share": found.lost,
                                "turning_first_half": parts[0], "turning_second_half": parts[1]}  # fmt: skip
    if place is not None:
        numbers |= _at(scores, place, scores.single)
    return Decision(
        temperature=None if place is None else grid[place],
        sentence=_entropy_said(found, len(scores.entropy)),
        numbers=numbers,
        evidence={"entropy": _rounded(scores.entropy.mean(0)), "turning_interval": _bounds(found.interval),
                  "without_turning": round(found.lost, 4), "halves": parts},
        turning=found,
    )  # fmt: skip


def share(values_Q: Values) -> Interval:
    """A share of right answers over questions; Wilson's bounds where all questions agree, Student's otherwise."""
    mean, count = float(values_Q.mean()), len(values_Q)
    if values_Q.std() == 0 and mean in (0.0, 1.0):
        return wilson(round(mean * count), count)
    found = mean_interval(values_Q)
    low, high = (None if bound is None else min(1.0, max(0.0, bound)) for bound in (found.low, found.high))
    return Interval(mean, low, high)


def listed(temperatures: Sequence[float]) -> str:
    return text("evaluate-comma").join(f"{one:g}" for one in temperatures) or "-"


def _labels_said(
    standing: Standing, gained: Interval | None, holds: bool, values: Values, halves: Halves, grid: Sequence[float]
) -> str:
    counts = {"count": len(halves[0]), "others": len(halves[1])}
    if standing.chosen is None or gained is None:
        shares = {"share": f"{standing.means[standing.best]:.1%}", "low": f"{standing.means.min():.1%}"}
        return text("temperature-flat", number=len(grid), best=f"{grid[standing.best]:g}", **shares, **counts)
    points = {name: f"{100 * (value or 0.0):+.1f}" for name, value in
              (("gain", gained.value), ("least", gained.low), ("most", gained.high))}  # fmt: skip
    chosen = f"{grid[standing.chosen]:g}"
    if not holds:
        return text("temperature-not-held", temperature=chosen, **counts, **points)
    seen = f"{values[halves[1], standing.chosen].mean():.1%}"
    return text("temperature-told", temperature=chosen, share=seen, kept=listed([grid[k] for k in standing.kept]),
                dropped=listed([grid[k] for k in standing.dropped]), **counts, **points)  # fmt: skip


def _labels_numbers(
    standing: Standing,
    gained: Interval | None,
    place: int | None,
    scores: Scores,
    second: Values,
    grid: Sequence[float],
) -> dict[str, Cell]:
    numbers: dict[str, Cell] = {"best_on_first_half": grid[standing.best], "told_apart": len(standing.dropped)}
    if gained is not None:
        numbers["gain_on_other_half"] = cell(gained)
    if place is not None:
        numbers |= {"accuracy": cell(share(second[:, place]))} | _at(scores, place, None)
    return numbers


def _at(scores: Scores, place: int, right: Values | None) -> dict[str, Cell]:
    found: dict[str, Cell] = {} if right is None else {"accuracy": cell(share(right[:, place]))}
    return found | {"answers_cut_share": float(scores.cut[:, place].mean()),
                    "entropy": float(scores.entropy[:, place].mean())}  # fmt: skip


def _labels_evidence(
    standing: Standing, gained: Interval | None, first: Values, second: Values, grid: Sequence[float], aim: Aim
) -> dict[str, Any]:
    return {
        "aim": aim,
        "accuracy": _rounded(standing.means),
        "standard_errors": _rounded([float(column.std(ddof=1)) / len(first) ** 0.5 for column in first.T]),
        "accuracy_other_half": _rounded(second.mean(0)),
        "not_told_apart": [grid[place] for place in standing.kept],
        "level": LEVEL,
        "gain_other_half": None if gained is None else round(gained.value or 0.0, 4),
        "gain_interval": None if gained is None else _bounds(gained),
        "questions": [len(first), len(second)],
    }


def _entropy_said(found: Turning, count: int) -> str:
    if found.place is None:
        return text("temperature-no-turn", count=count)
    low, high = (found.interval.low or 0.0), (found.interval.high or 0.0)
    values = {"temperature": f"{found.interval.value:g}", "low": f"{low:g}", "high": f"{high:g}", "count": count}
    if found.is_clear:
        return text("temperature-turned", **values)
    allowed = {"widest": f"{WIDEST:g}", "most": f"{LOST:.0%}"}
    return text("temperature-turn-unclear", lost=f"{found.lost:.0%}", **allowed, **values)


def _bounds(interval: Interval) -> list[float | None]:
    return [None if bound is None else round(bound, 4) for bound in (interval.low, interval.high)]


def _rounded(values: Sequence[float] | Values) -> list[float]:
    return [round(float(value), 4) for value in values]
