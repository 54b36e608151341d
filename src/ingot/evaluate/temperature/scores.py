"""From samples to numbers: how often right, alone and by majority, how unsure, how often cut; one row a question."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ingot.evaluate.statistics import Values
from ingot.evaluate.task import Row
from ingot.evaluate.temperature.items import RIGHT_VOTE, Item, Judged, judge
from ingot.evaluate.temperature.options import Aim


@dataclass(frozen=True)
class Scores:
    """Questions by temperatures, (Q, K). single: share of right samples; majority: 1 where most samples agree on a
    right answer, a tie counts its share; both None without labels. entropy: nats a token; cut: share of samples that
    ended at the length allowed; tokens: of a sample."""

    single: Values | None
    majority: Values | None
    entropy: Values
    cut: Values
    tokens: Values

    def by(self, aim: Aim) -> Values:
        found = self.single if aim == "single" else self.majority
        assert found is not None
        return found


def score(rows: Sequence[Row], items: Sequence[Item], grid: Sequence[float]) -> Scores:
    """Every question has samples at every temperature. `items` without labels give no shares."""
    found: dict[tuple[str, float], list[Row]] = defaultdict(list)
    for row in rows:
        found[row["id"], row["temperature"]].append(row)
    cells = [[sorted(found[item.id, one], key=_sample) for one in grid] for item in items]
    is_known = all(item.accept is not None for item in items)
    judged = [
        [[judge(item, row["reply"]) for row in cell] if is_known else [] for cell in line]
        for item, line in zip(items, cells, strict=True)
    ]
    return Scores(
        single=_table([[_share(cell) for cell in line] for line in judged]) if is_known else None,
        majority=_table([[majority(cell) for cell in line] for line in judged]) if is_known else None,
        entropy=_table([[_mean([row["entropy"] for row in cell]) for cell in line] for line in cells]),
        cut=_table([[_mean([row["finish_reason"] == "length" for row in cell]) for cell in line] for line in cells]),
        tokens=_table([[_mean([row["tokens"] for row in cell]) for cell in line] for line in cells]),
    )


def majority(judged: Sequence[Judged]) -> float:
    """1 where the most common answer is right; where several are equally common, the right one's share of them."""
    votes = Counter(one.vote for one in judged)
    most = max(votes.values())
    return (votes[RIGHT_VOTE] == most) / sum(count == most for count in votes.values())


def _share(judged: Sequence[Judged]) -> float:
    return sum(one.right for one in judged) / len(judged)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _table(lines: list[list[float]]) -> Values:
    return np.array(lines, dtype=np.float64)


def _sample(row: Row) -> int:
    return int(row["sample"])
