"""The verb `annotate` as a user meets it: what it reads, refuses, exports, merges, closes and reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from annotating import study_of, vote, vote_all
from evaluating import write_lines

import ingot
from ingot.core.errors import IngotError
from ingot.core.report import Interval, Report
from ingot.evaluate.people.answers import read_answers, warn_of_names
from ingot.evaluate.people.gold import read_gold
from ingot.evaluate.people.report import study_report
from ingot.evaluate.people.rubric import DEFAULT, read_rubric
from ingot.evaluate.people.votes import read_votes

RECORDS: list[dict[str, Any]] = [
    {"id": n, "prompt": f"題目 {n}", "answers": {"base": f"b{n}", "tuned": f"t{n} long", "third": f"x{n}"}}
    for n in range(8)
]


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "answers.jsonl", RECORDS)


def run(answers: Path, store: Path, **more: Any) -> Any:
    return ingot.annotate([answers], store=f"sqlite:///{store}", annotators=["ana", "ben"], **more)


def voted(answers: Path, store: Path, mode: str = "pairwise") -> None:
    """Everyone votes for the longer answer, Ben at times for a tie."""
    study = study_of(store, read_answers([answers]), mode=mode, annotators=("ana", "ben"))  # type: ignore[arg-type]
    if mode == "rubric":
        while study.next("ana") is not None:
            vote(study, "ana", "rated", scores={"correct": 4, "helpful": len(study.store.votes()) % 5 + 1, "fluent": 5})
        while study.next("ben") is not None:
            vote(study, "ben", "rated", scores={"correct": 4, "helpful": len(study.store.votes()) % 4 + 1, "fluent": 4})
        return
    vote_all(study, "ana", lambda shown: "left" if len(shown.texts[0]) > len(shown.texts[1]) else "right")
    vote_all(study, "ben", lambda shown: ("left", "right", "tie")[len(study.store.votes()) % 3])
    study.undo("ben")
    vote(study, "ben", "left", note="close <3")


def test_a_study_from_votes_to_report(answers: Path, tmp_path: Path) -> None:
    store, out = tmp_path / "v.db", tmp_path / "votes.jsonl"
    voted(answers, store)
    done = run(answers, store, export=out, report=tmp_path / "report", close=True)
    assert done.summary()["votes"] == 8 * 3 * 2
    assert done.summary()["done_share"] == 1
    report = Report.open(tmp_path / "report")
    assert report.numbers["votes"] == 48
    assert isinstance(report.numbers["alpha"], Interval)
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "close &lt;3" in page
    trail = [json.loads(line) for line in (tmp_path / "report/raw/trail.jsonl").read_text().splitlines()]
    assert [row["reason"] for row in trail] == ["withdrawn"]
    assert (tmp_path / "report/raw/votes.jsonl").read_text() == out.read_text()
    closed = study_of(store, read_answers([answers]))
    assert closed.store.is_closed


def test_the_win_matrix_counts_the_votes(answers: Path, tmp_path: Path) -> None:
    voted(answers, tmp_path / "v.db")
    study = study_of(tmp_path / "v.db", read_answers([answers]))
    report = study_report(study, {}, 0)
    heat = next(section for section in report.sections if section.kind == "heat")
    votes = study.store.votes()
    for row, one in enumerate(heat.rows):
        for column, other in enumerate(heat.columns):
            between = [v for v in votes if set(v.shown) == {one, other}]
            wins = sum(v.winner == one for v in between) + sum(v.winner is None for v in between) / 2
            assert heat.values[row][column] == (pytest.approx(wins / len(between)) if between else None)


@pytest.mark.slow
def test_ratings_are_reported(answers: Path, tmp_path: Path) -> None:
    voted(answers, tmp_path / "v.db", "rubric")
    report = run(answers, tmp_path / "v.db", mode="rubric", report=tmp_path / "r").written
    assert report["base.fluent"] == 4.5
    assert report["base.correct"] == 4
    assert report["alpha.correct"] is None
    assert report["votes"] == 48


def test_votes_from_elsewhere_are_merged(answers: Path, tmp_path: Path) -> None:
    voted(answers, tmp_path / "1.db")
    run(answers, tmp_path / "1.db", export=tmp_path / "1.jsonl")
    done = run(answers, tmp_path / "2.db", merge=[tmp_path / "1.jsonl"], export=tmp_path / "2.jsonl")
    assert done.written["added"] == 48
    assert (tmp_path / "1.jsonl").read_text() == (tmp_path / "2.jsonl").read_text()
    assert run(answers, tmp_path / "2.db", merge=[tmp_path / "1.jsonl"]).written["added"] == 0


def test_a_disconnected_study_reports_why_there_are_no_strengths(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "answers": {"a": "1", "b": "2"}}, {"prompt": "q", "answers": {"c": "3", "d": "4"}}]
    answers = write_lines(tmp_path / "a.jsonl", rows)
    study = study_of(tmp_path / "v.db", read_answers([answers]), annotators=("ana",))
    vote_all(study, "ana", lambda _: "left")
    report = study_report(study, {}, 0)
    assert any(section.kind == "prose" and "{a, b}; {c, d}" in section.text for section in report.sections)


def test_a_study_without_votes_has_a_report(answers: Path, tmp_path: Path) -> None:
    assert run(answers, tmp_path / "v.db", report=tmp_path / "r").written["votes"] == 0
    assert run(answers, tmp_path / "w.db", mode="rubric", report=tmp_path / "s").written["votes"] == 0


def test_answers_of_generate_and_evaluate(tmp_path: Path) -> None:
    base = [{"prompt": "p1", "text": "x", "tokens": 1}, {"messages": [{"role": "user", "content": "p2"}], "text": "y"}]
    tuned = [{"question": "p1", "reply": "z"}, {"question": "p2", "answer": "w"}]
    files = [write_lines(tmp_path / "base.jsonl", base), write_lines(tmp_path / "tuned.jsonl", tuned)]
    found = [(item.prompt, item.answers) for item in read_answers(files)]
    assert found == [("p1", {"base": "x", "tuned": "z"}), ("p2", {"base": "y", "tuned": "w"})]


def test_an_answer_that_names_its_system_is_told(heard: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    rows = [{"prompt": "who?", "answers": {"GPT-4": "I am gpt-4.", "other": "another one"}}]
    warn_of_names(read_answers([write_lines(tmp_path / "a.jsonl", rows)]))
    assert "GPT-4" in heard.text
    assert "other" not in heard.text


@pytest.mark.parametrize(
    ("records", "code"),
    [
        ([], "people-no-pairs"),
        ([{"prompt": "p", "answers": {"a": "x"}}], "bad-record"),
        ([{"prompt": "p", "answers": ["x", "y"]}], "bad-record"),
        ([{"prompt": "p", "answers": {"a": "x", "b": None}}], "bad-record"),
        ([{"prompt": "p", "answers": {"a": "x", " ": "y"}}], "bad-record"),
        ([{"prompt": 3, "answers": {"a": "x", "b": "y"}}], "bad-record"),
        ([{"id": "1", "prompt": "p", "answers": {"a": "x", "b": "y"}}] * 2, "people-item-twice"),
        ([{"id": "\n", "prompt": "p", "answers": {"a": "x", "b": "y"}}], "bad-record"),
        ([{"prompt": "p", "answers": {"a": "\ud800", "b": "y"}}], "bad-record"),
    ],
)
def test_bad_answers_are_refused(records: list[dict[str, Any]], code: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(IngotError) as error:
        read_answers([path])
    assert error.value.code == code


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    one = write_lines(tmp_path / "a.jsonl", [{"id": 1, "prompt": "p", "text": "x"}])
    with pytest.raises(IngotError, match="asks something else"):
        read_answers([one, write_lines(tmp_path / "b.jsonl", [{"id": 1, "prompt": "q", "text": "x"}])])
    with pytest.raises(IngotError) as error:
        read_answers([one, write_lines(tmp_path / "c.jsonl", [{"id": 2, "prompt": "q", "text": "x"}])])
    assert error.value.code == "people-no-pairs"
    (tmp_path / "d.txt").write_text("x")
    with pytest.raises(IngotError) as error:
        read_answers([tmp_path / "d.txt"])
    assert error.value.code == "people-not-jsonl"


@pytest.mark.parametrize(
    "right", [None, "z", 3, {"correct": [4, 5]}, ["x"]],
)  # fmt: skip
def test_bad_gold_is_refused(right: object, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "g.jsonl", [{"prompt": "p", "answers": {"x": "1", "y": "2"}, "right": right}])
    with pytest.raises(IngotError) as error:
        read_gold(path, "pairwise", DEFAULT)
    assert error.value.code == "bad-record"


@pytest.mark.parametrize(
    "right", ["x", {}, {"correct": [4, 9]}, {"other": [1, 2]}, {"correct": [5, 4]}, {"correct": 4}]
)
def test_bad_gold_of_ratings_is_refused(right: object, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "g.jsonl", [{"prompt": "p", "answers": {"x": "1"}, "right": right}])
    with pytest.raises(IngotError) as error:
        read_gold(path, "rubric", DEFAULT)
    assert error.value.code == "bad-record"


def test_a_rubric_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    criterion = "{name: short, question: Short?, scale: [0, 3], ends: {en: [never, always], zh-TW: [否, 是]}}"
    question = "question: {en: Which is shorter?, zh-TW: 哪個短？}"
    path.write_text(f"{question}\ncriteria:\n- {criterion}\n", encoding="utf-8")
    rubric = read_rubric(path)
    assert rubric.question.of("zh") == "哪個短？"
    assert list(rubric.criteria[0].values) == [0, 1, 2, 3]
    assert rubric.criteria[0].question.of("zh") == "Short?"
    assert rubric.digest("pairwise") != DEFAULT.digest("pairwise")


@pytest.mark.parametrize(
    "text", ["- a", "question: ''", "criteria: []", "criteria: [{name: a, question: b, scale: [5, 1]}]", "{",
             "unknown: 1", "criteria: [{name: a, question: b}, {name: a, question: b}]",
             "criteria: [{name: 'a b', question: b}]", "criteria: [{name: a, question: b, ends: {en: [no, yes]}}]"],
)  # fmt: skip
def test_a_bad_rubric_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(IngotError) as error:
        read_rubric(path)
    assert error.value.code == "people-bad-rubric"


def test_what_exists_is_not_overwritten(answers: Path, tmp_path: Path) -> None:
    with pytest.raises(IngotError) as error:
        run(answers, tmp_path / "v.db", export=answers)
    assert error.value.code == "out-not-empty"
    assert not (tmp_path / "v.db").exists()


@pytest.mark.parametrize("names", ["", "a<b", "x" * 61])
def test_bad_names_of_annotators(answers: Path, names: str) -> None:
    with pytest.raises(IngotError) as error:
        ingot.annotate([answers], annotators=names)
    assert error.value.code == "bad-option"


def test_a_taken_port_is_told(answers: Path, tmp_path: Path) -> None:
    from ingot.evaluate.people.server import listen

    with listen("127.0.0.1", 0) as taken, pytest.raises(IngotError) as error:
        run(answers, tmp_path / "v.db", port=taken.getsockname()[1])
    assert error.value.code == "people-port-taken"


def test_a_damaged_export_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "v.jsonl", [{"ticket": "t", "annotator": "a"}])
    with pytest.raises(IngotError, match="line 1"):
        read_votes(path)
