"""PEFT's Auto classes find base and task in what we write, and give our logits."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from adapting import write
from peft_pairs import IDS, difference, transformers_model

from ingot.adapt.load import load
from tiny import BART, BERT, DISTILBERT, GPT2, LLAMA, MODERNBERT, QWEN2, ROBERTA, T5, write_model

pytestmark = pytest.mark.peers

SHAPES: dict[str, dict[str, Any]] = {
    "llama": LLAMA, "qwen2": QWEN2, "gpt2": GPT2, "bert": BERT, "t5": T5, "bart": BART,
}  # fmt: skip
peft = partial(pytest.importorskip, "peft")  # when a test first asks
AUTO = {
    "CAUSAL_LM": "AutoPeftModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoPeftModelForSeq2SeqLM",
    "FEATURE_EXTRACTION": "AutoPeftModelForFeatureExtraction",
    None: "AutoPeftModel",
}


def config_of(adapter: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((adapter / "adapter_config.json").read_text())
    return content


def opened(adapter: Path) -> Any:
    auto = getattr(peft(), AUTO[config_of(adapter)["task_type"]])
    return auto.from_pretrained(adapter, attn_implementation="eager", dtype=torch.float32).eval()


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kind", ["lora", "rslora", "dora", "ia3", "prefix", "prompt"])
def test_every_method(kind: str, name: str, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", SHAPES[name])
    adapter = write(tmp_path / "a", base, kind)
    peer = opened(adapter)
    if config_of(adapter)["task_type"] != "FEATURE_EXTRACTION":
        assert difference(base, adapter, peer) <= 1e-5
        return
    with torch.no_grad():  # this task has no head
        found = peer(input_ids=IDS).last_hidden_state[:, -IDS.shape[1] :]
        assert (load(f"{base}+{adapter}").network(IDS) - found).abs().max() <= 1e-5
        assert (load(base).network(IDS) - found).abs().max() > 1e-2


@pytest.mark.parametrize("config", [BERT, ROBERTA, DISTILBERT, MODERNBERT])
def test_the_class_of_an_encoder_is_named_as_peft_names_it(config: dict[str, Any], tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", config)
    ours = write(tmp_path / "a", base, "lora")
    peer = peft().get_peft_model(transformers_model(base), peft().LoraConfig(target_modules="all-linear"))
    peer.save_pretrained(tmp_path / "b")
    theirs = config_of(tmp_path / "b")
    keys = ("task_type", "auto_mapping")
    assert [config_of(ours)[key] for key in keys] == [theirs[key] for key in keys]
    assert difference(base, ours, opened(ours)) <= 2e-5
