"""What was loaded and is saved again is the same to the byte, from one file or from shards, for every family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ingot.adapt.load import load
from ingot.core.model_dir import ModelDir
from ingot.model.weights import read_tensors, spec_of, write_tensors
from ingot.train.write import write_model as save
from tiny import CONFIGS, ENCODER_DECODERS, ENCODERS, write_model, write_tokenizer

FAMILIES = CONFIGS | ENCODERS | ENCODER_DECODERS


class Draft:
    """As much of a draft as saving needs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        (self.path / name).write_text(json.dumps(content))


def shard(path: Path) -> None:
    """Cut the weights of a directory into three files with an index."""
    state = dict(read_tensors(ModelDir.open(path)))
    (path / "model.safetensors").unlink()
    names = list(state)
    weight_map = {}
    for number in range(3):
        part = {name: state[name] for name in names[number::3]}
        file = f"model-{number + 1:05d}-of-00003.safetensors"
        write_tensors(path / file, spec_of(part), part.items())
        weight_map |= dict.fromkeys(part, file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


@pytest.mark.parametrize("is_sharded", [False, True], ids=["single", "sharded"])
@pytest.mark.parametrize("name", FAMILIES)
def test_tensors_saved_again_are_the_same_bytes(name: str, is_sharded: bool, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m", FAMILIES[name], tokenizer=write_tokenizer(tmp_path / "tok"))
    before = dict(read_tensors(ModelDir.open(path)))
    if is_sharded:
        shard(path)
    model = load(path)
    for file in model.model_dir.text_files():
        (tmp_path / "again").mkdir(exist_ok=True)
        (tmp_path / "again" / file.name).write_bytes(file.read_bytes())
    save(Draft(tmp_path / "again"), model.network, model.model_dir.config)  # type: ignore[arg-type]
    after = dict(read_tensors(ModelDir.open(tmp_path / "again")))
    assert after.keys() == before.keys()
    for tensor, value in before.items():
        assert after[tensor].dtype == value.dtype
        assert after[tensor].numpy().tobytes() == value.numpy().tobytes(), tensor


@pytest.mark.peers
@pytest.mark.parametrize("name", FAMILIES)
def test_transformers_misses_nothing_and_finds_nothing_left_over(name: str, tmp_path: Path) -> None:
    import transformers

    path = write_model(tmp_path / "m", FAMILIES[name], tokenizer=write_tokenizer(tmp_path / "tok"))
    kind = getattr(transformers, FAMILIES[name]["architectures"][0])
    _, told = kind.from_pretrained(path, dtype=torch.float32, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    assert not told["mismatched_keys"]
