"""From saved rows to numbers: what each item scores by each metric, means with their errors and intervals.

A metric gives one number for a row. Standard errors are lm-eval's (the sample's standard deviation over sqrt n; of
several groups pooled), intervals are ours: clustered by `cluster`, and narrower by the finite-population factor where a
sample of a known set was asked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ingot.evaluate.benchmarks.extract import EXTRACTORS
from ingot.evaluate.benchmarks.spec import Answer, Spec
from ingot.evaluate.statistics import (
    FEWEST_CLUSTERS,
    Interval,
    PairedShares,
    Values,
    cluster_sums,
    clustered_ratio,
    clustered_share,
    paired_shares,
)
from ingot.evaluate.task import Row

MATCH = "exact_match."
"""What the metrics of written answers begin with."""


SCORES: dict[str, Callable[[Row], Values]] = {
    "acc": lambda row: np.array(row["logprobs"]),
    "acc_norm": lambda row: np.array(row["logprobs"]) / [len(choice) for choice in row["choices"]],
    "acc_bytes": lambda row: np.array(row["logprobs"]) / [len(choice.encode()) for choice in row["choices"]],
    "acc_mutual_info": lambda row: np.array(row["logprobs"]) - row["logprobs_alone"],
}
"""What the choices are ranked by: sums of log-probabilities, the same a character, a UTF-8 byte, and less what a choice
has by itself."""


def chosen(metric: str, row: Row) -> int:
    """The choice with the largest score, the first of equal ones."""
    return int(SCORES.get(metric, SCORES["acc"])(row).argmax())


def _is_right(metric: str, row: Row) -> float:
    return float(chosen(metric, row) in row["gold"])


def _mc2(row: Row) -> float:
    """The share of the right choices in the sum of all probabilities."""
    scores = np.array(row["logprobs"], np.float64)
    mass = np.exp(scores - scores.max())
    return float(mass[row["gold"]].sum() / mass.sum())


METRICS: dict[str, Callable[[Row], float]] = {**{name: partial(_is_right, name) for name in SCORES}, "mc2": _mc2}


def metric_names(spec: Spec) -> list[str]:
    """The first is the task's headline."""
    return list(spec.metrics) if spec.output == "choice" else [f"{MATCH}{name}" for name in spec.answers]


def lm_eval_name(spec: Spec, metric: str) -> str:
    """The same number's name in lm-eval's results."""
    if metric.startswith(MATCH):
        return f"exact_match,{metric.removeprefix(MATCH)}"
    return f"{'acc' if metric == 'mc2' else metric},none"


def values(spec: Spec, metric: str, rows: Sequence[Row]) -> Values:
    """One number a row, float64 (rows,)."""
    if metric.startswith(MATCH):
        answer = spec.answers[metric.removeprefix(MATCH)]
        return np.array([matches(answer, row["reply"], row["target"]) for row in rows], np.float64)
    return np.array([METRICS[metric](row) for row in rows], np.float64)


def extracted(answer: Answer, reply: str) -> str:
    """What was answered."""
    return EXTRACTORS[answer.extract](reply, answer.pattern, answer.pick)


def matches(answer: Answer, reply: str, target: str) -> float:
    """1.0 where the answer found is the target's, else 0.0."""
    wanted = extracted(answer, target) if answer.extract in ("letter", "number") else target
    return float(_plain(answer, extracted(answer, reply)) == _plain(answer, wanted))


def _plain(answer: Answer, text: str) -> str:
    for pattern in answer.ignore:
        text = re.sub(pattern, "", text)
    return text.lower() if answer.ignore_case else text


@dataclass(frozen=True)
class Group:
    """Some of the rows, all of them first."""

    name: str
    places: list[int]


def make_groups(rows: Sequence[Row]) -> list[Group]:
    """All rows, then each group of them where there are several."""
    names: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        names.setdefault(row["group"], []).append(place)
    groups = [Group(name, places) for name, places in sorted(names.items())] if len(names) > 1 else []
    return [Group("", list(range(len(rows)))), *groups]


def clusters(rows: Sequence[Row]) -> list[Hashable]:
    """What each row may not be independent of; where all are in one, each is taken for itself."""
    found = [row["cluster"] for row in rows]
    return found if len(set(found)) > 1 else list(range(len(found)))


def stderr(found: Values, groups: Sequence[Hashable]) -> float | None:
    """lm-eval's standard error of a mean: of one group its sample's, of several theirs pooled; None for one item."""
    parts: dict[Hashable, list[float]] = {}
    for value, group in zip(found.tolist(), groups, strict=True):
        parts.setdefault(group, []).append(value)
    count = len(found)
    if count <= len(parts):
        return None
    squares = sum(float(((np.array(part) - np.mean(part)) ** 2).sum()) for part in parts.values())
    return math.sqrt(squares / (count - len(parts)) / count)


def mean(found: Values, rows: Sequence[Row], share_asked: float, seed: int) -> Interval:
    """The mean with its interval; without one for a single item. `share_asked`: of the whole set."""
    if len(found) < 2:
        return Interval(float(found[0]) if len(found) else None)
    about = clusters(rows)
    if set(found.tolist()) <= {0.0, 1.0}:
        interval = clustered_share(found > 0.5, about)
    else:
        interval = clustered_ratio(*cluster_sums(found, about), seed)
    return _finite(interval, share_asked)


@dataclass(frozen=True)
class Difference:
    """Of two models on the same rows."""

    interval: Interval
    pair: PairedShares | None

    @property
    def is_told_apart(self) -> bool:
        """Neither the interval nor, for shares, McNemar's exact test leaves it to chance."""
        p_value = None if self.pair is None else self.pair.p_value
        return self.interval.excludes_zero and (p_value is None or p_value < 0.05)


def difference(first: Values, second: Values, rows: Sequence[Row], share_asked: float, seed: int) -> Difference:
    """The mean of `first` minus that of `second`; for right-or-wrong metrics also who alone was right."""
    are_shares = set(first.tolist()) | set(second.tolist()) <= {0.0, 1.0}
    pair = paired_shares(first > 0.5, second > 0.5) if are_shares else None
    if len(first) < 2:
        return Difference(Interval(float((first - second).sum()) if len(first) else None), pair)
    about = clusters(rows)
    if pair is not None and (len(set(about)) == len(about) or len(set(about)) < FEWEST_CLUSTERS):
        return Difference(_finite(pair.difference, share_asked), pair)
    return Difference(_finite(clustered_ratio(*cluster_sums(first - second, about), seed), share_asked), pair)


def _finite(interval: Interval, share_asked: float) -> Interval:
    """Bounds drawn to the value by sqrt(1 - share): nothing is left to chance about a set that was asked whole. A
    whole set (share 1) is itself taken as a sample of what might be asked, and keeps its bounds."""
    value, low, high = interval.value, interval.low, interval.high
    if value is None or low is None or high is None or share_asked >= 1:
        return interval
    factor = math.sqrt(1 - share_asked)
    return Interval(value, value - (value - low) * factor, value + (high - value) * factor)


def is_tied(row: Row) -> bool:
    """Do two choices share the largest score, to the last bit?"""
    return "logprobs" in row and row["logprobs"].count(max(row["logprobs"])) > 1
