"""What a benchmark's rows hold item by item, by every metric: what comparisons, gates and audits read.

Two models' items are the same where the whole prompt is, examples and choices included, and what counts as right.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ingot.evaluate.benchmarks import results
from ingot.evaluate.benchmarks.spec import Spec
from ingot.evaluate.entrants import Entrant
from ingot.evaluate.item_values import ItemValues
from ingot.evaluate.task import Row


def item_values(
    spec: Spec, about: Mapping[str, Any] | None, rows: Sequence[Row], entrant: Entrant, options: Mapping[str, Any]
) -> dict[str, ItemValues]:
    """One entry a metric; the first is the one that verdicts are about."""
    assert about is not None
    conditions = {"task": about["task_digest"], "shots": str(about["shots"]), "chat": rows[0].get("chat", "off")}
    if spec.output == "generate":
        conditions["max_tokens"] = str(about["max_tokens"])
    return {f"{spec.name}.{metric}": _figure(spec, metric, rows, conditions) for metric in results.metric_names(spec)}


def _figure(spec: Spec, metric: str, rows: Sequence[Row], conditions: Mapping[str, str]) -> ItemValues:
    ids, clusters = [row["id"] for row in rows], results.clusters(rows)
    return ItemValues(
        ids,
        [json.dumps([row["prompt_hash"], row["gold"] if "gold" in row else row["target"]]) for row in rows],
        results.values(spec, metric, rows),
        np.ones(len(rows)),
        [str(cluster) for cluster in clusters] if len(set(clusters)) < len(rows) else ids,
        is_share=metric != "mc2",
        primary=metric == spec.headline,
        conditions=conditions,
        questions=[row["question"] for row in rows],
        replies=[_reply(metric, row) for row in rows],
    )


def _reply(metric: str, row: Row) -> str:
    return str(row["choices"][results.chosen(metric, row)] if "choices" in row else row["reply"])
