"""Low-rank updates of experts: in PEFT they change two tensors a layer, here the layers of each expert."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from adapting import settings, write
from peft_pairs import IDS, difference, our_logits, peer_logits, shake, transformers_model

import ingot
from ingot.adapt.dora import DoRA
from ingot.adapt.load import load
from ingot.adapt.lora import LoRA
from ingot.adapt.targets import Targets
from ingot.core.errors import IngotError
from ingot.core.model_dir import ModelDir
from ingot.model.config import ModelConfig
from ingot.model.weights import read_tensors, spec_of, write_tensors
from tiny import MIXTRAL, QWEN3_MOE, write_model

SPARSE = QWEN3_MOE | {"mlp_only_layers": []}
MODELS = {"mixtral": MIXTRAL, "qwen3_moe": QWEN3_MOE}
MATRICES = {"mixtral": ("w1", "w2", "w3"), "qwen3_moe": ("gate_proj", "up_proj", "down_proj")}
PARAMETERS: dict[str, dict[str, Any]] = {
    "both": {"target_parameters": ["experts.gate_up_proj", "experts.down_proj"]},
    "gate_up": {"target_parameters": ["mlp.experts.gate_up_proj"]},
    "down": {"target_parameters": ["experts.down_proj"]},
    "router": {"target_parameters": ["gate.weight", "q_proj.weight"]},
    "patterns": {"target_parameters": ["experts.gate_up_proj", "experts.down_proj"], "target_modules": ["v_proj"],
                 "rank_pattern": {"experts.down_proj": 2}, "alpha_pattern": {r"0\.mlp\.experts\.gate_up_proj": 9}},
    "rslora": {"target_parameters": ["experts.gate_up_proj", "experts.down_proj"], "use_rslora": True},
    "all-linear": {"target_modules": "all-linear"},
}  # fmt: skip


def peft_wrote(base: Path, out: Path, **keys: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=6, **({"target_modules": []} | keys))
    peer = get_peft_model(transformers_model(base), config).eval()
    shake({name: p for name, p in peer.named_parameters() if "lora_" in name})
    peer.save_pretrained(out)
    return peer


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("keys", PARAMETERS)
def test_parameters_that_peft_updated(keys: str, name: str, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", MODELS[name])
    peer = peft_wrote(base, tmp_path / "a", **PARAMETERS[keys])
    assert json.loads((tmp_path / "a" / "adapter_config.json").read_text())["target_parameters"]
    assert difference(base, tmp_path / "a", peer) <= 1e-5
    ingot.merge(f"{base}+{tmp_path / 'a'}", out=tmp_path / "m", tokens=128)
    assert (load(tmp_path / "m").logits(IDS) - peer_logits(peer)).abs().max() <= 1e-4


READ = {"mixtral": (MIXTRAL, MATRICES["mixtral"]), "qwen3_moe": (SPARSE, MATRICES["qwen3_moe"]),
        "mixtral-all": (MIXTRAL, "all-linear"), "qwen3_moe-all": (SPARSE, "all-linear"),
        "qwen3_moe-router": (SPARSE, ("gate", "o_proj"))}  # fmt: skip


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READ)
def test_experts_of_ours_that_peft_reads(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from peft import PeftModel

    config, targets = READ[name]
    base = write_model(tmp_path / "base", config)
    write(tmp_path / "a", base, chosen=LoRA(4, 8.0, 0.0, Targets(targets)))
    assert "PEFT" not in caplog.text
    peer = PeftModel.from_pretrained(transformers_model(base), tmp_path / "a").eval()
    assert difference(base, tmp_path / "a", peer) <= 1e-5


TWO = MATRICES["mixtral"][:2]
NOT_READ: dict[str, tuple[dict[str, Any], Any]] = {
    "rslora": (MIXTRAL, LoRA(4, 8.0, 0.0, Targets(MATRICES["mixtral"]), rslora=True)),
    "ia3": (MIXTRAL, None),
    "dense": (QWEN3_MOE, LoRA(4, 8.0, 0.0, Targets(MATRICES["qwen3_moe"]))),
    "dropout": (MIXTRAL, LoRA(4, 8.0, 0.1, Targets(MATRICES["mixtral"]))),
    "dora": (MIXTRAL, DoRA(4, 8.0, 0.0, Targets(MATRICES["mixtral"]))),
    "some": (MIXTRAL, LoRA(4, 8.0, 0.0, Targets(TWO))),
}


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NOT_READ)
def test_what_peft_reads_otherwise_is_said(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """PEFT 0.21 refuses these, or (the first three) gives other logits; should it learn to, the warning can go."""
    from peft import PeftModel

    config, chosen = NOT_READ[name]
    base = write_model(tmp_path / "base", config)
    chosen = chosen or settings("ia3", ModelConfig.read(config, base))
    write(tmp_path / "a", base, chosen=chosen)
    assert "PEFT with transformers 5" in caplog.text
    try:
        peer = PeftModel.from_pretrained(transformers_model(base), tmp_path / "a").eval()
    except ValueError:
        assert name in ("dropout", "dora", "some")
    else:
        assert (peer_logits(peer) - our_logits(load(f"{base}+{tmp_path / 'a'}"))).abs().max() > 1e-2


def fused(tmp_path: Path, rows: int = 16) -> tuple[Path, Path]:
    """An adapter of `experts.down_proj` as PEFT lays it out."""
    base = write_model(tmp_path / "base", MIXTRAL)
    adapter = write(tmp_path / "a", base, chosen=LoRA(4, 8.0, 0.0, Targets(("q_proj",))))
    tensors = dict(read_tensors(ModelDir.open(adapter)))
    for layer in (0, 1):
        name = f"base_model.model.model.layers.{layer}.mlp.experts"
        tensors |= {f"{name}.lora_A.weight": torch.ones(rows, 64), f"{name}.lora_B.weight": torch.ones(32, rows)}
    write_tensors(adapter / "adapter_model.safetensors", spec_of(tensors), tensors.items())
    return base, adapter


def say(adapter: Path, **keys: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


@pytest.mark.parametrize(("rows", "keys", "code", "said"), [
    (16, {"target_parameters": ["experts.dwn_proj"]}, "no-target-modules", "experts.down_proj"),
    (16, {"target_parameters": "experts.down_proj"}, "adapter-not-supported", "target_parameters"),
    (16, {"target_parameters": ["experts.down_proj"], "use_dora": True}, "adapter-not-supported", "target_parameters"),
    (18, {"target_parameters": ["experts.down_proj"]}, "wrong-shape", "experts.lora_B"),
    (20, {"target_parameters": ["experts.down_proj"]}, "wrong-shape", "experts.0.w2.lora_A"),
    (16, {"target_parameters": ["gate_up_proj", "experts.down_proj"]}, "adapter-keys", "20 of 52 tensors match"),
    (16, {}, "adapter-keys", "mlp.experts.lora_A"),
])  # fmt: skip
def test_what_fits_no_expert_is_refused(rows: int, keys: dict[str, Any], code: str, said: str, tmp_path: Path) -> None:
    base, adapter = fused(tmp_path, rows)
    say(adapter, **keys)
    with pytest.raises(IngotError) as caught:
        load(f"{base}+{adapter}")
    assert caught.value.code == code
    assert said in str(caught.value)


def test_updates_of_parameters_are_shown_and_not_added(tmp_path: Path) -> None:
    base, adapter = fused(tmp_path)
    say(adapter, target_parameters=["experts.down_proj"])
    load(f"{base}+{adapter}")
    shown = ingot.adapters_show(adapter).summary()
    assert shown["parameters"] == sum(tensor.numel() for _, tensor in read_tensors(ModelDir.open(adapter)))
    with pytest.raises(IngotError) as caught:
        ingot.adapters_add([str(adapter), str(adapter)], out=tmp_path / "sum")
    assert caught.value.code == "adapters-low-rank"
