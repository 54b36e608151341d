"""A bootstrap over whole clusters for any figure of weighted clusters, with a fixed seed.

`statistics.clustered_ratio` knows ratios of sums only; kappa, alpha and their kind are functions of the whole sample. A
draw is told as how often each cluster was drawn, so that a figure is computed from sums with weights.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ingot.evaluate.statistics import Interval, Values, percentiles

RESAMPLES = 1000
FEWEST = 5
"""Fewer clusters give no interval."""
DEFINED = 0.9
"""Where fewer of the draws give a figure, there is no interval."""


def bootstrap(figure: Callable[[Values], float | None], num_clusters: int, seed: int) -> Interval:
    """The figure with every cluster once, and the 95 % percentile interval over draws of clusters (widened for few, as
    in `clustered_ratio`). `figure` takes a weight a cluster; None: undefined."""
    value = figure(np.ones(num_clusters))
    if value is None or num_clusters < FEWEST:
        return Interval(value)
    generator = np.random.default_rng(seed)
    drawn = (generator.integers(num_clusters, size=num_clusters) for _ in range(RESAMPLES))
    found = [figure(np.bincount(draw, minlength=num_clusters).astype(np.float64)) for draw in drawn]
    known = [each for each in found if each is not None]
    if len(known) < DEFINED * RESAMPLES:
        return Interval(value)
    low, high = percentiles(np.array(known), num_clusters)
    return Interval(value, min(low, value), max(high, value))
