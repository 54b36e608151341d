"""Problems of HumanEval's and MBPP's formats: read, checked line by line; their own solutions pass, under load too."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from evaluating import write_lines
from sandboxing import LINUX

from ingot.core.errors import IngotError
from ingot.data.files import read_records
from ingot.evaluate.sandbox.pool import Pool
from ingot.evaluate.sandbox.problems import Problem, mbpp_problem, read_problems

DATA = Path(os.environ.get("INGOT_DATA", "/nowhere")) / "04_benchmarks"
with_data = pytest.mark.skipif(not DATA.is_dir(), reason="no INGOT_DATA with 04_benchmarks")

HUMANEVAL: dict[str, Any] = {
    "task_id": "T/0", "prompt": "def one():\n", "entry_point": "one", "canonical_solution": "    return 1\n",
    "test": "def check(candidate):\n    assert candidate() == 1\n",
}  # fmt: skip
MBPP: list[dict[str, Any]] = [
    {
        "task_id": n,
        "text": f"Return {n}.",
        "code": f"def give():\r\n  return {n}",
        "test_list": [f"assert give() == {n}"],
    }
    for n in (2, 3, 4, 10, 11, 510, 511)
]


def test_humaneval_as_it_is(tmp_path: Path) -> None:
    (problem,) = read_problems("humaneval", write_lines(tmp_path / "any.jsonl", [HUMANEVAL]))
    assert problem.program("    return 2").source == "def one():\n    return 2"
    assert (problem.prompt, problem.trusted, problem.entries) == (HUMANEVAL["prompt"], HUMANEVAL["prompt"], ("one",))
    assert problem.tests.endswith("check(one)\n")


def test_mbpp_asks_its_test_split_after_three_that_are_solved(tmp_path: Path) -> None:
    (tmp_path / "mbpp").mkdir()
    write_lines(tmp_path / "mbpp" / "mbpp.jsonl", MBPP)
    problems = read_problems("mbpp", tmp_path)
    assert [problem.id for problem in problems] == ["MBPP/11", "MBPP/510"]
    begin = (
        "You are an expert Python programmer, and here is your task: Return 2. Your code should pass these tests:\n\n"
    )
    assert problems[0].prompt.startswith(f"{begin}assert give() == 2\n[BEGIN]\ndef give():\r\n  return 2\n[DONE]\n\n")
    assert problems[0].prompt.endswith("tests:\n\nassert give() == 11\n[BEGIN]\n")
    assert problems[0].program("x").source == "x"
    few = write_lines(tmp_path / "few.jsonl", [*MBPP[:3], MBPP[3]])
    assert [problem.id for problem in read_problems("mbpp", few)] == ["MBPP/10"]


@pytest.mark.parametrize(
    ("task", "records", "code", "words"),
    [("humaneval", [HUMANEVAL, {**HUMANEVAL, "task_id": "T/1", "test": None}], "sandbox-bad-problem", "line 2.*test"),
     ("humaneval", [HUMANEVAL, HUMANEVAL], "sandbox-twice", "line 2.*T/0.*line 1"),
     ("humaneval", [], "sandbox-no-problems", "no problems"),
     ("humaneval", MBPP, "sandbox-bad-problem", "line 1.*task_id"),
     ("mbpp", MBPP[1:], "sandbox-no-shots", "2, 3, 4"),
     ("mbpp", [*MBPP[:4], {**MBPP[4], "test_list": ["other()"]}], "sandbox-bad-problem", "line 5.*test_list")],
)  # fmt: skip
def test_bad_problems_are_named(
    tmp_path: Path, task: str, records: list[dict[str, Any]], code: str, words: str
) -> None:
    with pytest.raises(IngotError, match=words) as error:
        read_problems(task, write_lines(tmp_path / "bad.jsonl", records))
    assert error.value.code == code


def test_no_problems_where_they_were_said_to_be(tmp_path: Path) -> None:
    for data in (None, tmp_path, tmp_path / "absent"):
        with pytest.raises(IngotError, match=r"HumanEval\.jsonl\.gz"):
            read_problems("humaneval", data)


@pytest.fixture
def load() -> Iterator[None]:
    """Every core busy with something else."""
    cores = range(os.cpu_count() or 1)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in cores]
    yield
    for one in busy:
        one.kill()
        one.wait()


def failing(problems: list[Problem]) -> list[tuple[str, str]]:
    with Pool() as pool:
        outcomes = pool.run(problem.program(problem.reference) for problem in problems)
        pairs = zip(problems, outcomes, strict=True)
        return [(problem.id, outcome.verdict) for problem, outcome in pairs if not outcome.passed]


@LINUX
@with_data
@pytest.mark.slow
@pytest.mark.usefixtures("load")
def test_all_of_humanevals_own_solutions_pass_under_load() -> None:
    problems = read_problems("humaneval", DATA)
    assert len(problems) == 164
    assert failing(problems) == []


@LINUX
@with_data
@pytest.mark.slow
@pytest.mark.usefixtures("load")
def test_all_of_mbpps_own_solutions_pass_under_load() -> None:
    """All 974, and not only its test split; `benchmarks/sandbox.py` runs them three times."""
    path = DATA / "mbpp" / "mbpp.jsonl"
    problems = [mbpp_problem(path, line, record) for line, record in read_records(path)]
    assert len(problems) == 974
    assert failing(problems) == []
