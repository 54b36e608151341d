"""Where votes are kept: SQLite with a write-ahead log, or PostgreSQL by URL. No vote is lost, none counts twice.

    assignments   what was shown to whom: the item, its systems, which of them stood left, when, under which ticket
    votes         one a ticket at most, so that sending a vote again changes nothing
    retired       tickets that take no vote any more, and why
    trail         every vote that was rejected, withdrawn or set aside, whole, with the reason
    settings      what the study is: mode, digest of the rubric, the secret behind tickets and links, when it was closed

Each change is one transaction that is on the disk before the page says so.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    delete,
    event,
    insert,
    select,
    update,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError

from ingot.core.errors import fail
from ingot.evaluate.people.votes import Vote

TABLES = MetaData()
SETTINGS = Table(
    "settings", TABLES, Column("name", String(40), primary_key=True), Column("value", Text, nullable=False)
)
ASSIGNMENTS = Table(
    "assignments",
    TABLES,
    Column("number", Integer, primary_key=True),
    Column("ticket", String(64), unique=True, nullable=False),
    Column("annotator", Text, nullable=False),
    Column("item", Text, nullable=False),
    Column("first", Text, nullable=False),
    Column("second", Text, nullable=False),
    Column("flipped", Boolean, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("shown_at", Float(53), nullable=False),
    UniqueConstraint("annotator", "item", "first", "second"),
)
VOTES = Table(
    "votes",
    TABLES,
    Column("ticket", String(64), ForeignKey("assignments.ticket"), primary_key=True),
    Column("choice", String(10), nullable=False),
    Column("scores", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("at", Float(53), nullable=False),
)
RETIRED = Table(
    "retired", TABLES, Column("ticket", String(64), primary_key=True), Column("reason", String(40), nullable=False)
)
TRAIL = Table(
    "trail",
    TABLES,
    Column("number", Integer, primary_key=True),
    Column("at", Float(53), nullable=False),
    Column("annotator", Text, nullable=False),
    Column("reason", String(40), nullable=False),
    Column("content", Text, nullable=False),
)
SAID = VOTES.c.choice, VOTES.c.scores, VOTES.c.note, VOTES.c.at
JOINED = select(ASSIGNMENTS, *SAID).join_from(ASSIGNMENTS, VOTES)
"""Votes with what they are on."""
LONGEST_KEPT = 2000
"""Characters of a rejected text that the trail keeps."""


class Rejected(Exception):  # noqa: N818  (a verdict on a vote, not an error of the program)
    """A vote that does not count; `reason` names the sentence that says why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True)
class Assignment:
    """Something shown to someone. second: "" in mode rubric."""

    ticket: str
    annotator: str
    item: str
    first: str
    second: str
    flipped: bool
    digest: str
    shown_at: float

    @property
    def shown(self) -> tuple[str, ...]:
        """Systems from left to right."""
        if not self.second:
            return (self.first,)
        return (self.second, self.first) if self.flipped else (self.first, self.second)


@dataclass(frozen=True)
class Ballot:
    """What somebody sent."""

    ticket: str
    choice: str
    scores: Mapping[str, int]
    note: str = ""

    def content(self) -> dict[str, Any]:
        return {"ticket": self.ticket, "choice": self.choice, "scores": dict(self.scores), "note": self.note}


class Store:
    """A study's votes. Safe to use from several threads, and from several processes at once."""

    def __init__(self, url: str) -> None:
        """Raises `people-bad-store` where the URL or what lies there cannot be used."""
        self.url = url
        self.lock = threading.RLock()
        try:
            self.engine = _engine(url)
            TABLES.create_all(self.engine)
        except (ArgumentError, NoSuchModuleError, DBAPIError, ImportError) as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise fail("people-bad-store", url=_shown(self.url), reason=reason) from None

    def close(self) -> None:
        self.engine.dispose()

    def setting(self, name: str, value: str | None = None) -> str | None:
        """What stands under a name; where nothing does, `value` is put there first."""
        with self.lock, self.engine.begin() as link:
            found = link.execute(select(SETTINGS.c.value).where(SETTINGS.c.name == name)).scalar()
            if found is None and value is not None:
                link.execute(insert(SETTINGS).values(name=name, value=value))
            return value if found is None else str(found)

    def assignments(self) -> list[Assignment]:
        """Everything shown, in the order of showing."""
        with self.lock, self.engine.connect() as link:
            return [_assignment(row) for row in link.execute(select(ASSIGNMENTS).order_by(ASSIGNMENTS.c.number))]

    def votes(self) -> list[Vote]:
        """All votes that count or were skipped, in the order of voting."""
        with self.lock, self.engine.connect() as link:
            return [_vote(row) for row in link.execute(JOINED.order_by(VOTES.c.at, VOTES.c.ticket))]

    def trail(self) -> list[dict[str, Any]]:
        """What was rejected, withdrawn or set aside, oldest first."""
        with self.lock, self.engine.connect() as link:
            rows = link.execute(select(TRAIL).order_by(TRAIL.c.number)).mappings()
            kept = ("at", "annotator", "reason")
            return [{name: row[name] for name in kept} | json.loads(row["content"]) for row in rows]

    def show(self, made: Assignment) -> None:
        """Note that something is shown from now on."""
        with self.lock, self.engine.begin() as link:
            link.execute(insert(ASSIGNMENTS).values(**vars(made)))

    def show_again(self, made: Assignment) -> None:
        """The same thing from now on, under its ticket."""
        with self.lock, self.engine.begin() as link:
            changed = update(ASSIGNMENTS).where(ASSIGNMENTS.c.ticket == made.ticket)
            link.execute(changed.values(shown_at=made.shown_at))

    def vote(self, annotator: str, ballot: Ballot, now: float, digests: Mapping[str, str]) -> bool:
        """Count a vote; False where this very vote was counted before. Raises Rejected, and notes it in the trail."""
        try:
            with self.lock:
                return self._vote(annotator, ballot, now, digests)
        except Rejected as rejected:
            self.reject(annotator, rejected.reason, ballot, now)
            raise
        except IntegrityError:  # another process counted a vote on this ticket in between
            with self.lock:
                return self._vote(annotator, ballot, now, digests)

    def _vote(self, annotator: str, ballot: Ballot, now: float, digests: Mapping[str, str]) -> bool:
        with self.engine.begin() as link:
            if _closed(link):
                raise Rejected("closed")
            found = link.execute(select(ASSIGNMENTS).where(ASSIGNMENTS.c.ticket == ballot.ticket)).first()
            if found is None:
                why = link.execute(select(RETIRED.c.reason).where(RETIRED.c.ticket == ballot.ticket)).scalar()
                raise Rejected(str(why or "unknown-ticket"))
            if found.annotator != annotator:
                raise Rejected("not-yours")
            if digests.get(found.item) != found.digest:
                raise Rejected("item-edited")
            before = link.execute(select(VOTES).where(VOTES.c.ticket == ballot.ticket)).first()
            if before is None:
                said = {"choice": ballot.choice, "scores": json.dumps(dict(ballot.scores), sort_keys=True)}
                link.execute(insert(VOTES).values(ticket=ballot.ticket, at=now, note=ballot.note, **said))
                return True
            if (before.choice, json.loads(before.scores), before.note) != (
                ballot.choice,
                dict(ballot.scores),
                ballot.note,
            ):
                raise Rejected("voted-already")
            return False

    def reject(self, annotator: str, reason: str, ballot: Ballot, now: float) -> None:
        """Note a vote that does not count."""
        with self.lock, self.engine.begin() as link:
            _note(link, annotator, reason, ballot.content(), now)

    def withdraw(self, annotator: str, now: float) -> tuple[Vote, Assignment] | None:
        """Take back the last vote of somebody: it, and how what it was on is shown again, under a new ticket. None:
        there is none, or the study is closed."""
        with self.lock, self.engine.begin() as link:
            newest = JOINED.where(ASSIGNMENTS.c.annotator == annotator)
            found = link.execute(newest.order_by(VOTES.c.at.desc(), ASSIGNMENTS.c.number.desc()).limit(1)).first()
            if found is None or _closed(link):
                return None
            vote = _vote(found)
            _note(link, annotator, "withdrawn", vote.record(), now)
            _retire(link, [vote.ticket], "withdrawn")
            made = Assignment(new_ticket(), annotator, found.item, found.first, found.second, found.flipped,
                              found.digest, now)  # fmt: skip
            link.execute(insert(ASSIGNMENTS).values(**vars(made)))
            return vote, made

    def take(self, votes: Sequence[Vote], now: float) -> tuple[int, int]:
        """Add votes of another store: how many were new, and how many contradict one that is here (see the trail)."""
        added = refused = 0
        with self.lock, self.engine.begin() as link:
            known = {row.ticket: _vote(row) for row in link.execute(JOINED)}
            places = {(vote.annotator, vote.item, *sorted(vote.shown)): vote for vote in known.values()}
            for vote in votes:
                if known.get(vote.ticket) == vote:
                    continue
                key = (vote.annotator, vote.item, *sorted(vote.shown))
                if vote.ticket in known or key in places:
                    _note(link, vote.annotator, "voted-already", vote.record(), now)
                    refused += 1
                    continue
                _put(link, vote)
                known[vote.ticket] = places[key] = vote
                added += 1
        return added, refused

    def set_aside(self, digests: Mapping[str, str], now: float) -> tuple[int, int]:
        """Votes on items that were edited since (`digests` has what they are now) go to the trail, their tickets are
        retired: how many items, how many votes. Raises `people-items-missing` for votes on items that are gone."""
        with self.lock, self.engine.begin() as link:
            shown = [_assignment(row) for row in link.execute(select(ASSIGNMENTS))]
            old = [each for each in shown if digests.get(each.item) != each.digest]
            tickets = {each.ticket for each in old}
            votes = [_vote(row) for row in link.execute(JOINED) if row.ticket in tickets]
            gone = sorted({vote.item for vote in votes} - digests.keys())
            if gone:
                raise fail("people-items-missing", count=len(gone), first=gone[0], url=_shown(self.url))
            for vote in votes:
                _note(link, vote.annotator, "item-edited", vote.record(), now)
            _retire(link, [each.ticket for each in old], "item-edited")
            return len({each.item for each in old} & digests.keys()), len(votes)

    def end(self, now: float) -> None:
        """Close the study: no vote counts from now on."""
        self.setting("closed", str(now))

    @property
    def is_closed(self) -> bool:
        return self.setting("closed") is not None


def new_ticket() -> str:
    return secrets.token_urlsafe(18)


def _engine(url: str) -> Engine:
    if url.startswith("postgresql://"):
        url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _settle)
        event.listen(engine, "begin", _begin)
    return engine


def _settle(connection: Any, record: object) -> None:
    """Readers do not wait for writers; a committed vote survives the loss of power; SQLAlchemy begins transactions."""
    connection.isolation_level = None
    for line in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {line}")


def _begin(link: Connection) -> None:
    """Take the lock at once: a transaction that reads first and writes then could find the store changed in between."""
    link.exec_driver_sql("BEGIN IMMEDIATE")


def _closed(link: Connection) -> bool:
    return link.execute(select(SETTINGS.c.value).where(SETTINGS.c.name == "closed")).first() is not None


def _note(link: Connection, annotator: str, reason: str, content: Mapping[str, Any], now: float) -> None:
    kept = {key: value[:LONGEST_KEPT] if isinstance(value, str) else value for key, value in content.items()}
    row = {"annotator": annotator[:200], "reason": reason, "content": json.dumps(kept, ensure_ascii=False)}
    link.execute(insert(TRAIL).values(at=now, **row))


def _retire(link: Connection, tickets: Sequence[str], reason: str) -> None:
    for ticket in tickets:
        link.execute(delete(VOTES).where(VOTES.c.ticket == ticket))
        link.execute(delete(ASSIGNMENTS).where(ASSIGNMENTS.c.ticket == ticket))
        link.execute(insert(RETIRED).values(ticket=ticket, reason=reason))


def _put(link: Connection, vote: Vote) -> None:
    """A vote from elsewhere, in the place of what is shown to its annotator on the same item."""
    first, second = sorted(vote.shown) if len(vote.shown) == 2 else (vote.shown[0], "")
    same = (ASSIGNMENTS.c.annotator == vote.annotator, ASSIGNMENTS.c.item == vote.item,
            ASSIGNMENTS.c.first == first, ASSIGNMENTS.c.second == second)  # fmt: skip
    waiting = link.execute(select(ASSIGNMENTS.c.ticket).where(*same)).scalar()
    if waiting is not None:
        _retire(link, [waiting], "voted-already")
    made = Assignment(vote.ticket, vote.annotator, vote.item, first, second, vote.shown[0] != first, vote.digest,
                      vote.shown_at)  # fmt: skip
    link.execute(insert(ASSIGNMENTS).values(**vars(made)))
    scores = json.dumps(vote.scores, sort_keys=True)
    said = {"choice": vote.choice, "scores": scores, "note": vote.note, "at": vote.at}
    link.execute(insert(VOTES).values(ticket=vote.ticket, **said))


def _assignment(row: Any) -> Assignment:
    return Assignment(row.ticket, row.annotator, row.item, row.first, row.second, row.flipped, row.digest, row.shown_at)


def _vote(row: Any) -> Vote:
    made = _assignment(row)
    return Vote(made.ticket, made.annotator, made.item, made.shown, row.choice, made.shown_at, row.at, made.digest,
                json.loads(row.scores), row.note)  # fmt: skip


def _shown(url: str) -> str:
    """A URL without what may be a password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
