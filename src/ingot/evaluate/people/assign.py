"""What is shown to whom next, and on which side: balanced, overlapping, and no pattern to guess by.

- Every comparison is to get `overlap` votes. One that somebody has begun goes first, so that votes overlap early and
  agreement can be computed at any time; what is open on another's screen counts as begun.
- Fresh ones come in an order drawn once for the study, in which the pairs of systems take turns.
- Sides are drawn in blocks of 4 or 6 with as many of each (as treatments are in clinical trials), for every annotator
  and pair on their own. Strict turns would be even, but then an annotator who knows one side knows the next.
- Gold items come at one random place in every `EVERY`.

Everything is drawn from the study's secret and the count of what was shown, so a restarted server goes on as it would.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Sequence

import numpy as np

from ingot.evaluate.people.answers import Item
from ingot.evaluate.people.gold import EVERY, Gold
from ingot.evaluate.people.votes import Mode

Task = tuple[str, str, str]
"""An item's id and its two systems in alphabetical order; the second is "" where one answer is rated."""


def chance(secret: str, *what: object) -> random.Random:
    """Random numbers for one purpose of a study."""
    words = "\0".join([secret, *map(str, what)])
    return random.Random(int.from_bytes(hashlib.sha256(words.encode()).digest(), "big"))


def tasks_of(items: Sequence[Item], mode: Mode) -> dict[tuple[str, str], list[Task]]:
    """All there is to vote on, by pair (or system)."""
    found: dict[tuple[str, str], list[Task]] = {}
    for item in items:
        names = sorted(item.answers)
        pairs = list(itertools.combinations(names, 2)) if mode == "pairwise" else [(name, "") for name in names]
        for pair in pairs:
            found.setdefault(pair, []).append((item.id, *pair))
    return found


def order_of(items: Sequence[Item], mode: Mode, secret: str) -> list[Task]:
    """All tasks in the study's order: each pair's shuffled, the pairs spread evenly over the whole."""
    placed = []
    for pair, tasks in tasks_of(items, mode).items():
        draw = chance(secret, "order", *pair)
        draw.shuffle(tasks)
        placed += [((at + draw.random()) / len(tasks), task) for at, task in enumerate(tasks)]
    return [task for _, task in sorted(placed)]


def side(secret: str, annotator: str, pair: tuple[str, str], earlier: int) -> bool:
    """Is the first of a pair on the right, after so many earlier showings of the pair to an annotator?"""
    draw, begun = chance(secret, "side", annotator, *pair), 0
    while True:
        block = [False, True] * draw.choice((2, 3))
        draw.shuffle(block)
        if earlier < begun + len(block):
            return block[earlier - begun]
        begun += len(block)


def gold_is_due(secret: str, annotator: str, earlier: int) -> bool:
    """Is a gold item shown after so many earlier items to an annotator?"""
    block, at = divmod(earlier, EVERY)
    return chance(secret, "gold", annotator, block).randrange(EVERY) == at


class Queue:
    """Who has seen what, in memory, for picking quickly among many thousands of tasks."""

    def __init__(self, tasks: Sequence[Task], gold: Sequence[Gold], overlap: int, secret: str) -> None:
        self.tasks, self.overlap, self.secret = list(tasks), overlap, secret
        self.place = {task: at for at, task in enumerate(self.tasks)}
        self.votes_T = np.zeros(len(self.tasks), dtype=np.int64)
        self.held_T = np.zeros(len(self.tasks), dtype=np.int64)
        self.gold: list[Task] = [_gold_task(each) for each in gold]
        self._seen: dict[str, set[Task]] = {}
        self._seen_T: dict[str, np.ndarray[tuple[int], np.dtype[np.bool_]]] = {}

    def note(self, annotator: str, task: Task, held: int = 0, votes: int = 0) -> None:
        """Something was shown (`held` 1), or voted on (held -1, votes 1), or that was taken back."""
        self._seen.setdefault(annotator, set()).add(task)
        if task in self.place:
            at = self.place[task]
            self._seen_of(annotator)[at] = True
            self.held_T[at] += held
            self.votes_T[at] += votes

    def next(self, annotator: str) -> Task | None:
        """What this annotator is to see next; None: nothing is left for them."""
        seen = self._seen.setdefault(annotator, set())
        open_T = ~self._seen_of(annotator) & (self.votes_T < self.overlap)
        if not open_T.any():
            return None
        gold = [task for task in self.gold if task not in seen]
        if gold and gold_is_due(self.secret, annotator, len(seen)):
            return chance(self.secret, "which gold", annotator, len(seen)).choice(gold)
        begun_T = self.votes_T + self.held_T
        free_T = open_T & (begun_T < self.overlap)
        ranks_T = np.arange(len(self.tasks)) + np.where(begun_T > 0, 0, len(self.tasks))
        ranks_T[~(free_T if free_T.any() else open_T)] = 2 * len(self.tasks)
        return self.tasks[int(ranks_T.argmin())]

    def num_left(self, annotator: str) -> int:
        """How many showings are left for an annotator, gold ones among them: a count that stood still at a gold item
        would tell which they are."""
        seen = self._seen.setdefault(annotator, set())
        tasks = int((~self._seen_of(annotator) & (self.votes_T < self.overlap)).sum())
        gold, at, left = sum(task not in seen for task in self.gold), len(seen), 0
        while tasks:
            whole = min(gold, (tasks - 1) // (EVERY - 1)) if at % EVERY == 0 else 0
            is_gold = not whole and gold > 0 and gold_is_due(self.secret, annotator, at)
            tasks -= whole * (EVERY - 1) or int(not is_gold)
            gold -= whole or int(is_gold)
            at, left = at + (whole * EVERY or 1), left + (whole * EVERY or 1)
        return left

    @property
    def share_done(self) -> float:
        """Of all votes that the study is to get."""
        return float(np.minimum(self.votes_T, self.overlap).sum()) / max(1, len(self.tasks) * self.overlap)

    def _seen_of(self, annotator: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return self._seen_T.setdefault(annotator, np.zeros(len(self.tasks), dtype=np.bool_))


def _gold_task(gold: Gold) -> Task:
    names = sorted(gold.item.answers)
    return (gold.item.id, names[0], names[1] if len(names) > 1 else "")
