"""Merging into 16-bit weights: what rounding costs a model that has learnt something, and that it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from compressing import MakeModel

import ingot
from ingot.core.model_dir import ModelDir
from ingot.model.weights import read_tensors, spec_of, write_tensors

LOOP = {"compile": "off", "precision": "fp32"}
TEXT = "the cat sat on the mat and the dog ran. 天空是藍色的，草地是綠色的。\n"


def in_bf16(source: Path, out: Path) -> Path:
    """A copy of a model with its weights rounded."""
    found = ModelDir.open(source)
    out.mkdir()
    for name in found.files:
        if name.endswith((".json", ".jinja")) and name != "hallmark.json" and "/" not in name:
            (out / name).write_bytes((source / name).read_bytes())
    tensors = {name: tensor.bfloat16() for name, tensor in read_tensors(found)}
    write_tensors(out / "model.safetensors", spec_of(tensors), tensors.items())
    (out / "config.json").write_text(json.dumps(found.config | {"dtype": "bfloat16"}))
    return out


@pytest.mark.slow
def test_base_with_adapter_and_merged_choose_the_same_tokens(
    make_model: MakeModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "text.txt").write_text(TEXT * 120, encoding="utf-8")
    chats = [{"prompt": "sky?", "completion": "天空是藍色的。"}, {"prompt": "cat?", "completion": "the cat sat"}]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats * 4), encoding="utf-8")
    learn = {"batch_tokens": 256, "loop": LOOP}
    base = make_model("base")
    ingot.tune(str(base), data=tmp_path / "text.txt", out=tmp_path / "full", method="full", as_text=True, lr=1e-2,
               max_steps=60, corpus={"allow_unknown_licence": True, "heldout": 0}, **learn)  # fmt: skip
    base = in_bf16(tmp_path / "full", tmp_path / "base16")
    ingot.tune(str(base), data=tmp_path / "chats.jsonl", out=tmp_path / "lora", max_steps=10, **learn)
    caplog.clear()
    caplog.set_level("INFO")
    reference = f"{base}+{tmp_path / 'lora'}"
    numbers = ingot.merge(reference, out=tmp_path / "m", data=tmp_path / "text.txt", tokens=2000).summary()
    assert {entry.dtype for entry in ModelDir.open(tmp_path / "m").tensors.values()} == {"BF16"}
    assert numbers["compared_tokens"] >= 2000
    assert numbers["top1_agreement"] >= 0.999
    assert 0 < numbers["kl"] < 1e-2
    assert f"|| result) {numbers['kl']:.6f}" in caplog.text
    plain, tuned = (ingot.load(path).logits([[5, 6, 7]]) for path in (base, tmp_path / "m"))
    assert (plain - tuned).abs().max() > 1e-2
    assert torch.isfinite(tuned).all()
