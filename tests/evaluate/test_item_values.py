"""What every task says item by item: compared as by hand, the same as in the report, refused by name if it differs."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from benching import WORDS, asked, own_rows, rows_of, write_hellaswag, write_mmlu, write_task
from comparing import documents, pages, programs, said, write_report
from evaluating import write_lines
from scipy.stats import binomtest

from cases import first_fast
from ingot.core.errors import IngotError
from ingot.core.report import Interval, Prose, Report, Table
from ingot.evaluate.compare.contestants import open_contestants
from ingot.evaluate.compare.pair import Pair, pair
from ingot.evaluate.compare.verb import compare
from ingot.evaluate.evaluate import TASKS


def section(report: Report, title: str) -> Table:
    return next(one for one in report.sections if isinstance(one, Table) and one.title == title)


@pytest.mark.slow
def test_right_or_wrong_is_compared_as_by_hand(base_dir: Path, other_dir: Path, tmp_path: Path) -> None:
    """McNemar by scipy; the difference and its interval stand in the benchmark's own report as well."""
    rows = [row | {"choices": [WORDS[(n * at) % 17] for at in (1, 3, 7)]} for n, row in enumerate(own_rows(40))]
    write_lines(tmp_path / "own.jsonl", rows)
    report = asked([base_dir, other_dir], tmp_path, str(write_task(tmp_path / "own.yaml")), tmp_path / "r")
    base, other = (
        np.array([int(np.argmax(row["logprobs"])) in row["gold"] for row in rows_of(report, f"own-{name}.jsonl")])
        for name in ("base", "other")
    )
    only = int((other & ~base).sum()), int((base & ~other).sum())
    assert sum(only) > 3
    found = compare([tmp_path / "r"]).numbers
    assert found["other.own.acc.p"] == pytest.approx(binomtest(only[0], sum(only)).pvalue, rel=1e-9)
    difference, shown = found["other.own.acc.difference"], section(report, "own against base").rows[0]
    assert isinstance(difference, Interval)
    assert difference.value == pytest.approx((only[0] - only[1]) / 40, abs=1e-12)
    assert (difference, only) == (shown[2], tuple(shown[3:5]))


@pytest.mark.slow
@pytest.mark.parametrize("subjects", ["abcdefg", "abcdefghij"])
def test_subjects_keep_together(base_dir: Path, other_dir: Path, tmp_path: Path, subjects: str) -> None:
    """p: every pattern of signs of the subjects' sums. The interval is the page's, of few subjects and of enough."""
    data = write_mmlu(tmp_path / "d", 12, tuple(subjects))
    report = asked([base_dir, other_dir], data, "mmlu", tmp_path / "r", benchmark={"shots": 0})
    sums: dict[str, float] = {}
    for first, second in zip(rows_of(report, "mmlu-other.jsonl"), rows_of(report, "mmlu-base.jsonl"), strict=True):
        right = [int(np.argmax(row["logprobs"])) in row["gold"] for row in (first, second)]
        sums[first["group"]] = sums.get(first["group"], 0.0) + right[0] - right[1]
    assert any(sums.values())
    flipped = [abs(sum(s * x for s, x in zip(signs, sums.values(), strict=True)))
               for signs in itertools.product((1, -1), repeat=len(subjects))]  # fmt: skip
    found = compare([tmp_path / "r"]).numbers
    assert found["other.mmlu.acc.p"] == pytest.approx(
        sum(one >= abs(sum(sums.values())) for one in flipped) / len(flipped)
    )
    difference = found["other.mmlu.acc.difference"]
    assert isinstance(difference, Interval)
    assert difference.value == pytest.approx(sum(sums.values()) / (12 * len(subjects)), abs=1e-12)
    assert difference == section(report, "mmlu against base").rows[0][2]


@pytest.mark.slow
def test_every_metric_has_its_items(base_dir: Path, other_dir: Path, tmp_path: Path) -> None:
    data = write_hellaswag(tmp_path / "d", 12)
    report = asked([base_dir, other_dir], data, "hellaswag", tmp_path / "r")
    contestants = open_contestants(tmp_path / "r")
    for one in contestants:
        values = one.metrics
        assert list(values) == ["hellaswag.acc", "hellaswag.acc_norm"]
        assert [found.primary for found in values.values()] == [True, False]
        for name, found in values.items():
            cell = report.numbers[f"{one.name}.{name}"]
            assert isinstance(cell, Interval)
            assert found.value == pytest.approx(cell.value, abs=1e-12)
        row, by_length = rows_of(report, f"hellaswag-{one.name}.jsonl")[3], values["hellaswag.acc_norm"]
        lengths = [score / len(choice) for score, choice in zip(row["logprobs"], row["choices"], strict=True)]
        assert by_length.replies[3] == row["choices"][int(np.argmax(lengths))]
        assert one.others == []


@pytest.mark.slow
def test_answers_that_are_written_have_items(base_dir: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "own.jsonl", own_rows(6))
    task = write_task(
        tmp_path / "own.yaml", output="generate", target="{{ choices[0] }}", num_choices=None, metrics=["acc"],
        answers={"first": {"extract": "text"}, "second": {"extract": "regex", "pattern": "the"}}, max_tokens=4,
    )  # fmt: skip
    report = asked(base_dir, tmp_path, str(task), tmp_path / "r")
    (one,) = open_contestants(tmp_path / "r")
    assert list(one.metrics) == ["own.exact_match.first", "own.exact_match.second"]
    assert one.metrics["own.exact_match.first"].replies == [row["reply"] for row in rows_of(report, "own-base.jsonl")]
    assert one.metrics["own.exact_match.first"].conditions["max_tokens"] == "4"
    asked(base_dir, tmp_path, str(task), tmp_path / "longer", max_tokens=8)
    with pytest.raises(IngotError, match=r"max_tokens differs \(8 and 4\)"):
        compare([tmp_path / "r", tmp_path / "longer"])


@first_fast(
    ("changes", "words"),
    [({"shots": 1}, r"shots differs \(1 and 0\)"), ({"version": "2"}, "task differs"), ({"gold": 2}, "asks one thing")],
)
def test_another_task_is_not_compared(changes: dict[str, object], words: str, base_dir: Path, tmp_path: Path) -> None:
    """Other examples, another version of the task, another right answer."""
    write_lines(tmp_path / "own.jsonl", own_rows(6))
    first = write_task(tmp_path / "own.yaml", shots={"source": "asked"})
    asked(base_dir, tmp_path, str(first), tmp_path / "a")
    if "gold" in changes:
        write_lines(tmp_path / "own.jsonl", [row | changes for row in own_rows(6)])
    if "version" in changes:
        first = write_task(tmp_path / "own.yaml", shots={"source": "asked"}, **changes)
    shots = {"benchmark": {"shots": 1}} if "shots" in changes else {}
    asked(base_dir, tmp_path, str(first), tmp_path / "b", **shots)
    with pytest.raises(IngotError, match=words) as error:
        compare([tmp_path / "a", tmp_path / "b"])
    assert error.value.code == "compared-nothing"


def test_pages_of_wikitext_by_hand(tmp_path: Path) -> None:
    first, second = [50.0, 60.0, 70.0, 40.0], [55.0, 66.0, 69.0, 47.0]
    one, two = (
        write_report(tmp_path / "a", x={"pages": pages(first)}),
        write_report(tmp_path / "b", y={"pages": pages(second)}),
    )
    report = compare([one, two])
    difference = report.numbers["y.wikitext.bits_per_byte.difference"]
    assert isinstance(difference, Interval)
    assert difference.value == pytest.approx(17 / 400 / math.log(2), rel=1e-12)
    assert report.numbers["y.wikitext.bits_per_byte.p"] == 4 / 16  # 17 and 19 are as far, to either side
    words = open_contestants(two)[0].metrics["wikitext.nats_per_word"]
    assert words.value == pytest.approx(sum(second) / 80, rel=1e-12)
    old = [{key: value for key, value in row.items() if key != "digest"} for row in pages(first)]
    with pytest.raises(IngotError) as error:
        open_contestants(write_report(tmp_path / "c", x={"pages": old}))
    assert error.value.code == "evaluate-rows-old"


def test_programs_by_hand(tmp_path: Path) -> None:
    """One a problem: McNemar. Several: the mean of the right ones, problem by problem."""
    first, second = [[True]] * 7 + [[False]] * 3, [[True]] * 2 + [[False]] * 8
    one, two = (
        write_report(tmp_path / "a", x={"humaneval": programs(first)}),
        write_report(tmp_path / "b", y={"humaneval": programs(second)}),
    )
    report = compare([one, two])
    assert report.numbers["y.humaneval.pass@1.p"] == pytest.approx(binomtest(0, 5).pvalue)
    several = [[True, False, False, True], [False] * 4, [True, True, True, False]]
    half = write_report(tmp_path / "c", z={"humaneval": programs(several, k=[1, 2])})
    values = open_contestants(half)[0].metrics
    assert values["humaneval.pass@1"].values.tolist() == pytest.approx([0.5, 0.0, 0.75])
    assert values["humaneval.pass@2"].values.tolist() == pytest.approx([1 - 1 / 6, 0.0, 1.0])
    assert [values[f"humaneval.pass@{k}"].primary for k in (1, 2)] == [True, False]
    assert not values["humaneval.pass@1"].is_share
    assert isinstance(pair(values["humaneval.pass@1"], open_contestants(one)[0].metrics["humaneval.pass@1"]), Pair)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"style": "chat"}, "style differs"), ({"temperature": 0.0}, "temperature differs"), ({"tests": "u"}, "asks one")],
)
def test_programs_of_other_problems_are_not_compared(changes: dict[str, object], words: str, tmp_path: Path) -> None:
    one = write_report(tmp_path / "a", x={"humaneval": programs([[True]] * 3)})
    two = write_report(tmp_path / "b", y={"humaneval": programs([[True]] * 3, **changes)})
    with pytest.raises(IngotError, match=words):
        compare([one, two])


def test_no_figure_is_skipped_silently(tmp_path: Path) -> None:
    """One whose text is lost says so, one that only one report has, one beside the verdict, one without items."""
    lossy = {"documents": documents([50.0] * 12, lost=5), "pages": pages([50.0] * 5)}
    whole = {"documents": documents([50.0] * 12), "pages": pages([50.0] * 5), "humaneval": programs([[True]] * 3)}
    one, two = write_report(tmp_path / "a", x=whole), write_report(tmp_path / "b", y=lossy)
    report = compare([one, two])
    words = said(report)
    assert "bits per byte: y and x are not comparable: the tokenizer of y loses 5.0 %" in words
    assert "pass@1: y and x are not comparable: only one of the two reports has this figure" in words
    assert "wikitext" in words
    explored = section(report, "By language, subject and further figures")
    assert any(
        "nats per token" in str(row[1]) and "not comparable: the tokenizer" in str(row[5]) for row in explored.rows
    )
    model = Report.open(two)
    model.model_copy(update={"numbers": {"y.mystery": Interval(value=1.0, low=0.5, high=1.5)}}).save(two)
    method = compare([one, two]).sections[-1]
    assert isinstance(method, Prose)
    assert "nothing is kept of them item by item: mystery." in method.text


def test_every_task_has_values() -> None:
    assert all(callable(task.values) for task in TASKS.values())
