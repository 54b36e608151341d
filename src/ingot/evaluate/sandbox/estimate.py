"""pass@k: how likely it is that one of k programs is right, from n that were written and c of them right.

The unbiased estimator of Chen et al., "Evaluating Large Language Models Trained on Code" (2021): one minus the chance
that k drawn without replacement are all wrong. Computed with whole numbers, so that c = n gives exactly 1. Problems
are what is drawn in the bootstrap: the programs of one problem are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ingot.evaluate.statistics import Interval, Values, clustered_ratio, wilson


def pass_at_k(num: int, right: int, k: int) -> float:
    """Of one problem. Raises ValueError for fewer programs than k."""
    if not 0 <= right <= num:
        raise ValueError(f"{right} of {num} programs cannot be right")
    if num < k or k < 1:
        raise ValueError(f"pass@{k} cannot be estimated from {num} programs")
    return 1.0 - math.comb(num - right, k) / math.comb(num, k)


def each(counts: Sequence[tuple[int, int]], k: int) -> Values:
    """pass@k of every problem, from (programs, right ones)."""
    return np.array([pass_at_k(num, right, k) for num, right in counts], np.float64)


def mean(values: Values, seed: int) -> Interval:
    """The mean over problems with its interval. Where all problems are alike nothing can be drawn to tell how sure that
    is; then it is Wilson's of as many problems."""
    if len(values) and (values == values[0]).all() and values[0] in (0.0, 1.0):
        return wilson(int(values.sum()), len(values))
    return clustered_ratio(values, np.ones(len(values)), seed)


def difference(first: Values, second: Values, seed: int) -> Interval:
    """First minus second on the same problems."""
    return clustered_ratio(first - second, np.ones(len(first)), seed)
