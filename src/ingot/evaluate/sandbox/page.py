"""What the report says of programs: pass@k with intervals, what became of them all, every problem, and the walls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from ingot.core.language import text
from ingot.core.report import Cell, Plot, Section, Series, Table, Unit, plain_number
from ingot.evaluate.sandbox.estimate import difference, each, mean
from ingot.evaluate.sandbox.ladder import MECHANISMS
from ingot.evaluate.sandbox.problems import HUMANEVAL, MBPP
from ingot.evaluate.sandbox.program import VERDICTS
from ingot.evaluate.statistics import Values
from ingot.evaluate.task import Comparison, Row, TaskResult, bounds, cell

NAMES = {HUMANEVAL: "HumanEval", MBPP: "MBPP"}
SAMPLE_COLUMNS = (
    "evaluate-model", "sandbox-problem", "evaluate-judged", "sandbox-cause", "sandbox-program", "sandbox-output",
)  # fmt: skip


def score(task: str, comparison: Comparison) -> TaskResult:
    """Estimates, differences, verdict counts and samples from the rows."""
    comparison.require_same_items("id", "asked")
    ks = comparison.rows[0][0]["k"]
    numbers = [_numbers(task, rows, ks, comparison.seed) for rows in comparison.rows]
    sections: list[Section] = [_table(task, comparison, ks, numbers), _plot(task, comparison, ks, numbers)]
    if comparison.others:
        sections.append(_differences(task, comparison, ks))
    sections += [_verdicts(task, comparison), _problems(task, comparison), _samples(task, comparison),
                 _walls(task, comparison)]  # fmt: skip
    return TaskResult(
        numbers=numbers,
        method=f"evaluate-method-{task}",
        sections=sections,
        verdict=[*_sentences(task, comparison, ks, numbers)],
        units=dict.fromkeys((f"{task}.pass@{k}" for k in ks), "percent"),
    )


def counts(rows: Sequence[Row]) -> list[tuple[int, int]]:
    """(programs, right ones) of every problem."""
    return [(len(row["samples"]), sum(one["verdict"] == "passed" for one in row["samples"])) for row in rows]


def _estimates(rows: Sequence[Row], k: int) -> Values:
    return each(counts(rows), k)


def _numbers(task: str, rows: Sequence[Row], ks: Sequence[int], seed: int) -> dict[str, Cell]:
    found = {f"{task}.pass@{k}": cell(mean(_estimates(rows, k), seed)) for k in ks}
    programs = [one for row in rows for one in row["samples"]]
    return {
        **found,
        f"{task}.problems": len(rows),
        f"{task}.programs": len(programs),
        f"{task}.blocked": sum(one["verdict"] == "blocked" for one in programs),
        f"{task}.references_failed": sum(row["reference"] != "passed" for row in rows),
    }


def _table(task: str, comparison: Comparison, ks: Sequence[int], numbers: Sequence[dict[str, Cell]]) -> Table:
    heads = [f"pass@{k}" for k in ks]
    rows: list[list[Cell]] = [
        [
            entrant.name,
            *(found[f"{task}.pass@{k}"] for k in ks),
            found[f"{task}.problems"],
            found[f"{task}.programs"],
            own[0].get("style", "-"),
        ]
        for entrant, found, own in zip(comparison.entrants, numbers, comparison.rows, strict=True)
    ]
    columns = [
        text("evaluate-model"),
        *heads,
        text("sandbox-problems"),
        text("sandbox-programs"),
        text("sandbox-asked"),
    ]
    units: dict[str, Unit] = dict.fromkeys(heads, "percent")
    title = text("sandbox-pass-title", task=NAMES[task])
    return Table(title=title, columns=columns, rows=rows, units=units, note=text("sandbox-pass-note"))


def _plot(task: str, comparison: Comparison, ks: Sequence[int], numbers: Sequence[dict[str, Cell]]) -> Plot:
    series = []
    for entrant, found in zip(comparison.entrants, numbers, strict=True):
        y, low, high = bounds([found[f"{task}.pass@{k}"] for k in ks])
        series.append(Series(name=entrant.name, x=[f"pass@{k}" for k in ks], y=y, low=low, high=high))
    title = text("sandbox-pass-title", task=NAMES[task])
    return Plot(title=title, kind="bar", series=series, unit="percent", note=text("evaluate-95"))


def _differences(task: str, comparison: Comparison, ks: Sequence[int]) -> Table:
    """Every other model against the baseline, problem by problem."""
    rows: list[list[Cell]] = []
    for index in comparison.others:
        for k in ks:
            own, base = (_estimates(comparison.rows[at], k) for at in (index, comparison.baseline))
            better, worse = int((own > base).sum()), int((own < base).sum())
            shown = cell(difference(own, base, comparison.seed))
            rows.append([comparison.entrants[index].name, f"pass@{k}", shown, better, worse])
    baseline = comparison.entrants[comparison.baseline].name
    points = text("evaluate-difference")
    columns = [text("evaluate-model"), "", points, text("sandbox-better"), text("sandbox-worse")]
    title = text("sandbox-against", task=NAMES[task], baseline=baseline)
    return Table(title=title, columns=columns, rows=rows, units={points: "percent"})


def _verdicts(task: str, comparison: Comparison) -> Table:
    """What became of all programs, by verdict."""
    found = [Counter(one["verdict"] for row in rows for one in row["samples"]) for rows in comparison.rows]
    shown = [verdict for verdict in VERDICTS if any(count[verdict] for count in found)]
    rows: list[list[Cell]] = [[verdict_label(verdict), *(count[verdict] for count in found)] for verdict in shown]
    columns = [text("evaluate-judged"), *(entrant.name for entrant in comparison.entrants)]
    return Table(title=text("sandbox-verdicts-title", task=NAMES[task]), columns=columns, rows=rows)


def verdict_label(verdict: str) -> str:
    """The verdict for people."""
    return text(VERDICT_LABELS[verdict])


VERDICT_LABELS = {
    "passed": "sandbox-passed",
    "wrong": "sandbox-wrong",
    "error": "sandbox-error",
    "timeout": "sandbox-timeout",
    "blocked": "sandbox-blocked",
    "memory": "sandbox-memory",
    "output-limit": "sandbox-output-limit",
    "no-entry-point": "sandbox-no-entry-point",
    "syntax-error": "sandbox-syntax-error",
}


def _problems(task: str, comparison: Comparison) -> Table:
    """Every problem: how many of its programs are right, its limit, and what came of the reference solution."""
    rows: list[list[Cell]] = []
    for number, row in enumerate(comparison.rows[0]):
        right = [counts([found[number]])[0] for found in comparison.rows]
        reference = verdict_label(row["reference"]) if row["reference"] else "-"
        rows.append([row["id"], *(f"{passed}/{num}" for num, passed in right), round(row["limit"], 1), reference])
    columns = [text("sandbox-problem"), *(entrant.name for entrant in comparison.entrants), text("sandbox-limit"),
               text("sandbox-reference")]  # fmt: skip
    units: dict[str, Unit] = {text("sandbox-limit"): "seconds"}
    return Table(title=text("sandbox-problems-title", task=NAMES[task]), columns=columns, rows=rows, units=units)


def _samples(task: str, comparison: Comparison) -> Table:
    """A few programs of every model and verdict, as they were written."""
    rows: list[list[Cell]] = []
    for entrant, found in zip(comparison.entrants, comparison.rows, strict=True):
        shown: Counter[str] = Counter()
        for row in found:
            for one in row["samples"]:
                shown[one["verdict"]] += 1
                if shown[one["verdict"]] <= comparison.samples:
                    written = one.get("solution", one.get("completion", ""))
                    mark = verdict_label(one["verdict"])
                    rows.append([entrant.name, row["id"], mark, one["cause"], written, one["output"]])
    columns = [text(code) for code in SAMPLE_COLUMNS]
    title = text("sandbox-samples-title", task=NAMES[task])
    return Table(title=title, columns=columns, rows=rows, note=text("sandbox-samples-note"))


def _walls(task: str, comparison: Comparison) -> Table:
    """Each mechanism: in force while this model's programs ran, or why not."""
    kept = [rows[0]["protection"] for rows in comparison.rows]
    rows: list[list[Cell]] = [
        [name, text(f"sandbox-mechanism-{name.replace('_', '-')}"), *(_standing(found, name) for found in kept)]
        for name in MECHANISMS
    ]
    columns = [text("sandbox-mechanism"), text("sandbox-holds"), *(entrant.name for entrant in comparison.entrants)]
    levels = ", ".join(dict.fromkeys(found["level"] for found in kept))
    title = text("sandbox-walls-title", task=NAMES[task], level=levels)
    return Table(title=title, columns=columns, rows=rows, note=text("sandbox-walls-note"))


def _standing(kept: Row, name: str) -> str:
    """In force, or why not."""
    return text("sandbox-in-force") if name in kept["standing"] else str(kept["missing"].get(name, "-"))


def _sentences(
    task: str, comparison: Comparison, ks: Sequence[int], numbers: Sequence[dict[str, Cell]]
) -> Iterator[str]:
    """In plain words: the share of each model, and how well its programs were kept in."""
    for entrant, rows, found in zip(comparison.entrants, comparison.rows, numbers, strict=True):
        shares = [f"pass@{k} {100 * (plain_number(found[f'{task}.pass@{k}']) or 0):.1f} %" for k in ks]
        yield text(
            "sandbox-sentence",
            model=entrant.name,
            task=NAMES[task],
            shares=text("evaluate-comma").join(shares),
            problems=len(rows),
            level=rows[0]["protection"]["level"],
        )
    failed = sum(row["reference"] not in ("passed", "") for row in comparison.rows[0])
    if failed:
        yield text("sandbox-sentence-references", task=NAMES[task], count=failed)
