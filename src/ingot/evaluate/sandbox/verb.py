"""The verb `code`: programs that were written before, anywhere, run behind the same walls and scored the same way.

It reads the samples of human-eval (`task_id`, `completion`) and of evalplus (`task_id`, `solution`, a whole program);
no model is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from ingot.core.errors import fail, nearest
from ingot.core.files import path_digest, refuse_nonempty
from ingot.core.language import text
from ingot.core.options import Options, argument, option, references_listed, required, verb
from ingot.core.progress import say
from ingot.core.report import Prose, Report, unique_names
from ingot.data.files import kind, read_records
from ingot.evaluate.entrants import Entrant
from ingot.evaluate.sandbox.options import Counts, SandboxOptions
from ingot.evaluate.sandbox.page import score
from ingot.evaluate.sandbox.problems import Problem, read_problems
from ingot.evaluate.sandbox.running import calibrated, open_pool, rows_of
from ingot.evaluate.task import Comparison, Row, dump_rows


class CodeVerbOptions(Options):
    """Options of `code`."""

    samples: list[str] = argument("files of programs: lines with task_id and completion (or solution)", min_length=1)
    task: Literal["humaneval", "mbpp"] = required("whose problems they solve: humaneval or mbpp")
    data: Path = required("the problems: a file, or a directory that has it")
    out: Path = required("directory to write the report to")
    k: Counts = option([1], "estimate pass@k for these (comma-separated)")
    subset: bool = option(False, "score the problems that have samples, where others have none")
    shown: int = option(2, "programs shown of every file and verdict", ge=0)
    seed: int = option(0, "seed of the bootstrap", ge=0)
    sandbox: SandboxOptions = option(SandboxOptions(), "the walls around programs")

    _listed = field_validator("samples", mode="before")(references_listed)


@verb(CodeVerbOptions)
def code(options: CodeVerbOptions) -> Report:
    """Run programs and write the report. Raises IngotError before the first program runs where it can."""
    refuse_nonempty(options.out)
    problems = read_problems(options.task, options.data)
    paths = [Path(path) for path in options.samples]
    written = [read_samples(path, problems, options) for path in paths]
    asked = [n for n in range(len(problems)) if any(found[n] for found in written)]
    _check_same(paths, written, problems, asked)
    with open_pool(options.sandbox) as pool:
        chosen = calibrated(pool, [problems[n] for n in asked])
        rows = [rows_of(pool, chosen, [found[n] for n in asked]) for found in written]
    extra = {"task": options.task, "k": options.k}
    rows = [[{**row, **extra} for row in found] for found in rows]
    entrants = [
        Entrant(name, str(path), path_digest(path), path.stat().st_size, "", 0)
        for name, path in zip(unique_names([path.name.split(".")[0] for path in paths]), paths, strict=True)
    ]
    raw = {f"raw/samples-{one.name}.jsonl": dump_rows(found) for one, found in zip(entrants, rows, strict=True)}
    report = _report(options, Comparison(entrants, rows, 0, options.seed, options.shown)).write(options.out, raw)
    say("evaluate-written", path=report.summary()["report"])
    return report


def read_samples(path: Path, problems: Sequence[Problem], options: CodeVerbOptions) -> list[list[Row]]:
    """The samples of each problem. Raises IngotError naming the line, or the problem without enough of them."""
    if kind(path) != ".jsonl":
        raise fail("sandbox-bad-samples", path=path)
    places = {problem.id: number for number, problem in enumerate(problems)}
    found: list[list[Row]] = [[] for _ in problems]
    for line, record in read_records(path):
        identity = _identity(options.task, record.get("task_id"))
        if identity not in places:
            raise fail("sandbox-unknown-problem", path=path, line=line, id=identity, nearest=nearest(identity, places))
        written = {name: record[name] for name in ("solution", "completion") if isinstance(record.get(name), str)}
        if not written:
            raise fail("sandbox-bad-sample", path=path, line=line)
        found[places[identity]].append(dict([next(iter(written.items()))]))
    _check_enough(path, problems, found, options)
    return found


def _identity(task: str, given: object) -> str:
    return f"MBPP/{given}" if task == "mbpp" and str(given).isdigit() else str(given).replace("Mbpp/", "MBPP/")


def _check_enough(
    path: Path, problems: Sequence[Problem], found: Sequence[Sequence[Row]], options: CodeVerbOptions
) -> None:
    without = [problem.id for problem, samples in zip(problems, found, strict=True) if not samples]
    if len(without) == len(problems) or (without and not options.subset):
        raise fail("sandbox-unanswered", path=path, count=len(without), total=len(problems), first=without[0])
    for problem, samples in zip(problems, found, strict=True):
        if samples and len(samples) < max(options.k):
            raise fail("sandbox-few-samples", path=path, id=problem.id, found=len(samples), k=max(options.k))


def _check_same(
    paths: Sequence[Path], written: Sequence[Sequence[Sequence[Row]]], problems: Sequence[Problem], asked: Sequence[int]
) -> None:
    """Files that are compared have samples of the same problems."""
    for path, found in zip(paths, written, strict=True):
        for number in asked:
            if not found[number]:
                raise fail("sandbox-differ", path=path, id=problems[number].id)


def _report(options: CodeVerbOptions, comparison: Comparison) -> Report:
    result = score(options.task, comparison)
    names = [entrant.name for entrant in comparison.entrants]
    pairs = zip(names, result.numbers, strict=True)
    named = {f"{name}.{key}": value for name, numbers in pairs for key, value in numbers.items()}
    plain: dict[str, Any] = options.model_dump(mode="json")
    verdict = Prose(title=text("evaluate-verdict"), text="\n\n".join(result.verdict))
    method = Prose(title=text("evaluate-method"), text=text("sandbox-method"))
    return Report(
        title=text("sandbox-title", names=", ".join(names)),
        verb="code",
        options=plain,
        numbers={**result.numbers[0], **named},
        units={**result.units, **{f"{name}.{key}": unit for name in names for key, unit in result.units.items()}},
        sections=[verdict, *result.sections, method],
    )
