"""Two models' figures brought to the same items, or the reason why they cannot be compared.

Nothing is compared that only looks alike: the same id must ask the same, the weights must agree (bytes, tokens), and so
must every condition that the task names. What only one side has is left out and counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ingot.core.language import text
from ingot.evaluate.item_values import ItemValues
from ingot.evaluate.statistics import (
    FEWEST_CLUSTERS,
    Interval,
    Right,
    Values,
    cluster_sums,
    clustered_ratio,
    paired_shares,
)


@dataclass(frozen=True)
class Pair:
    """One figure of two models on the items that both have. `first` and `second`: (items,); `places` leads from them to
    the first's rows. `left_out`: how many items the first and the second have beyond these."""

    first: Values
    second: Values
    weights: Values
    clusters: list[str]
    source: ItemValues
    other: ItemValues
    places: list[int]
    other_places: list[int]
    left_out: tuple[int, int]

    @property
    def count(self) -> int:
        return len(self.first)

    @property
    def is_plain_share(self) -> bool:
        """Right or wrong, each item on its own."""
        return self.source.is_share and len(set(self.clusters)) == self.count

    @property
    def rights(self) -> tuple[Right, Right]:
        return self.first > 0, self.second > 0

    @property
    def only(self) -> tuple[int, int]:
        """Of a share: how many items only the first gets right, and only the second."""
        first, second = self.rights
        return int((first & ~second).sum()), int((~first & second).sum())

    @property
    def sign(self) -> int:
        """1 where a larger figure is better, else -1."""
        return 1 if self.source.higher_is_better else -1

    def by_cluster(self, share: float = 0.0) -> tuple[Values, Values]:
        """first - (1 + share) * second, and the weights, summed over each cluster."""
        differences, _ = cluster_sums(self.first - (1 + share) * self.second, self.clusters)
        weights, _ = cluster_sums(self.weights, self.clusters)
        return differences, weights

    def interval(self, seed: int) -> Interval:
        """first - second. Shares of few clusters are taken as items on their own, as on the benchmark's page."""
        if self.source.is_share and (self.is_plain_share or len(set(self.clusters)) < FEWEST_CLUSTERS):
            return paired_shares(*self.rights).difference
        differences, weights = self.by_cluster()
        counted = weights > 0
        return clustered_ratio(differences[counted], weights[counted], seed).scaled(self.source.scale)

    def figure(self, values: Values) -> float:
        return float(values.sum() / self.weights.sum()) * self.source.scale

    def change(self, seed: int) -> Interval:
        """The difference as a share of the second's figure; undefined for shares and where that could be zero."""
        first, _ = cluster_sums(self.first, self.clusters)
        second, _ = cluster_sums(self.second, self.clusters)
        if self.source.is_share or not (second > 0).all():
            return Interval(None)
        return clustered_ratio(first - second, second, seed)


def pair(first: ItemValues | None, second: ItemValues | None) -> Pair | str:
    """Both on their common items; else a sentence that says why not."""
    if first is None or second is None:
        return text("compared-lacking")
    if first.lacking or second.lacking:
        return first.lacking or second.lacking
    for name in {**first.conditions, **second.conditions}:
        one, two = first.conditions.get(name, "-"), second.conditions.get(name, "-")
        if one != two:
            return text("compared-condition", name=name, first=_short(one), second=_short(two))
    at = {item: place for place, item in enumerate(second.ids)}
    places = [place for place, item in enumerate(first.ids) if item in at]
    others = [at[first.ids[place]] for place in places]
    if not places:
        return text("compared-no-common", first=len(first.ids), second=len(second.ids))
    for here, there in zip(places, others, strict=True):
        if first.asked[here] != second.asked[there]:
            return text("compared-asked-differs", id=first.ids[here])
    if not np.array_equal(first.weights[places], second.weights[others]):
        return text("compared-weights-differ")
    if not (np.isfinite(first.values[places]).all() and np.isfinite(second.values[others]).all()):
        return text("compared-not-finite")
    if not first.weights[places].sum() > 0:
        return text("compared-nothing-counted")
    return Pair(
        first.values[places], second.values[others], first.weights[places], [first.clusters[at] for at in places],
        first, second, places, others, (len(first.ids) - len(places), len(second.ids) - len(places)),
    )  # fmt: skip


def _short(word: str) -> str:
    return word if len(word) <= 16 else word[:12]
