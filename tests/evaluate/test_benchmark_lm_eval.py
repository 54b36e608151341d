"""The numbers that lm-eval 0.4.13 gave on stories260K, item by item.

Recorded by `benchmarks/evaluate.py --compare --limit 6 --models stories --shots 2 0 --softmax float64 --record FILE`,
with log-softmax and sums in float64: its default, float32, is itself 1.4e-4 off at -1,399 nats. The script
also compares live where an environment with lm-eval is given.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from benching import asked, rows_of

import ingot

KNOWN: dict[str, Any] = json.loads((Path(__file__).parent / "lm_eval_stories260k.json").read_text())


@pytest.fixture(scope="module")
def sets(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sets as the script writes them, and the model."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    try:
        from evaluate_sets import SETS, write_sets
    finally:
        sys.path.pop(0)
    folder, stories = tmp_path_factory.mktemp("sets"), real_data / "01_models" / "stories260K"
    write_sets(folder / "sets", real_data / "04_benchmarks", list(SETS))
    ingot.import_model(stories / "stories260K.bin", tokenizer=stories / "tok512.bin", out=folder / "stories")
    return folder / "sets", folder / "stories"


def peers(task: str, shots: str) -> list[list[float]]:
    """lm-eval's log-likelihoods of each item, MMLU's subjects behind each other."""
    runs = KNOWN["runs"][shots]
    names = [task] if task in runs else sorted(name for name in runs if name.startswith(f"{task}_"))
    return [item for name in names for item in runs[name]]


@pytest.mark.slow
@pytest.mark.parametrize("shots", ["0", "2"])
@pytest.mark.parametrize("task", sorted(KNOWN["metrics"]))
def test_log_likelihoods_are_lm_evals(task: str, shots: str, sets: tuple[Path, Path], tmp_path: Path) -> None:
    """Within 1e-4, however long the sum."""
    wanted = peers(task, shots)
    if not wanted:
        pytest.skip("lm-eval has no examples for this task")
    task_file = tmp_path / "task.yaml"
    task_file.write_text(json.dumps({"extends": task, "name": task, "metrics": KNOWN["metrics"][task]}))
    wished = {"first": KNOWN["limit"], "shots": int(shots)}
    report = asked(sets[1], sets[0], str(task_file), tmp_path / "r", benchmark=wished)
    rows = rows_of(report, f"{task}-stories.jsonl")
    assert len(rows) == len(wanted)
    for row, own in zip(rows, wanted, strict=True):
        found = [*row["logprobs"], *row.get("logprobs_alone", [])]
        assert found == pytest.approx(own, abs=1e-4, rel=0)
        count = len(row["logprobs"])
        assert max(range(count), key=found.__getitem__) == max(range(count), key=own.__getitem__)
