"""What is shown next and on which side: overlap, balance, gold items, and the count of what is left."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest
from annotating import golds, items_of, study_of, vote, vote_all

from ingot.evaluate.people.assign import Queue, gold_is_due, order_of, side
from ingot.evaluate.people.gold import EVERY


def test_every_comparison_gets_as_many_votes_as_asked(tmp_path: Path) -> None:
    study = study_of(tmp_path / "v.db", annotators=("a", "b", "c"), overlap=2)
    for _ in range(100):
        for name in ("a", "b", "c"):
            if study.next(name) is not None:
                vote(study, name)
    tally = Counter((v.item, *sorted(v.shown)) for v in study.store.votes())
    assert set(tally.values()) == {2}
    assert len(tally) == 6 * 3
    whom = Counter((v.annotator, v.item, *sorted(v.shown)) for v in study.store.votes())
    assert set(whom.values()) == {1}
    assert study.queue.share_done == 1


def test_votes_overlap_early(tmp_path: Path) -> None:
    """The second annotator begins with what the first has judged."""
    study = study_of(tmp_path / "v.db")
    for _ in range(5):
        vote(study, "ana")
    for _ in range(5):
        vote(study, "ben")
    by_item = {
        name: [(v.item, *sorted(v.shown)) for v in study.store.votes() if v.annotator == name]
        for name in ("ana", "ben")
    }
    assert sorted(by_item["ana"]) == sorted(by_item["ben"])


def test_pairs_take_turns(tmp_path: Path) -> None:
    order = order_of(items_of(100), "pairwise", "secret")
    assert len(set(order)) == len(order) == 300
    begun = Counter(task[1:] for task in order[:60])
    assert len(begun) == 3
    assert max(begun.values()) - min(begun.values()) <= 2
    assert order == order_of(items_of(100), "pairwise", "secret")
    assert order != order_of(items_of(100), "pairwise", "another")


def test_sides_are_even_and_cannot_be_foreseen() -> None:
    sides = [side("secret", "ana", ("a", "b"), n) for n in range(2000)]
    assert abs(sum(sides) / 2000 - 0.5) <= 0.01
    for before in itertools.product([False, True], repeat=2):
        after = [sides[n + 2] for n in range(1998) if (sides[n], sides[n + 1]) == before]
        assert 0.1 < sum(after) / len(after) < 0.9
    assert sides[:200] != [side("secret", "ben", ("a", "b"), n) for n in range(200)]


@pytest.mark.slow
def test_sides_of_a_study_are_even_and_kept(tmp_path: Path) -> None:
    study = study_of(tmp_path / "v.db", items_of(170), annotators=("a", "b"))
    for name in ("a", "b"):
        vote_all(study, name, lambda _: "left")
    votes = study.store.votes()
    assert len(votes) == 2 * 3 * 170
    for pair in itertools.combinations(("alpha-7b", "beta-13b", "gamma"), 2):
        left = [v.shown[0] == pair[0] for v in votes if set(v.shown) == set(pair)]
        assert abs(sum(left) / len(left) - 0.5) <= 0.01
    texts = {item.id: item.answers for item in items_of(170)}
    assert all(v.winner == v.shown[0] and v.shown[0] in texts[v.item] for v in votes)


@pytest.mark.slow
def test_gold_items_come_one_in_every_block(tmp_path: Path) -> None:
    study = study_of(tmp_path / "v.db", items_of(30), golds(9), annotators=("a",), overlap=1)
    count = vote_all(study, "a", lambda _: "left")
    shown = [v.is_gold for v in sorted(study.store.votes(), key=lambda v: v.at)]
    assert count == len(shown)
    for block in range(count // EVERY):
        assert sum(shown[block * EVERY : (block + 1) * EVERY]) == (1 if sum(shown[: block * EVERY]) < 9 else 0)
    assert sum(gold_is_due("s", "a", n) for n in range(EVERY * 10)) == 10


@pytest.mark.parametrize(("num_items", "num_gold"), [(1, 0), (3, 2), (9, 1), (20, 30)])
def test_what_is_left_counts_down_to_nothing(tmp_path: Path, num_items: int, num_gold: int) -> None:
    """Also over gold items, which a count that stands still would give away."""
    study = study_of(tmp_path / "v.db", items_of(num_items), golds(num_gold), annotators=("a",), overlap=1)
    found = []
    while (shown := study.next("a")) is not None:
        found.append((shown.number, shown.left))
        vote(study, "a")
    assert found == [(n + 1, len(found) - n - 1) for n in range(len(found))]


def test_what_is_open_on_a_screen_is_not_given_to_a_third(tmp_path: Path) -> None:
    study = study_of(tmp_path / "v.db", items_of(1, ("a", "b")), annotators=("x", "y", "z"), overlap=1)
    assert study.next("x") is not None
    shown = study.next("y")
    assert shown is not None  # nothing else is left: better asked twice than never
    queue = Queue(order_of(items_of(2, ("a", "b")), "pairwise", "s"), [], 1, "s")
    first = queue.next("x")
    assert first is not None
    queue.note("x", first, held=1)
    assert queue.next("y") not in (None, first)


def test_a_skip_leaves_room_for_another(tmp_path: Path) -> None:
    study = study_of(tmp_path / "v.db", items_of(1, ("a", "b")), annotators=("x", "y"), overlap=1)
    vote(study, "x", "skip")
    assert study.next("x") is None
    vote(study, "y", "tie")
    assert study.queue.share_done == 1
