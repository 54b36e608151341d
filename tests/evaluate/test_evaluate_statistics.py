"""Intervals against scipy, against every possible draw, and against what 95 % promises: coverage."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.evaluate.statistics import (
    RESAMPLES,
    Interval,
    cluster_sums,
    clustered_ratio,
    clustered_share,
    exact_mcnemar,
    exponential,
    paired_shares,
    student_quantile,
    wilson,
)

stats = pytest.importorskip("scipy.stats")


@pytest.mark.parametrize(("right", "count"), [(0, 1), (1, 1), (0, 20), (20, 20), (3, 7), (81, 263), (999, 1000)])
def test_wilson_equals_scipy(right: int, count: int) -> None:
    expected = stats.binomtest(right, count).proportion_ci(method="wilson")
    found = wilson(right, count)
    assert found.value == right / count
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_nothing_is_undefined() -> None:
    assert wilson(0, 0) == Interval(None, None, None)


def test_wilson_covers() -> None:
    """Mean coverage over shares, computed exactly from the binomial, is what 95 % promises."""
    count = 30
    found = [wilson(right, count) for right in range(count + 1)]
    coverage = []
    for share in np.linspace(0.02, 0.98, 97):
        mass = stats.binom.pmf(np.arange(count + 1), count, share)
        coverage.append(sum(m for m, i in zip(mass, found, strict=True) if i.low <= share <= i.high))  # type: ignore[operator]
    assert 0.94 < float(np.mean(coverage)) < 0.965


@pytest.mark.parametrize(("right", "count"), [(0, 5), (5, 5), (3, 7), (81, 263)])
def test_a_share_of_items_that_stand_alone_is_wilsons(right: int, count: int) -> None:
    found = clustered_share(np.arange(count) < right, range(count))
    assert (found.value, found.low, found.high) == pytest.approx(
        (wilson(right, count).value, wilson(right, count).low, wilson(right, count).high), abs=1e-12
    )


def test_items_repeated_in_their_cluster_tell_nothing_new() -> None:
    """Each of 30 people asked ten times with the same outcome is 30 observations, not 300."""
    once = np.arange(30) < 12
    found = clustered_share(np.repeat(once, 10), np.repeat(np.arange(30), 10).tolist())
    alone = wilson(12, 30)
    assert (found.value, found.low, found.high) == pytest.approx((alone.value, alone.low, alone.high), abs=1e-12)


def test_clusters_that_do_not_matter_cost_nothing() -> None:
    """Every cluster has the same share: the design effect is not below one, so the interval is that of all items."""
    found, plain = clustered_share(np.tile([True, False], 60), np.repeat(np.arange(12), 10).tolist()), wilson(60, 120)
    assert (found.low, found.high) == (plain.low, plain.high)


def test_shares_without_variation_count_clusters() -> None:
    found = clustered_share(np.ones(40, np.bool_), [n // 10 for n in range(40)])
    assert (found.value, found.low, found.high) == (1.0, wilson(4, 4).low, 1.0)
    assert clustered_share(np.zeros(0, np.bool_), []) == Interval(None)
    one = clustered_share(np.array([True, False]), ["a", "a"])
    assert one.low is not None
    assert one.low < wilson(1, 2).low  # type: ignore[operator]


def test_clustered_shares_cover() -> None:
    """People differ in what is known of them (beta distributed): intervals that ignore it would cover far less."""
    generator = np.random.default_rng(0)
    people = np.repeat(np.arange(24), 16).tolist()
    covered = plain = 0
    for _ in range(1000):
        known = generator.beta(1.2, 0.8, 24)
        right = generator.random(384) < np.repeat(known, 16)
        found, naive = clustered_share(right, people), wilson(int(right.sum()), 384)
        covered += found.low <= 0.6 <= found.high  # type: ignore[operator]
        plain += naive.low <= 0.6 <= naive.high  # type: ignore[operator]
    assert 0.93 < covered / 1000 < 0.98
    assert plain / 1000 < 0.6


def test_cluster_sums_are_a_loop() -> None:
    values, clusters = np.array([1.0, 2.0, 4.0, 8.0, 16.0]), ["b", "a", "b", "c", "a"]
    sums, sizes = cluster_sums(values, clusters)
    expected = {name: [v for v, c in zip(values, clusters, strict=True) if c == name] for name in "bac"}
    assert sums.tolist() == [sum(found) for found in expected.values()]
    assert sizes.tolist() == [len(found) for found in expected.values()]


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 30, 1000])
def test_student_quantile(freedom: int) -> None:
    assert student_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=2e-3)


def test_bootstrap_is_every_draw() -> None:
    """Five clusters have 3125 draws: the seeded bootstrap's bounds are quantiles of exactly that distribution."""
    nats, size = np.array([3.0, 9.0, 4.0, 20.0, 7.0]), np.array([2.0, 3.0, 4.0, 5.0, 6.0])
    draws = np.array(list(itertools.product(range(5), repeat=5)))
    every = nats[draws].sum(1) / size[draws].sum(1)
    tail = stats.norm.cdf(-math.sqrt(5 / 4) * stats.t.ppf(0.975, 4))
    found = clustered_ratio(nats, size, seed=1, resamples=200_000)
    assert found.value == nats.sum() / size.sum()
    for bound, level in ((found.low, tail), (found.high, 1 - tail)):
        below, above = np.quantile(every, [max(0, level - 0.001), min(1, level + 0.001)])
        assert below <= bound <= above  # type: ignore[operator]


def test_bootstrap_is_seeded_and_chunks_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    nats, size = rng.gamma(2, size=40), rng.uniform(1, 2, size=40)
    whole = clustered_ratio(nats, size, seed=7)
    assert clustered_ratio(nats, size, seed=7) == whole
    assert clustered_ratio(nats, size, seed=8) != whole
    monkeypatch.setattr("ingot.evaluate.statistics.CHUNK_DRAWS", 40 * 33)
    assert clustered_ratio(nats, size, seed=7) == whole


@pytest.mark.parametrize("clusters", [6, 25])
def test_bootstrap_covers(clusters: int) -> None:
    """Documents of uneven size, tokens alike within a document: the true ratio lies inside about 95 times of 100."""
    rng, hits, trials = np.random.default_rng(3), 0, 400
    for trial in range(trials):
        size = rng.integers(5, 60, size=clusters).astype(float)
        nats = size * (2.0 + 0.4 * rng.standard_normal(clusters)) + np.sqrt(size) * rng.standard_normal(clusters)
        found = clustered_ratio(nats, size, seed=trial, resamples=500)
        hits += found.low <= 2.0 <= found.high  # type: ignore[operator]
    assert 0.91 <= hits / trials <= 0.98


def test_clusters_make_the_interval_wider_than_tokens() -> None:
    """The same numbers taken as independent tokens would claim too much."""
    rng = np.random.default_rng(5)
    nats = np.repeat(rng.gamma(3, size=20), 50)
    ones = np.ones_like(nats)
    alone = clustered_ratio(nats, ones, seed=0)
    together = clustered_ratio(nats.reshape(20, 50).sum(1), ones.reshape(20, 50).sum(1), seed=0)
    assert together.high - together.low > 4 * (alone.high - alone.low)  # type: ignore[operator]


def test_paired_difference_is_shorter_than_two_intervals() -> None:
    rng = np.random.default_rng(2)
    size = rng.uniform(50, 100, size=50)
    first = size * rng.uniform(1, 3, size=50)
    second = first * 1.01
    paired = clustered_ratio(second / 1.0, first, seed=0).scaled(1.0, -1.0)
    assert paired.value == pytest.approx(0.01)
    assert paired.low == pytest.approx(0.01)
    alone = clustered_ratio(first, size, seed=0)
    assert alone.high - alone.low > 0.1  # type: ignore[operator]


def test_bootstrap_of_too_little_is_undefined() -> None:
    one = np.array([2.0])
    assert clustered_ratio(one[:0], one[:0], seed=0) == Interval(None)
    assert clustered_ratio(one, one * 2, seed=0) == Interval(0.5)
    assert clustered_ratio(np.array([1.0, np.inf]), np.array([1.0, 1.0]), seed=0) == Interval(math.inf)
    assert clustered_ratio(np.array([np.nan, np.inf]), np.array([1.0, 1.0]), seed=0) == Interval(None)


def test_exponential_overflows_to_inf() -> None:
    assert exponential(1.0) == math.e
    assert exponential(1400 * 11.0) == math.inf
    assert Interval(1.0, None, 800.0).exponential() == Interval(math.e, None, math.inf)


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_equals_binomial_test(first: int, second: int) -> None:
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert exact_mcnemar(first, second) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_paired_shares_swap_and_contain(pairs: list[tuple[bool, bool]]) -> None:
    first, second = (np.array(side) for side in zip(*pairs, strict=True))
    there, back = paired_shares(first, second), paired_shares(second, first)
    assert there.difference.value == pytest.approx(first.mean() - second.mean())
    assert there.difference.low <= there.difference.value <= there.difference.high  # type: ignore[operator]
    assert there.difference.low == pytest.approx(-back.difference.high)  # type: ignore[operator]
    assert (there.only_first, there.only_second, there.p_value) == (back.only_second, back.only_first, back.p_value)


def test_newcombe_covers_exactly() -> None:
    """Coverage by enumerating every outcome of 14 pairs, weighted by its multinomial probability."""
    count = 14
    outcomes = [c for c in itertools.product(range(count + 1), repeat=3) if sum(c) <= count]
    intervals = []
    for both, first, second in outcomes:
        rows = [(1, 1)] * both + [(1, 0)] * first + [(0, 1)] * second + [(0, 0)] * (count - both - first - second)
        left, right = (np.array(side, dtype=bool) for side in zip(*rows, strict=True))
        intervals.append(paired_shares(left, right).difference)
    table = np.array([(*c, count - sum(c)) for c in outcomes])
    coverage = []
    for cells in ((0.5, 0.2, 0.1, 0.2), (0.7, 0.1, 0.1, 0.1), (0.25, 0.25, 0.25, 0.25), (0.8, 0.02, 0.08, 0.1)):
        mass = stats.multinomial.pmf(table, count, cells)
        true = cells[1] - cells[2]
        inside = np.array([i.low - 1e-12 <= true <= i.high + 1e-12 for i in intervals])  # type: ignore[operator]
        coverage.append(float(mass @ inside))
    assert min(coverage) > 0.93
    assert float(np.mean(coverage)) < 0.99


def test_paired_shares_of_equal_models_do_not_claim_certainty() -> None:
    same = np.array([True] * 9 + [False])
    found = paired_shares(same, same)
    assert found.difference.value == 0
    assert found.difference.low < -0.05  # type: ignore[operator]
    assert found.p_value == 1.0
    assert not found.difference.excludes_zero


def test_resamples_are_enough() -> None:
    """Monte Carlo noise of the bounds is below a tenth of the interval's length."""
    rng = np.random.default_rng(9)
    nats, size = rng.gamma(4, size=60), np.ones(60)
    found = [clustered_ratio(nats, size, seed=seed, resamples=RESAMPLES) for seed in range(20)]
    length = found[0].high - found[0].low  # type: ignore[operator]
    assert np.std([i.low for i in found]) < length / 30  # type: ignore[arg-type]
