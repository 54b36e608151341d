"""Scores of an `ingot evaluate` report, split by what of its items stands in the corpus: overall, clean, dirty.

Every primary figure of every model is split, by what its task says of each item (`Task.values`). An item is that of its
id, or of its file and line; folders may stand before either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ingot.core.errors import fail
from ingot.core.language import text
from ingot.core.progress import warn
from ingot.core.report import Cell, Table, Unit
from ingot.evaluate.audit.check import Result, Row
from ingot.evaluate.audit.contamination import CLEAN, DIRTY
from ingot.evaluate.evaluate import item_values, saved
from ingot.evaluate.item_values import ItemValues
from ingot.evaluate.statistics import Interval, cluster_sums, clustered_ratio, clustered_share, unpaired_difference
from ingot.evaluate.task import cell, word_if_infinite

RAW = "scores"


def judge_report(path: Path, rows: Sequence[Row]) -> list[Row]:
    """Rows of a report's items that are among the judged ones: what each counts for a figure, and its verdict. A figure
    of which less than half of the items are is named and left out. Raises what `saved` does, `audit-report-others`
    where that is all of them."""
    verdicts = _by_id(rows)
    found: list[Row] = []
    best = (0, 0)
    for entrant, tasks in item_values(*saved(path)):
        for name, values in ((name, values) for own in tasks.values() for name, values in own.items()):
            if not values.primary:
                continue
            own = _judged(f"{entrant.name}.{name}", values, verdicts)
            if 2 * len(own) >= max(1, len(values.ids)):
                found += own
                continue
            best = max(best, (len(own), len(values.ids)))
            reason = values.lacking or text("audit-split-others", found=len(own), total=len(values.ids))
            warn("audit-not-split", name=name, model=entrant.name, reason=reason)
    if not found:
        raise fail("audit-report-others", path=path, found=best[0], total=best[1])
    return found


def _judged(name: str, values: ItemValues, verdicts: Mapping[str, str]) -> list[Row]:
    """Rows of those items that were judged."""
    names = zip(values.ids, values.places or values.ids, strict=True)
    own = [next((verdicts[key] for key in (id, *map(_plain, (id, place))) if key in verdicts), None)
           for id, place in names]  # fmt: skip
    return [
        {"name": name, "id": values.ids[at], "value": word_if_infinite(float(values.values[at]) * values.scale),
         "weight": float(values.weights[at]), "cluster": values.clusters[at], "is_share": values.is_share,
         "verdict": verdict}
        for at, verdict in enumerate(own) if verdict is not None
    ]  # fmt: skip


def _plain(name: str) -> str:
    """Without folders."""
    return name.rpartition("/")[2]


def _by_id(rows: Sequence[Row]) -> Mapping[str, str]:
    """Verdicts by the items' ids, and by file and line."""
    return {f"{row['file']}:{row['line']}": row["verdict"] for row in rows} | {
        row["id"]: row["verdict"] for row in rows
    }


def score(rows: Sequence[Row], seed: int) -> Result:
    """Each figure overall, of clean and of dirty items, and dirty minus clean."""
    codes = ("audit-answers", "audit-overall", "audit-clean", "audit-dirty", "audit-difference")
    columns = [text(code) for code in codes]
    numbers: dict[str, Cell] = {}
    units: dict[str, Unit] = {}
    tables: dict[Unit, list[list[Cell]]] = {"percent": [], "number": []}
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name]
        unit: Unit = "percent" if own[0]["is_share"] else "number"
        kept = {
            "overall": own,
            "clean": [row for row in own if row["verdict"] == CLEAN],
            "dirty": [row for row in own if row["verdict"] in DIRTY],
        }
        found = {group: _figure(part, seed) for group, part in kept.items()}
        found["dirty_minus_clean"] = unpaired_difference(found["dirty"], found["clean"])
        cells = {f"{name}.{group}": cell(interval) for group, interval in found.items()}
        numbers |= cells
        units |= dict.fromkeys(cells, unit)
        tables[unit].append([f"{name} ({len(own)})", *cells.values()])
    sections = [Table(title=text("audit-split"), columns=columns, rows=lines, units=dict.fromkeys(columns[1:], unit),
                      note=text("audit-split-note")) for unit, lines in tables.items() if lines]  # fmt: skip
    return Result(numbers, [*sections], [], text("audit-method-split"), units)


def _figure(rows: Sequence[Row], seed: int) -> Interval:
    """Of some items, as the report that they are of has it: whole clusters are drawn."""
    values, weights = (np.array([row[name] for row in rows], np.float64) for name in ("value", "weight"))
    clusters = [row["cluster"] for row in rows]
    if all(row["is_share"] for row in rows):
        return clustered_share(values > 0, clusters)
    sums, counted = cluster_sums(values, clusters)[0], cluster_sums(weights, clusters)[0]
    return clustered_ratio(sums[counted > 0], counted[counted > 0], seed)
