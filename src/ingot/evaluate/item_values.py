"""What a task's saved rows say item by item, in the one form that paired comparisons read.

A figure is sum(values) / sum(weights) * scale over its items: a share has values 0 and 1 and weights 1, bits per byte
has nats and bytes. Every task gives these (`Task.values`), and is compared, gated and split by them without another
line of code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ingot.evaluate.statistics import Values, clustered_ratio


@dataclass(frozen=True)
class ItemValues:
    """One figure of one model, item by item.

    ids: which item; asked: what exactly it asks or is, equal wherever the id is equal, else the two are not the same
    item. clusters: items that are equal here are not independent. conditions: what else must agree between two models
    (a tokenizer, a task's version, a signature), by its name. primary: tested in the verdict; the others are shown
    beside it. questions, replies: an item and what the model gave, for people. places: where each item stands
    (file:line), where its id does not say so. lacking: why there are none, a sentence.
    """

    ids: Sequence[str]
    asked: Sequence[str]
    values: Values
    weights: Values
    clusters: Sequence[str]
    is_share: bool
    higher_is_better: bool = True
    primary: bool = False
    scale: float = 1.0
    conditions: Mapping[str, str] = field(default_factory=dict)
    questions: Sequence[str] = ()
    replies: Sequence[str] = ()
    places: Sequence[str] = ()
    lacking: str = ""

    def __post_init__(self) -> None:
        sizes = {len(found) for found in (self.ids, self.asked, self.values, self.weights, self.clusters)}
        assert len(sizes) == 1, f"columns of different lengths: {sizes}"
        assert len(set(self.ids)) == len(self.ids), "an id stands twice"

    @classmethod
    def none(cls, reason: str, primary: bool = False) -> ItemValues:
        """A figure of which nothing can be said item by item."""
        return cls([], [], np.zeros(0), np.zeros(0), [], is_share=False, primary=primary, lacking=reason)

    @property
    def value(self) -> float | None:
        """The figure over all items."""
        found = clustered_ratio(self.values, self.weights, 0, 1).value
        return None if found is None else found * self.scale


def text_ids(names: Sequence[str], digests: Sequence[str]) -> list[str]:
    """An id for each text that was measured on: its digest, numbered where the same text stands under several names."""
    copies: dict[str, dict[str, int]] = {}
    found = []
    for name, digest in zip(names, digests, strict=True):
        seen = copies.setdefault(digest, {})
        found.append(f"{digest}.{seen.setdefault(name, len(seen))}")
    return found
