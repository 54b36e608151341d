"""Tests on differences between two models on the same items, where whole clusters of items may depend on each other.

The null hypothesis of all of them: a difference is as likely to point one way as the other, cluster by cluster. Then
every sign may be turned (Fisher 1935), exactly for few clusters and by draws for many. Where each item stands alone
and is right or wrong, that is McNemar's exact test, and Tango's score test (Statistics in Medicine 17, 1998) asks
whether one share is more than a margin below the other; it stays honest when the two never differ.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal

import numpy as np

from ingot.evaluate.statistics import CHUNK_DRAWS, Values

Side = Literal["above", "below", "both"]

EXACT_CLUSTERS = 14
"""Up to so many clusters all patterns of signs are tried."""

SIGN_DRAWS = 9_999
TOLERANCE = 1e-12
"""Sums closer than this share of all that was summed are equal: turning a sign changes the rounding."""


def sign_flip(differences: Values, side: Side, seed: int) -> float:
    """How often the sum of the differences (one a cluster) is as far on a side of zero when signs are turned at will.

    1 for no clusters. By draws the observed pattern counts as one of them, so that it is never 0 (Phipson, Smyth 2010).
    """
    differences = differences[differences != 0]
    if len(differences) == 0:
        return 1.0
    observed = float(differences.sum())
    bound = _extent(np.array([observed]), side)[0] - TOLERANCE * float(np.abs(differences).sum())
    if len(differences) <= EXACT_CLUSTERS:
        return float((_extent(_all_patterns(differences), side) >= bound).mean())
    at_least, generator = 0, np.random.default_rng(seed)
    at_once = max(1, CHUNK_DRAWS // len(differences))
    for begin in range(0, SIGN_DRAWS, at_once):
        size = min(at_once, SIGN_DRAWS - begin), len(differences)
        signs = 2.0 * generator.integers(2, size=size, dtype=np.int8) - 1.0
        at_least += int((_extent(signs @ differences, side) >= bound).sum())
    return (1 + at_least) / (1 + SIGN_DRAWS)


def _extent(sums: Values, side: Side) -> Values:
    return sums if side == "above" else -sums if side == "below" else np.abs(sums)


def _all_patterns(differences: Values) -> Values:
    """The sum under each pattern of signs."""
    sums = np.zeros(1)
    for difference in differences:
        sums = np.concatenate([sums + difference, sums - difference])
    return sums


def mcnemar_one_sided(only_first: int, only_second: int) -> float:
    """Probability that the second alone is right at least so often, were each side equally likely; 1 for no items."""
    from scipy.stats import binom

    return float(binom.sf(only_second - 1, only_first + only_second, 0.5)) if only_first + only_second else 1.0


def tango(only_first: int, only_second: int, count: int, difference: float) -> float:
    """p of the claim that share(first) - share(second) is above `difference` (inside -1..1), by the score test."""
    if count == 0:
        return 1.0
    deviation = math.sqrt(tango_variance(only_first, only_second, count, difference))
    apart = only_first - only_second - count * difference
    if deviation == 0:
        return 0.0 if apart > 0 else 1.0
    return NormalDist().cdf(-apart / deviation)


def tango_variance(only_first: float, only_second: float, count: int, difference: float) -> float:
    """Variance of only_first - only_second where the shares differ by exactly `difference`, at the likeliest split."""
    a = 2.0 * count
    b = -only_first - only_second + (2 * count - only_first + only_second) * difference
    c = -only_second * difference * (1 - difference)
    second = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    return max(0.0, count * (2 * second + difference * (1 - difference)))
