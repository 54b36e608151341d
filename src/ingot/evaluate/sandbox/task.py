"""Tasks `humaneval` and `mbpp`: programs that a model writes, run behind walls, scored by pass@k.

Before a model is loaded, the sandbox has proven itself here and run every reference solution. Completions are kept in a
file before the first of them runs; rows hold them with their verdicts, and scoring reads rows alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

from ingot.adapt.load import LanguageModel
from ingot.core.progress import warn
from ingot.evaluate.options import EvaluateOptions
from ingot.evaluate.sandbox.asking import Answer, keep, style_of, write_answers
from ingot.evaluate.sandbox.page import score
from ingot.evaluate.sandbox.problems import HUMANEVAL, MBPP, Problem, read_problems
from ingot.evaluate.sandbox.running import calibrated, open_pool, rows_of
from ingot.evaluate.sandbox.values import item_values
from ingot.evaluate.subset import stratified
from ingot.evaluate.task import Row, Task


def prepare(task: str, options: EvaluateOptions) -> list[Problem]:
    """The problems with their limits; a seeded sample of them where `limit` says so."""
    problems = read_problems(task, options.data)
    chosen = stratified(problems, options.limit, options.seed, lambda problem: task, lambda problem: problem.id)
    with open_pool(options.sandbox) as pool:
        return calibrated(pool, chosen)


def measure(task: str, model: LanguageModel, problems: Sequence[Problem], options: EvaluateOptions) -> list[Row]:
    """Write, keep, run: one row a problem."""
    answers = write_answers(model, task, problems, options)
    kept = options.out.with_name(f"{options.out.name}.{task}-{model.name}.samples.jsonl")
    keep(kept, problems, answers)
    try:
        with open_pool(options.sandbox) as pool:
            rows = rows_of(pool, problems, [[_row(answer) for answer in found] for found in answers])
    except BaseException:
        warn("sandbox-kept", path=kept)
        raise
    kept.unlink()
    style = style_of(model.tokenizer, options.code.style)
    asked = {"task": task, "style": style, "temperature": options.code.heat, "k": options.code.k}
    return [{**row, **asked} for row in rows]


def _row(answer: Answer) -> Row:
    found = asdict(answer)
    return found | {"completion": answer.completion.encode("utf-8", "replace").decode()}


def _task(name: str) -> Task:
    return Task(
        raw=name,
        prepare=partial(prepare, name),
        measure=partial(measure, name),
        score=partial(score, name),
        values=partial(item_values, name),
        options=("slots", "samples", "code", "sandbox"),
    )


HUMANEVAL_TASK, MBPP_TASK = _task(HUMANEVAL), _task(MBPP)
