"""PEFT's adapter files, read and written.

`adapter_config.json` is PEFT's; what PEFT has no key for (which base, by digest; that prompts are read in both
directions) stands in hallmark.json. A key that changes the result and that we do not compute is refused by name.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from ingot.adapt.lora import ALL_LINEAR, LoRAConfig, adapter_state, wrap
from ingot.core.errors import fail
from ingot.core.files import tree_digest
from ingot.core.model_dir import Draft, ModelDir
from ingot.model.config import PREFIX_LM
from ingot.model.network import Network
from ingot.model.weights import check_finite, read_tensors, spec_of, write_tensors

PLAIN = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_rslora": (False,),
    "use_dora": (False,),
    "modules_to_save": (None, []),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "layers_to_transform": (None, []),
    "layer_replication": (None, []),
    "target_parameters": (None, []),
    "exclude_modules": (None, []),
    "lora_bias": (False,),
    "trainable_token_indices": (None, [], {}),
}
"""Keys of adapter_config.json and the values for which plain LoRA is right."""


def weights_digest(base: ModelDir) -> str:
    """Identity of a base for its adapters: its weights and config, whatever its tokenizer files became."""
    kept = {
        name: digest
        for name, digest in base.files.items()
        if name.endswith((".safetensors", ".index.json")) or name == "config.json"
    }
    return tree_digest(kept)


def write_adapter(draft: Draft, model: nn.Module, config: LoRAConfig, base: ModelDir) -> None:
    """Write the update in PEFT's layout."""
    state = {name: tensor.contiguous() for name, tensor in adapter_state(model).items()}
    write_tensors(draft.path / "adapter_model.safetensors", spec_of(state), state.items())
    content: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base.path),
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": list(config.targets) if config.targets != (ALL_LINEAR,) else ALL_LINEAR,
        "fan_in_fan_out": base.config["model_type"] == "gpt2",
        "bias": "none",
        "inference_mode": True,
    }
    draft.write_json("adapter_config.json", content)
    draft.numbers["base_weights"] = weights_digest(base)


def read_config(adapter: ModelDir) -> LoRAConfig:
    """The LoRA settings of an adapter directory, refused where they are not plain LoRA."""
    path = adapter.path / "adapter_config.json"
    for key, allowed in PLAIN.items():
        if key in adapter.config and adapter.config[key] not in allowed:
            raise fail("adapter-not-supported", path=path, key=key, found=repr(adapter.config[key]))
    targets = adapter.config.get("target_modules")
    if not isinstance(targets, list) and targets != ALL_LINEAR:
        raise fail("adapter-not-supported", path=path, key="target_modules", found=repr(targets))
    rank = int(adapter.config["r"])
    chosen = (ALL_LINEAR,) if targets == ALL_LINEAR else tuple(targets)
    return LoRAConfig(rank, float(adapter.config["lora_alpha"]), float(adapter.config["lora_dropout"]), chosen)


def check_base(adapter: ModelDir, base: ModelDir) -> None:
    """Refuse an adapter whose hallmark names other weights. One without a hallmark is checked by its shapes alone."""
    expected = adapter.hallmark.step.numbers.get("base_weights") if adapter.hallmark else None
    found = weights_digest(base)
    if expected is not None and expected != found:
        details = {"expected": expected[:12], "found": found[:12]}
        raise fail("adapter-of-another-base", adapter=adapter.path, base=base.path, **details)


def apply_adapter(model: Network, adapter: ModelDir, base: ModelDir) -> None:
    """Wrap `model` and load the update into it, strictly. An update that was learnt on prompts read in both directions
    makes the model read so."""
    check_base(adapter, base)
    wrap(model, read_config(adapter))
    expected = adapter_state(model)
    missing, unexpected = (
        sorted(expected.keys() - adapter.tensors.keys()),
        sorted(adapter.tensors.keys() - expected.keys()),
    )
    if missing or unexpected:
        raise fail("adapter-keys", path=adapter.path, missing=missing[:3] or "-", unexpected=unexpected[:3] or "-")
    with torch.no_grad():
        for name, tensor in read_tensors(adapter):
            check_finite(name, tensor, adapter.path)
            if tensor.shape != expected[name].shape:
                shapes = {"found": list(tensor.shape), "expected": list(expected[name].shape)}
                raise fail("wrong-shape", tensor=name, path=adapter.path, **shapes)
            expected[name].copy_(tensor)
    if adapter.hallmark and adapter.hallmark.step.numbers.get(PREFIX_LM):
        model.config = dataclasses.replace(model.config, prefix_lm=True)
