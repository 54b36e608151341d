"""Adapters put on tiny networks, as the tests of this folder need them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft_pairs import shaken
from torch import nn

import ingot
from ingot.adapt.active import Active
from ingot.adapt.dora import DoRA
from ingot.adapt.files import write_adapter
from ingot.adapt.ia3 import IA3
from ingot.adapt.load import load
from ingot.adapt.lora import LoRA
from ingot.adapt.methods import Settings, put_on
from ingot.adapt.prefix import Prefix
from ingot.adapt.prompt import Prompt
from ingot.adapt.targets import Targets
from ingot.core.model_dir import ModelDir
from ingot.core.options import Options
from ingot.model.config import ModelConfig

CHATS = [
    {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "the cat sat"}]},
    {"messages": [{"role": "user", "content": "天空"}, {"role": "assistant", "content": "天空是藍色的。"}]},
]


def settings(kind: str, config: ModelConfig, targets: tuple[str, ...] | str = "all-linear") -> Settings:
    """A method with small numbers."""
    where = Targets(targets)
    made: dict[str, Settings] = {
        "lora": LoRA(4, 8.0, 0.0, where),
        "rslora": LoRA(4, 8.0, 0.0, where, rslora=True),
        "dora": DoRA(4, 8.0, 0.0, where),
        "ia3": IA3.of(config),
        "prefix": Prefix(6),
        "prompt": Prompt(6),
    }
    return made[kind]


def write(
    path: Path, base: Path, kind: str = "lora", seed: int = 0, chosen: Settings | None = None, on: str = ""
) -> Path:
    """An adapter directory whose every number matters; `on`: adapters it lies on, "+a+b"."""
    model = load(f"{base}{on}")
    chosen = chosen or settings(kind, model.config)
    torch.manual_seed(seed)
    put_on(model.network, chosen, "made", model.active)
    shaken(model, "made", seed)
    with ModelDir.create(path, "test", Options()) as draft:
        write_adapter(draft, model.network, "made", chosen, model.model_dir, model.adapter_dirs)
        draft.prove("nothing", "a test", 0.0)
    return path


def put(network: nn.Module, kind: str, seed: int = 0) -> tuple[Settings, Active]:
    """An adapter on a network in memory, every number of which matters."""
    from peft_pairs import shake

    from ingot.adapt.methods import tensor_names

    active = Active()
    chosen = settings(kind, network.config)  # type: ignore[arg-type]
    put_on(network, chosen, "made", active)
    state = network.state_dict()
    shake({name: state[path] for name, path in tensor_names(network, "made").items()}, seed)
    return chosen, active


def chats(path: Path) -> Path:
    path.write_text("".join(json.dumps(chat) + "\n" for chat in CHATS * 8), encoding="utf-8")
    return path


def tuned(base: Path | str, out: Path, **options: Any) -> ModelDir:
    """A few real steps of `ingot tune`."""
    options = {"max_steps": 6, "batch_tokens": 256, "loop": {"compile": "off"}} | options
    return ingot.tune(str(base), data=chats(out.parent / "chats.jsonl"), out=out, **options)
