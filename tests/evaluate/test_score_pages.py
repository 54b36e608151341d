"""The pages about scores show what their result files hold, and the scripts that made these still run."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(name)


@pytest.mark.parametrize(("name", "mark"), [("chinese_traps", "chinese-traps"), ("score", "score")])
def test_figures_are_those_of_the_result_file(name: str, mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = script(name, monkeypatch)
    for page in module.PAGES:
        table = module.block(module.newest(), "zh" if "zh" in page else "en")
        assert f"<!-- figures: {mark} -->\n{table}<!-- end -->" in (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.slow
def test_traps_are_still_those_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ingot and the installed peers say today."""
    module = script("chinese_traps", monkeypatch)
    made = [*module.rouge_rows(tmp_path), *module.sacrebleu_rows(tmp_path), *module.lm_eval_rows(tmp_path, None)]
    for one, saved in zip(made, module.newest()["rows"], strict=True):
        assert one["trap"] == saved["trap"]
        assert one["ingot"] == (saved["ingot"] if isinstance(saved["ingot"], str) else pytest.approx(saved["ingot"]))
        if "lm-eval" not in one["tool"]:
            assert one["peer"] == pytest.approx(saved["peer"])
