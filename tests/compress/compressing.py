"""Directories that the tests of merging and quantising make and change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from ingot.adapt.files import PREFIX
from ingot.core.model_dir import ModelDir
from ingot.model.weights import spec_of, write_tensors

MakeModel = Callable[..., Path]
"""make_model("a", seed=1, **changes of the config)"""


def state(path: Path) -> dict[str, torch.Tensor]:
    """A directory's tensors, by safetensors' own reader; copies, because the file may be written anew."""
    return {name: tensor.clone() for name, tensor in load_file(path / "model.safetensors").items()}


def rewrite(path: Path, **changes: torch.Tensor | None) -> None:
    """Replace (or with None drop) tensors of a directory, by name with __ for dots."""
    wanted = {name.replace("__", "."): tensor for name, tensor in changes.items()}
    kept = {name: tensor for name, tensor in (state(path) | wanted).items() if tensor is not None}
    write_tensors(path / "model.safetensors", spec_of(kept), kept.items())


def write_lora(path: Path, base: Path, targets: tuple[str, ...] = ("q_proj", "down_proj"), rank: int = 4) -> Path:
    """An adapter in PEFT's layout with a random update, for a Llama or GPT-2 directory."""
    tensors = {}
    generator = torch.Generator().manual_seed(5)
    transposed = "n_embd" in ModelDir.open(base).config
    for name, entry in ModelDir.open(base).tensors.items():
        module = name.removesuffix(".weight")
        if name.endswith(".weight") and module.rpartition(".")[2] in targets:
            width_out, width_in = entry.shape[::-1] if transposed else entry.shape
            sizes = {"lora_A": (rank, width_in), "lora_B": (width_out, rank)}
            for part, shape in sizes.items():
                tensors[f"{PREFIX}{module}.{part}.weight"] = 0.3 * torch.randn(shape, generator=generator)
    path.mkdir()
    write_tensors(path / "adapter_model.safetensors", spec_of(tensors), tensors.items())
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 8, "lora_dropout": 0.0,
              "target_modules": list(targets), "bias": "none", "fan_in_fan_out": transposed}  # fmt: skip
    (path / "adapter_config.json").write_text(json.dumps(config))
    return path
