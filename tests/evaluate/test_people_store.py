"""Votes are kept once, whatever is sent twice, too late or by the wrong hands; what is rejected is not forgotten."""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from annotating import OPENED, Clock, items_of, study_of, vote

from ingot.core.errors import IngotError
from ingot.evaluate.people.answers import Item
from ingot.evaluate.people.store import TABLES, Ballot, Rejected, Store
from ingot.evaluate.people.votes import dump_votes, read_votes

POSTGRES = os.environ.get("INGOT_POSTGRES", "")
HAS_POSTGRES = bool(POSTGRES) and importlib.util.find_spec("psycopg") is not None


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.skipif(
    not HAS_POSTGRES, reason="needs INGOT_POSTGRES=postgresql://... and psycopg"))])  # fmt: skip
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "postgres":
        store = Store(POSTGRES)
        TABLES.drop_all(store.engine)
        store.close()
    yield POSTGRES if request.param == "postgres" else f"sqlite:///{tmp_path / 'votes.db'}"
    while OPENED:
        OPENED.pop().close()


def rejected(study: object, *args: object) -> str:
    with pytest.raises(Rejected) as error:
        study.vote(*args)  # type: ignore[attr-defined]
    return error.value.reason


def test_the_same_vote_again_changes_nothing(url: str) -> None:
    study = study_of(url)
    shown = vote(study, "ana", "left", note="why")
    study.vote("ana", Ballot(shown.ticket, "left", {}, "why"))
    assert len(study.store.votes()) == 1
    assert study.store.trail() == []


@pytest.mark.parametrize(
    ("ballot", "reason"),
    [
        (("up", {}, ""), "out-of-scale"),
        (("rated", {"correct": 3}, ""), "out-of-scale"),
        (("left", {"correct": 3}, ""), "out-of-scale"),
        (("left", {}, "<script>alert(1)</script>"), "markup"),
        (("left", {}, "x" * 2001), "note-too-long"),
    ],
)
def test_what_is_no_vote_is_rejected_and_kept(url: str, ballot: tuple[str, dict[str, int], str], reason: str) -> None:
    study = study_of(url)
    shown = study.next("ana")
    assert shown is not None
    assert rejected(study, "ana", Ballot(shown.ticket, *ballot)) == reason
    (kept,) = study.store.trail()
    assert (kept["annotator"], kept["reason"], kept["ticket"]) == ("ana", reason, shown.ticket)
    assert (kept["choice"], kept["note"]) == (ballot[0], ballot[2][:2000])
    assert study.store.votes() == []
    vote(study, "ana")  # the item is still there


@pytest.mark.parametrize("scores", [{"correct": 6, "helpful": 3, "fluent": 3}, {"correct": 3, "helpful": 3},
                                    {"correct": 0, "helpful": 3, "fluent": 3}, {}])  # fmt: skip
def test_ratings_outside_the_scale_are_rejected(url: str, scores: dict[str, int]) -> None:
    study = study_of(url, mode="rubric")
    shown = study.next("ana")
    assert shown is not None
    assert len(shown.texts) == 1
    assert rejected(study, "ana", Ballot(shown.ticket, "rated", scores)) == "out-of-scale"
    vote(study, "ana", "rated")
    assert study.store.votes()[0].scores == {"correct": 3, "helpful": 3, "fluent": 3}


def test_strangers_and_others_are_rejected(url: str) -> None:
    study = study_of(url)
    shown = study.next("ana")
    assert shown is not None
    ballot = Ballot(shown.ticket, "left", {})
    assert rejected(study, None, ballot) == "unknown-annotator"
    assert rejected(study, "ben", ballot) == "not-yours"
    assert rejected(study, "ana", Ballot("made-up", "left", {})) == "unknown-ticket"
    assert [row["reason"] for row in study.store.trail()] == ["unknown-annotator", "not-yours", "unknown-ticket"]


def test_another_vote_on_the_same_is_rejected(url: str) -> None:
    study = study_of(url)
    shown = vote(study, "ana", "left")
    assert rejected(study, "ana", Ballot(shown.ticket, "right", {})) == "voted-already"
    assert study.store.votes()[0].choice == "left"


def test_after_the_close_nothing_counts(url: str) -> None:
    study = study_of(url)
    shown = study.next("ana")
    assert shown is not None
    other = Store(url)
    other.end(5.0)
    other.close()
    assert rejected(study, "ana", Ballot(shown.ticket, "left", {})) == "closed"
    assert not study.undo("ana")
    assert study.store.is_closed
    assert study.store.trail()[0]["reason"] == "closed"


def test_undo_shows_the_same_again_and_kills_the_old_ticket(url: str) -> None:
    study = study_of(url)
    first = vote(study, "ana", "left")
    behind = study.next("ana")
    assert behind is not None
    assert study.undo("ana")
    again = study.next("ana")
    assert again is not None
    assert (again.prompt, again.texts, again.number) == (first.prompt, first.texts, first.number)
    assert again.ticket != first.ticket
    assert rejected(study, "ana", Ballot(first.ticket, "left", {})) == "withdrawn"
    vote(study, "ana", "right")
    assert [v.choice for v in study.store.votes()] == ["right"]
    assert [row["reason"] for row in study.store.trail()] == ["withdrawn", "withdrawn"]
    after = study.next("ana")
    assert after is not None
    assert after.ticket == behind.ticket
    assert study.undo("ana")
    assert not study.undo("ana")
    assert not study.undo("ben")


def test_a_restart_goes_on_where_it_was(url: str) -> None:
    study = study_of(url)
    for name in ("ana", "ana", "ben"):
        vote(study, name)
    open_now = {name: study.next(name) for name in ("ana", "ben")}
    again = study_of(url)
    assert {name: again.next(name) for name in ("ana", "ben")} == open_now
    assert again.token("ana") == study.token("ana")
    assert again.annotator(study.token("ben")) == "ben"
    assert again.annotator("x") is None


def test_edited_items_set_their_votes_aside(url: str, heard: pytest.LogCaptureFixture) -> None:
    study = study_of(url, clock=Clock())
    voted = vote(study, "ana")
    item = study.store.votes()[0].item
    waiting = study.next("ben")
    assert waiting is not None
    edited = [Item(i.id, i.prompt + "!", i.answers) if i.id == item else i for i in items_of()]
    again = study_of(url, edited)
    assert again.store.votes() == []
    assert again.store.trail()[0]["reason"] == "item-edited"
    assert again.store.trail()[0]["choice"] == "left"
    assert "edited" in heard.text
    assert rejected(again, "ana", Ballot(voted.ticket, "left", {})) == "item-edited"
    assert rejected(again, "ben", Ballot(waiting.ticket, "left", {})) == "item-edited"


def test_another_study_or_lost_items_are_refused(url: str) -> None:
    study = study_of(url)
    vote(study, "ana")
    item = study.store.votes()[0].item
    with pytest.raises(IngotError) as error:
        study_of(url, mode="rubric")
    assert error.value.code == "people-other-study"
    with pytest.raises(IngotError) as error:
        study_of(url, [i for i in items_of() if i.id != item])
    assert error.value.code == "people-items-missing"
    assert len(study.store.votes()) == 1


def test_two_hands_at_once_lose_and_double_nothing(url: str) -> None:
    """Every vote is sent twice, from several threads, by two annotators."""
    study = study_of(url, items_of(12))
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            while (shown := study.next(name)) is not None:
                study.vote(name, Ballot(shown.ticket, "tie", {}))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("ana", "ben", "ana", "ben")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    votes = study.store.votes()
    assert len(votes) == 12 * 3 * 2
    assert len({(v.annotator, v.item, *sorted(v.shown)) for v in votes}) == len(votes)


def test_an_export_comes_back_the_same(url: str, tmp_path: Path) -> None:
    study = study_of(url)
    for name, choice, note in (
        ("ana", "left", ""),
        ("ana", "skip", ""),
        ("ben", "tie", "兩個\n都好"),
        ("ben", "right", ""),
    ):
        vote(study, name, choice, note=note)
    file = tmp_path / "votes.jsonl"
    file.write_text(dump_votes(study.store.votes()), encoding="utf-8")
    assert read_votes(file) == study.store.votes()
    other = study_of(tmp_path / "other.db")
    assert other.take(read_votes(file)) == (4, 0)
    assert other.take(read_votes(file)) == (0, 0)
    assert dump_votes(other.store.votes()) == file.read_text(encoding="utf-8")
    assert other.queue.votes_T.sum() == 3


def test_a_contradicting_vote_from_elsewhere_goes_to_the_trail(tmp_path: Path) -> None:
    one, other = (
        study_of(tmp_path / "1.db", items_of(1, ("a", "b"))),
        study_of(tmp_path / "2.db", items_of(1, ("a", "b"))),
    )
    vote(one, "ana", "left")
    vote(other, "ana", "right")
    assert one.take(other.store.votes()) == (0, 1)
    assert one.store.trail()[0]["reason"] == "voted-already"
    assert len(one.store.votes()) == 1


def test_a_vote_of_another_study_is_refused_whole(tmp_path: Path) -> None:
    one, other = study_of(tmp_path / "1.db"), study_of(tmp_path / "2.db", items_of(6, ("a", "b")))
    vote(other, "ana")
    with pytest.raises(IngotError) as error:
        one.take(other.store.votes())
    assert error.value.code == "people-foreign-vote"


@pytest.mark.parametrize(
    "url", ["nonsense", "mongodb://x/y", "sqlite:////nowhere/at/all.db", "postgresql://u:secret@127.0.0.1:1/x"]
)
def test_a_store_that_cannot_be_used_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(IngotError) as error:
        Store(url)
    assert error.value.code == "people-bad-store"
    assert "secret" not in str(error.value)


def test_a_page_of_the_old_wording_beside_one_of_the_new(url: str) -> None:
    """What a server that still has the old answers shows takes no vote at one that has the new."""
    new = study_of(url, [Item(i.id, i.prompt + "!", i.answers) for i in items_of()])
    old = study_of(url)
    shown = old.next("ana")
    assert shown is not None
    assert rejected(new, "ana", Ballot(shown.ticket, "left", {})) == "item-edited"
