"""How well scores tell two groups apart: area under the curve, and true positives at few false ones, with intervals.

Intervals draw the members and the others anew, each group by itself, 2000 times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingot.evaluate.statistics import LEVEL, RESAMPLES, Interval, Values

AT_ONCE = 100
"""Draws held in memory at once."""

FALSE_RATE = 0.01


@dataclass(frozen=True)
class Told:
    """`auc`: the chance that a member scores above another, ties half. `caught`: the share of members above all but 1 %
    of the others; undefined for fewer than a hundred of these."""

    auc: Interval
    caught: Interval


def tell_apart(members: Values, others: Values, seed: int, resamples: int = RESAMPLES) -> Told:
    """Higher scores speak for membership."""
    generator = np.random.default_rng(seed)
    ordered = np.unique(np.concatenate([members, others]), return_inverse=True)[1]
    a, b = ordered[: len(members)], ordered[len(members) :]
    areas, shares = [], []
    for begin in range(0, resamples, AT_ONCE):
        count = min(AT_ONCE, resamples - begin)
        drawn_a = a[generator.integers(len(a), size=(count, len(a)))]
        drawn_b = np.sort(b[generator.integers(len(b), size=(count, len(b)))], axis=1)
        areas += [auc_of(one, other) for one, other in zip(drawn_a, drawn_b, strict=True)]
        shares += [caught_of(one, other) for one, other in zip(drawn_a, drawn_b, strict=True)]
    area = _interval(auc_of(a, np.sort(b)), areas)
    return Told(area, _interval(caught_of(a, np.sort(b)), shares) if len(b) * FALSE_RATE >= 1 else Interval(None))


def _interval(value: float, drawn: list[float]) -> Interval:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))


def auc_of(members: NDArray[np.int64], others_sorted: NDArray[np.int64]) -> float:
    """Mann-Whitney: the share of pairs in which the member is above, ties half."""
    below = np.searchsorted(others_sorted, members, "left") + np.searchsorted(others_sorted, members, "right")
    return float(below.sum() / (2 * len(members) * len(others_sorted)))


def caught_of(members: NDArray[np.int64], others_sorted: NDArray[np.int64]) -> float:
    """The share of members above a threshold that at most 1 % of the others exceed."""
    allowed = int(FALSE_RATE * len(others_sorted))
    return float((members > others_sorted[len(others_sorted) - 1 - allowed]).mean())


def curve(members: Values, others: Values, points: int = 101) -> tuple[list[float], list[float]]:
    """False and true positive rates, at evenly spread false ones."""
    ordered = np.sort(others)[::-1]
    false = np.linspace(0, 1, points)
    at = np.minimum((false * len(ordered)).astype(int), len(ordered) - 1)
    true = [float((members > ordered[number]).mean()) for number in at]
    return [*false.tolist(), 1.0], [*true, 1.0]
