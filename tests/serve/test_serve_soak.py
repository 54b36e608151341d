"""The soak of the benchmarks, in short: everything clients do, and nothing left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from serving import tokenizer_of

from tiny import write_model

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"


@pytest.mark.slow
def test_nothing_is_left_behind(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(tmp_path / "tok", "qwen2.5")
    model = write_model(tmp_path / "model", tokenizer=tokenizer.path, max_position_embeddings=1024)
    command = [sys.executable, str(SOAK), str(model), "--requests", "250", "--clients", "8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["wrong"] == []
    assert sum(result["seen"].values()) == 250
    kinds = {what.rpartition(" ")[0] for what in result["seen"]}
    assert {"whole", "stream", "tools", "malformed", "deadline", "leaves", "leaves a stream"} <= kinds
    assert result["seen"]["tools 200"] == sum(n for what, n in result["seen"].items() if what.startswith("tools"))
