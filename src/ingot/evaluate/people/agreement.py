"""How far raters agree beyond chance: Cohen's and Fleiss' kappa, Krippendorff's alpha with missing ratings.

Each is None where it is not defined: where only one category was used, chance alone would agree always, and neither 0
nor 1 would be true. Intervals draw whole units (or what the units are about), see `resampling`.

Cohen 1960 and 1968 (weights), Fleiss 1971, Krippendorff 2011 ("Computing Krippendorff's Alpha-Reliability").
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Literal

import numpy as np

from ingot.evaluate.people.resampling import bootstrap
from ingot.evaluate.statistics import Interval, Values

Level = Literal["nominal", "ordinal", "interval", "ratio"]
Weights = Literal["none", "linear", "quadratic"]
Ratings = Sequence[Sequence[Hashable | None]]
"""One row a rater, one column a unit; None: not rated."""


def cohen(
    first: Sequence[Hashable], second: Sequence[Hashable], weights: Weights = "none", seed: int = 0,
    clusters: Sequence[Hashable] | None = None,
) -> Interval:  # fmt: skip
    """Cohen's kappa of two raters who rated the same units. `weights` need categories that sort; units of one cluster
    are drawn together."""
    assert len(first) == len(second)
    categories = {value: at for at, value in enumerate(_ordered({*first, *second}))}
    owner = _numbered(clusters if clusters is not None else range(len(first)))
    size, count = len(categories), max(owner, default=-1) + 1
    tables_GKK = np.zeros((count, size, size))
    for group, one, other in zip(owner, first, second, strict=True):
        tables_GKK[group, categories[one], categories[other]] += 1
    distance_KK = _distance(size, weights)
    return bootstrap(lambda w: _cohen(np.tensordot(w, tables_GKK, 1), distance_KK), count, seed)


def _cohen(table_KK: Values, distance_KK: Values) -> float | None:
    total = float(table_KK.sum())
    if total == 0:
        return None
    expected_KK = np.outer(table_KK.sum(1), table_KK.sum(0)) / total
    chance = float((expected_KK * distance_KK).sum())
    return None if chance == 0 else 1 - float((table_KK * distance_KK).sum()) / chance


def _distance(size: int, weights: Weights) -> Values:
    apart_KK = np.abs(np.subtract.outer(np.arange(size), np.arange(size))).astype(np.float64)
    return {"none": np.minimum(apart_KK, 1), "linear": apart_KK, "quadratic": apart_KK**2}[weights]


def fleiss(counts_UK: Values, seed: int = 0) -> Interval:
    """Fleiss' kappa from how many raters put each unit into each category. Units with fewer than two ratings say
    nothing and are left out; others may have differing numbers, each pair of ratings counts within its unit."""
    kept_UK = np.asarray(counts_UK, dtype=np.float64)
    kept_UK = kept_UK[kept_UK.sum(1) >= 2]
    return bootstrap(lambda w: _fleiss(kept_UK, w), len(kept_UK), seed)


def _fleiss(counts_UK: Values, weights_U: Values) -> float | None:
    if not len(counts_UK):
        return None
    raters_U = counts_UK.sum(1)
    agreed_U = ((counts_UK**2).sum(1) - raters_U) / (raters_U * (raters_U - 1))
    shares_K = weights_U @ counts_UK / (weights_U @ raters_U)
    chance = float((shares_K**2).sum())
    return None if chance >= 1 else (float(weights_U @ agreed_U / weights_U.sum()) - chance) / (1 - chance)


def krippendorff(
    ratings: Ratings, level: Level = "nominal", seed: int = 0, clusters: Sequence[Hashable] | None = None
) -> Interval:
    """Krippendorff's alpha. Values are numbers, but for nominal, which takes anything. Units with fewer than two
    ratings are not counted; units of one cluster (`clusters`, one a unit) are drawn together."""
    counts_UV, values = _value_counts(ratings)
    paired_U = counts_UV.sum(1) >= 2
    owner = clusters if clusters is not None else list(range(len(counts_UV)))
    kept = _numbered([name for name, is_paired in zip(owner, paired_U, strict=True) if is_paired])
    owner_U = np.array(kept, dtype=np.int64)
    counts_UV = counts_UV[paired_U]
    metric = METRICS[level]
    numbers_V = np.arange(len(values), dtype=np.float64) if level == "nominal" else np.array(values, dtype=np.float64)

    def figure(weights_G: Values) -> float | None:
        return _alpha(_coincidences(counts_UV, weights_G[owner_U]), numbers_V, metric)

    return bootstrap(figure, max(kept, default=-1) + 1, seed)


def _value_counts(ratings: Ratings) -> tuple[Values, list[Hashable]]:
    """How often each value was given to each unit, and the values in order."""
    values = _ordered({value for row in ratings for value in row if value is not None})
    place = {value: at for at, value in enumerate(values)}
    counts_UV = np.zeros((max(map(len, ratings), default=0), len(values)))
    for row in ratings:
        for unit, value in enumerate(row):
            if value is not None:
                counts_UV[unit, place[value]] += 1
    return counts_UV, values


def _coincidences(counts_UV: Values, weights_U: Values) -> Values:
    """The matrix of pairs of values within units, each unit's pairs divided by its ratings less one."""
    if not len(counts_UV):
        return np.zeros((counts_UV.shape[1], counts_UV.shape[1]))
    share_U1 = (weights_U / (counts_UV.sum(1) - 1))[:, None]
    return counts_UV.T @ (share_U1 * counts_UV) - np.diag((share_U1 * counts_UV).sum(0))


def _alpha(pairs_VV: Values, numbers_V: Values, metric: Callable[[Values, Values], Values]) -> float | None:
    totals_V = pairs_VV.sum(0)
    distance_VV = metric(numbers_V, totals_V)
    chance = float(totals_V @ distance_VV @ totals_V)
    if chance <= 0:
        return None
    return 1 - (float(totals_V.sum()) - 1) * float((pairs_VV * distance_VV).sum()) / chance


def _nominal(numbers_V: Values, totals_V: Values) -> Values:
    return (numbers_V[:, None] != numbers_V[None, :]).astype(np.float64)


def _interval(numbers_V: Values, totals_V: Values) -> Values:
    return np.subtract.outer(numbers_V, numbers_V) ** 2


def _ratio(numbers_V: Values, totals_V: Values) -> Values:
    sums_VV = np.add.outer(numbers_V, numbers_V)
    apart_VV = np.subtract.outer(numbers_V, numbers_V)
    return np.divide(apart_VV, sums_VV, out=np.zeros_like(sums_VV), where=sums_VV != 0) ** 2


def _ordinal(numbers_V: Values, totals_V: Values) -> Values:
    """How many ratings lie between two values, each end counting half."""
    middle_V = np.cumsum(totals_V) - totals_V / 2
    return np.subtract.outer(middle_V, middle_V) ** 2


METRICS: dict[Level, Callable[[Values, Values], Values]] = {
    "nominal": _nominal,
    "ordinal": _ordinal,
    "interval": _interval,
    "ratio": _ratio,
}


def _ordered(values: set[Hashable]) -> list[Hashable]:
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(numbers) == len(values):
        return [*sorted(numbers)]
    return sorted(values, key=str)


def _numbered(names: Sequence[Hashable]) -> list[int]:
    place: dict[Hashable, int] = {}
    return [place.setdefault(name, len(place)) for name in names]
