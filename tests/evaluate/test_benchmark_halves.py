"""The halves of a benchmark that a search looks at and does not: reports, intervals, resuming, scoring again."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from benching import asked, own_rows, raw, rows_of, write_mmlu, write_task
from evaluating import write_lines

from ingot.core.errors import IngotError
from ingot.core.report import Interval, Report, Table
from ingot.evaluate.compare.verb import compare
from ingot.evaluate.evaluate import rescore
from ingot.evaluate.journal import Journal, folder_beside
from ingot.evaluate.statistics import clustered_share

ROWS = "mmlu-base.jsonl"


def half(part: str) -> dict[str, object]:
    return {"benchmark": {"shots": 2}, "items": {"part": part}}


def total(report: Report) -> dict[str, object]:
    return dict(json.loads(raw(report, "benchmarks.json"))["mmlu"])


@pytest.mark.slow
def test_two_halves_are_the_whole(base_dir: Path, tmp_path: Path) -> None:
    """The same rows as without halves, each in one of them, in order; each report is of its half."""
    data = write_mmlu(tmp_path / "d", 15)
    whole = rows_of(asked(base_dir, data, "mmlu", tmp_path / "all", benchmark={"shots": 2}), ROWS)
    reports = {part: asked(base_dir, data, "mmlu", tmp_path / part, **half(part)) for part in ("search", "test")}
    found = {part: rows_of(report, ROWS) for part, report in reports.items()}
    ids = {row["id"] for row in found["search"]}
    assert [row for row in whole if row["id"] in ids] == found["search"]
    assert [row for row in whole if row["id"] not in ids] == found["test"]
    for part, rows in found.items():
        assert (total(reports[part])["total"], total(reports[part])["part"]) == (len(rows), part)
        right = np.array([int(np.argmax(row["logprobs"])) in row["gold"] for row in rows])
        wanted = clustered_share(right, [row["group"] for row in rows])
        assert reports[part].numbers["mmlu.acc"] == Interval(value=wanted.value, low=wanted.low, high=wanted.high)  # type: ignore[arg-type]
        note = next(one for one in reports[part].sections if isinstance(one, Table)).note
        assert ("may look at" in note, "has not seen" in note) == (part == "search", part == "test")
        assert f"All {len(rows)} items of the set ({len(rows)} asked)" in note
        again = rescore(tmp_path / part)
        assert (again.numbers, again.sections) == (reports[part].numbers, reports[part].sections)


def test_a_sample_of_a_half_narrows_by_its_share_of_the_half(base_dir: Path, tmp_path: Path) -> None:
    data = write_mmlu(tmp_path / "d", 15)
    size = total(asked(base_dir, data, "mmlu", tmp_path / "h", **half("test")))["total"]
    report = asked(base_dir, data, "mmlu", tmp_path / "s", limit=16, **half("test"))
    rows = rows_of(report, ROWS)
    assert 0 < len(rows) < 16
    right = np.array([int(np.argmax(row["logprobs"])) in row["gold"] for row in rows])
    plain, value = clustered_share(right, [row["group"] for row in rows]), report.numbers["mmlu.acc"]
    assert isinstance(value, Interval)
    assert isinstance(size, int)
    assert plain.high is not None
    wanted = (plain.high - value.value) * math.sqrt(1 - len(rows) / size)
    assert value.high - value.value == pytest.approx(wanted, abs=1e-12)


@pytest.mark.slow
def test_halves_go_on_beside_one_another(base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both stopped on the way to one place: neither takes the other's answers, and one ends as if never stopped."""
    data = write_mmlu(tmp_path / "d", 15)
    whole = {part: asked(base_dir, data, "mmlu", tmp_path / part, **half(part)) for part in ("search", "test")}
    add = Journal.add

    def stops(self: Journal, row: dict[str, object]) -> None:
        if len(self.rows) == 4:
            raise KeyboardInterrupt
        add(self, row)

    for part in ("search", "test"):
        monkeypatch.setattr(Journal, "add", stops)
        with pytest.raises(KeyboardInterrupt):
            asked(base_dir, data, "mmlu", tmp_path / "out", **half(part))
    files = sorted(folder_beside(tmp_path / "out").glob("*.jsonl"))
    assert [file.read_bytes().count(b"\n") for file in files] == [5, 5]
    added = []
    monkeypatch.setattr(Journal, "add", lambda self, row: (added.append(row["id"]), add(self, row)))
    report = asked(base_dir, data, "mmlu", tmp_path / "out", **half("test"))
    assert len(added) == len(rows_of(whole["test"], ROWS)) - 4
    assert raw(report, ROWS) == raw(whole["test"], ROWS)
    assert report.numbers == whole["test"].numbers


def test_halves_have_nothing_to_compare(base_dir: Path, tmp_path: Path) -> None:
    data = write_mmlu(tmp_path / "d", 5)
    for part in ("search", "test"):
        asked(base_dir, data, "mmlu", tmp_path / part, **half(part))
    with pytest.raises(IngotError, match="no item in common"):
        compare([tmp_path / "search", tmp_path / "test"])


def test_an_empty_half_is_refused(base_dir: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "own.jsonl", own_rows(1))
    task, refused = str(write_task(tmp_path / "own.yaml")), 0
    for part in ("search", "test"):
        try:
            asked(base_dir, tmp_path, task, tmp_path / part, items={"part": part})
        except IngotError as error:
            refused += error.code == "evaluate-part-empty"
    assert refused == 1
