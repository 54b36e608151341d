"""All tests between a baseline and other models: differences with intervals, corrected p-values, and verdicts.

The figures a task calls primary are the family that Holm's correction covers. The rest (by language, by subject) is
looked at, not decided on: its p-values are corrected by Benjamini and Hochberg and it has no verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ingot.evaluate import power
from ingot.evaluate.compare.contestants import Contestant
from ingot.evaluate.compare.pair import Pair, pair
from ingot.evaluate.corrections import benjamini_hochberg, holm
from ingot.evaluate.paired import sign_flip
from ingot.evaluate.statistics import Interval, exact_mcnemar

Verdict = Literal["better", "worse", "alike", "not-comparable"]

UNKNOWN = Interval(None)

POWER = 0.8
"""The smallest detectable difference is what a test sees in four of five tries."""


@dataclass(frozen=True)
class Contest:
    """One figure of one model against the baseline's. `reason` stands instead of all else where they cannot be
    compared. p, adjusted: two-sided. detectable: the smallest difference that this test would see, in the figure's
    unit; None where it is not known, and for figures that are not primary."""

    model: int
    task: str
    metric: str
    primary: bool
    reason: str = ""
    pair: Pair | None = None
    difference: Interval = UNKNOWN
    change: Interval = UNKNOWN
    p: float = 1.0
    adjusted: float = 1.0
    detectable: float | None = None

    def verdict(self, level: float) -> Verdict:
        if self.pair is None:
            return "not-comparable"
        if self.adjusted > level or not self.difference.value:
            return "alike"
        return "better" if self.difference.value * self.pair.sign > 0 else "worse"


def contests(others: Sequence[Contestant], baseline: Contestant, level: float, seed: int) -> list[Contest]:
    """Every figure of every other model against the baseline's, corrected over all of them together."""
    found = [contest for number, one in enumerate(others) for contest in _of_model(number, one, baseline, seed)]
    for primary, correct in ((True, holm), (False, benjamini_hochberg)):
        tested = [at for at, one in enumerate(found) if one.primary == primary and one.pair is not None]
        for at, adjusted in zip(tested, correct([found[at].p for at in tested]), strict=True):
            smallest = _detectable(found[at], level / len(tested)) if primary else None
            found[at] = replace(found[at], adjusted=adjusted, detectable=smallest)
    return found


def _of_model(number: int, one: Contestant, baseline: Contestant, seed: int) -> list[Contest]:
    tested = []
    for name in {**baseline.metrics, **one.metrics}:
        first, second = one.metrics.get(name), baseline.metrics.get(name)
        known = second or first
        assert known is not None
        task = {**one.tasks, **baseline.tasks}[name]
        found = pair(first, second)
        contest = Contest(number, task, name, known.primary)
        tested.append(replace(contest, reason=found) if isinstance(found, str) else _tested(contest, found, seed))
    return tested


def _tested(contest: Contest, found: Pair, seed: int) -> Contest:
    if found.is_plain_share:
        return replace(contest, pair=found, difference=found.interval(seed), p=exact_mcnemar(*found.only))
    differences, _ = found.by_cluster()
    return replace(contest, pair=found, difference=found.interval(seed), change=found.change(seed),
                   p=sign_flip(differences, "both", seed))  # fmt: skip


def _detectable(contest: Contest, level: float) -> float | None:
    """At a share of the level: what the strictest step of the correction asks of one test."""
    found = contest.pair
    assert found is not None
    if found.is_plain_share:
        apart = power.disagreement(*found.only, found.count)
        return power.smallest_share(found.count, apart, level, POWER)
    differences, weights = found.by_cluster()
    smallest = power.smallest_mean(power.standard_error(differences, weights), len(weights), level, POWER)
    return None if smallest is None else smallest * found.source.scale
