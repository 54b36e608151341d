"""From saved rows to what is counted: which items a model filled rightly, how surprised it was, and by which groups."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ingot.core.language import text
from ingot.evaluate.cloze.item import AFTER, BEFORE
from ingot.evaluate.entrants import Entrant
from ingot.evaluate.item_values import ItemValues
from ingot.evaluate.statistics import Interval, Right, Values, cluster_sums, clustered_ratio, clustered_share
from ingot.evaluate.task import Comparison, Row

WHOLE, LEFT = "cloze", "cloze-left"
"""What the names of numbers begin with: judged by the whole text, and by what stands before the gap alone."""

ASKED = ("group", "before", "fillers", "after", "right")
"""What an item is, besides its id."""


@dataclass(frozen=True)
class Group:
    """Some of the items. `key` is what stands behind WHOLE or LEFT in a number's name, "" for all items."""

    key: str
    group: str | None
    lang: str | None
    places: list[int]


@dataclass(frozen=True)
class View:
    """One model, asked in one way. right: (items,); nats: -log p of the right filler among those offered, (items,);
    tied: items whose right filler scores as much as another, to the last bit."""

    name: str
    prefix: str
    right: Right
    nats: Values
    tied: int

    @classmethod
    def of(cls, name: str, prefix: str, rows: Sequence[Row]) -> View:
        column = "nats" if prefix == WHOLE else "left"
        scores = [np.array(row[column], np.float64) for row in rows]
        own = [found[row["right"]] for found, row in zip(scores, rows, strict=True)]
        others = [np.delete(found, row["right"]).max() for found, row in zip(scores, rows, strict=True)]
        nats = [np.logaddexp.reduce(found) - mine for found, mine in zip(scores, own, strict=True)]
        return cls(
            name,
            prefix,
            np.array([mine > other for mine, other in zip(own, others, strict=True)], np.bool_),
            np.array(nats, np.float64),
            sum(bool(mine == other) for mine, other in zip(own, others, strict=True)),
        )


def make_views(comparison: Comparison) -> list[list[View]]:
    """Each entrant's views: the whole, and for a decoder what it says from the left alone."""
    found = []
    for entrant, rows in zip(comparison.entrants, comparison.rows, strict=True):
        views = [View.of(entrant.name, WHOLE, rows)]
        if all(row["left"] is not None for row in rows):
            views.append(View.of(text("evaluate-cloze-left", model=entrant.name), LEFT, rows))
        found.append(views)
    return found


def make_groups(rows: Sequence[Row]) -> list[Group]:
    """All items and each group, each over all languages and by language; empty ones left out."""
    names = sorted({row["group"] for row in rows}, key=lambda name: (name == AFTER, name != BEFORE, name))
    langs = sorted({row["lang"] for row in rows})
    made = []
    for name in [None, *names]:
        for lang in [None, *langs]:
            places = [n for n, row in enumerate(rows) if name in (None, row["group"]) and lang in (None, row["lang"])]
            key = "".join(f".{part}" for part in (name, lang) if part is not None)
            if places:
                made.append(Group(key, name, lang, places))
    return made


def subjects(rows: Sequence[Row]) -> list[Any]:
    """What each item is about; one that names nothing is about itself."""
    return [row["subject"] or ("alone", number) for number, row in enumerate(rows)]


def share(view: View, rows: Sequence[Row], places: Sequence[int]) -> Interval:
    """The share of some items that is right."""
    about = subjects(rows)
    return clustered_share(view.right[list(places)], [about[place] for place in places])


def mean_nats(view: View, rows: Sequence[Row], seed: int) -> Interval:
    """Mean -log p of the right filler; -log(1/k) is guessing among k."""
    return clustered_ratio(*cluster_sums(view.nats, subjects(rows)), seed)


def difference(first: View, second: View, rows: Sequence[Row], places: Sequence[int], seed: int) -> Interval:
    """The share of `first` minus that of `second` on the same items, drawn by subject."""
    about = subjects(rows)
    change = first.right.astype(np.float64) - second.right.astype(np.float64)
    return clustered_ratio(*cluster_sums(change[list(places)], [about[place] for place in places]), seed)


def mean_widened(rows: Sequence[Row]) -> float:
    """Characters of its surroundings that fell into a gap with this model's tokenizer, on average."""
    return sum(row["widened"] for row in rows) / len(rows)


def guessing(rows: Sequence[Row], places: Sequence[int]) -> float:
    """The share that is right by guessing evenly."""
    return sum(1 / len(rows[place]["fillers"]) for place in places) / len(places)


def commonest(rows: Sequence[Row], places: Sequence[int]) -> float | None:
    """The share that is right by always taking the filler that is true of most, ties shared; None where not known."""
    counts = [(rows[place]["counts"], rows[place]["right"]) for place in places]
    if any(found is None for found, _ in counts):
        return None
    return sum((found[right] == max(found)) / found.count(max(found)) for found, right in counts) / len(places)


def item_values(rows: Sequence[Row], entrant: Entrant, options: Mapping[str, Any]) -> dict[str, ItemValues]:
    """Of every group, which gaps were filled rightly, and how surprising the right fillers were, drawn by subject."""
    view, about = View.of(entrant.name, WHOLE, rows), [str(subject) for subject in subjects(rows)]
    right, everything = view.right.astype(np.float64), range(len(rows))

    def figure(values: Values, places: Sequence[int], **how: Any) -> ItemValues:
        own = [rows[place] for place in places]
        return ItemValues(
            [row["id"] for row in own],
            [json.dumps([row[name] for name in ASKED], ensure_ascii=False) for row in own],
            values[list(places)],
            np.ones(len(own)),
            [about[place] for place in places],
            questions=[f"{row['before']}____{row['after']}" for row in own],
            replies=[row["fillers"][int(np.argmax(row["nats"]))] for row in own],
            **how,
        )

    shares = {f"{WHOLE}{group.key}": figure(right, group.places, is_share=True, primary=group.key == "")
              for group in make_groups(rows)}  # fmt: skip
    return shares | {"cloze_nats": figure(view.nats, everything, is_share=False, higher_is_better=False)}
