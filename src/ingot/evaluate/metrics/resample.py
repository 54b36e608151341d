"""Intervals of corpus scores, and whether two systems on the same texts differ.

Draws are those of sacrebleu with the same seed and number (numpy's default generator, indices of texts with
replacement, or a coin a text), so that p-values equal its paired tests; scores of all draws come from one product of
counts and sums. One thing differs: two systems with equal scores get p = 1 here, where sacrebleu's formula gives
1 / (draws + 1), as if they differed beyond doubt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ingot.evaluate.metrics.measured import Measured
from ingot.evaluate.statistics import Interval, Values, percentiles

RESAMPLES = 1000
"""Draws of the interval beside a randomisation test."""

NUMBERS_AT_ONCE = 8_000_000
"""Draws times texts held in memory at once."""


@dataclass(frozen=True)
class Paired:
    """Second minus first with its interval, and how surprising so large a difference would be between equals."""

    difference: Interval
    p_value: float


def intervals(measured: Measured, draws: int, seed: int) -> Interval:
    """The score with its 95 % percentile interval, levels widened for few texts (Hesterberg 2015)."""
    if measured.interval is not None or not measured.resampled:
        return measured.interval or Interval(measured.value)
    assert measured.stats is not None
    if len(measured.stats) < 2:
        return Interval(measured.value)
    return _interval(measured.value, _bootstrap([measured], draws, seed)[0], len(measured.stats))


def paired(first: Measured, second: Measured, draws: int, seed: int, test: str) -> Paired:
    """Compare two systems' scores on the same texts by `bootstrap` or `randomisation`."""
    assert first.stats is not None
    assert second.stats is not None
    assert first.stats.shape == second.stats.shape
    one, two = _bootstrap([first, second], draws if test == "bootstrap" else min(draws, RESAMPLES), seed)
    difference = second.value - first.value
    interval = _interval(difference, two - one, len(first.stats)) if len(first.stats) > 1 else Interval(difference)
    if difference == 0:
        return Paired(interval, 1.0)
    if test == "bootstrap":
        distances = np.abs(two - one)
        return Paired(interval, _p_value(distances - distances.mean(), abs(difference)))
    return Paired(interval, _p_value(_shuffled(first, second, draws, seed), abs(difference)))


def _p_value(statistics: Values, observed: float) -> float:
    return (int((statistics > observed).sum()) + 1) / (len(statistics) + 1)


def _interval(value: float, draws: Values, count: int) -> Interval:
    """Bounds of the draws; a score of sums need not lie between them, and is taken in."""
    low, high = percentiles(draws, count)
    return Interval(value, min(low, value), max(high, value))


def _bootstrap(systems: list[Measured], draws: int, seed: int) -> list[Values]:
    """Scores of every draw, the same draws for all systems."""
    found: list[list[Values]] = [[] for _ in systems]
    assert systems[0].stats is not None
    for counts_DN in _counts(draws, seed, len(systems[0].stats)):
        for scores, system in zip(found, systems, strict=True):
            assert system.of_sums is not None
            assert system.stats is not None
            scores.append(system.of_sums(counts_DN @ system.stats))
    return [np.concatenate(scores) for scores in found]


def _counts(draws: int, seed: int, count: int) -> Iterator[Values]:
    """How often each text is drawn, some draws at a time."""
    generator, at_once = np.random.default_rng(seed), max(1, NUMBERS_AT_ONCE // count)
    for begin in range(0, draws, at_once):
        rows = min(at_once, draws - begin)
        drawn = generator.choice(count, size=(rows, count), replace=True) + count * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)


def _shuffled(first: Measured, second: Measured, draws: int, seed: int) -> Values:
    """Distances between systems whose texts are swapped by a coin each (approximate randomisation)."""
    assert first.stats is not None
    assert second.stats is not None
    assert first.of_sums is not None
    assert second.of_sums is not None
    count, found, gap = len(first.stats), list[Values](), first.stats - second.stats
    second_total = second.stats.sum(0)
    total = first.stats.sum(0) + second_total
    for coins_DN in _coins(draws, seed, count):
        sums = coins_DN.astype(np.float64) @ gap + second_total
        found.append(np.abs(first.of_sums(sums) - second.of_sums(total - sums)))
    return np.concatenate(found)


def _coins(draws: int, seed: int, count: int) -> Iterator[npt.NDArray[np.bool_]]:
    """Rows a multiple of 32: the generator hands out coins by the 32, and drops what is left of a handful."""
    generator, at_once = np.random.default_rng(seed), max(1, NUMBERS_AT_ONCE // count // 32) * 32
    for begin in range(0, draws, at_once):
        yield generator.integers(2, size=(min(at_once, draws - begin), count), dtype=bool)
