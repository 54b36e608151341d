"""Statistics of findings: naive versions, an even world told apart from an uneven one, and how often it is wrong."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from ingot.evaluate.bias.finding import EXACT_CLUSTERS, Parts, difference, finding, ratio, sign_flip_p
from ingot.evaluate.bias.page import judge
from ingot.evaluate.bias.suite import Control, Scored, withhold
from ingot.evaluate.statistics import Interval


def test_all_flips_are_tried_for_few_clusters() -> None:
    sums = np.random.default_rng(0).normal(0.3, 1, 10)
    observed = abs(sums.sum())
    naive = np.mean([abs(np.dot(signs, sums)) >= observed - 1e-12 for signs in product([-1, 1], repeat=10)])
    assert sign_flip_p(sums, 0) == naive


def test_drawn_flips_are_near_all_flips(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = np.random.default_rng(1).normal(0.5, 1, EXACT_CLUSTERS)
    exact = sign_flip_p(sums, 0)
    monkeypatch.setattr("ingot.evaluate.bias.finding.EXACT_CLUSTERS", 3)
    assert abs(sign_flip_p(sums, 0) - exact) < 4 * np.sqrt(exact * (1 - exact) / 9999)


def test_a_ratio_of_clusters_is_the_sum_over_the_sum() -> None:
    values, weights = [1.0, -1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]
    parts = Parts.of(values, ["a", "a", "b", "c"], weights)
    assert ratio(parts.filled, 0).value == 1 / 3
    assert finding("k", "l", parts, 0, num_items=4, unit="percent").estimate.value == pytest.approx(2 / 3)
    assert finding("k", "l", parts, 0, num_items=4).num_clusters == 2  # nothing counted in c


def test_nothing_counted_gives_no_value_and_no_test() -> None:
    found = finding("k", "l", Parts.of([0.0], ["a"], [0.0]), 0, num_items=1)
    assert found.estimate == Interval(None)
    assert found.p is None
    assert found.detectable(1) is None


def test_a_difference_is_paired() -> None:
    values = np.random.default_rng(0).normal(0, 10, 40)
    first, second = Parts.of(values + 1, range(40)), Parts.of(values, range(40))
    found = difference(first, second, 0)
    assert found.value == pytest.approx(1)
    assert found.low == pytest.approx(1)
    assert found.high == pytest.approx(1)


def test_a_contrast_is_the_difference_of_means() -> None:
    first, second = [3.0, 5.0, 4.0], [1.0, 2.0]
    assert ratio(Parts.contrast(first, second), 0).value == pytest.approx(2.5)


def mock(seed: int, gap: float = 0.0, axes: int = 20, templates: int = 24) -> Scored:
    """A suite of many axes whose items lie evenly around 0, or around a gap on the first axis; in clusters."""
    generator = np.random.default_rng(seed)
    findings = []
    for axis in range(axes):
        centres = generator.normal(gap if axis == 0 else 0.0, 0.5, templates)
        values = np.repeat(centres, 3) + generator.normal(0, 1, 3 * templates)
        parts = Parts.of(values.tolist(), np.repeat(np.arange(templates), 3).tolist())
        findings.append(finding(f"axis{axis}", "", parts, seed, num_items=len(values)))
    return Scored(findings)


@pytest.mark.slow
def test_an_even_model_has_no_gap_in_95_of_100_seeds() -> None:
    even = [not any(one.is_different for one in judge({"mock": mock(seed)})) for seed in range(100)]
    assert sum(even) >= 95


@pytest.mark.slow
def test_a_planted_gap_is_found_within_its_interval() -> None:
    inside = 0
    for seed in range(100):
        judged = judge({"mock": mock(seed, gap=1.0, axes=5)})
        assert judged[0].is_different
        low, high = judged[0].finding.estimate.low, judged[0].finding.estimate.high
        assert low is not None
        assert high is not None
        inside += low <= 1.0 <= high
    assert inside >= 90


@pytest.mark.slow
def test_what_is_called_detectable_is_found_about_as_often_as_is_said() -> None:
    size = mock(0, axes=1).findings[0].detectable(1)
    assert size is not None
    found = sum(judge({"mock": mock(seed, gap=size, axes=1)})[0].is_different for seed in range(200))
    assert 0.7 <= found / 200 <= 0.95


def test_too_few_clusters_never_read_as_alike() -> None:
    one = finding("k", "l", Parts.of([1.0, 1.0, 1.0], range(3)), 0, num_items=3)
    (judged,) = judge({"mock": Scored([one])})
    assert one.p == 0.25
    assert judged.reading == "too few clusters for any result to be significant"


def test_readings_never_say_that_there_is_no_bias() -> None:
    readings = {one.reading for one in judge({"mock": mock(3)})}
    assert readings == {"no significant difference"}


def test_a_failed_control_withholds_the_value_and_the_test() -> None:
    low = Control("reading", Interval(0.5, 0.4, 0.6), chance=0.5)
    (kept, *_) = withhold(mock(0).findings, low)
    assert kept.estimate == Interval(None)
    assert (kept.p, kept.error) == (None, None)
    assert kept.withheld == "reading is 50.0 %, whose interval reaches 50 % (guessing)"
    assert judge({"mock": Scored([kept])})[0].holm is None
    assert withhold(mock(0).findings, Control("reading", Interval(0.7, 0.6, 0.8), chance=0.5))[0].withheld == ""
    assert withhold(mock(0).findings, Control("parsed", Interval(0.89), least=0.9))[0].withheld
    assert not withhold(mock(0).findings, Control("parsed", Interval(0.9), least=0.9))[0].withheld


def test_only_what_is_shown_is_corrected_for() -> None:
    findings = mock(0, gap=0.6, axes=10).findings
    hidden = withhold(findings[1:], Control("", Interval(None), chance=0.5))
    alone = judge({"a": Scored(findings[:1])})[0]
    among = judge({"a": Scored(findings[:1]), "b": Scored(hidden)})[0]
    assert alone.holm == among.holm == findings[0].p
