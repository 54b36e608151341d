"""By which method a model is tuned: the options of each, and which of its parameters then train."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch

from ingot.adapt.dora import DoRA
from ingot.adapt.ia3 import IA3
from ingot.adapt.load import LanguageModel
from ingot.adapt.lora import LoRA
from ingot.adapt.methods import Settings, begin, merge, put_on
from ingot.adapt.prefix import Prefix
from ingot.adapt.prompt import Prompt
from ingot.adapt.targets import ALL_LINEAR, Targets
from ingot.core.model_dir import ModelDir
from ingot.core.options import Options, option
from ingot.data.pack import Rows
from ingot.model.config import ModelConfig
from ingot.model.weights import NAMES
from ingot.train.settings import LoopOptions

Method = Literal["lora", "rslora", "dora", "qlora", "ia3", "prefix", "prompt", "full"]

RATES: dict[Method, float] = {
    "lora": 4e-3, "rslora": 4e-3, "dora": 4e-3, "qlora": 4e-3, "ia3": 2e-1, "prefix": 2e-1, "prompt": 5e-2,
    "full": 1e-3,
}  # fmt: skip
"""Peak learning rate by method at a width of 128; it falls with the square root of the width."""

PROJECTED_RATE = 1e-2
"""The same for the network behind a prefix."""

ALPHAS: dict[Method, float] = {"lora": 32.0, "dora": 32.0, "qlora": 32.0, "rslora": 8.0}
"""Strength by method: at rank 16 each update is doubled."""

TUNED = "tuned"
"""Name of the adapter that is trained, among those of its network."""

RANK = 16

MOST_IN_FRONT, PART_IN_FRONT = 32, 8
"""Tokens in front of every text by default: so many, and at most one in so many of the model's window."""


class LoRAOptions(Options):
    """The low-rank update."""

    alpha: float | None = option(None, "strength: alpha / rank, rslora: alpha / root of rank; 32 or 8 by default", gt=0)
    dropout: float = option(0.0, "dropout on the update's input", ge=0, lt=1)
    targets: str = option(ALL_LINEAR, "layers to update by the end of their name, with commas")
    save: str = option("", "layers to train whole and keep in the adapter, such as embed_tokens,lm_head")


class PromptOptions(Options):
    """What prefix and prompt tuning put in front of every text."""

    tokens: int | None = option(
        None, "how many tokens it is long; by default 32, at most an eighth of the window", ge=1
    )
    text: str | None = option(None, "text it starts from; by default the beginning of the data")
    projection: int | None = option(None, "width of a network behind the prefix while it is trained (prefix)", ge=1)


LOW_RANK = ("lora", "rslora", "dora", "qlora")
IN_FRONT = ("prefix", "prompt")


def refuse_idle(method: Method, rank: int, lora: LoRAOptions, prompt: PromptOptions) -> None:
    """Refuse options that belong to other methods. Raises ValueError."""
    if method not in LOW_RANK and (rank != RANK or lora != LoRAOptions()):
        raise ValueError(f"rank and --lora.* act only with method {', '.join(LOW_RANK)}, not {method}")
    if method not in IN_FRONT and prompt != PromptOptions():
        raise ValueError(f"--prompt.* acts only with method {' and '.join(IN_FRONT)}, not {method}")
    if method == "prompt" and prompt.projection is not None:
        raise ValueError("--prompt.projection acts only with method prefix")


def refuse_in_nf4(method: Method, loop: LoopOptions) -> None:
    """Refuse ways of holding layers that know parameters only, which a base in 4 bits is not. Raises ValueError."""
    if method == "qlora" and loop.offload == "layers":
        raise ValueError("loop.offload layers moves no layers in 4 bits (qlora); loop.offload optimizer moves states")
    if method == "qlora" and loop.parallel in ("fsdp", "tp"):
        raise ValueError(f"loop.parallel {loop.parallel} cuts no layers in 4 bits (qlora); ddp copies them")


def settings_of(method: Method, rank: int, lora: LoRAOptions, prompt: PromptOptions, config: ModelConfig) -> Settings:
    """The adapter that a method and its options describe."""
    if method == "prefix":
        return Prefix(prompt.tokens or tokens_in_front(config.max_length), prompt.projection)
    if method == "prompt":
        return Prompt(prompt.tokens or tokens_in_front(config.max_length))
    if method == "ia3":
        return IA3.of(config)
    kind = DoRA if method == "dora" else LoRA
    alpha = lora.alpha or ALPHAS[method]
    return kind(rank, alpha, lora.dropout, Targets.of(lora.targets, lora.save), rslora=method == "rslora")


def tokens_in_front(window: int) -> int:
    """How many tokens stand in front of every text by default, in a window of so many."""
    return max(1, min(MOST_IN_FRONT, window // PART_IN_FRONT))


def put_on_or_free(model: LanguageModel, settings: Settings | None) -> None:
    """Decide which parameters train: the new adapter's; or all, once adapters that were there are merged.

    Raises `rank-too-large`, and what the adapter raises of the model.
    """
    if settings is not None:
        if isinstance(settings, LoRA):
            settings.refuse_idle_rank(model.network)
        put_on(model.network, settings, TUNED, model.active)
        return
    merge(model.network, list(model.adapters))
    model.network.requires_grad_(True)


def held_in(base: ModelDir, method: Method, lora: LoRAOptions, precision: torch.dtype) -> torch.dtype:
    """The numbers a base is held in while it is tuned. A frozen one that is stored in bf16, and multiplied in bf16,
    stays so: half the memory, nothing lost, and no cast in any step."""
    frozen = method != "full" and not lora.save
    stored = {entry.dtype for entry in base.tensors.values()}
    return precision if frozen and stored == {NAMES[precision]} else torch.float32


def begin_from_text(model: LanguageModel, prompt: PromptOptions, rows: Rows) -> None:
    """Start what is put in front from the user's text, or from the beginning of the first row of the data."""
    if prompt.text is not None:
        ids: Sequence[int] = model.tokenizer.encode(prompt.text)
    else:
        ids = rows.ids[0][rows.segments[0] >= 0].tolist()
    begin(model.network, TUNED, ids)


def rate_of(method: Method, width: int, projected: bool = False) -> float:
    """The learning rate a method is given by default; `projected`: a prefix with a network behind it."""
    return (PROJECTED_RATE if projected else RATES[method]) * math.sqrt(128 / width)
