"""Scores of an `ingot evaluate` report, split by what of its items stands in the corpus: overall, clean, dirty.

Rows are judged from what they hold: the scores of choices or fillers, or the answer that was written. A row belongs to
the item of its id; ids that are a file and a line may have folders before them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ingot.core.errors import fail
from ingot.core.language import text
from ingot.core.report import Cell, Report, Table, Unit
from ingot.evaluate.audit.check import Result, Row
from ingot.evaluate.audit.contamination import CLEAN, DIRTY
from ingot.evaluate.scoring import ABSTAINED, ARITHMETIC, RIGHT, verdict
from ingot.evaluate.statistics import unpaired_difference, wilson
from ingot.evaluate.task import cell, parse_rows

RAW = "scores"


def _choice(row: Row) -> bool:
    return bool(int(np.argmax(row["logprobs"])) in row["gold"])


def _filler(row: Row) -> bool:
    others = [score for at, score in enumerate(row["scores"]) if at != row["right"]]
    return bool(row["scores"][row["right"]] > max(others))


def _asked(row: Row) -> bool:
    return verdict(row["kind"], row["reply"], row["accept"]) in (RIGHT, ABSTAINED)


def _answered(row: Row) -> bool:
    return verdict(ARITHMETIC, row["reply"], [str(row["target"])]) == RIGHT


JUDGES: dict[tuple[str, ...], Callable[[Row], bool]] = {
    ("logprobs", "gold"): _choice,
    ("scores", "right"): _filler,
    ("kind", "reply", "accept"): _asked,
    ("reply", "target"): _answered,
}
"""How a row is judged, by the fields that it has; the first that fits."""


def judge_report(path: Path, rows: Sequence[Row]) -> list[Row]:
    """One row an answer in the report whose item was judged: model file, id, right or not, the item's verdict. Raises
    what `Report.open` does, `audit-report-others` where less than half of the answers belong to the items."""
    report = Report.open(path)
    verdicts = _by_id(rows)
    found: list[Row] = []
    total = 0
    for name in (file for file in report.files if file.endswith(".jsonl")):
        for row in parse_rows((path / name).read_bytes().decode()):
            judge = next((judge for fields, judge in JUDGES.items() if all(field in row for field in fields)), None)
            if judge is None or "id" not in row:
                break
            total += 1
            item = verdicts.get(str(row["id"])) or verdicts.get(str(row["id"]).rpartition("/")[2])
            if item is not None:
                found.append({"name": Path(name).stem, "id": row["id"], "right": judge(row), "verdict": item})
    if 2 * len(found) < max(total, 1):
        raise fail("audit-report-others", path=path, found=len(found), total=total)
    return found


def _by_id(rows: Sequence[Row]) -> Mapping[str, str]:
    """Verdicts by the items' ids, and by file and line."""
    return {f"{row['file']}:{row['line']}": row["verdict"] for row in rows} | {
        row["id"]: row["verdict"] for row in rows
    }


def score(rows: Sequence[Row]) -> Result:
    """Overall, clean and dirty shares of each file of answers, and clean minus dirty."""
    codes = ("audit-answers", "audit-overall", "audit-clean", "audit-dirty", "audit-difference")
    columns = [text(code) for code in codes]
    numbers: dict[str, Cell] = {}
    table: list[list[Cell]] = []
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name]
        groups = {
            "overall": own,
            "clean": [row for row in own if row["verdict"] == CLEAN],
            "dirty": [row for row in own if row["verdict"] in DIRTY],
        }
        right = {group: sum(row["right"] for row in found) for group, found in groups.items()}
        shares = {f"{name}.{group}": cell(wilson(right[group], len(found))) for group, found in groups.items()}
        difference = cell(unpaired_difference(right["dirty"], len(groups["dirty"]), right["clean"],
                                              len(groups["clean"])))  # fmt: skip
        numbers |= {**shares, f"{name}.dirty_minus_clean": difference}
        table.append([f"{name} ({len(own)})", *shares.values(), difference])
    units: dict[str, Unit] = dict.fromkeys(numbers, "percent")
    section = Table(title=text("audit-split"), columns=columns, rows=table, units=dict.fromkeys(columns[1:], "percent"),
                    note=text("audit-split-note"))  # fmt: skip
    return Result(numbers, [section], [], text("audit-method-split"), units)
