"""Who reads and who clicks: how often somebody careful is flagged, and somebody who clicks at random is caught."""

from __future__ import annotations

import random

import pytest
from annotating import golds

from ingot.evaluate.people.answers import Item
from ingot.evaluate.people.flags import (
    CAREFUL,
    GOLD_FALSE,
    binomial_up_to,
    check_annotators,
    critical,
    is_right,
    least_seconds,
    two_sided,
)
from ingot.evaluate.people.gold import Gold
from ingot.evaluate.people.rubric import DEFAULT
from ingot.evaluate.people.votes import Vote

TEXT = "word " * 120
ITEMS = {f"i{n}": Item(f"i{n}", "what?", {"a": TEXT, "b": TEXT}) for n in range(140)}
GOLD = {each.item.id: Gold(Item(each.item.id, "what?", {"x": TEXT, "y": TEXT}), "x") for each in golds(20)}
ALL = ITEMS | {name: each.item for name, each in GOLD.items()}


def cast(name: str, item: str, choice: str, seconds: float, flip: bool) -> Vote:
    first, second = sorted(ALL[item].answers)
    shown = (second, first) if flip else (first, second)
    return Vote(f"{name}-{item}", name, item, shown, choice, 100.0, 100.0 + seconds, "d")


def careful(draw: random.Random, name: str) -> list[Vote]:
    """Reads at 2 to 8 words a second, is right on nine gold items in ten."""
    speed = draw.uniform(2, 8)
    votes = []
    for item in ALL:
        flip, seconds = draw.random() < 0.5, 240 / (speed * draw.lognormvariate(0, 0.4))
        right = "right" if flip else "left"
        knows = item in GOLD and draw.random() < 0.9
        choice = right if knows else draw.choice(["left", "right", "tie"])
        votes.append(cast(name, item, choice, seconds, flip))
    return votes


def clicking(draw: random.Random, name: str, slow: bool) -> list[Vote]:
    """Clicks a side at random; `slow` ones wait as long as reading takes."""
    return [cast(name, item, draw.choice(["left", "right"]), draw.uniform(40, 90) if slow else draw.uniform(0.5, 3),
                 draw.random() < 0.5) for item in ALL]  # fmt: skip


@pytest.mark.slow
def test_clickers_are_caught_and_readers_are_not() -> None:
    """With 20 gold items: at least 90 % of those who click at random, at most 5 % of those who read."""
    draw = random.Random(1)
    votes = [v for n in range(300) for v in careful(draw, f"reader{n}")]
    votes += [v for n in range(300) for v in clicking(draw, f"slow{n}", slow=True)]
    votes += [v for n in range(50) for v in clicking(draw, f"fast{n}", slow=False)]
    found = {each.annotator: each for each in check_annotators(votes, ALL, GOLD, DEFAULT)}
    flagged = {kind: sum(bool(each.flags) for name, each in found.items() if name.startswith(kind))
               for kind in ("reader", "slow", "fast")}  # fmt: skip
    assert flagged["reader"] <= 0.05 * 300
    assert flagged["slow"] >= 0.9 * 300
    assert flagged["fast"] == 50
    assert all(found[f"slow{n}"].power >= 0.9 for n in range(300))
    assert all("hasty" in found[f"fast{n}"].flags for n in range(50))


def test_few_gold_items_say_that_they_catch_nobody() -> None:
    assert critical(0) == critical(1) == -1
    gold = dict(list(GOLD.items())[:3])
    votes = [v for v in clicking(random.Random(2), "c", slow=True) if v.item in ITEMS or v.item in gold]
    (found,) = check_annotators(votes, ITEMS | {k: v.item for k, v in gold.items()}, gold, DEFAULT)
    assert found.gold_seen == 3
    assert found.power < 0.9


def test_the_bound_is_what_it_says() -> None:
    from scipy.stats import binom

    for count in (5, 10, 20, 40):
        assert (
            binomial_up_to(critical(count), count, CAREFUL)
            <= GOLD_FALSE
            < binomial_up_to(critical(count) + 1, count, CAREFUL)
        )
        assert abs(binomial_up_to(3, count, 0.3) - binom.cdf(3, count, 0.3)) < 1e-12


def test_one_side_is_flagged() -> None:
    votes = [cast("c", item, "left", 60, flip=n % 2 == 0) for n, item in enumerate(ITEMS)]
    (found,) = check_annotators(votes, ALL, GOLD, DEFAULT)
    assert found.flags == ("side",)
    assert two_sided(0, 0) == 1


def test_reading_takes_time_in_both_scripts() -> None:
    item = Item("i", "字" * 30, {"a": "word " * 20, "b": "字" * 60})
    vote = Vote("t", "a", "i", ("a", "b"), "left", 0, 1, "d")
    assert least_seconds(vote, item) == 1 + 1 + 2


def test_gold_of_ratings() -> None:
    gold = Gold(Item("gold:1", "p", {"a": "x"}), {"correct": (4, 5)})
    vote = Vote("t", "a", "gold:1", ("a",), "rated", 0, 50, "d", {"correct": 4, "helpful": 1, "fluent": 1})
    assert is_right(vote, gold)
    assert not is_right(Vote("t", "a", "gold:1", ("a",), "rated", 0, 50, "d", {"correct": 3}), gold)
