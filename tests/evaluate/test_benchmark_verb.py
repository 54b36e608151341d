"""Benchmarks through the verb: numbers against naive ones, resuming, scoring again, reports."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from benching import (
    asked,
    own_rows,
    raw,
    rows_of,
    write_hellaswag,
    write_mmlu,
    write_task,
    write_winogrande,
)  # fmt: skip
from evaluating import write_lines

from ingot.core.errors import IngotError
from ingot.core.report import Interval
from ingot.evaluate.benchmarks import results
from ingot.evaluate.evaluate import rescore
from ingot.evaluate.journal import Journal, folder_beside
from ingot.evaluate.statistics import clustered_share


def test_scores_and_errors_are_lm_evals(base_dir: Path, tmp_path: Path) -> None:
    report = asked(base_dir, write_hellaswag(tmp_path / "d"), "hellaswag", tmp_path / "r")
    rows = rows_of(report, "hellaswag-base.jsonl")
    right = [int(np.argmax(row["logprobs"])) in row["gold"] for row in rows]
    by_length = [
        max(range(4), key=lambda at, row=row: row["logprobs"][at] / len(row["choices"][at])) in row["gold"]  # type: ignore[misc]
        for row in rows
    ]
    numbers = report.numbers
    for name, found in (("acc", right), ("acc_norm", by_length)):
        value = numbers[f"hellaswag.{name}"]
        assert isinstance(value, Interval)
        assert value.value == pytest.approx(sum(found) / len(found), abs=1e-12)
        deviation = np.std(np.array(found, float), ddof=1) / math.sqrt(len(found))
        assert numbers[f"hellaswag.{name}_stderr"] == pytest.approx(deviation, abs=1e-12)
    wanted = clustered_share(np.array(right), [row["cluster"] for row in rows])
    value = numbers["hellaswag.acc"]
    assert isinstance(value, Interval)
    assert (value.low, value.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


@pytest.mark.slow
def test_errors_of_groups_are_pooled(base_dir: Path, tmp_path: Path) -> None:
    """lm-eval's formula: sqrt(sum((n - 1) s^2 n) / (N - k) / N) over the groups' errors s."""
    report = asked(base_dir, write_mmlu(tmp_path / "d"), "mmlu", tmp_path / "r", benchmark={"shots": 0})
    rows = rows_of(report, "mmlu-base.jsonl")
    sums = 0.0
    for group in ("anatomy", "law"):
        found = np.array(
            [int(np.argmax(row["logprobs"])) in row["gold"] for row in rows if row["group"] == group], float
        )
        error = np.std(found, ddof=1) / math.sqrt(len(found))
        sums += (len(found) - 1) * error**2 * len(found)
    assert report.numbers["mmlu.acc_stderr"] == pytest.approx(math.sqrt(sums / (10 - 2) / 10), abs=1e-12)


@pytest.mark.slow
def test_a_sample_has_a_narrower_interval_and_says_so(base_dir: Path, tmp_path: Path) -> None:
    data = write_mmlu(tmp_path / "d", 10)
    report = asked(base_dir, data, "mmlu", tmp_path / "r", benchmark={"shots": 0}, limit=10)
    rows = rows_of(report, "mmlu-base.jsonl")
    right = np.array([int(np.argmax(row["logprobs"])) in row["gold"] for row in rows])
    plain = clustered_share(right, [row["group"] for row in rows])
    value = report.numbers["mmlu.acc"]
    assert isinstance(value, Interval)
    assert plain.low is not None
    assert value.value - value.low == pytest.approx((value.value - plain.low) * math.sqrt(0.5), abs=1e-12)
    assert "A seeded sample of 10 of 20 items" in (tmp_path / "r" / "report.html").read_text()


@pytest.mark.slow
def test_one_item_has_no_interval(base_dir: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "own.jsonl", own_rows(1))
    report = asked(base_dir, tmp_path, str(write_task(tmp_path / "own.yaml")), tmp_path / "r")
    assert report.numbers["own.acc"] in (0.0, 1.0)
    assert report.numbers["own.acc_stderr"] is None


def test_ties_go_to_the_first_and_are_counted() -> None:
    row = {"logprobs": [-2.0, -1.0, -1.0], "choices": ["a", "bb", "cc"], "gold": [1]}
    assert results.METRICS["acc"](row) == 1
    assert results.is_tied(row)
    assert results.METRICS["acc"](row | {"gold": [2]}) == 0
    assert results.METRICS["acc_bytes"](row | {"choices": ["a", "bb", "天"]}) == 0  # -2, -0.5, -1/3
    assert results.METRICS["acc_norm"](row | {"choices": ["a", "bb", "天"]}) == 1
    assert results.METRICS["acc_mutual_info"](row | {"logprobs_alone": [-5.0, -1.0, -1.0], "gold": [0]}) == 1


def test_few_subjects_are_not_taken_for_many() -> None:
    """Drawing 2 subjects again and again would call 3 of 6 against none certain; Newcombe's interval does not."""
    rows = [{"group": group, "cluster": group} for group in "abbbbb"]
    first, second = np.array([1.0, 1, 1, 0, 0, 0]), np.zeros(6)
    found = results.difference(first, second, rows, 1.0, 0)
    assert found.pair is not None
    assert found.interval == found.pair.difference
    assert found.pair.p_value == 0.25
    assert not found.is_told_apart
    assert not results.difference(first, second, [{"cluster": n // 2} for n in range(6)], 1.0, 0).is_told_apart


def test_mc2_is_the_share_of_the_right_choices() -> None:
    row = {"logprobs": [-1000.0, -1001.0, -1002.0], "gold": [0, 2]}
    weights = np.exp([0.0, -1.0, -2.0])
    assert results.METRICS["mc2"](row) == pytest.approx((weights[0] + weights[2]) / weights.sum(), abs=1e-12)


@pytest.mark.slow
def test_saved_rows_give_the_same_report(base_dir: Path, other_dir: Path, tmp_path: Path) -> None:
    """Two models in pairs; scored again from the saved rows alone, the task file and the data gone."""
    write_lines(tmp_path / "own.jsonl", own_rows(12))
    task = write_task(tmp_path / "own.yaml")
    report = asked([base_dir, other_dir], tmp_path, str(task), tmp_path / "r")
    for path in (task, tmp_path / "own.jsonl"):
        path.unlink()
    again = rescore(tmp_path / "r")
    assert (again.numbers, again.sections) == (report.numbers, report.sections)
    titles = [section.title for section in report.sections]
    assert "own against base" in titles
    assert "Items of own" in titles


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(base_dir: Path, tmp_path: Path) -> None:
    data = write_mmlu(tmp_path / "d", 40)
    whole = asked(base_dir, data, "mmlu", tmp_path / "whole", benchmark={"shots": 0})
    command = [
        sys.executable, "-m", "ingot", "evaluate", str(base_dir), "--tasks", "mmlu", "--data", str(data),
        "--shots", "0", "--benchmark.bad-share", "1", "--out", str(tmp_path / "killed"),
    ]  # fmt: skip
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder, deadline = folder_beside(tmp_path / "killed"), time.monotonic() + 300
    while child.poll() is None and time.monotonic() < deadline:
        if sum(path.read_bytes().count(b"\n") for path in folder.glob("*.jsonl")) > 5:
            os.kill(child.pid, signal.SIGKILL)
            break
        time.sleep(0.01)
    child.wait()
    assert not (tmp_path / "killed").exists()
    (journal,) = folder.glob("*.jsonl")
    saved = journal.read_bytes().count(b"\n") - 1
    assert 0 < saved < 80
    with journal.open("ab") as stream:
        stream.write(b'{"id": "half a li')
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"going on with {saved} of 80 answers" in done.stdout
    assert (tmp_path / "killed" / "raw" / "mmlu-base.jsonl").read_bytes() == raw(whole, "mmlu-base.jsonl")
    assert not folder.exists()


def test_saved_answers_of_another_question_are_not_taken(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", {"seed": 0}) as journal:
        journal.add({"id": "a", "x": 1})
        with pytest.raises(IngotError, match="another evaluation is writing"):
            Journal(tmp_path / "j", {"seed": 0})
    with Journal(tmp_path / "j", {"seed": 1}) as journal:
        assert journal.rows == {}
    with Journal(tmp_path / "j", {"seed": 0}) as journal:
        assert journal.rows == {"a": {"id": "a", "x": 1}}


@pytest.mark.slow
def test_written_answers(base_dir: Path, tmp_path: Path) -> None:
    """GSM8K through the engine: stop strings, the task's own length, and the user's."""
    (tmp_path / "gsm8k").mkdir()
    rows = [{"question": f"the cat {n}", "answer": f"the man.\n#### {n}"} for n in range(4)]
    write_lines(tmp_path / "gsm8k" / "test.jsonl", rows)
    write_lines(tmp_path / "gsm8k" / "train.jsonl", rows)
    report = asked(base_dir, tmp_path, "gsm8k", tmp_path / "r", benchmark={"shots": 1}, max_tokens=5)
    found = rows_of(report, "gsm8k-base.jsonl")
    assert [row["id"] for row in found] == [f"test.jsonl:{n}" for n in range(1, 5)]
    assert all(row["tokens"] <= 5 for row in found)
    assert set(report.numbers) >= {"gsm8k.exact_match.strict-match", "gsm8k.exact_match.flexible-extract"}
    one = asked(base_dir, tmp_path, "gsm8k", tmp_path / "r1", benchmark={"shots": 1}, max_tokens=5, slots=1)
    assert raw(one, "gsm8k-base.jsonl") == raw(report, "gsm8k-base.jsonl")


@pytest.mark.slow
def test_many_groups_are_a_coloured_table(base_dir: Path, tmp_path: Path) -> None:
    subjects = tuple(f"s{number:02}" for number in range(26))
    report = asked(base_dir, write_mmlu(tmp_path / "d", 1, subjects), "mmlu", tmp_path / "r", benchmark={"shots": 0})
    kinds = {section.title: section.kind for section in report.sections}
    assert kinds["mmlu by subject, acc (higher is better)"] == "heat"


@pytest.mark.slow
def test_contexts_that_differ_are_scored_behind_the_same_text(base_dir: Path, tmp_path: Path) -> None:
    report = asked(base_dir, write_winogrande(tmp_path / "d"), "winogrande", tmp_path / "r")
    for row in rows_of(report, "winogrande-base.jsonl"):
        assert len(set(row["tokens"])) == 1
        assert row["question"].count("\n") == 1
