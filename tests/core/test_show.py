"""show: shape, weights and the chain of steps, from headers and the hallmark alone."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from ingot.core.hallmark import Ancestor, Hallmark, Source, Step
from ingot.core.model_dir import ModelDir
from ingot.core.options import Options
from ingot.core.report import Report
from ingot.core.show import lineage, show


def make(path: Path, parents: list[ModelDir], verb: str, weights: dict[str, np.ndarray], **config: object) -> ModelDir:
    with ModelDir.create(path, verb, Options()) as draft:
        draft.write_json("config.json", {"model_type": "llama", "hidden_size": 192, "num_hidden_layers": 6} | config)
        save_file(weights, draft.path / "model.safetensors")
        draft.parents, draft.numbers = parents, {"bits_per_byte": 0.5}
        draft.prove("largest difference", "weights", 0.0)
    return ModelDir.open(path)


def test_model_with_its_life(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = make(tmp_path / "base", [], "pretrain", {"a": np.zeros((4, 5), np.float32)})
    make(tmp_path / "chat", [base], "merge", {"a": np.ones((4, 5), np.float32), "b": np.ones(7, np.float16)})
    with caplog.at_level(logging.INFO, "ingot"):
        summary = show(path=str(tmp_path / "chat")).summary()
    assert (summary["num_parameters"], summary["dtypes"], summary["layers"]) == (27, ["F32", "F16"], 6)
    assert [step["step"]["verb"] for step in summary["steps"]] == ["pretrain", "merge"]
    assert json.dumps(summary)
    for words in ("family llama, layers 6, width 192", "27 parameters as F32, F16", "1. pretrain", "2. merge",
                  "from base (step 1)", "bits per byte 0.5000", "proven: largest difference"):  # fmt: skip
        assert words in caplog.text


def test_packed_weights_count_as_what_they_unpack_to(tmp_path: Path) -> None:
    weights = {"q.weight_packed": np.zeros((8, 16), np.int32), "q.weight_scale": np.zeros((8, 1), np.float32),
               "q.weight_shape": np.zeros(2, np.int64), "n.weight": np.zeros(8, np.float32)}  # fmt: skip
    config = {"config_groups": {"group_0": {"weights": {"num_bits": 4}}}}
    made = make(tmp_path / "m", [], "quantize", weights, quantization_config=config)
    assert show(path=str(made.path)).summary()["num_parameters"] == 8 * 16 * 8 + 8


def test_adapter_reference_report_and_bare_directory(tmp_path: Path) -> None:
    base = make(tmp_path / "base", [], "pretrain", {"a": np.zeros(3, np.float32)})
    adapter = tmp_path / "lora"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 8}')
    save_file({"l": np.zeros(2, np.float32)}, adapter / "adapter_model.safetensors")
    summary = show(path=f"{base.path}+{adapter}").summary()
    assert (summary["kind"], summary["adapters"][0]["kind"], summary["adapters"][0]["r"]) == ("model", "adapter", 8)
    assert summary["adapters"][0]["steps"] == []
    Report(title="R", verb="evaluate", numbers={"accuracy": 0.5}).write(tmp_path / "report")
    assert show(path=str(tmp_path / "report")).summary()["accuracy"] == 0.5


def test_lineage_puts_parents_first() -> None:
    def step(*parents: str) -> Step:
        return Step(verb="x", options={}, parents=[Source(name=name, digest=name) for name in parents])

    ancestry = [Ancestor(digest=name, step=parents) for name, parents in
                (("c", step("b", "a")), ("b", step("a")), ("a", step("lost")))]  # fmt: skip
    hallmark = Hallmark(digest="d", files={}, step=step("c"), ancestry=ancestry)
    assert [one.digest for one in lineage(hallmark)] == ["a", "b", "c", "d"]
