"""In which numbers a frozen base is held while it is tuned, and that nothing is lost by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file, save_file

import ingot
from cases import first_fast
from ingot.adapt.load import load
from ingot.core.model_dir import ModelDir
from ingot.train.method import LoRAOptions, Method, held_in
from ingot.train.metrics import read_metrics
from tiny import LLAMA, write_model, write_tokenizer

ADAPTERS = [method for method in get_args(Method) if method != "full"]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same numbers, stored as bf16 and as fp32."""
    root = tmp_path_factory.mktemp("held")
    full = write_model(root / "fp32", LLAMA, tokenizer=write_tokenizer(root / "tok"))
    half = write_model(root / "bf16", LLAMA, tokenizer=root / "tok")
    rounded = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(full / "model.safetensors").items()}
    save_file(rounded, half / "model.safetensors", {"format": "pt"})
    save_file({name: tensor.float() for name, tensor in rounded.items()}, full / "model.safetensors", {"format": "pt"})
    return {"fp32": full, "bf16": half}


def tune(base: Path, out: Path, precision: str = "bf16", **options: Any) -> ModelDir:
    data = out.parent / "chats.jsonl"
    turns = [[{"role": "user", "content": "where is the cat"}, {"role": "assistant", "content": "on the mat"}]] * 6
    data.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in turns))
    loop = {"compile": "off", "precision": precision}
    return ingot.tune(str(base), data=data, out=out, max_steps=6, batch_tokens=128, loop=loop, **options)


def test_a_base_stays_as_it_is_stored_where_it_is_multiplied_so(bases: dict[str, Path]) -> None:
    half, full = ModelDir.open(bases["bf16"]), ModelDir.open(bases["fp32"])
    plain, saves = LoRAOptions(), LoRAOptions(save="lm_head")
    assert held_in(half, "lora", plain, torch.bfloat16) == torch.bfloat16
    assert held_in(half, "lora", plain, torch.float32) == torch.float32
    assert held_in(half, "lora", saves, torch.bfloat16) == torch.float32
    assert held_in(half, "full", plain, torch.bfloat16) == torch.float32
    assert held_in(full, "lora", plain, torch.bfloat16) == torch.float32
    assert held_in(full, "lora", plain, torch.float32) == torch.float32


@first_fast("method", ADAPTERS)
def test_every_adapter_learns_the_same_on_a_base_held_in_bf16(
    method: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    runs = {name: tune(base, tmp_path / name, method=method) for name, base in bases.items()}
    losses = {name: [line["loss"] for line in read_metrics(run.path / "metrics.jsonl")] for name, run in runs.items()}
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.01)
    assert losses["bf16"] != losses["fp32"]  # the residual stream was in bf16
    assert losses["bf16"][-1] < losses["bf16"][0]
    for run in runs.values():
        assert {entry.dtype for entry in run.tensors.values()} == {"F32"}
        assert all(proof.difference == 0 for proof in run.hallmark.step.proof)


@pytest.mark.slow
def test_a_base_loaded_in_bf16_keeps_its_adapter_in_fp32(bases: dict[str, Path], tmp_path: Path) -> None:
    adapter = tune(bases["bf16"], tmp_path / "out").path
    model = load(f"{bases['bf16']}+{adapter}", dtype=torch.bfloat16)
    dtypes = {name.rpartition(".lora_")[1]: tensor.dtype for name, tensor in model.network.named_parameters()}
    assert dtypes == {"": torch.bfloat16, ".lora_": torch.float32}
    exact = load(f"{bases['bf16']}+{adapter}").logits([[1, 2, 3, 4]])
    assert (model.logits([[1, 2, 3, 4]]) - exact).abs().max() < 0.05 * exact.std()
