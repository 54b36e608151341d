"""CrowS-Pairs and BBQ in twelve answers against lm-eval itself, on the published files and a tiny model.

INGOT_LM_EVAL names the Python of an environment that has lm-eval (0.4.13 was used); without it this is skipped.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from biasing import options

from ingot.adapt.load import LanguageModel, load
from ingot.evaluate.bias import bbq, crows_pairs
from ingot.evaluate.statistics import Values
from tiny import LLAMA, write_model

pytestmark = [pytest.mark.slow, pytest.mark.peers]


@pytest.fixture(scope="module")
def wide_dir(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    """A tiny model into whose window every item fits."""
    path = tmp_path_factory.mktemp("wide") / "model"
    return write_model(path, LLAMA, seed=1, tokenizer=tokenizer_dir, max_position_embeddings=1024)


@pytest.fixture(scope="module")
def wide(wide_dir: Path) -> LanguageModel:
    return load(wide_dir)


@pytest.fixture(scope="module")
def theirs(
    real_data: Path, wide_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path, Path]:
    python = os.environ.get("INGOT_LM_EVAL", "")
    if not Path(python).is_file():
        pytest.skip("no lm-eval: set INGOT_LM_EVAL to the Python of its environment")
    folder = tmp_path_factory.mktemp("lm_eval")
    with (real_data / "05_bias/crows_pairs/crows_pairs_anonymized.csv").open(encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    crows, asked = folder / "crows_pairs.csv", folder / "bbq.jsonl"
    with crows.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows(rows[:201])
    lines = (real_data / "05_bias/bbq/bbq_subset_6x200.jsonl").read_text(encoding="utf-8").splitlines()
    kept = [line for number, line in enumerate(lines) if number % 16 < 4]  # whole questions: both contexts, both ways
    asked.write_text("\n".join(kept) + "\n", encoding="utf-8")
    words = [python, str(Path(__file__).with_name("with_lm_eval.py")), str(wide_dir), str(crows), str(asked)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    found = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr[-2000:]
    return json.loads(found.stdout.splitlines()[-1]), crows, asked


def test_crows_pairs(wide: LanguageModel, theirs: tuple[dict[str, Any], Path, Path]) -> None:
    expected, path, _ = theirs
    rows = crows_pairs.measure(wide, crows_pairs.prepare(options(path)), options(path))
    flat = [nats for row in rows for nats in row["nats"]]
    assert max(abs(a - b) for a, b in zip(flat, expected["crows"]["nats"], strict=True)) < 1e-3  # sums of 100 tokens
    assert crows_pairs.pct_stereotype(rows) == expected["crows"]["pct_stereotype"]
    assert crows_pairs.likelihood_diff(rows) == pytest.approx(expected["crows"]["likelihood_diff"], abs=1e-4)


def test_bbq_in_twelve_answers(wide: LanguageModel, theirs: tuple[dict[str, Any], Path, Path]) -> None:
    expected, _, path = theirs
    rows = bbq.measure(wide, bbq.prepare(options(path)), options(path), name="bbq-12")
    assert bbq.accuracy(rows) == expected["bbq"]["acc"]
    for condition, key in (("ambig", "amb"), ("disambig", "disamb")):
        chosen = [row for row in rows if row["condition"] == condition]
        parts = bbq.bias_parts(chosen, condition == "ambig").filled
        assert bbq.accuracy(chosen) == pytest.approx(expected["bbq"][f"accuracy_{key}"], abs=1e-12)
        assert mean(parts.sums, parts.sizes) == pytest.approx(expected["bbq"][f"{key}_bias_score"], abs=1e-12)


def mean(sums: Values, sizes: Values) -> float:
    return float(sums.sum() / sizes.sum())
