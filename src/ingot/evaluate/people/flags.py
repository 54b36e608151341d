"""Who reads and who clicks: gold items, reading time, and the side that is chosen.

Each flag is a test with a stated error, none is a verdict on a person, and nobody's votes are dropped: the report
counts with and without them. False alarms are bounded (`GOLD_FALSE`, `SIDE_FALSE`); the chance that somebody who clicks
at random is caught by the gold items they saw is computed and shown, because with three of them it is small.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ingot.evaluate.people.answers import Item
from ingot.evaluate.people.gold import Gold
from ingot.evaluate.people.rubric import Rubric
from ingot.evaluate.people.votes import LEFT, RIGHT, SKIP, Vote

CAREFUL = 0.85
"""How often somebody who reads is right on a gold item, at least."""
GOLD_FALSE = 0.025
"""Chance of flagging somebody who is right that often."""
SIDE_FALSE = 0.001
WORDS_A_SECOND, CHARACTERS_A_SECOND = 20.0, 30.0
"""Faster than this nobody reads: four times what skimming takes (300 words or 450 Chinese characters a minute)."""
HASTY_SHARE = 0.5
FEWEST_TIMED = 10
HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\u3040-\u30ff\uac00-\ud7af]")
WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Checked:
    """What is known of one annotator. power: chance that the gold items seen would have flagged random clicking."""

    annotator: str
    votes: int
    skips: int
    gold_seen: int
    gold_right: int
    power: float
    median_seconds: float | None
    hasty: float | None
    left: int
    decided: int
    flags: tuple[str, ...]


def check_annotators(
    votes: Sequence[Vote], items: Mapping[str, Item], gold: Mapping[str, Gold], rubric: Rubric
) -> list[Checked]:
    """Every annotator, by name. items: gold ones too."""
    names = sorted({vote.annotator for vote in votes})
    num_values = {criterion.name: len(criterion.values) for criterion in rubric.criteria}
    return [_check(name, [vote for vote in votes if vote.annotator == name], items, gold, num_values) for name in names]


def _check(
    name: str, votes: Sequence[Vote], items: Mapping[str, Item], gold: Mapping[str, Gold], num_values: Mapping[str, int]
) -> Checked:
    given = [vote for vote in votes if vote.choice != SKIP]
    golden = [(vote, gold[vote.item]) for vote in given if vote.item in gold]
    right = sum(is_right(vote, one) for vote, one in golden)
    clicked = [chance_right(one, num_values) for _, one in golden]
    most = critical(len(golden))
    timed = [(vote.seconds, least_seconds(vote, items[vote.item])) for vote in given if vote.item in items]
    hasty = sum(taken < least for taken, least in timed) / len(timed) if timed else None
    left, decided = sum(vote.choice == LEFT for vote in given), sum(vote.choice in (LEFT, RIGHT) for vote in given)
    flags = {
        "gold": right <= most,
        "hasty": hasty is not None and hasty > HASTY_SHARE and len(timed) >= FEWEST_TIMED,
        "side": two_sided(left, decided) < SIDE_FALSE,
    }
    return Checked(
        annotator=name,
        votes=len(given),
        skips=len(votes) - len(given),
        gold_seen=len(golden),
        gold_right=right,
        power=binomial_up_to(most, len(golden), sum(clicked) / len(clicked)) if clicked else 0.0,
        median_seconds=float(np.median([taken for taken, _ in timed])) if timed else None,
        hasty=hasty,
        left=left,
        decided=decided,
        flags=tuple(flag for flag, is_up in flags.items() if is_up),
    )


def is_right(vote: Vote, gold: Gold) -> bool:
    """Did a vote find what is right? In mode rubric every criterion that gold names counts."""
    if isinstance(gold.right, str):
        return vote.winner == gold.right
    return all(low <= vote.scores[name] <= high for name, (low, high) in gold.right.items())


def chance_right(gold: Gold, num_values: Mapping[str, int]) -> float:
    """How often clicking without reading is right: one of two sides at most, or a criterion's share of its values."""
    if isinstance(gold.right, str):
        return 0.5
    return math.prod((high - low + 1) / num_values[name] for name, (low, high) in gold.right.items())


def critical(count: int) -> int:
    """The most right answers, of so many gold items, that are flagged; -1 where no number is few enough."""
    most = -1
    while most + 1 <= count and binomial_up_to(most + 1, count, CAREFUL) <= GOLD_FALSE:
        most += 1
    return most


def binomial_up_to(most: int, count: int, share: float) -> float:
    """P(X <= most) of a binomial."""
    return math.fsum(math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(most + 1))


def two_sided(left: int, decided: int) -> float:
    """How surprising it is that one side is chosen so much more often, were both equally likely."""
    return min(1.0, 2 * binomial_up_to(min(left, decided - left), decided, 0.5)) if decided else 1.0


def least_seconds(vote: Vote, item: Item) -> float:
    """The least time in which what was shown could have been read."""
    texts = [item.prompt, *(item.answers[name] for name in vote.shown if name in item.answers)]
    return sum(_seconds(text) for text in texts)


def _seconds(text: str) -> float:
    return len(HAN.findall(text)) / CHARACTERS_A_SECOND + len(WORD.findall(HAN.sub(" ", text))) / WORDS_A_SECOND
