"""How strong systems are, from votes between two of them: Bradley and Terry's model with Davidson's ties.

    P(i wins) : P(tie) : P(j wins)  =  exp(s_i) : exp(t + (s_i + s_j) / 2) : exp(s_j)

Davidson, JASA 65 (1970). The likelihood is concave; Newton's method finds its maximum. Votes are not independent: those
of one person share a taste, those on one prompt share its answers. The covariance is therefore a sandwich clustered by
both (Cameron, Gelbach and Miller 2011), so that voting ten times over does not make anything surer.

Two things have no finite answer and are not hidden. Systems that were never compared with each other, not even through
others, are refused with their groups. A system that only won (or only lost) has no finite strength: it is kept finite
by a weak prior, flagged, and given no interval.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ingot.core.errors import fail
from ingot.evaluate.statistics import Interval, Values, student_quantile

POINTS = 400 / math.log(10)
"""Points a unit of strength, as in chess: 400 points are odds of ten to one."""
PRIOR_SPREAD = 2.5
"""Standard deviation of the prior that holds strengths finite where votes do not."""
FIRST, TIE, SECOND = 0, 1, 2
STEPS = 200
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Comparison:
    """One vote: the place of the winner among (first, second) as FIRST, SECOND, or TIE."""

    first: str
    second: str
    outcome: int
    annotator: Hashable
    prompt: Hashable


@dataclass(frozen=True)
class Strengths:
    """points: centred on 0, best first; `held`: those that only a prior keeps finite. covariance_SS: of strengths in
    units of the model, in the order of `systems`. ties: the model's t, None without ties."""

    systems: list[str]
    points: dict[str, Interval]
    held: list[str]
    ties: float | None
    strengths_S: Values
    covariance_SS: Values
    freedom: int
    one_annotator: bool

    def difference(self, first: str, second: str) -> Interval:
        """Points of the first less those of the second."""
        one, other = self.systems.index(first), self.systems.index(second)
        value = float(self.strengths_S[one] - self.strengths_S[other]) * POINTS
        if {first, second} & set(self.held):
            return Interval(value)
        matrix = self.covariance_SS
        half = _half_width(float(matrix[one, one] + matrix[other, other] - 2 * matrix[one, other]), self.freedom)
        return Interval(value) if half is None else Interval(value, value - half, value + half)


def fit(votes: Sequence[Comparison]) -> Strengths:
    """Strengths with their intervals. Raises `people-disconnected` naming the groups, `people-no-votes`."""
    systems = sorted({name for vote in votes for name in (vote.first, vote.second)})
    if not systems:
        raise fail("people-no-votes")
    place = {name: at for at, name in enumerate(systems)}
    first_N = np.array([place[vote.first] for vote in votes], dtype=np.int64)
    second_N = np.array([place[vote.second] for vote in votes], dtype=np.int64)
    outcome_N = np.array([vote.outcome for vote in votes], dtype=np.int64)
    _refuse_disconnected(systems, first_N, second_N)
    decided = bool((outcome_N != TIE).any())
    held = _unbounded(len(systems), first_N, second_N, outcome_N) if decided else []
    model = _Model(len(systems), first_N, second_N, outcome_N, bool(held))
    theta_P = model.maximum()
    spread_PP, freedom, alone = model.covariance(theta_P, votes)
    to_SP = model.basis_SP
    return _strengths(systems, {systems[at] for at in held}, to_SP @ theta_P, to_SP @ spread_PP @ to_SP.T,
                      float(theta_P[-1]) if model.has_ties else None, freedom, alone)  # fmt: skip


class _Model:
    """Davidson's model in free parameters: strengths that sum to 0 (the last follows from the others), then t."""

    def __init__(self, size: int, first_N: Places, second_N: Places, outcome_N: Places, prior: bool) -> None:
        decided = bool((outcome_N != TIE).any())
        self.has_ties = decided and bool((outcome_N == TIE).any())
        self.size, self.outcome_N = size, outcome_N
        free = size - 1
        self.basis_SP = np.zeros((size, free + self.has_ties))
        self.basis_SP[:free, :free] = np.eye(free)
        self.basis_SP[free:, :free] = -1
        self.penalty = self.basis_SP.T @ self.basis_SP / PRIOR_SPREAD**2 * prior
        self.design_N3P = self._design(first_N, second_N)
        cells, self.inverse_N = np.unique(np.stack([first_N, second_N, outcome_N]), axis=1, return_inverse=True)
        self.inverse_N = self.inverse_N.reshape(-1)
        self.counts_C = np.bincount(self.inverse_N, minlength=cells.shape[1]).astype(np.float64)
        self.design_C3P, self.outcome_C = self._design(cells[0], cells[1]), cells[2]
        self.is_level = not decided

    def _design(self, first: Places, second: Places) -> Values:
        """What each outcome's logit is made of; without ties the middle one is impossible and left at -inf."""
        one, other = self.basis_SP[first], self.basis_SP[second]
        middle = (one + other) / 2
        if self.has_ties:
            middle[:, -1] = 1
        return np.stack([one, middle, other], axis=1)

    def _shares(self, design_C3P: Values, theta_P: Values) -> Values:
        logits = design_C3P @ theta_P
        if not self.has_ties:
            logits[:, TIE] = -math.inf
        logits -= logits.max(1, keepdims=True)
        found = np.exp(logits)
        return found / found.sum(1, keepdims=True)

    def _scores(self, design_C3P: Values, outcome_C: Places, theta_P: Values) -> Values:
        """The gradient of each vote's log-likelihood."""
        missing = np.eye(3)[outcome_C] - self._shares(design_C3P, theta_P)
        return np.einsum("ck,ckp->cp", missing, design_C3P)

    def _information(self, theta_P: Values) -> Values:
        shares = self._shares(self.design_C3P, theta_P)
        mean = np.einsum("ck,ckp->cp", shares, self.design_C3P)
        apart = self.design_C3P - mean[:, None, :]
        return np.einsum("c,ck,ckp,ckq->pq", self.counts_C, shares, apart, apart) + self.penalty

    def _likelihood(self, theta_P: Values) -> float:
        shares = self._shares(self.design_C3P, theta_P)[np.arange(len(self.outcome_C)), self.outcome_C]
        with np.errstate(divide="ignore"):
            found = float(self.counts_C @ np.log(shares))
        return found - float(theta_P @ self.penalty @ theta_P) / 2

    def maximum(self) -> Values:
        """Newton's method; a step that does not climb is halved."""
        theta_P = np.zeros(self.basis_SP.shape[1])
        if self.is_level or not len(theta_P):
            return theta_P
        value = self._likelihood(theta_P)
        for _ in range(STEPS):
            gradient = self.counts_C @ self._scores(self.design_C3P, self.outcome_C, theta_P) - self.penalty @ theta_P
            step = np.linalg.solve(self._information(theta_P), gradient)
            while (better := self._likelihood(theta_P + step)) < value and np.abs(step).max() > 1e-12:
                step = step / 2
            theta_P, value = theta_P + step, better
            if np.abs(step).max() < 1e-12:
                break
        return theta_P

    def covariance(self, theta_P: Values, votes: Sequence[Comparison]) -> tuple[Values, int, bool]:
        """The sandwich by annotator and prompt, its degrees of freedom (0: none), and: is there one annotator only?"""
        people, prompts = [vote.annotator for vote in votes], [vote.prompt for vote in votes]
        sizes = len(set(people)), len(set(prompts))
        alone = sizes[0] == 1
        if self.is_level or min(size for size in sizes if size > 1 or not alone) < 2:
            return np.zeros((len(theta_P), len(theta_P))), 0, alone
        scores_NP = self._scores(self.design_N3P, self.outcome_N, theta_P)
        by_prompt = _clustered(scores_NP, prompts)
        meat = by_prompt
        if not alone:
            meat = (
                by_prompt
                + _clustered(scores_NP, people)
                - _clustered(scores_NP, list(zip(people, prompts, strict=True)))
            )
        bread = np.linalg.inv(self._information(theta_P))
        return _positive(bread @ meat @ bread), (sizes[1] if alone else min(sizes)) - 1, alone


def _clustered(scores_NP: Values, names: Sequence[Hashable]) -> Values:
    """Outer products of the sums of scores of each cluster, corrected for how few clusters there are."""
    place: dict[Hashable, int] = {}
    owner = np.array([place.setdefault(name, len(place)) for name in names])
    sums = np.stack([np.bincount(owner, column, len(place)) for column in scores_NP.T], axis=1)
    outer: Values = (sums.T @ sums).astype(np.float64)
    return outer * (len(place) / (len(place) - 1)) if len(place) > 1 else outer


def _positive(matrix: Values) -> Values:
    """The nearest matrix that can be a covariance: the sandwich by two clusters need not be one."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    nearest: Values = ((vectors * np.maximum(values, 0)) @ vectors.T).astype(np.float64)
    return nearest


def _strengths(
    systems: list[str], held: set[str], strengths_S: Values, covariance_SS: Values, ties: float | None, freedom: int,
    alone: bool,
) -> Strengths:  # fmt: skip
    points = {}
    for at in np.argsort(-strengths_S, kind="stable"):
        value = round(float(strengths_S[at]) * POINTS, 9) + 0.0  # no -5.8e-15
        half = None if systems[at] in held else _half_width(float(covariance_SS[at, at]), freedom)
        points[systems[at]] = Interval(value) if half is None else Interval(value, value - half, value + half)
    return Strengths(systems, points, sorted(held), ties, strengths_S, covariance_SS, freedom, alone)


def _half_width(variance: float, freedom: int) -> float | None:
    """Half a 95 % interval, in points."""
    return None if freedom < 1 else student_quantile(freedom) * math.sqrt(max(variance, 0.0)) * POINTS


def groups(size: int, first_N: Places, second_N: Places) -> list[list[int]]:
    """Systems that were compared with each other, directly or through others."""
    parent = list(range(size))

    def root(at: int) -> int:
        while parent[at] != at:
            at = parent[at]
        return at

    for one, other in set(zip(first_N.tolist(), second_N.tolist(), strict=True)):
        parent[root(one)] = root(other)
    found: dict[int, list[int]] = {}
    for at in range(size):
        found.setdefault(root(at), []).append(at)
    return list(found.values())


def _refuse_disconnected(systems: list[str], first_N: Places, second_N: Places) -> None:
    found = groups(len(systems), first_N, second_N)
    if len(found) > 1:
        shown = "; ".join("{" + ", ".join(systems[at] for at in group) + "}" for group in found)
        raise fail("people-disconnected", count=len(found), groups=shown)


def _unbounded(size: int, first_N: Places, second_N: Places, outcome_N: Places) -> list[int]:
    """Systems outside the largest set in which each beat each, if only through others (Ford 1957). Ties bound nothing:
    where one system only won and tied, the model's t grows with its strength and the likelihood with both."""
    reach = np.eye(size, dtype=bool)
    beats = np.zeros((size, size), dtype=bool)
    first_wins, second_wins = outcome_N == FIRST, outcome_N == SECOND
    beats[first_N[first_wins], second_N[first_wins]] = True
    beats[second_N[second_wins], first_N[second_wins]] = True
    for _ in range(size):
        reach = reach | (reach.astype(np.int64) @ beats.astype(np.int64) > 0)
    both = reach & reach.T
    largest = both[int(both.sum(1).argmax())]
    return [at for at in range(size) if not largest[at]]
