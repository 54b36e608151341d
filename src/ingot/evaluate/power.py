"""Power of the paired tests: how surely they see a true difference on so many items, and what the smallest is.

Only one thing is taken from the data: how much two models differ item by item, which is noise to the question. For
shares that is the part of the items that only one of them gets right, with one item of either kind added (Laplace), so
that two models that never differed on few items are not taken for ones that never will. Power "observed" for the
difference that was observed is not computed anywhere: it says the same as p.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from ingot.evaluate.paired import tango_variance
from ingot.evaluate.statistics import Values

MOST_ITEMS = 10_000_000
"""Nobody is told to find more."""

NORMAL = NormalDist()


def disagreement(only_first: int, only_second: int, count: int) -> float:
    """Share of the items that only one of two models gets right."""
    return (only_first + only_second + 1) / (count + 2)


def mcnemar_power(count: int, apart: float, drop: float, level: float, tails: int) -> float:
    """How often McNemar's exact test on `count` items sees a true drop, where a share `apart` of them differs."""
    from scipy.stats import binom

    if count == 0:
        return 0.0
    apart = min(1.0, max(apart, drop))
    middle, spread = count * apart, 8 * math.sqrt(count * apart * (1 - apart)) + 8
    differing = np.arange(max(0, int(middle - spread)), min(count, int(middle + spread) + 1) + 1)
    needed = binom.isf(level / tails, differing, 0.5)  # more than so many on one side are significant
    seen = binom.sf(needed, differing, (apart + drop) / (2 * apart))
    return float((binom.pmf(differing, count, apart) * seen).sum())


def tango_power(count: int, apart: float, margin: float, level: float) -> float:
    """How often equal models are shown to differ by less than the margin, by the score test; normal approximation."""
    if count == 0:
        return 0.0
    half = count * apart / 2
    needed = NORMAL.inv_cdf(1 - level) * math.sqrt(tango_variance(half, half, count, -margin))
    return NORMAL.cdf((count * margin - needed) / math.sqrt(count * apart))


def standard_error(differences: Values, weights: Values) -> float | None:
    """Of sum(differences) / sum(weights) over independent clusters, linearised; None for fewer than two."""
    clusters = len(differences)
    if clusters < 2:
        return None
    rest = differences - differences.sum() / weights.sum() * weights
    return math.sqrt(clusters / (clusters - 1) * float(rest @ rest)) / float(weights.sum())


def mean_power(error: float | None, clusters: int, size: float, level: float, tails: int) -> float:
    """How often a true difference of this size is seen, where the mean difference has this standard error."""
    if error is None or tails * 0.5**clusters > level:  # even all signs alike would not be significant
        return 0.0
    return 1.0 if error == 0 else NORMAL.cdf(size / error - _quantile(clusters, level / tails))


def smallest_mean(error: float | None, clusters: int, level: float, power: float) -> float | None:
    """The smallest difference that a two-sided test sees with this power; None where it sees none, or none is known."""
    if not error or 2 * 0.5**clusters > level:
        return None
    return error * (_quantile(clusters, level / 2) + NORMAL.inv_cdf(power))


def smallest_share(count: int, apart: float, level: float, power: float) -> float | None:
    """The same for McNemar's exact test: to a tenth of a percent of itself; None where even 100 points are not seen."""
    if mcnemar_power(count, apart, 1.0, level, 2) < power:
        return None
    low, high = 0.0, 1.0
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if mcnemar_power(count, apart, middle, level, 2) >= power else (middle, high)
    return high


def _quantile(clusters: int, tail: float) -> float:
    from scipy.stats import t

    return float(t.isf(tail, clusters - 1))


def items_needed(power_at: Callable[[int], float], power: float) -> int | None:
    """The smallest number of items (or clusters) with this power; None above MOST_ITEMS. McNemar's power goes up and
    down a little as items are added: the number is one from which on it holds to a good half of a percent."""
    high = 2
    while power_at(high) < power:
        high *= 2
        if high > MOST_ITEMS:
            return None
    low = high // 2
    while high - low > max(1, low // 200):
        middle = (low + high) // 2
        low, high = (low, middle) if power_at(middle) >= power else (middle, high)
    return high
