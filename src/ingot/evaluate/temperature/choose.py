"""Which temperature gives the most right answers, or that it cannot be told: pure functions of scores.

Questions are what varies: each has one score a temperature (a share of right samples, or whether the majority is
right), and all temperatures answer the same questions with the same random numbers. Every pair of temperatures is
compared by its mean difference over its standard error, and the largest of all such ratios that chance alone would
give is found by drawing whole questions anew (max-statistic bootstrap; Romano and Wolf, Econometrica 73, 2005). A
temperature is out if it is behind the best by more than that. Where right answers are rare, or nearly all are right,
the plain error is far too small; it is enlarged by two half questions that were never asked, one that only the one
temperature gets right and one that only the other (Agresti and Min, Statistics in Medicine 24, 2005). So the best may
be picked after looking: where all temperatures are equally good, one of them is out in at most LEVEL of all cases. If
none is out, it cannot be told.

Among those that are left, accuracies are smoothed over neighbours of the grid, for they hardly differ and noise would
pick the luckiest; then the lowest is chosen that is within one standard error of the best (Breiman et al. 1984): where
accuracy says nothing against it, a lower temperature gives answers that repeat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ingot.evaluate.statistics import Interval, Values, Z, student_quantile

LEVEL = 0.05
"""How often a difference is seen where there is none."""
IMAGINED = 1.0
RESAMPLES = 4000
CHUNK = 500


@dataclass(frozen=True)
class Standing:
    """How the temperatures of a grid stand. kept: places of those that cannot be told from the best (places of the
    grid, ascending); chosen: the place taken, None where all are kept; critical: how many standard errors apart two
    must be."""

    means: Values
    best: int
    kept: list[int]
    chosen: int | None
    critical: float

    @property
    def dropped(self) -> list[int]:
        return [place for place in range(len(self.means)) if place not in self.kept]


def stand(scores_QK: Values, seed: int) -> Standing:
    """Compare the columns of scores, (questions, temperatures). At least two questions."""
    means_K, errors_KK = scores_QK.mean(0), pair_errors(scores_QK, IMAGINED)
    best = int(means_K.argmax())
    critical = _critical(scores_QK, pair_errors(scores_QK), seed)
    behind_K = means_K[best] - means_K
    kept = [place for place, gap in enumerate(behind_K) if gap <= critical * errors_KK[best, place]]
    chosen = None if len(kept) == len(means_K) else _choose(scores_QK, kept)
    return Standing(means_K, best, kept, chosen, critical)


def _choose(scores_QK: Values, kept: list[int]) -> int:
    """The lowest of `kept` within one standard error of the best of them, each smoothed with its neighbours in `kept`:
    two parts its own, one part of either."""
    smooth_QK = np.array(scores_QK)
    for place in kept:
        parts = [place, place, *(other for other in (place - 1, place + 1) if other in kept)]
        smooth_QK[:, place] = scores_QK[:, parts].mean(1)
    means_K, errors_KK = smooth_QK.mean(0), pair_errors(smooth_QK, IMAGINED)
    best = max(kept, key=lambda place: float(means_K[place]))
    return min(place for place in kept if means_K[best] - means_K[place] <= errors_KK[best, place])


def pair_errors(scores_QK: Values, imagined: float = 0.0) -> Values:
    """Standard error of the mean difference of every pair of columns, (K, K), over questions. `imagined`: what
    questions that were never asked add to the sum of squares, whose differences are 1 and -1."""
    count = len(scores_QK)
    covariance_KK = np.atleast_2d(np.cov(scores_QK, rowvar=False))
    variance_K = np.diag(covariance_KK)
    variance_KK = np.maximum(variance_K[:, None] + variance_K[None] - 2 * covariance_KK, 0.0).round(12)
    return np.sqrt((variance_KK * (count - 1) + imagined) / (count - 1) / count)


def _critical(scores_QK: Values, errors_KK: Values, seed: int) -> float:
    """The largest ratio of all pairs that chance gives in 1 - LEVEL of all draws of questions. Widened for few
    questions as `statistics.clustered_ratio` is: by sqrt(n / (n-1)) and Student's tails."""
    generator, count = np.random.default_rng(seed), len(scores_QK)
    centred_QK = scores_QK - scores_QK.mean(0)
    inverse_KK = np.divide(1.0, errors_KK, out=np.zeros_like(errors_KK), where=errors_KK > 0)
    largest: list[Values] = []
    for _ in range(0, RESAMPLES, CHUNK):
        drawn_BK = generator.multinomial(count, np.full(count, 1 / count), size=CHUNK) @ centred_QK / count
        ratios_BKK = np.abs(drawn_BK[:, :, None] - drawn_BK[:, None]) * inverse_KK
        largest.append(ratios_BKK.max((1, 2)))
    plain = float(np.quantile(np.concatenate(largest), 1 - LEVEL))
    return plain * math.sqrt(count / (count - 1)) * student_quantile(count - 1) / Z


def gain(scores_QK: Values, chosen: int, others: Sequence[int]) -> Interval:
    """How much better the chosen column is than the mean of others, over questions."""
    return mean_interval(scores_QK[:, chosen] - scores_QK[:, list(others)].mean(1))


def mean_interval(values_Q: Values) -> Interval:
    """A mean over questions with Student's interval; no bounds for fewer than two."""
    value, count = float(values_Q.mean()), len(values_Q)
    if count < 2:
        return Interval(value)
    half = student_quantile(count - 1) * float(values_Q.std(ddof=1)) / math.sqrt(count)
    return Interval(value, value - half, value + half)
