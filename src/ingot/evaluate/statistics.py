"""Intervals for what a model scored: Wilson for shares (also of items in clusters), a clustered bootstrap for ratios,
Newcombe for pairs.

All intervals are 95 %. A bits-per-byte or perplexity figure is a ratio of sums over documents, and the tokens of one
document are not independent, so whole documents are drawn. Drawing the same documents for two models makes the
interval of their difference paired; that is the same function on the differences. Too few observations give an
interval that says so (None), never one that looks exact. Pure numpy, no state: same input and seed, same interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Right = npt.NDArray[np.bool_]

LEVEL = 0.95
Z = NormalDist().inv_cdf((1 + LEVEL) / 2)
RESAMPLES = 2000
CHUNK_DRAWS = 4_000_000
"""Draws held in memory at once: 32 MB of indices."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % bounds. `low` and `high` are None where the data cannot give them."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def scaled(self, factor: float, shift: float = 0.0) -> Interval:
        """value * factor + shift, the bounds likewise; factor > 0."""
        low, high = (None if bound is None else bound * factor + shift for bound in (self.low, self.high))
        return Interval(None if self.value is None else self.value * factor + shift, low, high)

    def exponential(self) -> Interval:
        """exp of value and bounds, `inf` where a float cannot hold it."""
        value, low, high = (None if part is None else exponential(part) for part in (self.value, self.low, self.high))
        return Interval(value, low, high)

    @property
    def excludes_zero(self) -> bool:
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class PairedShares:
    """Two shares on the same items: first minus second, and how surprising the split would be were they equal."""

    difference: Interval
    only_first: int
    only_second: int
    p_value: float | None


def exponential(value: float) -> float:
    """math.exp, with `inf` instead of OverflowError above 709."""
    return math.exp(value) if value < 709.7 else math.inf


def wilson(right: int, count: int) -> Interval:
    """Share `right / count` with its score interval (Wilson 1927); undefined for no items."""
    if count == 0:
        return Interval(None)
    return Interval(right / count, *_wilson_bounds(right, count))


def clustered_share(right: Right, clusters: Sequence[object]) -> Interval:
    """The share of items that are right, where those of one cluster (equal in `clusters`) are not independent.

    Wilson's interval at the effective number of items: their number over the design effect (Kish 1965; Korn and
    Graubard 1998), never more than there are, and never fewer than clusters. Where all items are right, or all wrong,
    nothing tells the design effect, and each cluster counts as one item.
    """
    if len(right) == 0:
        return Interval(None)
    hits, sizes = cluster_sums(right.astype(np.float64), clusters)
    count, num_clusters = len(right), len(sizes)
    share = float(hits.sum()) / count
    effective = float(num_clusters)
    if 0 < share < 1 and num_clusters > 1:
        between = num_clusters / (num_clusters - 1) * float(((hits - share * sizes) ** 2).sum()) / count**2
        design = max(1.0, between / (share * (1 - share) / count))
        effective = max(effective, count / design)
    return Interval(share, *_wilson_bounds(share * effective, effective))


def cluster_sums(values: Values, clusters: Sequence[object]) -> tuple[Values, Values]:
    """The sum of the values of each cluster (equal in `clusters`), and how many they are, in order of appearance."""
    names = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters))}
    number_of = np.array([names[cluster] for cluster in clusters], dtype=np.int64)
    sums, sizes = np.bincount(number_of, values), np.bincount(number_of)
    return sums.astype(np.float64), sizes.astype(np.float64)


def _wilson_bounds(right: float, count: float) -> tuple[float, float]:
    share, spread = right / count, Z * Z / count
    centre = (share + spread / 2) / (1 + spread)
    half = Z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return 0.0 if right == 0 else centre - half, 1.0 if right == count else centre + half


def clustered_ratio(numerators: Values, denominators: Values, seed: int, resamples: int = RESAMPLES) -> Interval:
    """sum(numerators) / sum(denominators) over clusters, with a bootstrap interval that draws whole clusters.

    numerators, denominators: (clusters,), denominators > 0. Bounds are None for fewer than two clusters or for
    infinite values.
    """
    assert numerators.shape == denominators.shape
    assert (denominators > 0).all()
    clusters = len(numerators)
    if clusters == 0:
        return Interval(None)
    if not np.isfinite(numerators).all():
        total = float(numerators.sum())
        return Interval(None if math.isnan(total) else total)
    value = float(numerators.sum() / denominators.sum())
    if clusters == 1:
        return Interval(value)
    return Interval(value, *percentiles(_resampled(numerators, denominators, seed, resamples), clusters))


FEWEST_CLUSTERS = 10
"""Differences of shares drawn from fewer clusters than this come out far too sure of themselves (6 items of 2 subjects,
3 right against none, gave 40 to 100 points); items are then taken as independent."""


def percentiles(draws: Values, clusters: int) -> tuple[float, float]:
    """The bounds of a bootstrap that drew so many clusters, from its draws; nan are draws that gave no figure.

    The levels are widened for few clusters (Hesterberg, "What Teachers Should Know About the Bootstrap", 2015, section
    4.3): plain percentiles are too short by sqrt((n-1)/n) and ignore Student's tails.
    """
    tail = NormalDist().cdf(-math.sqrt(clusters / (clusters - 1)) * student_quantile(clusters - 1))
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def _resampled(numerators: Values, denominators: Values, seed: int, resamples: int) -> Values:
    """The ratio in each of `resamples` draws of as many clusters as there are, with replacement."""
    generator, clusters = np.random.default_rng(seed), len(numerators)
    at_once = max(1, CHUNK_DRAWS // clusters)
    ratios: list[Values] = []
    for begin in range(0, resamples, at_once):
        drawn = generator.integers(clusters, size=(min(at_once, resamples - begin), clusters))
        ratios.append(numerators[drawn].sum(axis=1) / denominators[drawn].sum(axis=1))
    return np.concatenate(ratios)


def student_quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, exact for 1 and 2 degrees of freedom, else to 0.2 %.

    Abramowitz and Stegun 26.7.5 (expansion around the normal quantile); scipy is not needed at run time for this.
    """
    if freedom == 1:
        return math.tan(math.pi * (LEVEL / 2))
    if freedom == 2:
        return LEVEL * math.sqrt(2 / (1 - LEVEL**2))
    z, n = Z, float(freedom)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / n**power for power, term in enumerate(terms, start=1))


def paired_shares(first: Right, second: Right) -> PairedShares:
    """Share of right items of `first` minus `second` on the same items, in the same order.

    Interval: Newcombe, Statistics in Medicine 17 (1998), method 10, which stays honest when the two never differ.
    p: McNemar's exact two-sided test on the items that only one of them got right.
    """
    assert first.shape == second.shape
    count = len(first)
    if count == 0:
        return PairedShares(Interval(None), 0, 0, None)
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    interval = _newcombe(both, only_first, only_second, neither)
    return PairedShares(interval, only_first, only_second, exact_mcnemar(only_first, only_second))


def unpaired_difference(first: Interval, second: Interval) -> Interval:
    """First minus second, of different items: Newcombe, Statistics in Medicine 17 (1998), method 10 for independent
    shares with Wilson's bounds; Zou and Donner (27, 2008) for any others. Undefined where either side is."""
    if first.value is None or second.value is None:
        return Interval(None)
    apart = first.value - second.value
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return Interval(apart)
    down = math.hypot(first.value - first.low, second.high - second.value)
    return Interval(apart, apart - down, apart + math.hypot(first.high - first.value, second.value - second.low))


def _newcombe(both: int, only_first: int, only_second: int, neither: int) -> Interval:
    count = both + only_first + only_second + neither
    margins = both + only_first, only_second + neither, both + only_second, only_first + neither
    covariance = both * neither - only_first * only_second
    corrected = max(0.0, covariance - count / 2) if covariance > 0 else float(covariance)
    phi = corrected / math.sqrt(math.prod(margins)) if all(margins) else 0.0
    p, q = margins[0] / count, margins[2] / count
    (p_low, p_high), (q_low, q_high) = _wilson_bounds(margins[0], count), _wilson_bounds(margins[2], count)
    down, up = _correlated(p - p_low, q_high - q, phi), _correlated(p_high - p, q - q_low, phi)
    difference = p - q
    return Interval(difference, max(-1.0, difference - down), min(1.0, difference + up))


def _correlated(a: float, b: float, phi: float) -> float:
    return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))


def exact_mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided binomial probability of a split at least this uneven, were each side equally likely; 1 for no items."""
    count, fewer = only_first + only_second, min(only_first, only_second)
    return min(1.0, 2 * sum(math.comb(count, k) for k in range(fewer + 1)) / 2**count)
