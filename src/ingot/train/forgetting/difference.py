"""A figure before and after, on the same items, with the standard error of its difference.

The figure is a ratio of sums over units (nats over bytes of documents, right answers over questions of a subject). The
units are few and of unequal size, and the same before and after; so the error is that of a ratio estimated from whole
units, of their differences: sqrt(n / (n-1) * sum((d - D s)^2)) / sum(s), where d is a unit's difference, s its size and
D the ratio of their sums (Cochran, Sampling Techniques, 1977, section 6.4, without the correction for finite samples).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """`stderr` is None for fewer than two units: one alone does not tell how much units vary."""

    before: float
    after: float
    stderr: float | None
    num_units: int

    @property
    def change(self) -> float:
        return self.after - self.before


def difference(before: Sequence[float], after: Sequence[float], sizes: Sequence[float]) -> Difference:
    """Of sums by unit, and the units' sizes. The sizes add up to more than 0."""
    total, count = sum(sizes), len(sizes)
    first, second = sum(before) / total, sum(after) / total
    if count < 2:
        return Difference(first, second, None, count)
    ratio = second - first
    squares = sum((b - a - ratio * size) ** 2 for a, b, size in zip(before, after, sizes, strict=True))
    return Difference(first, second, math.sqrt(count / (count - 1) * squares) / total, count)
