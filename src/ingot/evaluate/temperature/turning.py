"""A temperature without labels: where the entropy of the model's own samples begins to run away (TURN).

The logarithm of the mean entropy a token, as a function of the temperature, is concave first and convex later; where
it turns, noise begins to breed noise (Du, Yang and Welleck, "Optimizing Temperature for Language Models with
Multi-Sample Inference", ICML 2025, arXiv 2502.05234). They found that temperature near the best for majority voting.

As they do, the second derivative is the difference quotient of difference quotients. They take the first temperature
where it is positive, which noise makes too low; here it is the temperature that best parts a concave beginning from a
convex end, which is the same where the curve is smooth: the sum of second derivatives from it on, less the sum of those
before, is the largest. How far that can be trusted is asked of the bootstrap: prompts are drawn anew, and it is found
again. It cannot be told where there is no turning point, where more than LOST of the draws have none, or where the
middle 95 % of them lie further than WIDEST apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ingot.evaluate.statistics import Interval, Values

LOST = 0.05
WIDEST = 0.4
"""Four steps of the usual grid: wide enough for a neighbour on both sides, too narrow for half of the range."""
RESAMPLES = 2000
FEWEST = 5
"""Temperatures that two difference quotients need for a beginning and an end."""


@dataclass(frozen=True)
class Turning:
    """place: of the turning point in the grid, None where the curve has none; interval: its temperature with the middle
    95 % of the draws that have one; lost: the share of those that have none."""

    place: int | None
    interval: Interval
    lost: float

    @property
    def is_clear(self) -> bool:
        low, high = self.interval.low, self.interval.high
        if self.place is None or low is None or high is None:
            return False
        return self.lost <= LOST and high - low <= WIDEST + 1e-9


def turning_place(temperatures: Sequence[float], entropies_K: Values) -> int | None:
    """Where log entropy turns from concave to convex. Temperatures without any entropy are left out."""
    usable = [place for place, entropy in enumerate(entropies_K) if entropy > 0 and temperatures[place] > 0]
    if len(usable) < FEWEST:
        return None
    x = np.array([temperatures[place] for place in usable])
    bend = np.gradient(np.gradient(np.log(entropies_K[usable]), x), x)[1:-1]
    before = bend.cumsum()[:-1]
    after = bend.sum() - before
    at = int((after - before).argmax())
    return usable[at + 2] if before[at] < 0 < after[at] else None


def turn(temperatures: Sequence[float], entropies_QK: Values, seed: int) -> Turning:
    """The turning point of the mean over prompts, (prompts, temperatures), and how far it can be trusted."""
    place = turning_place(temperatures, entropies_QK.mean(0))
    generator, count = np.random.default_rng(seed), len(entropies_QK)
    draws = generator.multinomial(count, np.full(count, 1 / count), size=RESAMPLES) @ entropies_QK / count
    places = [turning_place(temperatures, drawn_K) for drawn_K in draws]
    found = [temperatures[one] for one in places if one is not None]
    value = None if place is None else temperatures[place]
    if not found or count < 2:
        return Turning(place, Interval(value), 1.0)
    low, high = (float(bound) for bound in np.quantile(found, [0.025, 0.975], method="inverted_cdf"))
    return Turning(place, Interval(value, low, high), 1 - len(found) / RESAMPLES)
