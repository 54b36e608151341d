"""Choosing by right answers: planted curves are found, equal ones are not told apart, over many simulated tasks."""

from __future__ import annotations

import numpy as np
import pytest

from ingot.evaluate.statistics import Values
from ingot.evaluate.temperature.choose import IMAGINED, LEVEL, gain, mean_interval, pair_errors, stand

GRID = [0.0, 0.3, 0.6, 0.9, 1.2, 1.5]
SAMPLES = 8


def simulated(rng: np.random.Generator, count: int, curve: list[float], spread: float = 0.2) -> Values:
    """Shares of right samples, (questions, temperatures): questions differ in how hard they are, and the n-th sample of
    a question shares its random number among temperatures, as in `asking`; the first temperature has one sample."""
    hard_Q1 = rng.uniform(-spread, spread, (count, 1))
    chance_QK = np.clip(np.array(curve)[None] + hard_Q1, 0, 1)
    shared = rng.random((count, 1, SAMPLES))
    own = rng.random((count, len(curve), SAMPLES))
    uniform = np.where(rng.random(own.shape) < 0.5, shared, own)
    right = uniform < chance_QK[:, :, None]
    scores: Values = right.mean(2)
    scores[:, 0] = right[:, 0, 0]
    return scores


def naive_errors(scores: Values, imagined: float) -> Values:
    """The definition, pair by pair."""
    count, width = scores.shape
    found = np.zeros((width, width))
    for i in range(width):
        for j in range(width):
            difference = scores[:, i] - scores[:, j]
            squares = ((difference - difference.mean()) ** 2).sum() + imagined
            found[i, j] = (squares / (count - 1) / count) ** 0.5
    return found


def test_errors_are_the_definition() -> None:
    scores = simulated(np.random.default_rng(0), 30, [0.5, 0.6, 0.3, 0.5, 0.2, 0.9])
    for imagined in (0.0, IMAGINED):
        assert pair_errors(scores, imagined) == pytest.approx(naive_errors(scores, imagined), abs=1e-6)


def test_a_planted_peak_is_found() -> None:
    scores = simulated(np.random.default_rng(1), 200, [0.2, 0.35, 0.7, 0.35, 0.2, 0.05])
    found = stand(scores, 0)
    assert (found.best, found.kept, found.chosen) == (2, [2], 2)
    assert found.dropped == [0, 1, 3, 4, 5]


def test_the_lowest_is_taken_of_those_as_good_as_the_best() -> None:
    """Two temperatures answer everything alike, a third is behind, the rest far."""
    rng = np.random.default_rng(2)
    best = rng.random((100, 1)) < 0.7
    behind = best & (rng.random((100, 1)) > 0.11)
    far = rng.random((100, 2)) < 0.1
    scores = np.hstack([far[:, :1], behind, best, best, far[:, 1:]]).astype(np.float64)
    found = stand(scores, 0)
    assert found.kept == [2, 3]
    assert found.chosen == 2
    assert stand(np.delete(scores, 1, axis=1), 0).chosen == 1


def naive_choice(scores: Values, kept: list[int]) -> int:
    """Smoothed and compared one question and one temperature at a time."""
    smooth = {}
    for place in kept:
        near = [other for other in (place - 1, place + 1) if other in kept]
        smooth[place] = np.array([(2 * row[place] + sum(row[o] for o in near)) / (2 + len(near)) for row in scores])
    best = max(smooth, key=lambda place: smooth[place].mean())
    for place in kept:
        difference = smooth[best] - smooth[place]
        squares = ((difference - difference.mean()) ** 2).sum() + IMAGINED
        if difference.mean() <= (squares / (len(scores) - 1) / len(scores)) ** 0.5:
            return place
    raise AssertionError


@pytest.mark.parametrize("seed", range(6))
def test_the_choice_is_the_definition(seed: int) -> None:
    scores = simulated(np.random.default_rng(seed), 60, [0.5, 0.55, 0.65, 0.6, 0.5, 0.1])
    found = stand(scores, 0)
    assert 5 not in found.kept
    assert found.chosen == naive_choice(scores, found.kept)


@pytest.mark.slow
def test_little_is_lost() -> None:
    """Over many tasks, the true accuracy of the choice is near that of the best, far nearer than that of the worst of
    those that were not told apart."""
    curve = [0.35, 0.5, 0.6, 0.62, 0.6, 0.2]
    rng, chosen, worst = np.random.default_rng(8), 0.0, 0.0
    for _ in range(60):
        found = stand(simulated(rng, 60, curve), 0)
        assert found.chosen is not None
        chosen += max(curve) - curve[found.chosen]
        worst += max(curve) - min(curve[place] for place in found.kept)
    assert chosen < worst / 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "share"), [(10, 0.5), (10, 0.95), (40, 0.03), (40, 0.5), (100, 0.02), (100, 0.3), (100, 0.97)]
)
def test_equal_temperatures_are_told_apart_at_the_stated_rate_at_most(count: int, share: float) -> None:
    rng, tasks = np.random.default_rng(3), 120
    told = sum(stand(simulated(rng, count, [share] * len(GRID)), 0).chosen is not None for _ in range(tasks))
    assert told <= LEVEL * tasks + 2 * (tasks * LEVEL * (1 - LEVEL)) ** 0.5


@pytest.mark.slow
def test_shuffled_labels_tell_nothing() -> None:
    """Answers depend strongly on the temperature, and nothing on the labels any more."""
    rng, tasks, told = np.random.default_rng(4), 120, 0
    chance = np.array([0.95, 0.9, 0.8, 0.6, 0.3, 0.1])
    for _ in range(tasks):
        truth = rng.integers(5, size=40)
        knows = rng.random((40, len(GRID), SAMPLES)) < chance[None, :, None]
        answers = np.where(knows, truth[:, None, None], rng.integers(5, size=knows.shape))
        scores: Values = (answers == rng.permutation(truth)[:, None, None]).mean(2)
        told += stand(scores, 0).chosen is not None
        assert stand((answers == truth[:, None, None]).mean(2), 0).chosen is not None
    assert told <= LEVEL * tasks + 2 * (tasks * LEVEL * (1 - LEVEL)) ** 0.5


def test_what_never_differs_is_not_told_apart() -> None:
    for value in (0.0, 1.0):
        found = stand(np.full((20, 4), value), 0)
        assert (found.kept, found.chosen) == ([0, 1, 2, 3], None)


def test_same_seed_same_standing() -> None:
    scores = simulated(np.random.default_rng(5), 50, [0.5, 0.6, 0.3, 0.5, 0.2, 0.4])
    assert stand(scores, 7).critical == stand(scores, 7).critical != stand(scores, 8).critical


def test_gain_is_against_the_mean_of_the_others() -> None:
    scores = np.array([[1.0, 0.5, 0.0], [0.5, 0.5, 0.5], [1.0, 0.0, 0.5]])
    found = gain(scores, 0, [1, 2])
    differences = np.array([0.75, 0.0, 0.75])
    assert found.value == pytest.approx(differences.mean())
    assert found == mean_interval(differences)
    assert found.low is not None
    assert found.high is not None
    half = 4.302653 * differences.std(ddof=1) / 3**0.5  # Student's quantile for two degrees of freedom
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), rel=1e-4)
