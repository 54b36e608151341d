"""What verdicts say of systems and of the judge: outcomes over both orders, flips, the place, the length, agreement.

A pure function of saved rows, the items and people's votes. Intervals draw or cluster by item, because the pairs of one
item share its answers.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ingot.evaluate.people.agreement import cohen
from ingot.evaluate.people.answers import Item
from ingot.evaluate.people.strength import FIRST, SECOND, TIE, Comparison
from ingot.evaluate.people.votes import Vote, comparisons
from ingot.evaluate.statistics import Interval, Values, clustered_ratio, clustered_share, student_quantile
from ingot.evaluate.task import Row

Unit = tuple[str, str, str]
"""An item and two systems in alphabetical order."""


@dataclass(frozen=True)
class Outcome:
    """What the judge said on a unit. verdicts: of each order, FIRST, TIE or SECOND by system; None: no verdict.
    outcome: both orders together, a contradiction is a tie; None where an order has no verdict."""

    unit: Unit
    verdicts: tuple[int | None, ...]
    outcome: int | None

    @property
    def flipped(self) -> bool | None:
        """Did the order change the verdict? None: both orders are not known."""
        if len(self.verdicts) != 2 or None in self.verdicts:
            return None
        return self.verdicts[0] != self.verdicts[1]


def outcomes_of(rows: Sequence[Row]) -> list[Outcome]:
    """One for each unit, in the order of the rows."""
    found: dict[Unit, list[int | None]] = {}
    for row in rows:
        first, second = sorted((row["left"], row["right"]))
        found.setdefault((row["item"], first, second), []).append(_by_system(row))
    return [Outcome(unit, tuple(verdicts), _together(verdicts)) for unit, verdicts in found.items()]


def _by_system(row: Row) -> int | None:
    """The verdict on sides as one on systems in alphabetical order."""
    if row["verdict"] in (None, "tie"):
        return None if row["verdict"] is None else TIE
    winner = row[row["verdict"]]
    return FIRST if winner < row["left" if row["verdict"] == "right" else "right"] else SECOND


def _together(verdicts: Sequence[int | None]) -> int | None:
    if None in verdicts:
        return None
    return verdicts[0] if len(set(verdicts)) == 1 else TIE


def judged(outcomes: Sequence[Outcome]) -> list[Comparison]:
    """Outcomes as votes of one annotator."""
    return [Comparison(o.unit[1], o.unit[2], o.outcome, "judge", o.unit[0]) for o in outcomes if o.outcome is not None]


def majority(votes: Sequence[Vote]) -> dict[Unit, int]:
    """What most people said of each unit; a draw between verdicts is a tie."""
    tallies: dict[Unit, Counter[int]] = defaultdict(Counter)
    for vote in comparisons(votes):
        tallies[str(vote.prompt), vote.first, vote.second][vote.outcome] += 1
    found = {}
    for unit, tally in tallies.items():
        (verdict, most), *others = tally.most_common()
        found[unit] = TIE if others and others[0][1] == most else verdict
    return found


def flip_rate(outcomes: Sequence[Outcome]) -> Interval:
    """How often the order alone changed the verdict."""
    return share([(o.flipped, o.unit[0]) for o in outcomes if o.flipped is not None])


def first_share(rows: Sequence[Row]) -> Interval:
    """How often a verdict that is no tie fell on what stood first; in both orders an unbiased judge gives half."""
    return share([(row["verdict"] == "left", row["item"]) for row in rows if row["verdict"] in ("left", "right")])


def tie_share(outcomes: Sequence[Outcome]) -> Interval:
    return share([(o.outcome == TIE, o.unit[0]) for o in outcomes if o.outcome is not None])


def longer_share(verdicts: Mapping[Unit, int], items: Mapping[str, Item]) -> Interval:
    """How often the longer answer won, of those decided between answers of unequal length."""
    decided = [(unit, verdict) for unit, verdict in verdicts.items() if verdict != TIE and lengths(unit, items)]
    return share([((lengths(unit, items) > 0) == (verdict == FIRST), unit[0]) for unit, verdict in decided])


def lengths(unit: Unit, items: Mapping[str, Item]) -> int:
    """How many characters the first answer is longer than the second."""
    answers = items[unit[0]].answers
    return len(answers[unit[1]]) - len(answers[unit[2]])


def won(verdicts: Mapping[Unit, int], system: str, seed: int) -> Interval:
    """How often a system wins against all others, a tie counting half."""
    sums: dict[str, list[float]] = {}
    for (item, first, second), verdict in verdicts.items():
        if system in (first, second):
            one = sums.setdefault(item, [0.0, 0.0])
            one[0] += 1 - verdict / 2 if system == first else verdict / 2
            one[1] += 1
    if not sums:
        return Interval(None)
    wins, counts = np.array(list(sums.values())).T
    return clustered_ratio(wins, counts, seed)


def more_often(
    own: Mapping[Unit, int], other: Mapping[Unit, int], measure: Callable[[Unit, int], float | None], seed: int
) -> Interval:
    """The mean of a measure of the judge's verdicts less that of people's, on the same units, drawing items."""
    sums: dict[str, list[float]] = {}
    for unit in own.keys() & other.keys():
        one, two = measure(unit, own[unit]), measure(unit, other[unit])
        if one is not None and two is not None:
            kept = sums.setdefault(unit[0], [0.0, 0.0])
            kept[0] += one - two
            kept[1] += 1
    if not sums:
        return Interval(None)
    apart, counts = np.array([sums[item] for item in sorted(sums)]).T
    return clustered_ratio(apart, counts, seed)


def agreed(own: Mapping[Unit, int], people: Mapping[Unit, int], seed: int) -> tuple[Interval, Interval]:
    """Share of equal verdicts and Cohen's kappa, on what both judged."""
    shared = sorted(own.keys() & people.keys())
    items = [unit[0] for unit in shared]
    kappa = cohen([own[unit] for unit in shared], [people[unit] for unit in shared], seed=seed, clusters=items)
    return share([(own[unit] == people[unit], unit[0]) for unit in shared]), kappa


def share(found: Sequence[tuple[bool | None, object]]) -> Interval:
    """The share of true ones, clustered by the second of each pair."""
    return clustered_share(np.array([bool(value) for value, _ in found]), [cluster for _, cluster in found])


def at_equal_length(verdicts: Mapping[Unit, int], items: Mapping[str, Item], first: str, second: str) -> Interval:
    """The first system's wins against the second, were all answers equally long.

    A logistic regression of the outcome (a tie is half) on tanh of the difference in length over its spread, read at
    difference 0: AlpacaEval's length control (Dubois 2024) without its terms for instructions. Clustered by item; a
    weak prior keeps it finite where length decides everything.
    """
    units = [unit for unit in verdicts if unit[1:] == (first, second)]
    if not units:
        return Interval(None)
    apart_N = np.array([lengths(unit, items) for unit in units], dtype=np.float64)
    spread = float(apart_N.std()) or 1.0
    design_N2 = np.stack([np.ones(len(units)), np.tanh(apart_N / spread)], axis=1)
    outcome_N = np.array([1 - verdicts[unit] / 2 for unit in units])
    value, deviation, clusters = _intercept(design_N2, outcome_N, [unit[0] for unit in units])
    if clusters < 5:
        return Interval(_logistic(value))
    half = student_quantile(clusters - 1) * deviation
    return Interval(_logistic(value), _logistic(value - half), _logistic(value + half))


PRIOR = np.diag([1e-2, 1e-2])
"""Of a standard deviation of 10 in log-odds."""


def _intercept(design_N2: Values, outcome_N: Values, clusters: Sequence[str]) -> tuple[float, float, int]:
    """The constant of a logistic regression, its standard deviation by clusters, and how many clusters there are."""
    beta = np.zeros(2)
    for _ in range(100):
        chance_N = 1 / (1 + np.exp(-np.clip(design_N2 @ beta, -500, 500)))
        bread = design_N2.T @ (design_N2 * (chance_N * (1 - chance_N))[:, None]) + PRIOR
        step = np.linalg.solve(bread, design_N2.T @ (outcome_N - chance_N) - PRIOR @ beta)
        beta = beta + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-9))
        if np.abs(step).max() < 1e-10:
            break
    place: dict[str, int] = {}
    owner = np.array([place.setdefault(name, len(place)) for name in clusters])
    scores_N2 = design_N2 * (outcome_N - chance_N)[:, None]
    sums = np.stack([np.bincount(owner, column, len(place)) for column in scores_N2.T], axis=1)
    inverse = np.linalg.inv(bread)
    count = len(place)
    spread = inverse @ (sums.T @ sums) @ inverse * (count / max(1, count - 1))
    return float(beta[0]), math.sqrt(float(spread[0, 0])), count


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-max(-700.0, min(700.0, value))))
