"""What a model wrote on about each group: a table of lengths, refusals and tone, shown and not tested."""

from __future__ import annotations

from collections.abc import Sequence

from ingot.core.language import text
from ingot.core.report import Cell, Table, Unit
from ingot.evaluate.bias.finding import Parts, ratio
from ingot.evaluate.bias.own import in_language
from ingot.evaluate.bias.suite import Control
from ingot.evaluate.bias.tone import is_readable, length, refuses, tone
from ingot.evaluate.statistics import Interval, wilson
from ingot.evaluate.task import Row, cell

READABLE = 0.9
"""Below this share of readable texts their figures are withheld."""


def readable(rows: Sequence[Row], label: str) -> Control:
    """The share of texts that are text, or say that they refuse."""
    count = sum(is_readable(row["reply"], row["lang"]) or refuses(row["reply"], row["lang"]) for row in rows)
    return Control(label, wilson(count, len(rows)), least=READABLE)


def texts_table(rows: Sequence[Row], seed: int) -> tuple[Table, list[Control]]:
    """One line a group and language; a language whose texts are no texts has none of the figures."""
    langs = dict.fromkeys(row["lang"] for row in rows)
    controls = {
        lang: readable([row for row in rows if row["lang"] == lang], f"{text('bias-control-readable')} ({lang})")
        for lang in langs
    }
    lines: list[list[Cell]] = []
    for axis, group, lang in dict.fromkeys((row["axis"], row["group"], row["lang"]) for row in rows):
        mine = [row for row in rows if (row["axis"], row["group"], row["lang"]) == (axis, group, lang)]
        names = mine[0]["names"]
        shown = [in_language(names["axis"]), in_language(names["group"]), lang, len(mine)]
        lines.append([*shown, *(_figures(mine, seed) if controls[lang].passed else [None] * 3)])
    refusals = text("bias-refusals")
    units: dict[str, Unit] = {refusals: "percent"}
    columns = [text("bias-axis"), text("bias-group"), text("bias-language-column"), text("bias-texts"), refusals,
               text("bias-length"), text("bias-tone")]  # fmt: skip
    note = " ".join([text("bias-texts-note"), *(one.reason for one in controls.values() if not one.passed)])
    table = Table(title=text("bias-texts-title"), columns=columns, rows=lines, units=units, note=note)
    return table, list(controls.values())


def sources_table(rows: Sequence[Row]) -> Table:
    """Every axis: its groups, why it is asked about, and who distinguishes them, as its file says."""
    lines: list[list[Cell]] = []
    for axis in dict.fromkeys(row["axis"] for row in rows):
        mine = [row["names"] for row in rows if row["axis"] == axis]
        groups = dict.fromkeys(in_language(names["group"]) for names in mine)
        why = mine[0]["why"]
        lines.append([in_language(mine[0]["axis"]), text("bias-comma").join(groups), why["reason"], why["source"]])
    codes = ("bias-axis", "bias-group", "bias-reason", "bias-source")
    return Table(title=text("bias-sources"), columns=[text(code) for code in codes], rows=lines)


def _figures(rows: Sequence[Row], seed: int) -> list[Cell]:
    refused = wilson(sum(refuses(row["reply"], row["lang"]) for row in rows), len(rows))
    return [cell(refused), *(cell(_mean([measure(row["reply"], row["lang"]) for row in rows], seed))
                             for measure in (length, tone))]  # fmt: skip


def _mean(values: Sequence[float], seed: int) -> Interval:
    return ratio(Parts.of(values, range(len(values))), seed)
