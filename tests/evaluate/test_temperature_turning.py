"""The turning point of the entropy: known curves, noise, and curves that do not turn."""

from __future__ import annotations

import numpy as np
import pytest

from ingot.evaluate.statistics import Interval, Values
from ingot.evaluate.temperature.turning import LOST, WIDEST, Turning, turn, turning_place

GRID = [step / 10 for step in range(16)]


def curve(turns_at: float) -> Values:
    """Entropy whose logarithm is concave below `turns_at` and convex above: its second derivative is T - turns_at."""
    x = np.array(GRID)
    values: Values = np.exp((x - turns_at) ** 3 / 6 + x - 2)
    values[0] = 0.0
    return values


def several(entropies: Values, count: int, noise: float, seed: int = 0) -> Values:
    """Prompts that differ in how much entropy they have, and by noise at each temperature."""
    rng = np.random.default_rng(seed)
    own = rng.uniform(0.5, 2, (count, 1))
    return entropies[None] * own * np.exp(noise * rng.standard_normal((count, len(entropies))))


@pytest.mark.parametrize("turns_at", [0.45, 0.75, 0.95])
def test_the_first_temperature_behind_the_turn(turns_at: float) -> None:
    place = turning_place(GRID, curve(turns_at))
    assert place is not None
    assert GRID[place] == pytest.approx(turns_at + 0.05)


def test_an_uneven_grid() -> None:
    uneven = [0.1, 0.2, 0.4, 0.5, 0.8, 0.9, 1.1, 1.3, 1.5]
    values = np.exp((np.array(uneven) - 0.85) ** 3)
    place = turning_place(uneven, values)
    assert place is not None
    assert 0.8 <= uneven[place] <= 1.1


@pytest.mark.parametrize("bend", [1.0, -1.0])
def test_a_curve_that_bends_one_way_does_not_turn(bend: float) -> None:
    x = np.array(GRID)
    values = np.exp(bend * x**2)
    assert turning_place(GRID, values) is None
    found = turn(GRID, several(values, 20, 0.0), 0)
    assert (found.place, found.interval.value, found.lost, found.is_clear) == (None, None, 1.0, False)


def test_temperatures_without_entropy_are_left_out() -> None:
    values = curve(0.75)
    values[:3] = 0.0
    place = turning_place(GRID, values)
    assert place is not None
    assert GRID[place] == pytest.approx(0.8)
    assert turning_place(GRID, np.where(np.arange(16) < 12, 0.0, values)) is None


def test_many_like_prompts_are_clear() -> None:
    found = turn(GRID, several(curve(0.75), 40, 0.002), 0)
    assert found.is_clear
    assert found.interval.value == pytest.approx(0.8)
    assert found.lost <= LOST
    assert found.interval.low is not None
    assert found.interval.high is not None
    assert found.interval.low <= 0.8 <= found.interval.high <= found.interval.low + WIDEST


@pytest.mark.slow
def test_noise_is_said_to_be_unclear() -> None:
    unclear = sum(not turn(GRID, several(curve(0.75), 10, 0.5, seed), 0).is_clear for seed in range(10))
    assert unclear >= 8


@pytest.mark.parametrize(
    ("place", "low", "high", "lost", "clear"),
    [(8, 0.6, 1.0, 0.0, True), (8, 0.5, 1.0, 0.0, False), (8, 0.8, 0.8, 0.05, True), (8, 0.8, 0.8, 0.06, False),
     (None, 0.8, 0.8, 0.0, False)],
)  # fmt: skip
def test_what_is_clear(place: int | None, low: float, high: float, lost: float, clear: bool) -> None:
    assert Turning(place, Interval(0.8, low, high), lost).is_clear is clear


def test_same_seed_same_interval() -> None:
    values = several(curve(0.75), 12, 0.05)
    assert turn(GRID, values, 3) == turn(GRID, values, 3)
