"""bitsandbytes' NF4 on disk: transformers opens ours, we open transformers', tuning takes the bytes as they lie."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from compressing import MakeModel, state
from torch import Tensor, nn

import ingot
from cases import first_fast
from ingot.adapt.load import load
from ingot.compress.quantize_verb import quantize
from ingot.core.errors import IngotError
from ingot.core.model_dir import ModelDir
from ingot.model.layers import Conv1D
from ingot.model.nf4_linear import NF4Linear
from ingot.model.quantized import read_dense_tensor
from ingot.model.weights import spec_of, write_tensors
from tiny import GPT2, LLAMA, MIXTRAL, PHI3, QWEN3

IDS = [[3, 1, 4, 1, 5, 9, 2, 6]]
NF4: dict[str, Any] = {"method": "nf4", "tokens": 64}
WIDE: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}
"""Rows of a multiple of 64: others bitsandbytes' AVX-512 code decodes wrongly."""
CASES = [(LLAMA, WIDE), (QWEN3, WIDE), (PHI3, WIDE), (GPT2, {"n_embd": 64})]
NAMES = ["llama", "qwen3", "phi3", "gpt2"]
WEIGHT = "model.layers.0.mlp.up_proj.weight"


@first_fast(("config", "changes"), CASES, ids=NAMES)
def test_the_reopened_model_is_the_one_held_in_nf4(
    make_model: MakeModel, tmp_path: Path, config: dict[str, Any], changes: dict[str, Any]
) -> None:
    source = make_model("a", config, **changes)
    quantize(str(source), out=tmp_path / "q", **NF4)
    held = load(source, nf4=True)
    assert torch.equal(load(tmp_path / "q", nf4=True).logits(IDS), held.logits(IDS))
    dense = load(tmp_path / "q").network
    for name, module in held.network.named_modules():
        if isinstance(module, NF4Linear):
            layer = dense.get_submodule(name)
            assert isinstance(layer, nn.Linear | Conv1D)
            assert torch.equal(layer.weight.t() if isinstance(layer, Conv1D) else layer.weight, module.weight)


@pytest.mark.slow
def test_what_is_reported(make_model: MakeModel, tmp_path: Path) -> None:
    numbers = quantize(str(make_model("a", **WIDE)), out=tmp_path / "q", **NF4).summary()
    held = [tensor for name, tensor in state(tmp_path / "q").items() if ".layers." in name and "norm" not in name]
    assert numbers["bits"] == 4
    assert numbers["quantized_layers"] == 14
    total = sum(tensor.numel() * tensor.element_size() for tensor in held)
    assert numbers["bits_per_weight"] == 8 * total / (2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128))


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("config", "changes", "head"), [(*case, False) for case in CASES] + [(LLAMA, WIDE, True), (PHI3, WIDE, True)]
)
def test_transformers_opens_it_with_the_same_logits(
    make_model: MakeModel, tmp_path: Path, config: dict[str, Any], changes: dict[str, Any], head: bool
) -> None:
    quantize(str(make_model("a", config, **changes)), out=tmp_path / "q", head=head, **NF4)
    theirs = opened(tmp_path / "q")
    count = sum(type(module).__name__ == "Linear4bit" for module in theirs.modules())
    assert count == sum(name.endswith("quant_state.bitsandbytes__nf4") for name in state(tmp_path / "q"))
    assert torch.allclose(peers_logits(theirs), load(tmp_path / "q").logits(IDS), atol=1e-5)


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("config", "changes"), CASES, ids=NAMES)
def test_what_transformers_wrote_is_opened(
    make_model: MakeModel, tmp_path: Path, config: dict[str, Any], changes: dict[str, Any]
) -> None:
    from transformers import BitsAndBytesConfig

    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    theirs = opened(make_model("a", config, **changes), quantization_config=how)
    theirs.save_pretrained(tmp_path / "q")
    for nf4 in (False, True):
        assert torch.allclose(load(tmp_path / "q", nf4=nf4).logits(IDS), peers_logits(theirs), atol=1e-5)


def opened(path: Path, **options: Any) -> Any:
    """transformers' model. In eval without gradients bitsandbytes' CPU layers compute in bf16."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(path, **options).eval()
    model.get_input_embeddings().requires_grad_(True)
    return model


def peers_logits(model: Any) -> Tensor:
    found: Tensor = model(torch.tensor(IDS)).logits.float().detach()
    return found


@pytest.mark.slow
def test_tuning_takes_the_bytes_as_they_lie(make_model: MakeModel, tmp_path: Path) -> None:
    """Decoded and quantised again they would be others."""
    source = make_model("a", **WIDE)
    quantize(str(source), out=tmp_path / "q", **NF4)
    (tmp_path / "chats.jsonl").write_text('{"prompt": "who?", "completion": "the cat"}\n' * 8)
    loop = {"compile": "off", "precision": "fp32"}
    options: dict[str, Any] = {"rank": 4, "batch_tokens": 128, "max_steps": 3, "loop": loop}
    adapter = ingot.tune(
        str(tmp_path / "q"), data=tmp_path / "chats.jsonl", out=tmp_path / "l", method="qlora", **options
    )
    assert adapter.hallmark
    assert adapter.hallmark.step.numbers["base_held_in"] == "nf4"
    held, again = load(tmp_path / "q", nf4=True), load(source, nf4=True)
    for one, two in zip(held.network.buffers(), again.network.buffers(), strict=True):
        assert torch.equal(one, two)
    dense = load(tmp_path / "q")
    weight = dense.network.get_parameter(WEIGHT)
    layer = NF4Linear(dense.network.get_submodule(WEIGHT.removesuffix(".weight")))  # type: ignore[arg-type]
    layer.fill(weight)
    assert not torch.equal(layer.nested, held.network.get_submodule(WEIGHT.removesuffix(".weight")).nested)
    with pytest.raises(IngotError, match="already quantised"):
        ingot.merge(f"{tmp_path / 'q'}+{tmp_path / 'l'}", out=tmp_path / "m", tokens=64)


def refused(code: str, words: str, path: Path, **options: Any) -> None:
    with pytest.raises(IngotError, match=words) as caught:
        load(path, **options)
    assert caught.value.code == code


@pytest.mark.slow
def test_files_that_say_something_else_are_refused_by_name(make_model: MakeModel, tmp_path: Path) -> None:
    quantize(str(make_model("a", **WIDE)), out=tmp_path / "good", **NF4)
    packed = f"{WEIGHT}.quant_state.bitsandbytes__nf4"
    held = state(tmp_path / "good")
    other = json.loads(bytes(held[packed].tolist())) | {"blocksize": 128}
    cases: dict[str, tuple[str, Tensor | None]] = {
        "missing-tensor": (f"{WEIGHT}.absmax", None),
        "another quant_map": (f"{WEIGHT}.quant_map", held[f"{WEIGHT}.quant_map"] + 1),
        "another nested_quant_map": (f"{WEIGHT}.nested_quant_map", held[f"{WEIGHT}.nested_quant_map"][:255]),
        "JSONDecodeError": (packed, torch.tensor(list(b"{no"), dtype=torch.uint8)),
        "in blocks of 64": (packed, torch.tensor(list(json.dumps(other).encode()), dtype=torch.uint8)),
        "bytes and scales": (WEIGHT, held[WEIGHT][:-1]),
    }
    for number, (words, (name, tensor)) in enumerate(cases.items()):
        path = tmp_path / str(number)
        shutil.copytree(tmp_path / "good", path)
        kept = {key: value for key, value in (held | {name: tensor}).items() if value is not None}
        write_tensors(path / "model.safetensors", spec_of(kept), kept.items())
        code = "missing-tensor" if words == "missing-tensor" else "quantization-mismatch"
        with pytest.raises(IngotError, match=WEIGHT.replace(".", r"\.") if code == words else words) as caught:
            read_dense_tensor(ModelDir.open(path), WEIGHT)
        assert caught.value.code == code
        refused(code, WEIGHT, path, nf4=True)


@first_fast(
    ("key", "value"), [("bnb_4bit_quant_type", "fp4"), ("bnb_4bit_use_double_quant", False), ("load_in_4bit", False)]
)
def test_other_forms_of_bitsandbytes_are_refused_by_key(
    make_model: MakeModel, tmp_path: Path, key: str, value: object
) -> None:
    quantize(str(make_model("a", **WIDE)), out=tmp_path / "q", **NF4)
    config = json.loads((tmp_path / "q" / "config.json").read_text())
    config["quantization_config"][key] = value
    (tmp_path / "q" / "config.json").write_text(json.dumps(config))
    refused("unknown-quantization", f"{key} = {value!r}", tmp_path / "q")


def test_what_nf4_cannot_do_is_refused(make_model: MakeModel, tmp_path: Path) -> None:
    def told(code: str, words: str, path: Path, **options: Any) -> None:
        with pytest.raises(IngotError, match=words) as caught:
            quantize(str(path), out=tmp_path / "q", **(NF4 | options))
        assert caught.value.code == code
        assert not (tmp_path / "q").exists()

    base = make_model("a")
    told("bad-option", "nf4 has 4", base, bits=8)
    told("bad-option", "nf4 has 64", base, group_size=4)
    told("bad-option", "nf4 has 64", base, group_size="row")
    told("nf4-size", r"gate_proj.*\[3, 32\].*multiple of 64", make_model("odd", intermediate_size=3))
    told("nf4-experts", "experts of mixtral", make_model("moe", MIXTRAL))
    told("ignore-nothing", "q_prj", base, ignore=["q_prj"])
    told("unknown-quantizer", "nf4", base, method="nf5")


@pytest.mark.slow
def test_layers_named_stay_as_they_are(make_model: MakeModel, tmp_path: Path) -> None:
    quantize(str(make_model("a")), out=tmp_path / "q", ignore=["re:.*down_proj$"], **NF4)
    held = state(tmp_path / "q")
    assert held["model.layers.0.mlp.down_proj.weight"].dtype == torch.float32
    assert held[WEIGHT].dtype == torch.uint8
    config = json.loads((tmp_path / "q" / "config.json").read_text())["quantization_config"]
    assert "model.layers.0.mlp.down_proj" in config["llm_int8_skip_modules"]
