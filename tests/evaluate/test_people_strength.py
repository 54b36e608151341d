"""Bradley and Terry with Davidson's ties: against an optimiser, at the edges, and how often intervals hold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from ingot.core.errors import IngotError
from ingot.evaluate.people.strength import FIRST, POINTS, SECOND, TIE, Comparison, Strengths, fit

TRUTH = np.array([0.6, 0.2, -0.1, -0.7])


def chances(strengths: np.ndarray, i: int, j: int, ties: float) -> np.ndarray:
    logits = np.array([strengths[i], ties + (strengths[i] + strengths[j]) / 2, strengths[j]])
    found = np.exp(logits - logits.max())
    return found / found.sum()


def simulated(
    draw: np.random.Generator, annotators: int, prompts: int, tastes: float = 0.0, ties: float = -0.3, overlap: int = 2
) -> list[Comparison]:
    """Votes on all pairs; `tastes` is how much people and prompts differ in what they make of each system."""
    size = len(TRUTH)
    people, answers = (draw.normal(0, tastes, (count, size)) for count in (annotators, prompts))
    votes = []
    for prompt in range(prompts):
        for i in range(size):
            for j in range(i + 1, size):
                for who in draw.choice(annotators, overlap, replace=False):
                    share = chances(TRUTH + people[who] + answers[prompt], i, j, ties)
                    votes.append(Comparison(f"m{i}", f"m{j}", int(draw.choice(3, p=share)), who, prompt))
    return votes


def naive(votes: list[Comparison], has_ties: bool) -> np.ndarray:
    """Strengths by a general optimiser on the likelihood as it stands."""

    def loss(theta: np.ndarray) -> float:
        strengths, ties = theta[:4] - theta[:4].mean(), theta[4] if has_ties else -np.inf
        names = {f"m{at}": at for at in range(4)}
        return -sum(np.log(chances(strengths, names[v.first], names[v.second], ties)[v.outcome]) for v in votes)

    found = minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-7}).x[:4]
    return found - found.mean()


def votes_of(*results: tuple[str, str, int], times: int = 1) -> list[Comparison]:
    return [Comparison(a, b, outcome, f"p{n % 5}", f"q{n % 7}") for n in range(times) for a, b, outcome in results]


@pytest.mark.parametrize("has_ties", [True, False])
def test_strengths_are_the_likeliest(has_ties: bool) -> None:
    votes = simulated(np.random.default_rng(1), 6, 15, ties=-0.3 if has_ties else -np.inf)
    found = fit(votes)
    assert (found.ties is not None) == has_ties
    assert found.strengths_S == pytest.approx(naive(votes, has_ties), abs=1e-4)
    assert [found.points[name].value for name in found.systems] == pytest.approx(list(found.strengths_S * POINTS))
    assert list(found.points) == sorted(found.points, key=lambda name: -(found.points[name].value or 0))


def width(found: Strengths, name: str = "m0") -> float:
    interval = found.points[name]
    assert interval.low is not None
    assert interval.high is not None
    return interval.high - interval.low


def test_voting_ten_times_makes_nothing_surer() -> None:
    votes = simulated(np.random.default_rng(2), 8, 20)
    once, often = fit(votes), fit(votes * 10)
    assert often.strengths_S == pytest.approx(once.strengths_S, abs=1e-8)
    assert width(often) == pytest.approx(width(once), rel=1e-8)


def test_more_people_and_prompts_do() -> None:
    draw = np.random.default_rng(3)
    assert width(fit(simulated(draw, 40, 120))) < 0.7 * width(fit(simulated(draw, 20, 30)))


def test_only_wins_stay_finite_and_are_flagged() -> None:
    votes = votes_of(("a", "b", FIRST), ("b", "c", FIRST), ("b", "c", SECOND), ("a", "c", FIRST), times=10)
    found = fit(votes)
    assert found.held == ["a"]
    top = found.points["a"]
    assert top.value is not None
    assert 0 < top.value < 3000
    assert top.low is None
    assert found.points["b"].low is not None
    assert found.difference("a", "b").low is None
    assert found.difference("b", "c").low is not None


def test_a_chain_of_wins_is_flagged_whole_but_for_one() -> None:
    assert len(fit(votes_of(("a", "b", FIRST), ("b", "c", FIRST), times=6)).held) == 2


def test_ties_alone_bound_nothing() -> None:
    """Who won and tied but never lost has no finite strength: t grows with it. One loss bounds it."""
    lossless = votes_of(("a", "b", FIRST), ("a", "b", FIRST), ("a", "b", TIE), times=6)
    assert len(fit(lossless).held) == 1
    assert fit([*lossless, *votes_of(("a", "b", SECOND))]).held == []


def test_nothing_but_ties_is_level_without_an_interval() -> None:
    found = fit(votes_of(("a", "b", TIE), ("b", "c", TIE), times=6))
    assert [interval.value for interval in found.points.values()] == [0, 0, 0]
    assert found.points["a"].low is None


def test_groups_that_never_met_are_refused_by_name() -> None:
    with pytest.raises(IngotError) as error:
        fit(votes_of(("a", "b", FIRST), ("c", "d", TIE)))
    assert error.value.code == "people-disconnected"
    assert error.value.details["groups"] == "{a, b}; {c, d}"


def test_no_votes_are_refused() -> None:
    with pytest.raises(IngotError) as error:
        fit([])
    assert error.value.code == "people-no-votes"


def test_one_annotator_is_told_and_clusters_by_prompt() -> None:
    votes = [
        Comparison(v.first, v.second, v.outcome, "only", v.prompt) for v in simulated(np.random.default_rng(4), 4, 30)
    ]
    found = fit(votes)
    assert found.one_annotator
    assert found.freedom == 29
    assert width(found) == pytest.approx(width(fit(votes * 10)))


@pytest.mark.slow
@pytest.mark.parametrize("tastes", [0.0, 0.5])
def test_intervals_hold_the_truth_as_often_as_they_say(tastes: float) -> None:
    """500 studies of 30 people and 60 prompts; with tastes the truth is what all people and prompts make of a pair."""
    draw, hits = np.random.default_rng(5), 0
    truth = TRUTH - TRUTH.mean() if tastes == 0 else _marginal(tastes)
    for _ in range(500):
        found = fit(simulated(draw, 30, 60, tastes))
        for at, name in enumerate(found.systems):
            interval = found.points[name]
            assert interval.low is not None
            assert interval.high is not None
            hits += interval.low <= truth[at] * POINTS <= interval.high
    assert 0.93 <= hits / 2000 <= 0.97


def _marginal(tastes: float) -> np.ndarray:
    """Strengths that fit what a whole population would vote."""
    draw = np.random.default_rng(6)
    strengths = TRUTH + draw.normal(0, tastes, (20000, 4)) + draw.normal(0, tastes, (20000, 4))
    votes = []
    for i in range(4):
        for j in range(i + 1, 4):
            shares = np.mean([chances(one, i, j, -0.3) for one in strengths], axis=0)
            for outcome, count in enumerate(np.round(shares * 2000).astype(int)):
                votes += [Comparison(f"m{i}", f"m{j}", outcome, n % 10, n % 10) for n in range(count)]
    return fit(votes).strengths_S
