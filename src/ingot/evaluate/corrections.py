"""Corrections for many tests at once: adjusted p-values by Holm (1979) and by Benjamini and Hochberg (1995).

Holm keeps the chance of even one false alarm among all tests at the level that the adjusted values are compared with,
whatever their dependence; Benjamini and Hochberg keep the expected share of false ones among those called different.
Both take p-values in any order and give the adjusted ones in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Step down: the smallest p times the number of tests, the next times one fewer, never below the one before."""
    _check(p_values)
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Step up: each p times the number of tests over its rank, never above the one behind."""
    _check(p_values)
    order = sorted(range(len(p_values)), key=lambda place: p_values[place], reverse=True)
    adjusted, lowest = [0.0] * len(p_values), 1.0
    for behind, place in enumerate(order):
        lowest = min(lowest, p_values[place] * len(p_values) / (len(p_values) - behind))
        adjusted[place] = lowest
    return adjusted


def _check(p_values: Sequence[float]) -> None:
    assert all(0 <= p <= 1 for p in p_values), f"not all are probabilities: {p_values}"
