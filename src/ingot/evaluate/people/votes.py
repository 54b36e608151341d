"""A vote as it is kept, exported and read again: who, on what, which answer on which side, when, and what for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ingot.core.errors import fail
from ingot.data.files import read_records
from ingot.evaluate.people.strength import FIRST, SECOND, TIE, Comparison

Mode = Literal["pairwise", "rubric"]
LEFT, RIGHT, TIED, SKIP, RATED = "left", "right", "tie", "skip", "rated"
CHOICES: dict[str, tuple[str, ...]] = {"pairwise": (LEFT, RIGHT, TIED, SKIP), "rubric": (RATED, SKIP)}
GOLD = "gold:"
"""How ids of gold items begin."""


@dataclass(frozen=True)
class Vote:
    """`shown`: systems from left to right, one alone in mode rubric. Times are seconds since 1970, to the millisecond.
    `digest` is the item's as it was shown; `ticket` tells one showing from another."""

    ticket: str
    annotator: str
    item: str
    shown: tuple[str, ...]
    choice: str
    shown_at: float
    at: float
    digest: str
    scores: dict[str, int] = field(default_factory=dict)
    note: str = ""

    @property
    def seconds(self) -> float:
        return round(self.at - self.shown_at, 3)

    @property
    def is_gold(self) -> bool:
        return self.item.startswith(GOLD)

    @property
    def winner(self) -> str | None:
        """The system that was preferred; None for a tie, a skip or a rating."""
        return {LEFT: self.shown[0], RIGHT: self.shown[-1]}.get(self.choice)

    @property
    def counts(self) -> bool:
        """Does it say anything about the systems?"""
        return self.choice != SKIP and not self.is_gold

    def record(self) -> dict[str, Any]:
        own = {"ticket": self.ticket, "annotator": self.annotator, "item": self.item, "shown": list(self.shown)}
        said: dict[str, Any] = {"choice": self.choice, "winner": self.winner, "scores": self.scores, "note": self.note}
        return own | said | {"shown_at": self.shown_at, "at": self.at, "seconds": self.seconds, "digest": self.digest}


def dump_votes(votes: Iterable[Vote]) -> str:
    """JSON lines."""
    return "".join(json.dumps(vote.record(), ensure_ascii=False) + "\n" for vote in votes)


def read_votes(path: Path) -> list[Vote]:
    """Votes of an export. Raises `bad-record` naming file and line."""
    return [_vote(path, line, record) for line, record in read_records(path)]


def _vote(path: Path, line: int, record: dict[str, Any]) -> Vote:
    texts = ("ticket", "annotator", "item", "choice", "digest", "note")
    shown, scores = record.get("shown"), record.get("scores")
    wrong = [name for name in texts if not isinstance(record.get(name), str)]
    wrong += [name for name in ("shown_at", "at") if not isinstance(record.get(name), int | float)]
    if not isinstance(shown, list) or len(shown) not in (1, 2) or not all(isinstance(name, str) for name in shown):
        wrong.append("shown")
    if not isinstance(scores, dict) or not all(type(score) is int for score in scores.values()):
        wrong.append("scores")
    if wrong or not isinstance(shown, list) or not isinstance(scores, dict):
        reason = f"{', '.join(wrong)}: missing or of another type; expected a line that --export wrote"
        raise fail("bad-record", path=path, line=line, reason=reason)
    own = {name: record[name] for name in texts}
    return Vote(shown=tuple(shown), scores=scores, shown_at=float(record["shown_at"]), at=float(record["at"]), **own)


def comparisons(votes: Sequence[Vote]) -> list[Comparison]:
    """Votes between two systems, the systems in alphabetical order, for a model of strengths."""
    found = []
    for vote in votes:
        if vote.counts and len(vote.shown) == 2:
            first, second = sorted(vote.shown)
            outcome = TIE if vote.winner is None else FIRST if vote.winner == first else SECOND
            found.append(Comparison(first, second, outcome, vote.annotator, vote.item))
    return found
