"""Judging and voting, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from ingot.evaluate.temperature.items import RIGHT_VOTE, Item, Judged, judge
from ingot.evaluate.temperature.scores import majority, score


def item(*accept: str, kind: str = "own", number: int = 1) -> Item:
    return Item(str(number), number, "?", accept, kind)


@pytest.mark.parametrize(
    ("accept", "reply", "right"),
    [(["tarn"], "It is Tarn.", True), (["tarn"], "Tarnish", False), (["墊子"], "他坐在墊子上", True),
     (["12"], "3 x 4 = 12", True), (["12"], "12 + 1 = 13", False), (["12"], "１２", True), (["1200"], "1,200", True),
     (["12", "twelve"], "twelve", True), (["blue", "藍色"], "天空是藍色的", True), (["b"], "", False)],
)  # fmt: skip
def test_right_answers(accept: list[str], reply: str, right: bool) -> None:
    assert judge(item(*accept), reply).right is right


def test_saying_that_it_is_not_known_is_right_where_nobody_knows() -> None:
    asked = item(kind="never-told")
    assert judge(asked, "I do not know.").right
    assert not judge(asked, "Tarn").right


def test_votes() -> None:
    assert judge(item("tarn"), "Tarn").vote == judge(item("tarn"), "It is Tarn.").vote == RIGHT_VOTE
    assert judge(item("tarn"), "A lake. ").vote == judge(item("tarn"), "a  Lake").vote
    assert judge(item("5"), "I think 6").vote == judge(item("5"), "2 + 3 = 6").vote == "6"


@pytest.mark.parametrize(
    ("votes", "share"), [("rrw", 1.0), ("rww", 0.0), ("rw", 0.5), ("rwx", 1 / 3), ("wx", 0.0), ("rrwwx", 0.5)]
)
def test_majority(votes: str, share: float) -> None:
    judged = [Judged(vote == "r", RIGHT_VOTE if vote == "r" else vote) for vote in votes]
    assert majority(judged) == share


def test_scores_are_means_over_samples() -> None:
    def row(number: int, temperature: float, sample: int, reply: str, **more: Any) -> dict[str, Any]:
        return {"id": str(number), "temperature": temperature, "sample": sample, "reply": reply, "tokens": 2,
                "finish_reason": "stop", "entropy": 1.0} | more  # fmt: skip

    rows = [
        row(1, 0.5, 1, "b", entropy=3.0), row(1, 0.5, 0, "a"), row(1, 0.0, 0, "a", tokens=5),
        row(2, 0.0, 0, "x", finish_reason="length"), row(2, 0.5, 0, "b"), row(2, 0.5, 1, "b"),
    ]  # fmt: skip
    found = score(rows, [item("a"), item("b", number=2)], [0.0, 0.5])
    assert found.single is not None
    assert found.majority is not None
    assert found.single.tolist() == [[1.0, 0.5], [0.0, 1.0]]
    assert found.majority.tolist() == [[1.0, 0.5], [0.0, 1.0]]
    assert found.entropy.tolist() == [[1.0, 2.0], [1.0, 1.0]]
    assert found.cut.tolist() == [[0.0, 0.0], [1.0, 0.0]]
    assert found.tokens.tolist() == [[5.0, 2.0], [2.0, 2.0]]
    unlabelled = [Item("1", 1, "?", None), Item("2", 2, "?", None)]
    assert score(rows, unlabelled, [0.0, 0.5]).single is None
