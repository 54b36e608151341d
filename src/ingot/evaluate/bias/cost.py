"""What a change of a model costs, beside what it gains: the tasks of `evaluate` on text or on a world, with intervals.

Bits per byte always; in a world also its gaps, and its questions where every model has a chat template.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ingot.adapt.load import LanguageModel
from ingot.core.progress import warn
from ingot.data.world.truth import NAME as TRUTH
from ingot.evaluate import perplexity, world
from ingot.evaluate.bias.options import BiasOptions
from ingot.evaluate.cloze import task as cloze
from ingot.evaluate.entrants import Entrant, common_window
from ingot.evaluate.options import EvaluateOptions
from ingot.evaluate.questions import NAME as QUESTIONS
from ingot.evaluate.task import Comparison, Row, Task, TaskResult

COSTS: dict[str, Task] = {"perplexity": perplexity.TASK, "cloze": cloze.TASK, "world": world.TASK}


def cost_tasks(options: BiasOptions) -> list[str]:
    """What can be measured on --cost."""
    if options.cost is None:
        return []
    here = [options.cost, options.cost.parent]
    asked = {"cloze": TRUTH, "world": QUESTIONS}
    return ["perplexity", *(task for task, file in asked.items() if any((place / file).is_file() for place in here))]


def as_evaluate(options: BiasOptions, tasks: Sequence[str]) -> EvaluateOptions:
    """The options that the tasks read."""
    return EvaluateOptions.of(
        models=options.models, out=options.out, tasks=list(tasks), data=options.cost, seed=options.seed,
        slots=options.machine.slots, place=options.machine.place, run={"weights": options.machine.weights},
    )  # fmt: skip


def settle(
    options: BiasOptions, tasks: Sequence[str], entrants: Sequence[Entrant], templates: bool
) -> tuple[EvaluateOptions, dict[str, Sequence[Any]]]:
    """The options with a common window, and each task's items. Without `templates` no questions: it says so."""
    kept = [task for task in tasks if templates or not COSTS[task].needs_template]
    for task in tasks:
        if task not in kept:
            warn("bias-cost-skipped", task=task)
    settled = as_evaluate(options, kept)
    window, stride = common_window(list(entrants), settled)
    settled = settled.model_copy(update={"window": window, "stride": stride})
    return settled, {task: COSTS[task].prepare(settled) for task in kept}


def cost_rows(model: LanguageModel, task: str, items: Sequence[Any], options: EvaluateOptions) -> list[Row]:
    """One model's rows of one task."""
    return COSTS[task].measure(model, items, options)


def cost_result(task: str, entrants: list[Entrant], rows: list[list[Row]], baseline: int, seed: int) -> TaskResult:
    """Scores of all models, and their differences from the baseline."""
    return COSTS[task].score(Comparison(entrants, rows, baseline, seed, samples=0))
