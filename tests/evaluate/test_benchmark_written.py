"""Written answers beside lm-eval 0.4.13: what its filters made of planted completions, and its greedy texts.

Recorded by `benchmarks/evaluate.py --written --limit 8 --models stories --record-written FILE`, which also compares
live.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from benching import asked, rows_of

import ingot
from ingot.evaluate.benchmarks.results import extracted, matches
from ingot.evaluate.benchmarks.spec import open_spec

KNOWN: dict[str, Any] = json.loads((Path(__file__).parent / "lm_eval_written.json").read_text(encoding="utf-8"))


def test_planted_completions_are_read_and_scored_as_lm_eval_does() -> None:
    assert len(KNOWN["planted"]) == 126
    scores = set()
    for task, reply, target, theirs in KNOWN["planted"]:
        answers = open_spec(task).answers
        ours = {name: [extracted(own, reply), matches(own, reply, target)] for name, own in answers.items()}
        assert ours == theirs, (task, reply)
        scores |= {(task, name, score) for name, (_, score) in theirs.items()}
    assert len(scores) == 6, "each filter finds right answers and wrong ones"


@pytest.mark.slow
@pytest.mark.parametrize("task", ["gsm8k", "bbh"])
def test_greedy_texts_are_lm_evals(task: str, real_data: Path, tmp_path: Path) -> None:
    """But for the first space: lm-eval decodes an answer without what stands before it, and sentencepiece then drops
    that space."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    try:
        from evaluate_written import write_sets
    finally:
        sys.path.pop(0)
    write_sets(tmp_path / "sets", real_data / "04_benchmarks", 8)
    stories = real_data / "01_models" / "stories260K"
    ingot.import_model(stories / "stories260K.bin", tokenizer=stories / "tok512.bin", out=tmp_path / "stories")
    wished = {"first": 8, **({"shots": 2} if task == "gsm8k" else {})}
    report = asked(tmp_path / "stories", tmp_path / "sets", task, tmp_path / "r", benchmark=wished, max_tokens=64)
    rows, answers = rows_of(report, f"{task}-stories.jsonl"), open_spec(task).answers
    assert [row["id"] for row in rows] == [id for id, _, _ in KNOWN["texts"][task]]
    for row, (_, text, found) in zip(rows, KNOWN["texts"][task], strict=True):
        assert row["reply"] in (text, f" {text}")
        assert found == {name: [extracted(own, row["reply"]), matches(own, row["reply"], row["target"])]
                         for name, own in answers.items()}  # fmt: skip
