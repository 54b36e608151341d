"""What the report shows of a benchmark: scores, groups, models in pairs, single items, and what was left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ingot.core.language import text
from ingot.core.report import Cell, HeatMap, Plot, Section, Series, Table, Unit, plain_number
from ingot.evaluate.benchmarks import results
from ingot.evaluate.benchmarks.results import Difference, Group
from ingot.evaluate.benchmarks.spec import Spec
from ingot.evaluate.statistics import Values
from ingot.evaluate.task import Comparison, Row, TaskResult, bounds, cell

MOST_BARS = 24
"""More groups than this are drawn as a coloured table."""
MOST_PROBLEMS = 20
LONGEST_SHOWN = 1200
"""Characters of a question or an answer on the page; all of it is in the raw rows."""


@dataclass(frozen=True)
class Scores:
    """Everything counted once. values: by model and metric; share_asked: of the whole set."""

    spec: Spec
    comparison: Comparison
    about: dict[str, Any]
    metrics: list[str]
    values: list[dict[str, Values]]
    groups: list[Group]
    share_asked: float

    @classmethod
    def of(cls, spec: Spec, comparison: Comparison, about: dict[str, Any]) -> Scores:
        metrics = results.metric_names(spec)
        found = [{metric: results.values(spec, metric, rows) for metric in metrics} for rows in comparison.rows]
        rows = comparison.rows[0]
        is_sample = about["drawn"] == "sample"
        share = len(rows) / about["total"] if is_sample else 1.0
        return cls(spec, comparison, about, metrics, found, results.make_groups(rows), share)

    @property
    def rows(self) -> list[Row]:
        return self.comparison.rows[0]

    def interval(self, model: int, metric: str, group: Group) -> Cell:
        part = [self.rows[place] for place in group.places]
        return cell(
            results.mean(self.values[model][metric][group.places], part, self.share_asked, self.comparison.seed)
        )

    def stderr(self, model: int, metric: str) -> float | None:
        return results.stderr(self.values[model][metric], [row["group"] for row in self.rows])

    def difference(self, model: int, metric: str, group: Group) -> Difference:
        first, second = (self.values[at][metric][group.places] for at in (model, self.comparison.baseline))
        part = [self.rows[place] for place in group.places]
        return results.difference(first, second, part, self.share_asked, self.comparison.seed)


def score(spec: Spec, comparison: Comparison, about: dict[str, Any]) -> TaskResult:
    """Numbers, sections and the verdict of one benchmark, from the rows of all models."""
    comparison.require_same_items("id", "group", "cluster", "question", "shots")
    if len(set(_styles(comparison))) == 1:
        comparison.require_same_items("prompt_hash")
    scores = Scores.of(spec, comparison, about)
    sections: list[Section] = [_scores(scores)]
    if len(scores.groups) > 1:
        sections += [_groups(scores), _picture(scores)]
    if comparison.others:
        sections.append(_differences(scores))
    sections.append(_samples(scores))
    if about["problems"]:
        sections.append(_problems(scores))
    return TaskResult(
        numbers=[_numbers(scores, model) for model in range(len(comparison.entrants))],
        sections=sections,
        method="bench-method",
        verdict=list(_verdicts(scores)),
        units={f"{spec.name}.{metric}{end}": "percent" for metric in scores.metrics for end in ("", "_stderr")},
        columns={f"{spec.name}.{scores.metrics[0]}": f"{spec.name} {scores.metrics[0]}"},
    )


def _styles(comparison: Comparison) -> list[str]:
    """How each model was asked."""
    return [rows[0].get("chat", "off") if rows else "off" for rows in comparison.rows]


def _numbers(scores: Scores, model: int) -> dict[str, Cell]:
    """`mmlu.acc`, `mmlu.acc_stderr`, ... of one model."""
    found: dict[str, Cell] = {}
    for metric in scores.metrics:
        found[f"{scores.spec.name}.{metric}"] = scores.interval(model, metric, scores.groups[0])
        found[f"{scores.spec.name}.{metric}_stderr"] = scores.stderr(model, metric)
    return found


def _scores(scores: Scores) -> Table:
    """Every model and metric, with lm-eval's name and error, and what may have gone wrong."""
    spec, comparison = scores.spec, scores.comparison
    rows: list[list[Cell]] = []
    for model, entrant in enumerate(comparison.entrants):
        own = comparison.rows[model]
        counts = [sum(bool(row["cut"]) for row in own), sum(row.get("merged", 0) for row in own),
                  sum(map(results.is_tied, own))]  # fmt: skip
        for metric in scores.metrics:
            name = results.lm_eval_name(spec, metric)
            value = scores.interval(model, metric, scores.groups[0])
            rows.append([entrant.name, metric, value, scores.stderr(model, metric), len(own), name, *counts])
    codes = ("evaluate-model", "bench-metric", "bench-score", "bench-stderr", "bench-items", "bench-lm-eval",
             "bench-cut-head", "bench-merged-head", "bench-tied-head")  # fmt: skip
    columns = [text(code) for code in codes]
    units: dict[str, Unit] = {columns[2]: "percent", columns[3]: "percent"}
    return Table(title=spec.title, columns=columns, rows=rows, units=units, note=_note(scores))


def _note(scores: Scores) -> str:
    """Which documents these are, where they come from, and what the denominator leaves out."""
    about, spec = scores.about, scores.spec
    parts = [
        text(f"bench-part-{about['part']}") if about["part"] != "all" else "",
        text(f"bench-drawn-{about['drawn']}", asked=len(scores.rows), total=about["total"]),
        _examples(scores),
        _asked(scores.comparison),
        text("bench-counts"),
        text("bench-left-out", count=len(about["problems"])),
        text("bench-data", version=spec.version, layout=about["layout"], digest=about["digest"][:16],
             copy=about["copy"] or text("bench-unknown-copy"), licence=spec.licence, source=spec.source),
    ]  # fmt: skip
    return " ".join(part for part in parts if part)


def _examples(scores: Scores) -> str:
    """How many examples stand in a prompt, and where they come from."""
    about, file = scores.about, scores.spec.preamble_pattern
    if about["shots"]:
        return text("bench-shots", count=about["shots"], rule=text(f"bench-rule-{about['rule']}", file=file))
    return text("bench-file-text", file=file) if file else text("bench-no-examples")


def _asked(comparison: Comparison) -> str:
    """As plain text or through chat templates; model by model where that differs."""
    styles = _styles(comparison)
    if len(set(styles)) == 1:
        return text(f"bench-chat-{styles[0]}")
    names: dict[str, list[str]] = {style: [] for style in styles}
    for style, entrant in zip(styles, comparison.entrants, strict=True):
        names[style].append(entrant.name)
    parts = [text("bench-chat-of", models=", ".join(own), how=text(f"bench-chat-{style}"))
             for style, own in names.items()]  # fmt: skip
    return text("bench-chat-mixed") + " ".join(parts)


def _groups(scores: Scores) -> Table:
    """The headline metric by group."""
    metric, names = scores.metrics[0], [entrant.name for entrant in scores.comparison.entrants]
    rows: list[list[Cell]] = [
        [group.name, len(group.places), *(scores.interval(model, metric, group) for model in range(len(names)))]
        for group in scores.groups[1:]
    ]
    columns = [text("bench-group"), text("bench-items"), *names]
    units: dict[str, Unit] = dict.fromkeys(names, "percent")
    title = text("bench-by-group", task=scores.spec.name, metric=metric)
    return Table(title=title, columns=columns, rows=rows, units=units, note=text("bench-group-note"))


def _picture(scores: Scores) -> Section:
    """The same as bars, or as a coloured table where there are many groups."""
    metric, groups = scores.metrics[0], scores.groups[1:]
    title = text("bench-group-plot", task=scores.spec.name, metric=metric)
    names = [entrant.name for entrant in scores.comparison.entrants]
    found = [[scores.interval(model, metric, group) for group in groups] for model in range(len(names))]
    if len(groups) > MOST_BARS:
        points = [[plain_number(found[model][at]) for model in range(len(names))] for at in range(len(groups))]
        return HeatMap(title=title, columns=names, rows=[group.name for group in groups], values=points, unit="percent")
    series = []
    for name, cells in zip(names, found, strict=True):
        y, low, high = bounds(cells)
        series.append(Series(name=name, x=[group.name for group in groups], y=y, low=low, high=high))
    return Plot(title=title, kind="bar", series=series, unit="percent", note=text("evaluate-95"))


def _differences(scores: Scores) -> Table:
    """Every other model against the baseline, item by item."""
    comparison = scores.comparison
    base = comparison.entrants[comparison.baseline].name
    rows: list[list[Cell]] = []
    for model in comparison.others:
        for metric in scores.metrics:
            found = scores.difference(model, metric, scores.groups[0])
            only = [None] * 3 if found.pair is None else [
                found.pair.only_first, found.pair.only_second, found.pair.p_value
            ]  # fmt: skip
            rows.append([comparison.entrants[model].name, metric, cell(found.interval), *only])
    head = text("evaluate-difference")
    columns = [text("evaluate-model"), text("bench-metric"), head, text("evaluate-only-this"),
               text("evaluate-only-that", baseline=base), "p"]  # fmt: skip
    title = text("bench-against", task=scores.spec.name, baseline=base)
    mixed = f" {_asked(comparison)}" if len(set(_styles(comparison))) > 1 else ""
    note = text("bench-against-note") + mixed
    return Table(title=title, columns=columns, rows=rows, units={head: "percent"}, note=note)


def _samples(scores: Scores) -> Table:
    """A few items of every model, right and wrong, with the score of each choice or the whole answer."""
    metric, wanted = scores.metrics[0], scores.comparison.samples
    rows: list[list[Cell]] = []
    for model, entrant in enumerate(scores.comparison.entrants):
        found = scores.values[model][metric]
        for is_right in (True, False):
            places = [int(at) for at in np.flatnonzero((found >= 0.5) == is_right)]
            for place in places[:: max(1, len(places) // max(1, wanted))][:wanted]:
                row = scores.comparison.rows[model][place]
                mark = text("evaluate-right" if is_right else "evaluate-wrong")
                said, expected = _said(scores.spec, metric, row)
                rows.append([entrant.name, row["id"], mark, _short(row["question"]), said, expected])
    codes = ("evaluate-model", "bench-id", "evaluate-judged", "evaluate-question", "bench-said", "evaluate-expected")
    title = text("bench-samples", task=scores.spec.name)
    note = text("bench-samples-note", shots=scores.about["shots"])
    return Table(title=title, columns=[text(code) for code in codes], rows=rows, note=note)


def _said(spec: Spec, metric: str, row: Row) -> tuple[str, str]:
    """What a model made of an item, and what was expected."""
    if "logprobs" in row:
        best = results.chosen(metric, row)
        lines = [
            f"{'▸' if at == best else '·'} {score:.3f}  {_short(choice, 200)}"
            for at, (choice, score) in enumerate(zip(row["choices"], row["logprobs"], strict=True))
        ]
        return "\n".join(lines), "\n".join(_short(row["choices"][at], 200) for at in row["gold"])
    answer = spec.answers[metric.removeprefix(results.MATCH)]
    found = results.extracted(answer, row["reply"])
    return f"{_short(row['reply'])}\n→ {_short(found, 200)}", _short(row["target"], 400)


def _short(words: str, most: int = LONGEST_SHOWN) -> str:
    return words if len(words) <= most else f"{words[: most // 2]} … {words[-most // 2 :]}"


def _problems(scores: Scores) -> Table:
    """Records that were left out."""
    problems = scores.about["problems"]
    rows: list[list[Cell]] = [[each["file"], each["line"], each["id"], each["reason"]] for each in problems]
    columns = [text(code) for code in ("bench-file", "bench-line", "bench-id", "bench-reason")]
    title = text("bench-problems", task=scores.spec.name)
    note = text("bench-problems-note", count=len(problems))
    return Table(title=title, columns=columns, rows=rows[:MOST_PROBLEMS], note=note)


def _verdicts(scores: Scores) -> Iterator[str]:
    """In plain words: what each model reaches, and whether it can be told apart from the baseline."""
    comparison, metric = scores.comparison, scores.metrics[0]
    chance = _chance(scores)
    for model, entrant in enumerate(comparison.entrants):
        value = _points(plain_number(scores.interval(model, metric, scores.groups[0])))
        said = {"model": entrant.name, "task": scores.spec.name, "metric": metric, "value": value}
        yield text("bench-verdict", **said) if chance is None else text("bench-verdict-chance", **said, chance=chance)
    base = comparison.entrants[comparison.baseline].name
    for model in comparison.others:
        difference = scores.difference(model, metric, scores.groups[0])
        found = difference.interval
        if found.value is None or found.low is None or found.high is None:
            continue
        code = "alike" if not difference.is_told_apart else "better" if found.value > 0 else "worse"
        value = _points(found.value if code == "alike" else abs(found.value))
        yield text(
            f"bench-verdict-{code}", model=comparison.entrants[model].name, baseline=base, task=scores.spec.name,
            value=value, low=_points(found.low), high=_points(found.high),
        )  # fmt: skip


def _chance(scores: Scores) -> str | None:
    """What guessing evenly gives."""
    if scores.spec.output != "choice":
        return None
    return _points(float(np.mean([len(row["gold"]) / len(row["choices"]) for row in scores.rows])))


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
