"""Kappa and alpha against scikit-learn, statsmodels, published examples and a version from the definition."""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
import pytest

from ingot.evaluate.people.agreement import METRICS, Level, Weights, cohen, fleiss, krippendorff

VECTORS = Path(os.environ.get("INGOT_DATA", "-")) / "07_metrics" / "krippendorff_vectors.json"
WEIGHTS: tuple[Weights, ...] = ("none", "linear", "quadratic")
LEVELS: tuple[Level, ...] = ("nominal", "ordinal", "interval", "ratio")


def ratings(seed: int, raters: int = 4, units: int = 40, missing: float = 0.3) -> list[list[int | None]]:
    draw = random.Random(seed)
    truth = [draw.randint(1, 5) for _ in range(units)]
    noisy = [[min(5, max(1, t + draw.choice((-1, 0, 0, 1)))) for t in truth] for _ in range(raters)]
    return [[None if draw.random() < missing else value for value in row] for row in noisy]


def naive_alpha(data: Sequence[Sequence[Hashable | None]], level: Level) -> float | None:
    """Straight from Krippendorff 2011, by loops over pairs of ratings."""
    units = [[row[u] for row in data if u < len(row) and row[u] is not None] for u in range(max(map(len, data)))]
    units = [unit for unit in units if len(unit) > 1]
    values = [value for unit in units for value in unit]
    count = {value: values.count(value) for value in values}

    def distance(a: float, b: float) -> float:
        if level == "nominal":
            return float(a != b)
        if level == "interval":
            return (a - b) ** 2
        if level == "ratio":
            return ((a - b) / (a + b)) ** 2 if a + b else 0.0
        low, high = sorted((a, b))
        between = sum(n for value, n in count.items() if low <= value <= high)
        return (between - (count[a] + count[b]) / 2) ** 2

    observed = sum(distance(a, b) / (len(unit) - 1) for unit in units for a, b in itertools.permutations(unit, 2))
    expected = sum(distance(a, b) for a, b in itertools.permutations(values, 2)) / (len(values) - 1)
    return 1 - observed / expected if expected else None


@pytest.mark.skipif(not VECTORS.exists(), reason="needs INGOT_DATA")
def test_alpha_gives_the_published_examples() -> None:
    for case in json.loads(VECTORS.read_text())["cases"]:
        found = krippendorff(case["data"], case["level"]).value
        assert found == pytest.approx(case["alpha"], abs=0.5 * 10 ** -case["places"]), case


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("seed", range(5))
def test_alpha_is_its_definition(level: Level, seed: int) -> None:
    data = ratings(seed)
    assert krippendorff(data, level).value == pytest.approx(naive_alpha(data, level), abs=1e-9)
    assert set(METRICS) == set(LEVELS)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("seed", range(5))
def test_cohen_is_scikit_learns(weights: Weights, seed: int) -> None:
    from sklearn.metrics import cohen_kappa_score

    first, second = ratings(seed, raters=2, missing=0)
    theirs = cohen_kappa_score(first, second, weights=None if weights == "none" else weights)
    assert cohen(first, second, weights).value == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_fleiss_is_statsmodels(seed: int) -> None:
    from statsmodels.stats.inter_rater import fleiss_kappa

    data = np.array(ratings(seed, missing=0))
    counts = np.stack([(data == value).sum(0) for value in range(1, 6)], axis=1).astype(float)
    assert fleiss(counts).value == pytest.approx(fleiss_kappa(counts), abs=1e-9)


def test_fleiss_leaves_out_what_one_rater_judged() -> None:
    counts = np.array([[2.0, 0], [0, 2], [1, 1]])
    assert fleiss(np.vstack([counts, [[1, 0]]])).value == fleiss(counts).value


def test_one_category_is_undefined() -> None:
    assert cohen(["a"] * 9, ["a"] * 9).value is None
    assert fleiss(np.array([[3.0, 0]] * 9)).value is None
    assert all(krippendorff([[1] * 9, [1] * 9], level).value is None for level in LEVELS)
    assert krippendorff([[1, None], [None, 2]]).value is None
    assert cohen([], []).value is None


def test_intervals_hold_the_value_and_repeat() -> None:
    data = ratings(1, units=100)
    found = krippendorff(data, "ordinal", seed=3)
    assert found == krippendorff(data, "ordinal", seed=3)
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high


def test_units_of_one_cluster_are_drawn_together() -> None:
    """Ten copies of every unit in the cluster of the first make nothing surer."""
    data = ratings(2, raters=2, missing=0)
    names = list(range(40))
    once = krippendorff(data, "interval", clusters=names)
    copied = krippendorff([row * 10 for row in data], "interval", clusters=names * 10)
    assert once.low is not None
    assert copied.low is not None
    assert once.high is not None
    assert copied.high is not None
    assert copied.high - copied.low == pytest.approx(once.high - once.low, rel=0.02)
    kappa, many = cohen(*data, clusters=names), cohen(*[row * 10 for row in data], clusters=names * 10)
    assert (kappa.low, kappa.high) == pytest.approx((many.low, many.high), abs=1e-9)


def test_few_units_give_no_interval() -> None:
    assert krippendorff([[1, 2, 1, 2], [1, 2, 2, 2]]).low is None
