"""What `score` shows: the table in the terminal, and the report with distributions and the worst and best texts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ingot.core.format import show
from ingot.core.language import text
from ingot.core.report import Cell, Plot, Prose, Report, Section, Series, Table
from ingot.evaluate.metrics.measured import Measured
from ingot.evaluate.metrics.options import ScoreOptions
from ingot.evaluate.metrics.resample import Paired
from ingot.evaluate.statistics import Interval
from ingot.evaluate.task import cell

RAW_NAME = "raw/texts.jsonl"
BINS = 20
LIKE_ANOTHER = ("rouge1", "rouge2", "rougeLsum")
"""Their texts are not shown: rougeL's are."""
SHOWN = 2000
"""Characters of a text in a table; the raw file holds it whole."""


@dataclass(frozen=True)
class Scored:
    """A score with its interval; with --against the other system's, and the paired test where there is one."""

    own: Measured
    interval: Interval
    other: Measured | None = None
    other_interval: Interval | None = None
    paired: Paired | None = None

    @property
    def verdict(self) -> str:
        """In words: which is better, or that it cannot be told."""
        assert self.other is not None
        if self.paired is None:
            return text("score-untested", metric=self.own.name)
        change = self.paired.difference
        assert change.value is not None
        better = (change.value > 0) == bool(self.own.higher_is_better)
        code = "score-alike" if not change.excludes_zero else "score-better" if better else "score-worse"
        return text(code, metric=self.own.name, change=show(cell(change)), p=f"{self.paired.p_value:.4g}")


def build(options: ScoreOptions, texts: Sequence[str], references: Sequence[Sequence[str]],
          against: Sequence[str] | None, scored: Sequence[Scored]) -> Report:  # fmt: skip
    """The report, not yet written."""
    return Report(
        title=text("score-title", name=options.hyp.name),
        verb="score",
        options=options.model_dump(mode="json"),
        numbers=numbers(texts, scored),
        units={name: "text" for one in scored for name in (f"{one.own.name}.signature",)},
        sections=list(_sections(options, texts, references, against, scored)),
    )


def numbers(texts: Sequence[str], scored: Sequence[Scored]) -> dict[str, Cell]:
    """Scores first, then what they are made of, then signatures."""
    found: dict[str, Cell] = {one.own.name: cell(one.interval) for one in scored}
    for one in scored:
        if one.paired is not None:
            found[f"{one.own.name}.change"] = cell(one.paired.difference)
            found[f"{one.own.name}.p_value"] = one.paired.p_value
    found |= {"texts": len(texts), "empty_texts": sum(not one.strip() for one in texts)}
    for one in scored:
        found |= {f"{one.own.name}.{name}": value for name, value in one.own.extra.items()}
    return found | {f"{one.own.name}.signature": one.own.signature for one in scored}


def _sections(options: ScoreOptions, texts: Sequence[str], references: Sequence[Sequence[str]],
              against: Sequence[str] | None, scored: Sequence[Scored]) -> Iterator[Section]:  # fmt: skip
    if against is not None:
        words = [text("score-compared", own=options.hyp.name, other=str(options.against))]
        yield Prose(title=text("score-verdict"), text="\n\n".join([*words, *(one.verdict for one in scored)]))
    columns, rows = table_rows(scored, against is not None)
    yield Table(title=text("score-table"), columns=columns, rows=rows, note=text("score-table-note"))
    yield _how(scored)
    if notes := [f"{one.own.name}: {note}" for one in scored for note in one.own.notes]:
        yield Prose(title=text("score-notes"), text="\n\n".join(dict.fromkeys(notes)))
    for one in scored:
        if one.own.items is not None and one.own.name not in LIKE_ANOTHER:
            yield from _of_texts(options, texts, references, one)
    yield Prose(title=text("score-method"), text=text("score-method-words", draws=options.paired.draws or 1000,
                                                      seed=options.paired.seed))  # fmt: skip


def table_rows(scored: Sequence[Scored], is_compared: bool) -> tuple[list[str], list[list[Cell]]]:
    """Columns and rows of the scores, each with decimals of its own: BLEU goes to 100 and ROUGE to 1."""
    columns = [text("score-metric"), text("score-score"), text("score-best")]
    columns += [text("score-against"), text("score-change"), "p"] if is_compared else []
    rows: list[list[Cell]] = []
    for one in scored:
        row: list[Cell] = [one.own.name, show(cell(one.interval)), _best(one.own)]
        if is_compared:
            assert one.other_interval is not None
            tested = (
                [None, None] if one.paired is None else [show(cell(one.paired.difference)), f"{one.paired.p_value:.4g}"]
            )
            row += [show(cell(one.other_interval)), *tested]
        rows.append(row)
    return columns, rows


def _best(measured: Measured) -> str:
    return {True: "↑", False: "↓", None: ""}[measured.higher_is_better]


def _how(scored: Sequence[Scored]) -> Table:
    """Signatures, why these tokens, and the figures beside the score."""
    columns = [text("score-metric"), text("score-signature"), text("score-tokens"), text("score-beside")]
    rows: list[list[Cell]] = [[one.own.name, one.own.signature, one.own.why, _beside(one)] for one in scored]
    return Table(title=text("score-how"), columns=columns, rows=rows, note=text("score-how-note"))


def _beside(scored: Scored) -> str:
    values = [f"{name} {show(value)}" for name, value in scored.own.extra.items() if value is not None]
    if scored.own.why_none and scored.interval.low is None:
        values.append(scored.own.why_none)
    return ", ".join(values)


def _of_texts(options: ScoreOptions, texts: Sequence[str], references: Sequence[Sequence[str]],
              scored: Scored) -> Iterator[Section]:  # fmt: skip
    items = scored.own.items
    assert items is not None
    known = [number for number in range(len(items)) if math.isfinite(items[number])]
    if not known:
        return
    yield _distribution(scored)
    order = sorted(known, key=lambda number: (items[number], number), reverse=scored.own.higher_is_better is False)
    count = min(options.read.examples, len(order))
    shown = {"score-worst": order[:count], "score-best-texts": order[: -count - 1 : -1] if len(order) > count else []}
    for code, chosen in shown.items():
        if chosen:
            yield _examples(text(code, metric=scored.own.name), chosen, texts, references, scored)


def _examples(title: str, chosen: Sequence[int], texts: Sequence[str], references: Sequence[Sequence[str]],
              scored: Scored) -> Table:  # fmt: skip
    """Rows of texts beside their references; a reference belongs to its line only where there are as many."""
    assert scored.own.items is not None
    fitting = [one for one in references if len(one) == len(texts)]
    heads = [text("score-reference", number=n) for n in range(1, len(fitting) + 1)]
    columns = [text("score-line"), text("score-score"), text("score-text"), *heads]
    rows: list[list[Cell]] = [
        [number + 1, float(scored.own.items[number]), _short(texts[number]), *(_short(one[number]) for one in fitting)]
        for number in chosen
    ]
    return Table(title=title, columns=columns, rows=rows)


def _short(one: str) -> str:
    return one if len(one) <= SHOWN else f"{one[:SHOWN]} […]"


def _distribution(scored: Scored) -> Plot:
    """How many texts have which score; both systems side by side."""
    systems = [scored.own, *([scored.other] if scored.other else [])]
    all_items = [one.items[np.isfinite(one.items)] for one in systems if one.items is not None]
    least, most = (float(bound) for bound in (min(map(np.min, all_items)), max(map(np.max, all_items))))
    edges = np.linspace(least, most if most > least else least + 1, BINS + 1)
    middles = ((edges[:-1] + edges[1:]) / 2).tolist()
    labels = [text("score-these"), text("score-against")]
    series = [Series(name=label, x=list(middles), y=np.histogram(items, edges)[0].astype(float).tolist())
              for label, items in zip(labels, all_items, strict=False)]  # fmt: skip
    return Plot(title=text("score-distribution", metric=scored.own.name), kind="line", series=series,
                x_label=scored.own.name, y_label=text("score-number"))  # fmt: skip


def items_text(texts: Sequence[str], references: Sequence[Sequence[str]], against: Sequence[str] | None,
               scored: Sequence[Scored]) -> str:  # fmt: skip
    """One line a text: the text, its references, its scores."""
    aligned = all(len(one) == len(texts) for one in references)
    lines = []
    for number, one in enumerate(texts):
        scores = {s.own.name: _plain(float(s.own.items[number])) for s in scored if s.own.items is not None}
        row = {"text": one, "references": [r[number] for r in references] if aligned else [], "scores": scores}
        if against is not None:
            row["against"] = against[number]
        lines.append(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    return "".join(lines)


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def terminal_table(scored: Sequence[Scored], is_compared: bool) -> str:
    """Scores, then a signature a line."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as Lines

    columns, rows = table_rows(scored, is_compared)
    lines = Lines(box=box.SIMPLE_HEAD, pad_edge=False)
    for at, column in enumerate(columns):
        lines.add_column(column, justify="left" if at == 0 else "right", no_wrap=True)
    for row in rows:
        lines.add_row(*(show(value) for value in row))
    console = Console(width=200, no_color=True)
    with console.capture() as capture:
        console.print(lines)
    table = "\n".join(line.rstrip() for line in capture.get().splitlines() if line.strip())
    return "\n".join([table, "", *_signature_lines(scored)])


def _signature_lines(scored: Sequence[Scored]) -> list[str]:
    """Metrics with one signature on one line, with why these tokens and with notes."""
    groups: dict[tuple[str, str], list[Measured]] = {}
    for one in scored:
        groups.setdefault((one.own.signature, one.own.why), []).append(one.own)
    lines = []
    for (signature, why), members in groups.items():
        lines.append(f"{', '.join(one.name for one in members)}: {signature}")
        lines.append(f"  {why}")
        lines += [f"  {note}" for note in dict.fromkeys(note for one in members for note in one.notes)]
    return lines
