"""A finding: how far from even a model is, with its interval, a test of evenness, and what the test could have seen.

Everything is a ratio of sums over clusters (a template, a question, a target word), because items of one are alike: the
sum of signed values over the sum of weights, 0 where neither side is preferred. Shown as a share it is (1 + value) / 2.
The test flips the sign of whole clusters (exact for few, drawn for many), so it holds for any distribution that is
even; the interval draws whole clusters. Nothing here says "no bias": a test that finds nothing says what it could have
found.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ingot.core.report import Unit
from ingot.evaluate.power import smallest_mean, standard_error
from ingot.evaluate.statistics import RESAMPLES, Interval, Values, cluster_sums, percentiles

LEVEL, POWER = 0.05, 0.8
EXACT_CLUSTERS = 14
"""Up to 2^14 flips are all tried."""
FLIPS = 9_999
CHUNK = 500


@dataclass(frozen=True)
class Parts:
    """What a finding is the ratio of, by cluster: sums (C,) over sizes (C,), both in the order of the items."""

    sums: Values
    sizes: Values

    @classmethod
    def of(cls, values: Sequence[float], clusters: Sequence[Hashable], weights: Sequence[float] | None = None) -> Parts:
        sums, counts = cluster_sums(np.asarray(values, np.float64), clusters)
        if weights is None:
            return cls(sums, counts)
        return cls(sums, cluster_sums(np.asarray(weights, np.float64), clusters)[0])

    @classmethod
    def contrast(cls, first: Sequence[float], second: Sequence[float]) -> Parts:
        """Whose ratio is the mean of `first` minus that of `second`; every value is a cluster, centred."""
        every = np.concatenate([first, second]).astype(np.float64)
        counts, middle = (len(first), len(second)), float(every.mean())
        scale = np.repeat([1 / counts[0], -1 / counts[1]], counts) * len(every)
        return cls((every - middle) * scale, np.ones(len(every)))

    @property
    def filled(self) -> Parts:
        """Without clusters in which nothing counted."""
        return Parts(self.sums[self.sizes > 0], self.sizes[self.sizes > 0])


@dataclass(frozen=True)
class Finding:
    """`key` names it in gates, `label` on the page. even: the value without any preference, None where evenness is not
    what it is about. p: chance of a value as far from even, were the model even. error: standard error, in the unit
    shown. parts: what differences between models are made of. withheld: why the value is not shown, "" if it is."""

    key: str
    label: str
    num_items: int
    estimate: Interval
    even: float | None = None
    p: float | None = None
    error: float | None = None
    num_clusters: int = 0
    unit: Unit = "number"
    parts: Parts | None = None
    withheld: str = ""

    @property
    def is_tested(self) -> bool:
        return self.p is not None and not self.withheld

    def detectable(self, num_tests: int) -> float | None:
        """The smallest true distance from even that would be seen in 80 % of such measurements, were this the first
        of so many tests (Holm's strictest step). None where no result could be significant."""
        if self.error is None or least_p(self.num_clusters) > LEVEL / num_tests:
            return None
        return self.error and smallest_mean(self.error, self.num_clusters, LEVEL / num_tests, POWER)

    def without_value(self, reason: str) -> Finding:
        """The same, withheld."""
        return self if self.withheld else replace(self, estimate=Interval(None), p=None, error=None, withheld=reason)


def finding(key: str, label: str, parts: Parts, seed: int, *, num_items: int, unit: Unit = "number") -> Finding:
    """Of signed values around 0; a "percent" one is shown as the share (1 + value) / 2, even at one half."""
    kept = parts.filled
    factor, shift = (0.5, 0.5) if unit == "percent" else (1.0, 0.0)
    error = standard_error(kept.sums, kept.sizes)
    return Finding(
        key,
        label,
        num_items,
        ratio(kept, seed).scaled(factor, shift),
        even=shift,
        p=sign_flip_p(kept.sums, seed) if len(kept.sums) else None,
        error=None if error is None else error * factor,
        num_clusters=len(kept.sums),
        unit=unit,
        parts=parts,
    )


def ratio(parts: Parts, seed: int) -> Interval:
    """Sum over sum, with a bootstrap interval over clusters, widened for few (Hesterberg 2015)."""
    clusters = len(parts.sums)
    if clusters == 0:
        return Interval(None)
    value = float(parts.sums.sum() / parts.sizes.sum())
    if clusters == 1:
        return Interval(value)
    return Interval(value, *percentiles(_drawn(parts, seed), clusters))


def difference(first: Parts, second: Parts, seed: int) -> Interval:
    """Ratio of `first` minus that of `second`, the same clusters drawn for both."""
    if not first.sizes.sum() or not second.sizes.sum():
        return Interval(None)
    value = float(first.sums.sum() / first.sizes.sum() - second.sums.sum() / second.sizes.sum())
    clusters = len(first.sums)
    if clusters < 2 or clusters != len(second.sums):
        return Interval(value)
    return Interval(value, *percentiles(_drawn(first, seed) - _drawn(second, seed), clusters))


def _drawn(parts: Parts, seed: int) -> Values:
    """The ratio in each of RESAMPLES draws; nan where nothing that counts was drawn."""
    generator, clusters = np.random.default_rng(seed), len(parts.sums)
    found = []
    for begin in range(0, RESAMPLES, CHUNK):
        drawn = generator.integers(clusters, size=(min(CHUNK, RESAMPLES - begin), clusters))
        sums, sizes = parts.sums[drawn].sum(1), parts.sizes[drawn].sum(1)
        found.append(np.divide(sums, sizes, out=np.full(len(sums), np.nan), where=sizes > 0))
    return np.concatenate(found)


def least_p(clusters: int) -> float:
    """The smallest p that flipping the signs of so many clusters can give."""
    return 2.0**-clusters * 2 if clusters <= EXACT_CLUSTERS else 1 / (FLIPS + 1)


def sign_flip_p(sums: Values, seed: int) -> float:
    """Two-sided: how often random signs of the clusters give a sum at least as far from 0."""
    observed = abs(float(sums.sum()))
    limit = observed - 1e-9 * max(1e-300, float(np.abs(sums).sum()))
    clusters = len(sums)
    if clusters <= EXACT_CLUSTERS:
        signs = 1 - 2 * ((np.arange(2**clusters)[:, None] >> np.arange(clusters)) & 1)
        return float((np.abs(signs @ sums) >= limit).mean())
    generator, as_far = np.random.default_rng(seed), 0
    for begin in range(0, FLIPS, CHUNK):
        size = min(CHUNK, FLIPS - begin), clusters
        as_far += int((np.abs(generator.choice([-1.0, 1.0], size=size) @ sums) >= limit).sum())
    return (as_far + 1) / (FLIPS + 1)
