"""A benchmark as a task of `evaluate`: its file opened, its documents chosen, one model asked, saved rows scored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from ingot.adapt.load import LanguageModel
from ingot.core.errors import IngotError, fail, nearest
from ingot.core.model_dir import split_reference
from ingot.core.progress import say, warn
from ingot.evaluate.benchmarks.ask import Asking, ask_answers, ask_choices
from ingot.evaluate.benchmarks.chat import Chat, style_of
from ingot.evaluate.benchmarks.documents import Document, find
from ingot.evaluate.benchmarks.page import score
from ingot.evaluate.benchmarks.prompts import Item, make_items
from ingot.evaluate.benchmarks.spec import Spec, is_task_file, open_spec, shipped
from ingot.evaluate.benchmarks.values import item_values
from ingot.evaluate.journal import Journal
from ingot.evaluate.options import EvaluateOptions
from ingot.evaluate.subset import in_part, stratified
from ingot.evaluate.task import Comparison, Row, Task, TaskResult
from ingot.text.tokenizer import Tokenizer

OPTIONS = ("benchmark", "samples")
WRITTEN = ("slots", "max_tokens")
"""Options that only answers which are written read."""


class Prepared(list[Item]):
    """The items to ask, and what the report says of them."""

    def __init__(self, items: Sequence[Item], about: dict[str, Any]) -> None:
        super().__init__(items)
        self.about = about


def is_benchmark(name: str) -> bool:
    return is_task_file(name) or name in shipped()


def benchmark(name: str, about: dict[str, Any] | None = None) -> Task:
    """The task of a shipped benchmark or of a file. `about`: what was saved of it, to score its rows again. Raises what
    `open_spec` does, `bench-no-sandbox`."""
    spec = open_spec(name) if about is None else Spec.model_validate(about["spec"])
    if spec.output == "program":
        raise fail("bench-no-program", task=spec.name)
    return Task(
        raw=spec.name,
        prepare=partial(prepare, spec),
        measure=partial(measure, spec),
        score=partial(rescored, spec, about),
        values=partial(item_values, spec, about),
        options=(*OPTIONS, *(WRITTEN if spec.output == "generate" else ())),
        journal=partial(identity, spec),
        about=lambda items: items.about,
    )


def prepare(spec: Spec, options: EvaluateOptions) -> Prepared:
    """Find and check the documents, choose those to ask, make their prompts. Where only a half is asked, the report is
    of that half, of which `total` says how many there are."""
    wished = options.benchmark
    _require_templates(options)
    shots = spec.shots.count if wished.shots is None else wished.shots
    if wished.shots is not None and spec.preamble_file is not None:
        raise fail("bench-fixed-shots", task=spec.name)
    found = find(spec, options.data, wished.bad_share, shots)
    if found.problems:
        first, count = found.problems[0], len(found.problems)
        place = {"file": first.file, "line": first.line, "reason": first.reason}
        warn("bench-problems-found", task=spec.name, count=count, total=len(found.asked) + count, **place)
    asked, drawn = _chosen(found.asked, options)
    part, made = options.items.part, make_items(spec, found, asked, shots, options.seed, wished.first is not None)
    items, total = in_part(made, part, spec.name), len(in_part(found.asked, part, spec.name))
    rule: str = "stream" if wished.first is not None and spec.shots.rule == "document" else spec.shots.rule
    if spec.preamble_file is not None:
        shots, rule = max((len(item.shots) for item in items), default=0), "file"
    about = {"spec": spec.model_dump(mode="json"), "task_digest": spec.digest, **found.described, "shots": shots,
             "rule": rule, "drawn": drawn, "part": part, "total": total,
             "max_tokens": _max_tokens(spec, options)}  # fmt: skip
    code, told = ("bench-ready-file", {"file": spec.preamble_pattern}) if spec.preamble_file else ("bench-ready", {})
    counts = {"items": len(items), "total": total, "shots": shots}
    say(code, task=spec.name, folder=found.folder, **counts, **told)
    return Prepared(items, about)


def _require_templates(options: EvaluateOptions) -> None:
    """Raises `no-chat-template` where every model must have one; what else a directory lacks is found later."""
    bases = [split_reference(reference)[0] for reference in options.models] if options.benchmark.chat == "on" else []
    for base in bases:
        if (base / "tokenizer.json").exists() and Tokenizer.open(base).chat_template is None:
            raise fail("no-chat-template", path=base)


def _chosen(documents: list[Document], options: EvaluateOptions) -> tuple[list[Document], str]:
    """Which documents are asked: all, a seeded sample that keeps the groups' shares, or the first of each group."""
    first = options.benchmark.first
    if first is not None and options.limit is not None:
        raise fail("bench-first-and-limit")
    if first is None:
        asked = stratified(documents, options.limit, options.seed, lambda one: one.group, lambda one: one.id)
        return asked, "all" if len(asked) == len(documents) else "sample"
    counts: dict[str, int] = {}
    asked = []
    for document in documents:
        counts[document.group] = counts.get(document.group, 0) + 1
        if counts[document.group] <= first:
            asked.append(document)
    return asked, "all" if len(asked) == len(documents) else "first"


def identity(spec: Spec, items: Prepared, options: EvaluateOptions) -> dict[str, Any]:
    """What decides this task's rows beside the model: every prompt, by its hash."""
    prompts = json.dumps([(item.id, item.document.gold, item.target, item.hash) for item in items])
    return {
        "task": spec.name,
        "task_digest": spec.digest,
        "items": hashlib.sha256(prompts.encode()).hexdigest(),
        "max_tokens": _max_tokens(spec, options),
        "chat": [options.benchmark.chat, options.benchmark.examples],
    }


def measure(
    spec: Spec, model: LanguageModel, items: Sequence[Item], options: EvaluateOptions, journal: Journal
) -> list[Row]:
    """Ask a model; rows in the order of the items."""
    if journal.rows:
        say("bench-resumed", task=spec.name, model=model.name, done=len(journal.rows), total=len(items))
    style = style_of(options.benchmark, model.tokenizer)
    chat = None if style == "off" else Chat(model.tokenizer, style)
    asking = Asking(spec, model, chat, options.benchmark.bad_share)
    if spec.output == "choice":
        ask_choices(asking, items, journal)
    else:
        ask_answers(asking, items, options.slots, _max_tokens(spec, options), journal)
    return [journal.rows[item.id] for item in items]


def _max_tokens(spec: Spec, options: EvaluateOptions) -> int:
    """The task's own, unless the user said otherwise."""
    return options.max_tokens if "max_tokens" in options.model_fields_set else spec.max_tokens


def rescored(spec: Spec, about: dict[str, Any] | None, comparison: Comparison) -> TaskResult:
    assert about is not None
    return score(spec, comparison, about)


def unknown_task(name: str, others: Sequence[str]) -> IngotError:
    """The error for a name that is no task; `others`: tasks that are no benchmarks."""
    return fail("evaluate-unknown-task", name=name, nearest=nearest(name, [*others, *shipped()]))
