"""What came of a model's programs, problem by problem: what comparisons, gates and audits read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ingot.core.errors import fail
from ingot.evaluate.entrants import Entrant
from ingot.evaluate.item_values import ItemValues
from ingot.evaluate.sandbox.estimate import each
from ingot.evaluate.sandbox.page import counts
from ingot.evaluate.task import Row


def item_values(task: str, rows: Sequence[Row], entrant: Entrant, options: Mapping[str, Any]) -> dict[str, ItemValues]:
    """pass@k of every problem; pass@1 is the share of its programs that are right. The smallest k is what verdicts are
    about. Raises `evaluate-rows-old`."""
    if not all("tests" in row for row in rows):
        raise fail("evaluate-rows-old", model=entrant.name)
    found, ids = counts(rows), [row["id"] for row in rows]
    asked = [json.dumps([row["asked"], row["tests"]], ensure_ascii=False) for row in rows]
    conditions = {"style": rows[0]["style"], "temperature": str(rows[0]["temperature"]),
                  "max_tokens": str(options["code"]["max_tokens"])}  # fmt: skip
    return {
        f"{task}.pass@{k}": ItemValues(
            ids, asked, each(found, k), np.ones(len(rows)), ids, is_share=all(num == 1 for num, _ in found),
            primary=k == min(rows[0]["k"]), conditions=conditions, questions=[row["asked"] for row in rows],
            replies=[row["samples"][0]["completion"] for row in rows],
        )
        for k in rows[0]["k"]
    }  # fmt: skip
