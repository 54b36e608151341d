"""A study while it runs: who may vote, what they see next, what becomes of a vote. Knows nothing of HTTP.

The store is the truth; what is in memory only picks the next item quickly, and is made again from the store at start.
"""

from __future__ import annotations

import hmac
import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ingot.core.errors import fail
from ingot.core.progress import warn
from ingot.evaluate.people.answers import Item
from ingot.evaluate.people.assign import Queue, order_of, side
from ingot.evaluate.people.gold import Gold
from ingot.evaluate.people.rubric import Rubric
from ingot.evaluate.people.store import Assignment, Ballot, Rejected, Store, new_ticket
from ingot.evaluate.people.votes import CHOICES, RATED, SKIP, Mode, Vote

LONGEST_NOTE = 2000
MARKUP = re.compile(r"<[A-Za-z/!]")
UNKNOWN = "?"
"""Who sent a vote without a link of ours, in the trail."""


@dataclass(frozen=True)
class Shown:
    """What one page shows. texts: from left to right. number: of those to this annotator, from 1; left: behind it."""

    ticket: str
    prompt: str
    texts: tuple[str, ...]
    number: int
    left: int


class Study:
    """The items, the rules and the store of one study."""

    def __init__(
        self, items: Sequence[Item], gold: Sequence[Gold], mode: Mode, rubric: Rubric, store: Store,
        annotators: list[str], overlap: int, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """Raises `people-other-study` for a store of another mode or rubric, what `Store.set_aside` raises."""
        self.mode, self.rubric, self.store, self.clock = mode, rubric, store, clock
        self.annotators = annotators
        self.items = {item.id: item for item in items}
        self.gold = {each.item.id: each for each in gold}
        if both := sorted(self.items.keys() & self.gold.keys()):
            raise fail("people-gold-id", first=both[0])
        self.items |= {name: each.item for name, each in self.gold.items()}
        self.digests = {name: item.digest for name, item in self.items.items()}
        for name, value in (("mode", mode), ("rubric", rubric.digest(mode))):
            if (found := store.setting(name, value)) != value:
                raise fail("people-other-study", url=store.url, name=name, found=found, given=value)
        self.secret = store.setting("secret", secrets.token_hex(32)) or ""
        edited, votes = store.set_aside(self.digests, self._now())
        if edited:
            warn("people-edited", items=edited, votes=votes)
        self._lock = threading.RLock()
        self._tokens = {self.token(name): name for name in annotators}
        self._order, self._overlap = order_of(items, mode, self.secret), overlap
        self._begin()

    def _begin(self) -> None:
        """The queue as the store says it stands."""
        self.queue = Queue(self._order, list(self.gold.values()), self._overlap, self.secret)
        voted = {vote.ticket: vote for vote in self.store.votes()}
        self._open: dict[str, list[Assignment]] = {}
        self._count: Counter[str] = Counter()
        self._pairs: Counter[tuple[str, str, str]] = Counter()
        for each in self.store.assignments():
            task, vote = (each.item, each.first, each.second), voted.get(each.ticket)
            self._pairs[each.annotator, each.first, each.second] += 1
            if vote is None:
                self._open.setdefault(each.annotator, []).append(each)
                self.queue.note(each.annotator, task, held=1)
            else:
                self._count[each.annotator] += 1
                self.queue.note(each.annotator, task, votes=int(vote.choice != SKIP))
        for waiting in self._open.values():
            waiting.sort(key=lambda each: each.shown_at)

    def token(self, annotator: str) -> str:
        """What an annotator's link holds."""
        return hmac.digest(self.secret.encode(), annotator.encode(), "sha256").hex()[:32]

    def annotator(self, token: str) -> str | None:
        """Whose token it is."""
        return self._tokens.get(token)

    def next(self, annotator: str) -> Shown | None:
        """What an annotator sees now: what was open on their page, or something new. None: nothing is left."""
        with self._lock:
            waiting = self._open.setdefault(annotator, [])
            if not waiting:
                task = self.queue.next(annotator)
                if task is None:
                    return None
                waiting.append(self._assign(annotator, *task))
            return self._shown(annotator, waiting[-1])

    def _assign(self, annotator: str, item: str, first: str, second: str) -> Assignment:
        earlier = self._pairs[annotator, first, second]
        flipped = bool(second) and side(self.secret, annotator, (first, second), earlier)
        made = Assignment(new_ticket(), annotator, item, first, second, flipped, self.digests[item], self._now())
        self.store.show(made)
        self._pairs[annotator, first, second] += 1
        self.queue.note(annotator, (item, first, second), held=1)
        return made

    def _shown(self, annotator: str, made: Assignment) -> Shown:
        item, number = self.items[made.item], self._count[annotator] + 1
        left = self.queue.num_left(annotator) + len(self._open[annotator]) - 1
        texts = tuple(item.answers[name] for name in made.shown)
        return Shown(made.ticket, item.prompt, texts, number, left)

    def vote(self, annotator: str | None, ballot: Ballot) -> None:
        """Count a vote; the same one again changes nothing. Raises Rejected, and the trail keeps it."""
        with self._lock:
            if annotator is None:
                self._reject(UNKNOWN, "unknown-annotator", ballot)
            assert annotator is not None
            if reason := self._fault(ballot):
                self._reject(annotator, reason, ballot)
            if self.store.vote(annotator, ballot, self._now(), self.digests):
                self._counted(annotator, ballot)

    def _reject(self, annotator: str, reason: str, ballot: Ballot) -> None:
        self.store.reject(annotator, reason, ballot, self._now())
        raise Rejected(reason)

    def _fault(self, ballot: Ballot) -> str | None:
        """What is wrong with a vote by itself."""
        if ballot.choice not in CHOICES[self.mode]:
            return "out-of-scale"
        scales = {criterion.name: criterion.values for criterion in self.rubric.criteria}
        wanted = scales if ballot.choice == RATED else {}
        if ballot.scores.keys() != wanted.keys() or any(ballot.scores[name] not in scales[name] for name in wanted):
            return "out-of-scale"
        if MARKUP.search(ballot.note):
            return "markup"
        return "note-too-long" if len(ballot.note) > LONGEST_NOTE else None

    def _counted(self, annotator: str, ballot: Ballot) -> None:
        waiting = self._open.get(annotator, [])
        made = next((each for each in waiting if each.ticket == ballot.ticket), None)
        if made is not None:
            waiting.remove(made)
            self._count[annotator] += 1
            task = (made.item, made.first, made.second)
            self.queue.note(annotator, task, held=-1, votes=int(ballot.choice != SKIP))
        if waiting:  # what waited behind something taken back begins to be read now
            waiting[-1] = Assignment(**(vars(waiting[-1]) | {"shown_at": self._now()}))
            self.store.show_again(waiting[-1])

    def undo(self, annotator: str) -> bool:
        """Take back an annotator's last vote and show its item again; False where there is nothing to take back."""
        with self._lock:
            found = self.store.withdraw(annotator, self._now())
            if found is None:
                return False
            taken, made = found
            self._open.setdefault(annotator, []).append(made)
            self._count[annotator] -= 1
            task = (made.item, made.first, made.second)
            self.queue.note(annotator, task, held=1, votes=-int(taken.choice != SKIP))
            return True

    def can_undo(self, annotator: str) -> bool:
        return self._count[annotator] > 0

    def take(self, votes: Sequence[Vote]) -> tuple[int, int]:
        """Add votes of another store of this study. Raises `people-foreign-vote` for one that does not belong to it."""
        for vote in votes:
            item = self.items.get(vote.item)
            size = 2 if self.mode == "pairwise" else 1
            fits = item is not None and len(set(vote.shown)) == size and set(vote.shown) <= item.answers.keys()
            ballot = Ballot(vote.ticket, vote.choice, vote.scores, vote.note)
            if not fits or self._fault(ballot) or vote.digest != self.digests[vote.item]:
                raise fail("people-foreign-vote", ticket=vote.ticket, annotator=vote.annotator, item=vote.item)
        with self._lock:
            taken = self.store.take(votes, self._now())
            self._begin()
        return taken

    def _now(self) -> float:
        return round(self.clock(), 3)
