"""How much longer the chosen answers are than the rejected ones.

A model tuned on preferences learns whatever tells the two apart, and length is the easiest (Singhal et al. 2023, arXiv
2310.03716), so it is measured before anything trains.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

from ingot.core.progress import say
from ingot.data.pairs import RenderedPair

Z = 1.96
"""Standard errors to each side of a 95 % interval."""


@dataclass(frozen=True)
class LengthBias:
    """Counts of pairs by which answer has more tokens; tokens of the answers on average; the difference (chosen minus
    rejected) on average with its 95 % interval (Student's normal limit), and in the median."""

    longer: int
    shorter: int
    equal: int
    mean_chosen: float
    mean_rejected: float
    difference: float
    low: float
    high: float
    median_difference: float

    @property
    def longer_share(self) -> float:
        return self.longer / (self.longer + self.shorter + self.equal)


def length_bias(pairs: Sequence[RenderedPair]) -> LengthBias:
    """Tokens of answers, which are those that are learnt."""
    chosen, rejected = ([sum(side.mask) for side in sides] for sides in zip(*(pair[:2] for pair in pairs), strict=True))
    differences = [a - b for a, b in zip(chosen, rejected, strict=True)]
    mean = fmean(differences)
    error = stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else math.inf
    return LengthBias(
        longer=sum(difference > 0 for difference in differences),
        shorter=sum(difference < 0 for difference in differences),
        equal=differences.count(0),
        mean_chosen=fmean(chosen),
        mean_rejected=fmean(rejected),
        difference=mean,
        low=mean - Z * error,
        high=mean + Z * error,
        median_difference=median(differences),
    )


def tell_bias(pairs: Sequence[RenderedPair]) -> None:
    """Say how much longer the chosen answers are."""
    bias = length_bias(pairs)
    say("show-bias", longer=f"{bias.longer:,}", pairs=f"{len(pairs):,}", share=f"{bias.longer_share:.1%}",
        shorter=f"{bias.shorter:,}", chosen=f"{bias.mean_chosen:.1f}", rejected=f"{bias.mean_rejected:.1f}",
        difference=f"{bias.difference:+.1f}", low=f"{bias.low:+.1f}", high=f"{bias.high:+.1f}",
        median=f"{bias.median_difference:+g}")  # fmt: skip
