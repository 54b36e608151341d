"""What was lost, as numbers, as sections of the training report, and in a sentence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ingot.core.language import text
from ingot.core.report import Cell, Plot, Prose, Section, Series, Table
from ingot.train.forgetting.difference import Difference
from ingot.train.forgetting.text import General


@dataclass(frozen=True)
class Findings:
    """`general`: of the texts, None where they ask nothing of the model; `unit` says in what. `questions`: share of the
    world's questions answered right, None where there were none, and `reason` says why."""

    general: Difference | None
    in_bytes: bool
    unit: str
    text: General
    questions: Difference | None
    num_questions: int
    chance: float
    reason: str


def numbers(found: Findings) -> dict[str, Any]:
    """For the hallmark."""
    kept: dict[str, Any] = {
        "general_text": found.text.name,
        "general_texts": len(found.text.texts),
        "general_text_bytes": found.text.num_bytes,
        "general_digest": found.text.digest,
    }
    if found.general is not None:
        kept |= _numbers("general_bits_per_byte" if found.in_bytes else "general_loss", found.general)
    if found.questions is None:
        return kept | {"world_questions_left_out": found.reason}
    chance = {"world_questions": found.num_questions, "world_chance_share": round(found.chance, 4)}
    return kept | chance | _numbers("world_right_share", found.questions)


def _numbers(name: str, one: Difference) -> dict[str, Any]:
    values = {"before": one.before, "after": one.after, "change": one.change, "stderr": one.stderr}
    return {f"{name}_{key}": None if value is None or not math.isfinite(value) else round(value, 5)
            for key, value in values.items()}  # fmt: skip


def sections(found: Findings | None) -> list[Section]:
    """For the report: what was measured, and why what was not."""
    title = text("forgetting")
    if found is None:
        return [Prose(title=title, text=text("forgetting-off"))]
    rows = list(_rows(found))
    columns = [text(f"forgetting-column-{name}") for name in ("what", "before", "after", "change", "stderr", "units")]
    note = " ".join([*_notes(found)])
    made: list[Section] = [Table(title=title, columns=columns, rows=rows, note=note)]
    if found.general is not None:
        made.append(_plot(found, found.general))
    return made


def _rows(found: Findings) -> Iterator[list[Cell]]:
    if found.general is not None:
        yield [found.unit, *_cells(found.general)]
    if found.questions is not None:
        yield [text("forgetting-questions"), *_cells(found.questions)]


def _cells(one: Difference) -> list[Cell]:
    return [one.before, one.after, one.change, one.stderr, one.num_units]


def _notes(found: Findings) -> Iterator[str]:
    size = {"count": len(found.text.texts), "size": f"{found.text.num_bytes:,}"}
    yield text("forgetting-note", name=found.text.name, **size)
    if found.general is None:
        yield text("forgetting-nothing-asked")
    if found.questions is None:
        yield found.reason
    else:
        yield text("forgetting-chance", count=found.num_questions, chance=f"{found.chance:.0%}")


def _plot(found: Findings, one: Difference) -> Plot:
    names = [text("forgetting-column-before"), text("forgetting-column-after")]
    series = Series(name=found.unit, x=list(names), y=[one.before, one.after])
    return Plot(title=text("forgetting-plot"), kind="bar", series=[series], y_label=found.unit)


def sentence(found: Findings) -> str:
    """In one line."""
    said = []
    if found.general is not None:
        size = {"count": len(found.text.texts), "name": found.text.name, "unit": found.unit}
        said.append(text("forgot-general", **_words(found.general, "{:.3f}", "{:+.3f}"), **size))
    if found.questions is not None:
        words = _words(found.questions, "{:.0%}", "{:+.1%}")
        said.append(text("forgot-questions", **words, count=found.num_questions, chance=f"{found.chance:.0%}"))
    return text("forgetting-and").join(said) if said else text("forgetting-nothing-asked")


def _words(one: Difference, value: str, change: str) -> dict[str, str]:
    error = "" if one.stderr is None else f" ± {change.format(one.stderr).removeprefix('+')}"
    return {"before": value.format(one.before), "after": value.format(one.after),
            "change": change.format(one.change) + error}  # fmt: skip
