"""What a metric found: the score of all texts, of each text, and the sums from which any resample's score comes.

A corpus score is a function of sums over texts (matched n-grams, edits, lengths), so a bootstrap needs the sums of each
draw and no text again: one matrix product for all draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ingot.core.report import Cell
from ingot.evaluate.statistics import Interval, Values


@dataclass(frozen=True)
class Measured:
    """One score. `stats` (texts, k): what is summed; `of_sums` takes (draws, k) sums to (draws,) scores. `items`: the
    score of each text alone, NaN where there is none. `why`: why these tokens, in words. `best`: what is best to have.

    Without `stats`, `interval` is the metric's own, or None and `why_none` says why.
    """

    name: str
    value: float
    signature: str
    why: str = ""
    higher_is_better: bool | None = True
    items: Values | None = None
    stats: Values | None = None
    of_sums: Callable[[Values], Values] | None = None
    interval: Interval | None = None
    why_none: str = ""
    extra: dict[str, Cell] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def resampled(self) -> bool:
        return self.stats is not None and self.of_sums is not None


def mean_of_sums(sums_DK: Values) -> Values:
    """First column over the last: a mean, where the last column is all ones."""
    return sums_DK[:, 0] / sums_DK[:, -1]
