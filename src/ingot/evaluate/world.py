"""Task `world`: questions with known answers, asked through the chat template, answered greedily by the engine.

Told facts, facts never told and arithmetic are shown apart and by language, each share with its Wilson interval.
Answers are kept word for word; scoring reads those rows only. Models are compared on the same questions, in pairs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ingot.adapt.load import LanguageModel
from ingot.core.errors import fail
from ingot.core.language import text
from ingot.core.progress import progress
from ingot.core.report import Cell, Plot, Section, Series, Table, Unit, plain_number
from ingot.evaluate.entrants import Entrant
from ingot.evaluate.item_values import ItemValues
from ingot.evaluate.options import EvaluateOptions
from ingot.evaluate.questions import Question, questions_path, read_questions
from ingot.evaluate.scoring import ABSTAINED, ARITHMETIC, EMPTY, MADE_UP, NEVER_TOLD, RIGHT, WRONG, verdict
from ingot.evaluate.statistics import PairedShares, Right, paired_shares, wilson
from ingot.evaluate.subset import stratified
from ingot.evaluate.task import Comparison, Row, Task, TaskResult, bounds, cell
from ingot.infer.engine import Engine
from ingot.infer.options import Sampling

TOLD = "told"
KIND_LABELS = {
    TOLD: "evaluate-told",
    "told-asked": "evaluate-told-asked",
    "told-prose": "evaluate-told-prose",
    ARITHMETIC: "evaluate-arithmetic",
    NEVER_TOLD: "evaluate-never-told",
    f"{NEVER_TOLD}.{ABSTAINED}": "evaluate-never-told-abstained",
    f"{NEVER_TOLD}.{MADE_UP}": "evaluate-never-told-made-up",
}
HEADLINES = (TOLD, ARITHMETIC, f"{NEVER_TOLD}.{ABSTAINED}")
"""What the verdict names."""
LANGUAGE_LABELS = {"en": "evaluate-lang-en", "zh": "evaluate-lang-zh"}
VERDICT_LABELS = {
    RIGHT: "evaluate-right",
    WRONG: "evaluate-wrong",
    ABSTAINED: "evaluate-abstained",
    MADE_UP: "evaluate-made-up",
    EMPTY: "evaluate-empty",
}
SAMPLE_COLUMNS = (
    "evaluate-model", "evaluate-kind", "evaluate-judged", "evaluate-question", "evaluate-expected", "evaluate-reply",
)  # fmt: skip


@dataclass(frozen=True)
class Group:
    """Some of the questions and the verdict that counts. `key` is `kind` or `kind.lang`, as recipe gates name it."""

    key: str
    kind: str
    lang: str | None
    counted: str
    places: tuple[int, ...]


def prepare(options: EvaluateOptions) -> list[Question]:
    """The questions to ask, a stratified sample of kinds and languages where `limit` says so."""
    questions = read_questions(questions_path(options), Question)
    return stratified(questions, options.limit, options.seed, lambda q: (q.kind, q.lang), lambda q: q.id)


def measure(model: LanguageModel, questions: Sequence[Question], options: EvaluateOptions) -> list[Row]:
    """Ask everything; one row a question with the answer word for word."""
    sampling = Sampling(temperature=0.0, max_tokens=options.max_tokens)
    engine = Engine(model, num_slots=min(options.slots, len(questions)))
    asked = {}
    for question in questions:
        prompt = engine.reader.conversation(model.tokenizer, [{"role": "user", "content": question.question}])
        if engine.reader.room(prompt) < 1:
            found, window = len(prompt.ids), model.max_length
            raise fail("evaluate-question-too-long", id=question.id, found=found, window=window, model=model.name)
        asked[engine.submit(prompt, sampling).id] = question
    replies = _run(engine, model.name, len(questions))
    return [_row(question, *replies[sequence]) for sequence, question in asked.items()]


def _run(engine: Engine, name: str, total: int) -> dict[object, tuple[str, str, int]]:
    """Steps until every sequence has ended: {sequence id: (text, finish reason, tokens)}."""
    ended: dict[object, tuple[str, str, int]] = {}
    with progress(text("evaluate-asking", model=name), total) as advance:
        while engine.has_work:
            for event in engine.step():
                if event.finish_reason is not None:
                    sequence = event.sequence
                    ended[sequence.id] = (sequence.text, event.finish_reason, len(sequence.tokens))
            advance(len(ended))
    return ended


def _row(question: Question, reply: str, finish_reason: str, tokens: int) -> Row:
    return {**question.model_dump(), "reply": reply, "finish_reason": finish_reason, "tokens": tokens}


def score(comparison: Comparison) -> TaskResult:
    """Shares, differences, samples and a verdict from the rows."""
    comparison.require_same_items("id", "kind", "lang", "question", "accept")
    rows = comparison.rows[0]
    groups = make_groups(rows)
    verdicts = [[verdict(row["kind"], row["reply"], row["accept"]) for row in rows] for rows in comparison.rows]
    numbers = [_numbers(groups, found, rows) for found, rows in zip(verdicts, comparison.rows, strict=True)]
    sections: list[Section] = [_table(comparison, groups, numbers), _plot(comparison, groups, numbers)]
    if comparison.others:
        sections.append(_differences(comparison, groups, verdicts))
    return TaskResult(
        numbers=numbers,
        method="evaluate-method-world",
        sections=[*sections, _samples(comparison, verdicts)],
        verdict=[*_verdicts(comparison, groups, verdicts, numbers)],
        units=dict.fromkeys(numbers[0], "percent"),
    )


def make_groups(rows: Sequence[Row]) -> list[Group]:
    """Every kind, all told kinds together, each over all languages and by language; empty ones left out."""
    kinds = sorted({row["kind"] for row in rows}, key=lambda kind: (kind == NEVER_TOLD, kind == ARITHMETIC, kind))
    told = [kind for kind in kinds if kind.startswith(TOLD)]
    members = {TOLD: told} if told else {}
    members |= {kind: [kind] for kind in kinds}
    langs = sorted({row["lang"] for row in rows})
    groups = []
    for name, included in members.items():
        for counted in (ABSTAINED, MADE_UP) if name == NEVER_TOLD else (RIGHT,):
            stem = f"{name}.{counted}" if name == NEVER_TOLD else name
            for lang in [None, *langs]:
                places = tuple(
                    at for at, row in enumerate(rows) if row["kind"] in included and lang in (None, row["lang"])
                )
                if places:
                    groups.append(Group(f"{stem}.{lang}" if lang else stem, stem, lang, counted, places))
    return groups


def label(group: Group) -> str:
    """The group's name for people."""
    kind = kind_label(group.kind)
    if group.lang is None:
        return kind
    return f"{kind} · {text(LANGUAGE_LABELS[group.lang]) if group.lang in LANGUAGE_LABELS else group.lang}"


def kind_label(kind: str) -> str:
    return text(KIND_LABELS[kind]) if kind in KIND_LABELS else kind


def _numbers(groups: Sequence[Group], verdicts: Sequence[str], rows: Sequence[Row]) -> dict[str, Cell]:
    found = {group.key: cell(wilson(int(_hits(group, verdicts).sum()), len(group.places))) for group in groups}
    cut = sum(row["finish_reason"] == "length" for row in rows)
    return {**found, "answers_cut_share": cut / len(rows), "answers_empty_share": verdicts.count(EMPTY) / len(rows)}


def _hits(group: Group, verdicts: Sequence[str]) -> Right:
    return np.array([verdicts[place] == group.counted for place in group.places], dtype=np.bool_)


def _table(comparison: Comparison, groups: Sequence[Group], numbers: Sequence[dict[str, Cell]]) -> Table:
    names = [entrant.name for entrant in comparison.entrants]
    units: dict[str, Unit] = dict.fromkeys(names, "percent")
    rows: list[list[Cell]] = [
        [label(group), len(group.places), *(found[group.key] for found in numbers)] for group in groups
    ]
    columns = [text("evaluate-kind"), text("evaluate-questions"), *names]
    return Table(
        title=text("evaluate-answers"), columns=columns, rows=rows, units=units, note=text("evaluate-answers-note")
    )


def _plot(comparison: Comparison, groups: Sequence[Group], numbers: Sequence[dict[str, Cell]]) -> Plot:
    """Shares by kind and language, in percent."""
    shown = [group for group in groups if group.lang is not None and group.kind != TOLD and group.counted != MADE_UP]
    series = []
    for entrant, found in zip(comparison.entrants, numbers, strict=True):
        y, low, high = bounds([found[group.key] for group in shown], 100.0)
        series.append(Series(name=entrant.name, x=[label(group) for group in shown], y=y, low=low, high=high))
    return Plot(title=text("evaluate-answers-plot"), kind="bar", series=series, y_label="%", note=text("evaluate-95"))


def _differences(comparison: Comparison, groups: Sequence[Group], verdicts: Sequence[Sequence[str]]) -> Table:
    """Every other model against the baseline, question by question."""
    rows: list[list[Cell]] = []
    for index in comparison.others:
        for group in groups:
            if group.counted != MADE_UP and (group.lang is not None or group.kind == TOLD):
                pair = _paired(group, verdicts, index, comparison.baseline)
                shown = cell(pair.difference), pair.only_first, pair.only_second, pair.p_value
                rows.append([comparison.entrants[index].name, label(group), *shown])
    baseline = comparison.entrants[comparison.baseline].name
    difference = text("evaluate-difference")
    columns = [text("evaluate-model"), text("evaluate-kind"), difference, text("evaluate-only-this"),
               text("evaluate-only-that", baseline=baseline), "p"]  # fmt: skip
    title = text("evaluate-answers-against", baseline=baseline)
    return Table(
        title=title, columns=columns, rows=rows, units={difference: "percent"}, note=text("evaluate-paired-note")
    )


def _paired(group: Group, verdicts: Sequence[Sequence[str]], first: int, second: int) -> PairedShares:
    return paired_shares(_hits(group, verdicts[first]), _hits(group, verdicts[second]))


def _samples(comparison: Comparison, verdicts: Sequence[Sequence[str]]) -> Table:
    """A few answers of every model, kind, language and verdict, as they were given."""
    rows: list[list[Cell]] = []
    for entrant, found, answers in zip(comparison.entrants, verdicts, comparison.rows, strict=True):
        shown: Counter[tuple[str, str, str]] = Counter()
        for judged, row in sorted(zip(found, answers, strict=True), key=_sample_order):
            group = row["kind"], row["lang"], judged
            shown[group] += 1
            if shown[group] <= comparison.samples:
                mark = text(VERDICT_LABELS[judged])
                expected = row["answer"] or text("evaluate-not-known")
                rows.append([entrant.name, kind_label(row["kind"]), mark, row["question"], expected, row["reply"]])
    columns = [text(code) for code in SAMPLE_COLUMNS]
    return Table(title=text("evaluate-samples"), columns=columns, rows=rows, note=text("evaluate-samples-note"))


def _sample_order(judged_row: tuple[str, Row]) -> tuple[str, str, str]:
    judged, row = judged_row
    return row["kind"], row["lang"], judged


def _verdicts(
    comparison: Comparison,
    groups: Sequence[Group],
    verdicts: Sequence[Sequence[str]],
    numbers: Sequence[dict[str, Cell]],
) -> list[str]:
    """In plain words: what the baseline answers, and whether the others can be told apart from it."""
    baseline = comparison.baseline
    shown = [group for group in groups if group.lang is None and group.counted != MADE_UP and group.kind in HEADLINES]
    shares = [f"{label(group)} {_percent(numbers[baseline][group.key])}" for group in shown]
    sentences = [
        text(
            "evaluate-verdict-answers",
            model=comparison.entrants[baseline].name,
            shares=text("evaluate-comma").join(shares),
        )
    ]
    told = next((group for group in groups if group.key == TOLD), None)
    for index in comparison.others if told else []:
        assert told is not None
        difference = _paired(told, verdicts, index, baseline).difference
        value, low, high = (100 * (bound or 0.0) for bound in (difference.value, difference.low, difference.high))
        differs = "evaluate-verdict-told-better" if value > 0 else "evaluate-verdict-told-worse"
        code = differs if difference.excludes_zero else "evaluate-verdict-told-alike"
        written = f"{abs(value):.1f}" if difference.excludes_zero else f"{value:+.1f}"
        points = {"value": written, "low": f"{low:+.1f}", "high": f"{high:+.1f}"}
        names = {"model": comparison.entrants[index].name, "baseline": comparison.entrants[baseline].name}
        sentences.append(text(code, **names, **points, count=len(told.places)))
    return sentences


def _percent(value: Cell) -> str:
    return f"{100 * (plain_number(value) or 0):.0f} %"


def values(rows: Sequence[Row], entrant: Entrant, options: Mapping[str, Any]) -> dict[str, ItemValues]:
    """Of every group, which of its questions were answered as they should be."""
    verdicts = [verdict(row["kind"], row["reply"], row["accept"]) for row in rows]
    asked = [json.dumps([row["kind"], row["question"], row["accept"]], ensure_ascii=False) for row in rows]
    conditions = {"max_tokens": str(options["max_tokens"])}
    found = {}
    for group in make_groups(rows):
        own = [rows[place] for place in group.places]
        ids = [row["id"] for row in own]
        found[group.key] = ItemValues(
            ids, [asked[place] for place in group.places], _hits(group, verdicts).astype(np.float64), np.ones(len(own)),
            ids, is_share=True, higher_is_better=group.counted != MADE_UP, conditions=conditions,
            primary=group.lang is None and group.kind in HEADLINES, questions=[row["question"] for row in own],
            replies=[row["reply"] for row in own],
        )  # fmt: skip
    return found


TASK = Task(
    raw="answers",
    prepare=prepare,
    measure=measure,
    score=score,
    options=("world", "slots", "max_tokens", "samples"),
    needs_template=True,
    values=values,
)
