"""Programming problems from files: HumanEval's and MBPP's own formats, each line checked before anything runs.

What a problem's tests may use is decided here. HumanEval's run after its prompt, whose helpers (`poly`, `encode_shift`)
therefore are the data set's own, not what a completion made of them. MBPP's take from the program what they call and
its own solution defines. MBPP's test split are the problems 11 to 510, as its authors have it.
"""

from __future__ import annotations

import ast
import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingot.core.errors import fail
from ingot.data.files import kind, read_records
from ingot.evaluate.sandbox.program import SHORTEST_LIMIT, Program

HUMANEVAL, MBPP = "humaneval", "mbpp"
FILES = {
    HUMANEVAL: ("HumanEval.jsonl.gz", "HumanEval.jsonl", "humaneval.jsonl"),
    MBPP: ("mbpp.jsonl", "mbpp.jsonl.gz"),
}
"""Names that a directory is searched for, itself and one folder below."""
FIELDS = {
    HUMANEVAL: ("task_id", "prompt", "entry_point", "canonical_solution", "test"),
    MBPP: ("task_id", "text", "code", "test_list"),
}
MBPP_TEST = range(11, 511)
MBPP_SHOTS = (2, 3, 4)


@dataclass(frozen=True)
class Problem:
    """`prompt`: what a model goes on from. A completion's program is `before` and the completion; `reference` is the
    data set's own. `cpu`: seconds that a program gets, `reference_verdict`: what came of the reference here."""

    id: str
    prompt: str
    before: str
    trusted: str
    tests: str
    entries: tuple[str, ...]
    reference: str
    asked: str = ""
    cpu: float = SHORTEST_LIMIT
    reference_verdict: str = ""

    @property
    def tests_digest(self) -> str:
        """Of what decides whether a program is right."""
        return hashlib.sha256("\0".join([self.tests, *self.entries, self.trusted]).encode()).hexdigest()[:16]

    def program(self, completion: str) -> Program:
        return Program(self.before + completion, self.tests, self.entries, self.trusted, self.cpu)


def read_problems(task: str, data: Path | None) -> list[Problem]:
    """All problems that a task asks. Raises IngotError naming the file and the line."""
    path = problems_file(task, data)
    records = list(_records(task, path))
    if not records:
        raise fail("sandbox-no-problems", path=path)
    return MAKERS[task](path, records)


def problems_file(task: str, data: Path | None) -> Path:
    """The file itself, or the one of the usual name in a directory. Raises `sandbox-no-data`."""
    if data is not None and data.is_file() and kind(data) == ".jsonl":
        return data
    for folder in [] if data is None else [data, data / task]:
        for name in FILES[task]:
            if (folder / name).is_file():
                return folder / name
    raise fail("sandbox-no-data", task=task, data=data or "-", names=", ".join(FILES[task]))


def _records(task: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    first: dict[object, int] = {}
    for line, record in read_records(path):
        for name in FIELDS[task]:
            expected = list if name == "test_list" else int if (task, name) == (MBPP, "task_id") else str
            if not isinstance(record.get(name), expected):
                fields = ", ".join(FIELDS[task])
                raise fail("sandbox-bad-problem", path=path, line=line, task=task, field=name, fields=fields)
        if record["task_id"] in first:
            raise fail("sandbox-twice", path=path, line=line, id=record["task_id"], first=first[record["task_id"]])
        first[record["task_id"]] = line
        yield line, record


def _humaneval(path: Path, records: Sequence[tuple[int, dict[str, Any]]]) -> list[Problem]:
    return [
        Problem(
            id=record["task_id"],
            prompt=record["prompt"],
            before=record["prompt"],
            trusted=record["prompt"],
            tests=f"{record['test']}\ncheck({record['entry_point']})\n",
            entries=(record["entry_point"],),
            reference=record["canonical_solution"],
            asked=record["prompt"],
        )
        for _, record in records
    ]


def _mbpp(path: Path, records: Sequence[tuple[int, dict[str, Any]]]) -> list[Problem]:
    """The test split where the file has it, else all; shown three solved ones, of which none is asked."""
    solved = {record["task_id"]: record for _, record in records if record["task_id"] in MBPP_SHOTS}
    if len(solved) != len(MBPP_SHOTS):
        raise fail("sandbox-no-shots", path=path, ids=", ".join(map(str, MBPP_SHOTS)))
    shots = "".join(f"{_mbpp_question(solved[n])}{solved[n]['code']}\n[DONE]\n\n" for n in MBPP_SHOTS)
    split = [entry for entry in records if entry[1]["task_id"] in MBPP_TEST]
    rest = [entry for entry in records if entry[1]["task_id"] not in MBPP_SHOTS]
    return [mbpp_problem(path, line, record, shots) for line, record in split or rest]


def _mbpp_question(record: dict[str, Any]) -> str:
    return f"{_mbpp_asked(record)}\n[BEGIN]\n"


def _mbpp_asked(record: dict[str, Any]) -> str:
    tests = "\n".join(record["test_list"][:3])
    start = "You are an expert Python programmer, and here is your task:"
    return f"{start} {record['text']} Your code should pass these tests:\n\n{tests}"


def mbpp_problem(path: Path, line: int, record: dict[str, Any], shots: str = "") -> Problem:
    """One problem. Raises `sandbox-bad-problem` where its tests call nothing that its solution defines."""
    tests = "\n".join([record.get("test_setup_code") or "", *record["test_list"]])
    entries = tuple(sorted(_defined(record["code"]) & _used(tests)))
    if not entries:
        raise fail("sandbox-bad-problem", path=path, line=line, task=MBPP, field="test_list", fields="test_list, code")
    return Problem(
        id=f"MBPP/{record['task_id']}",
        prompt=shots + _mbpp_question(record),
        before="",
        trusted="",
        tests=tests,
        entries=entries,
        reference=record["code"],
        asked=_mbpp_asked(record),
    )


def _defined(code: str) -> set[str]:
    return {node.name for node in _parsed(code) if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def _used(tests: str) -> set[str]:
    return {node.id for part in _parsed(tests) for node in ast.walk(part) if isinstance(node, ast.Name)}


def _parsed(code: str) -> list[ast.stmt]:
    """Nothing of what is no Python; what Python would warn about is the data set's business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(code).body
        except (SyntaxError, ValueError):
            return []


MAKERS: dict[str, Callable[[Path, Sequence[tuple[int, dict[str, Any]]]], list[Problem]]] = {
    HUMANEVAL: _humaneval,
    MBPP: _mbpp,
}
