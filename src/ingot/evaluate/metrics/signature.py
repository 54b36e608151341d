"""Scores compare only where they were made alike: the same signature, metric by metric."""

from __future__ import annotations

from collections.abc import Mapping

from ingot.core.errors import fail
from ingot.core.report import Report

ENDING = ".signature"


def signatures_of(report: Report) -> dict[str, str]:
    """Metric to signature, of a report of `score`. Raises `report-other-verb`."""
    report.require_verb("score")
    return {name.removesuffix(ENDING): str(value) for name, value in report.numbers.items() if name.endswith(ENDING)}


def require_same(first: Mapping[str, str], second: Mapping[str, str], other: str) -> list[str]:
    """The metrics that both have. Raises `score-signatures` at the first that was made otherwise, and
    `score-metrics-differ` where there is none."""
    shared = [name for name in first if name in second]
    if not shared:
        raise fail("score-metrics-differ", path=other, found=", ".join(second) or "-")
    for name in shared:
        if first[name] != second[name]:
            raise fail("score-signatures", metric=name, first=first[name], second=second[name])
    return shared
