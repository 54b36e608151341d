"""Paired tests and their power against oracles: enumeration, scipy's likelihood, simulation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from ingot.evaluate import power
from ingot.evaluate.paired import mcnemar_one_sided, sign_flip, tango, tango_variance
from ingot.evaluate.statistics import exact_mcnemar


def naive_sign_flip(differences: list[float], side: str) -> float:
    """Every pattern of signs, one by one."""
    extent = {"above": lambda x: x, "below": lambda x: -x, "both": abs}[side]
    observed = extent(sum(differences))
    sums = [
        sum(s * d for s, d in zip(signs, differences, strict=True))
        for signs in product((1, -1), repeat=len(differences))
    ]
    return sum(extent(found) >= observed - 1e-9 for found in sums) / len(sums)


@pytest.mark.parametrize("side", ["above", "below", "both"])
def test_turned_signs_are_those_of_the_enumeration(side: str) -> None:
    generator = np.random.default_rng(1)
    for size in (1, 2, 5, 9):
        differences = generator.normal(0.3, 1, size).round(2)
        assert sign_flip(differences, side, 0) == pytest.approx(naive_sign_flip(list(differences), side), abs=1e-12)  # type: ignore[arg-type]


def test_many_clusters_are_drawn_close_to_the_exact_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.random.default_rng(2).normal(0.4, 1, 14)
    exact = sign_flip(differences, "both", 0)
    monkeypatch.setattr("ingot.evaluate.paired.EXACT_CLUSTERS", 3)
    drawn = [sign_flip(differences, "both", seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] == pytest.approx(exact, abs=0.02)
    assert sign_flip(np.full(40, 1.0), "above", 0) == 1 / 10_000  # never zero


def test_signs_of_single_items_are_mcnemars_test() -> None:
    """Right or wrong, one item a cluster: turning signs is the binomial split."""
    for better, worse in ((7, 2), (3, 3), (0, 6), (1, 0)):
        differences = np.array([1.0] * better + [-1.0] * worse + [0.0] * 5)
        assert sign_flip(differences, "both", 0) == pytest.approx(exact_mcnemar(better, worse), abs=1e-12)
        assert sign_flip(differences, "below", 0) == pytest.approx(mcnemar_one_sided(better, worse), abs=1e-12)
    assert sign_flip(np.zeros(4), "both", 0) == mcnemar_one_sided(0, 0) == 1.0


@pytest.mark.parametrize("case", [(4, 9, 60, -0.05), (0, 0, 100, -0.05), (12, 3, 80, 0.02), (30, 25, 300, -0.1)])
def test_the_score_test_uses_the_likeliest_split(case: tuple[int, int, int, float]) -> None:
    from scipy.optimize import minimize_scalar

    first, second, count, difference = case

    def minus_likelihood(q: float) -> float:
        parts = (q + difference, q, 1 - 2 * q - difference)
        counts = (first, second, count - first - second)
        return -sum(n * np.log(max(p, 1e-300)) for n, p in zip(counts, parts, strict=True) if n)

    low, high = max(0.0, -difference), (1 - difference) / 2
    q = minimize_scalar(minus_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    expected = count * (2 * q + difference * (1 - difference))
    assert tango_variance(first, second, count, difference) == pytest.approx(expected, rel=1e-4)


def test_the_score_test_is_mcnemars_without_a_margin_and_knows_silence() -> None:
    from scipy.stats import norm

    assert tango(15, 6, 200, 0.0) == pytest.approx(norm.sf(9 / np.sqrt(21)), abs=1e-12)
    assert tango(0, 0, 30, -0.05) > 0.05  # two that never differ on 30 items may still be 5 points apart
    assert tango(0, 0, 60, -0.05) < 0.05
    assert tango(0, 0, 0, -0.05) == 1.0


@pytest.mark.slow
def test_the_score_test_keeps_its_level() -> None:
    """Truly 5 points worse, it is called no worse than that in about 5 % of draws."""
    generator = np.random.default_rng(3)
    for count, apart in ((200, 0.08), (800, 0.15)):
        draws = generator.multinomial(count, [(apart - 0.05) / 2, (apart + 0.05) / 2, 1 - apart], size=4000)
        passed = np.mean([tango(int(b), int(c), count, -0.05) < 0.05 for b, c, _ in draws])
        assert passed == pytest.approx(0.05, abs=0.015)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "apart", "drop"), [(150, 0.1, 0.05), (400, 0.2, 0.06), (90, 0.02, 0.08)])
def test_power_is_what_simulation_sees(count: int, apart: float, drop: float) -> None:
    generator, real = np.random.default_rng(4), max(apart, drop)
    draws = generator.multinomial(count, [(real - drop) / 2, (real + drop) / 2, 1 - real], size=3000)
    for tails, test in ((1, mcnemar_one_sided), (2, exact_mcnemar)):
        seen = np.mean([test(int(b), int(c)) <= 0.05 for b, c, _ in draws])
        assert power.mcnemar_power(count, apart, drop, 0.05, tails) == pytest.approx(seen, abs=0.03)
    equal = generator.multinomial(count, [apart / 2, apart / 2, 1 - apart], size=3000)
    shown = np.mean([tango(int(b), int(c), count, -drop) < 0.05 for b, c, _ in equal])
    assert power.tango_power(count, apart, drop, 0.05) == pytest.approx(shown, abs=0.06)


@pytest.mark.slow
def test_power_of_means_is_what_simulation_sees() -> None:
    generator, clusters = np.random.default_rng(5), 40
    error = 1 / np.sqrt(clusters)
    seen = np.mean([sign_flip(generator.normal(-0.4, 1, clusters), "below", n) <= 0.05 for n in range(600)])
    assert power.mean_power(error, clusters, 0.4, 0.05, 1) == pytest.approx(seen, abs=0.05)


def test_the_smallest_difference_has_the_power_that_was_asked_for() -> None:
    smallest = power.smallest_share(300, 0.1, 0.05, 0.8)
    assert smallest is not None
    assert power.mcnemar_power(300, 0.1, smallest, 0.05, 2) == pytest.approx(0.8, abs=0.01)
    assert power.smallest_share(4, 0.1, 0.05, 0.8) is None
    mean = power.smallest_mean(0.1, 40, 0.05, 0.8)
    assert mean is not None
    assert power.mean_power(0.1, 40, mean, 0.05, 2) == pytest.approx(0.8, abs=1e-9)
    assert power.smallest_mean(0.1, 5, 0.05, 0.8) is None  # 2 / 2**5 is above the level: no signs would do
    assert power.smallest_mean(0.0, 40, 0.05, 0.8) is None


def test_items_needed_are_enough_and_few_less_are_not() -> None:
    def at(count: int) -> float:
        return power.mcnemar_power(count, 0.1, 0.05, 0.05, 1)

    needed = power.items_needed(at, 0.95)
    assert needed is not None
    assert at(needed) >= 0.95
    assert at(int(0.95 * needed)) < 0.95
    assert power.items_needed(lambda count: 0.1, 0.95) is None


def test_the_standard_error_is_that_of_a_mean() -> None:
    values = np.random.default_rng(6).normal(size=50)
    found = power.standard_error(values, np.ones(50))
    assert found == pytest.approx(values.std(ddof=1) / np.sqrt(50), rel=1e-12)
    assert power.standard_error(values[:1], np.ones(1)) is None
