"""Verb `evaluate`: measure one or several models on the same items, save what came out, score it, compare.

The steps are kept apart: everything the user gave is checked; each model is loaded in turn and measured into rows; the
report is then made from the saved text of those rows alone. `rescore` makes it again from a report directory, without
any model. Rows of benchmarks are kept beside the report while they come, and a killed run goes on with them. Adding a
task is one module, one line in TASKS and its tests; a benchmark is one file.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from ingot.adapt.load import LanguageModel
from ingot.core.errors import fail
from ingot.core.files import path_digest, refuse_nonempty
from ingot.core.hallmark import versions
from ingot.core.language import text
from ingot.core.lineage import learning_steps
from ingot.core.options import verb
from ingot.core.progress import warn
from ingot.core.recipe_state import source_digest
from ingot.core.report import Report
from ingot.data.manifest import heldout_files
from ingot.data.objectives.options import Form
from ingot.data.read import data_files
from ingot.evaluate import perplexity, wikitext, world
from ingot.evaluate.benchmarks import task as benchmarks
from ingot.evaluate.cloze import task as cloze
from ingot.evaluate.entrants import Entrant, baseline_index, common_window, open_entrants
from ingot.evaluate.item_values import ItemValues
from ingot.evaluate.journal import Journal, folder_beside, forget
from ingot.evaluate.options import EvaluateOptions
from ingot.evaluate.overview import flat_numbers, flat_units, overview, tell_verdict
from ingot.evaluate.sandbox.task import HUMANEVAL_TASK, MBPP_TASK
from ingot.evaluate.subset import in_part
from ingot.evaluate.task import Comparison, Row, Task, dump_rows, parse_rows
from ingot.infer.opened import open_model
from ingot.model.place.wish import parse_place
from ingot.text.tokenizer import Tokenizer

TASKS: dict[str, Task] = {
    "perplexity": perplexity.TASK,
    "wikitext": wikitext.TASK,
    "world": world.TASK,
    "cloze": cloze.TASK,
    "humaneval": HUMANEVAL_TASK,
    "mbpp": MBPP_TASK,
}

MODELS_NAME = "raw/models.json"
BENCHMARKS_NAME = "raw/benchmarks.json"
"""Their task files and data as they were, by the names they were asked for with."""


@verb(EvaluateOptions)
def evaluate(options: EvaluateOptions) -> Report:
    """Measure models and write the report. Raises IngotError before the first model is loaded where it can."""
    refuse_nonempty(options.out)
    parse_place(options.place)
    tasks = chosen_tasks(options.tasks)
    _refuse_unused(options, tasks)
    prepared = {name: task.prepare(options) for name, task in tasks.items()}
    items = {name: in_part(found, options.items.part, name) for name, found in prepared.items()}
    entrants = open_entrants(options.models, partial(_check_askable, tasks))
    baseline = baseline_index(entrants, options.baseline)
    window, stride = common_window(entrants, options)
    settled = options.model_copy(update={"window": window, "stride": stride, "baseline": entrants[baseline].name})
    if "perplexity" in tasks and not options.heldout:
        _warn_if_trained_on(entrants, options)
    raw, ran = dict[str, str](), list[Entrant]()
    for entrant in entrants:
        rows, weights = _measure(entrant, tasks, items, settled)
        raw |= rows
        ran.append(replace(entrant, weights=weights))
    raw[MODELS_NAME] = _dumped([asdict(entrant) for entrant in ran])
    abouts = {name: task.about(prepared[name]) for name, task in tasks.items() if task.about is not None}
    raw |= {BENCHMARKS_NAME: _dumped(abouts)} if abouts else {}
    report = make_report(settled.model_dump(mode="json"), raw).write(options.out, raw)
    forget(options.out)
    tell_verdict(report)
    return report


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def rescore(directory: Path | str) -> Report:
    """The report again from the rows saved in a report directory; scoring rules of today, no model needed."""
    found, raw = saved(directory)
    return make_report(found.options, raw)


def saved(directory: Path | str) -> tuple[Report, dict[str, str]]:
    """A report of this verb and its raw files. Raises what `Report.open_raw` does."""
    return Report.open_raw(directory, "evaluate", MODELS_NAME)


def item_values(report: Report, raw: dict[str, str]) -> list[tuple[Entrant, dict[str, dict[str, ItemValues]]]]:
    """Of each model, what its rows hold item by item: {task: {number's name: values}}."""
    tasks = chosen_tasks(report.options["tasks"], json.loads(raw.get(BENCHMARKS_NAME, "{}")))
    return [
        (entrant, {
            name: task.values(parse_rows(raw[_raw_name(task, entrant)]), entrant, report.options)
            for name, task in tasks.items()
        })
        for entrant in (Entrant(**fields) for fields in json.loads(raw[MODELS_NAME]))
    ]  # fmt: skip


def chosen_tasks(names: Sequence[str], abouts: Mapping[str, dict[str, Any]] | None = None) -> dict[str, Task]:
    """The tasks by name or file. `abouts`: what was saved of benchmarks. Raises `evaluate-unknown-task` with the
    nearest one, `bench-twice`, what `benchmark` does."""
    chosen: dict[str, Task] = {}
    for name in names:
        if name in TASKS:
            chosen[name] = TASKS[name]
        elif benchmarks.is_benchmark(name) or name in (abouts or {}):
            chosen[name] = benchmarks.benchmark(name, (abouts or {}).get(name))
        else:
            raise benchmarks.unknown_task(name, [*TASKS])
    twice = next((name for name, task in chosen.items() for other in chosen if other != name
                  and chosen[other].raw == task.raw), None)  # fmt: skip
    if twice is not None:
        raise fail("bench-twice", name=twice, task=chosen[twice].raw)
    return chosen


def _refuse_unused(options: EvaluateOptions, tasks: dict[str, Task]) -> None:
    """Raises `evaluate-option-unused` for an option that was given and that none of the tasks reads."""
    readers = {name: task.options for name, task in TASKS.items()}
    readers["benchmarks"] = (*benchmarks.OPTIONS, *benchmarks.WRITTEN)
    read = {option for task in tasks.values() for option in task.options}
    for option in EvaluateOptions.model_fields:
        users = [name for name, found in readers.items() if option in found]
        if users and option in options.model_fields_set and option not in read:
            raise fail("evaluate-option-unused", option=option, tasks=", ".join(tasks), users=", ".join(users))


def _check_askable(tasks: dict[str, Task], path: Path, tokenizer: Tokenizer, form: Form) -> None:
    """Raises `evaluate-form`, `no-chat-template`, or what a task itself finds missing."""
    for name, task in tasks.items():
        if form not in task.forms:
            able = [other for other, found in TASKS.items() if form in found.forms]
            raise fail("evaluate-form", task=name, path=path, form=form, able=", ".join(able))
        if task.needs_template and tokenizer.chat_template is None:
            raise fail("no-chat-template", path=path)
        if task.check is not None:
            task.check(tokenizer, form)


def _measure(
    entrant: Entrant, tasks: dict[str, Task], items: dict[str, Sequence[Any]], options: EvaluateOptions
) -> tuple[dict[str, str], str]:
    """Load one model, run every task, and let it go again: {raw file: rows}, and the weights that it ran with."""
    model = open_model(entrant.reference, options.place, options.run.weights)
    found, weights = {}, model.weights
    for name, task in tasks.items():
        found[_raw_name(task, entrant)] = dump_rows(_rows(entrant, model, task, items[name], options))
    del model
    gc.collect()
    return found, weights


def _rows(
    entrant: Entrant, model: LanguageModel, task: Task, items: Sequence[Any], options: EvaluateOptions
) -> list[Row]:
    """What a model makes of a task, on top of what is saved of it already."""
    if task.journal is None:
        return task.measure(model, items, options)
    key = {
        "format": 1, "model": entrant.digest, "tokenizer": entrant.tokenizer, "weights": model.weights,
        "place": options.place, "seed": options.seed, "source": source_digest(), "versions": versions(),
        **task.journal(items, options),
    }  # fmt: skip
    with Journal(folder_beside(options.out), key) as journal:
        return task.measure(model, items, options, journal)


def _raw_name(task: Task, entrant: Entrant) -> str:
    return f"raw/{task.raw}-{entrant.name}.jsonl"


def make_report(options: dict[str, Any], raw: dict[str, str]) -> Report:
    """A pure function of the options used and the raw files."""
    entrants = [Entrant(**fields) for fields in json.loads(raw[MODELS_NAME])]
    baseline = baseline_index(entrants, options["baseline"])
    results = {}
    abouts = json.loads(raw.get(BENCHMARKS_NAME, "{}"))
    for name, task in chosen_tasks(options["tasks"], abouts).items():
        rows = [parse_rows(raw[_raw_name(task, entrant)]) for entrant in entrants]
        comparison = Comparison(entrants, rows, baseline, options["seed"], options["samples"])
        results[name] = task.score(comparison)
    return Report(
        title=text("evaluate-title", models=", ".join(entrant.name for entrant in entrants)),
        verb="evaluate",
        options=options,
        numbers=flat_numbers(entrants, results),
        units=flat_units(entrants, results),
        sections=overview(entrants, baseline, results, options),
    )


def _warn_if_trained_on(entrants: Sequence[Entrant], options: EvaluateOptions) -> None:
    """Say so when a model's history names the very file that is measured on."""
    if options.data is None:
        return
    files = {path_digest(f): f for path in heldout_files(options.data) for f, _ in data_files(path)}
    for entrant in entrants:
        learnt = [source for step in learning_steps(entrant.reference) for source in step.data]
        trained = {files[source.digest] for source in learnt if source.digest in files}
        for file in sorted(trained):
            warn("evaluate-trained-on", model=entrant.name, data=file)
