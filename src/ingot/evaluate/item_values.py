"""What a task's saved rows say item by item, in the one form that paired comparisons read.

A figure is sum(values) / sum(weights) * scale over its items: a share has values 0 and 1 and weights 1, bits per byte
has nats and bytes. A task that gives these (`Task.values`) is compared and gated without another line of code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ingot.evaluate.statistics import Values, clustered_ratio


@dataclass(frozen=True)
class ItemValues:
    """One figure of one model, item by item.

    ids: which item; asked: what exactly it asks or is, equal wherever the id is equal, else the two are not the same
    item. clusters: items that are equal here are not independent. conditions: what else must agree between two models
    (a tokenizer, a task's version, a signature), by its name. primary: tested in the verdict; the others are shown
    beside it. questions, replies: an item and what the model gave, for people.
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

    def __post_init__(self) -> None:
        sizes = {len(found) for found in (self.ids, self.asked, self.values, self.weights, self.clusters)}
        assert len(sizes) == 1, f"columns of different lengths: {sizes}"
        assert len(set(self.ids)) == len(self.ids), "an id stands twice"

    @property
    def value(self) -> float | None:
        """The figure over all items."""
        found = clustered_ratio(self.values, self.weights, 0, 1).value
        return None if found is None else found * self.scale
