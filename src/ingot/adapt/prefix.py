"""Prefix tuning: learned keys and values that every text sees in front of itself (Li and Liang 2021, arXiv 2101.00190).

It begins as the keys and values that the base computes for a real text, so that training starts from a model with
that text in its context rather than from noise. With `projection` what is trained is a small network whose output is
added to that start; files hold the sum, as PEFT's do.

Positions: a text behind a prefix of V tokens begins at position V, and sliding windows count the prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ingot.adapt.active import Active
from ingot.adapt.before import BeforeText, Part
from ingot.adapt.wrapped import beside
from ingot.core.errors import fail
from ingot.model.config import ModelConfig
from ingot.model.transformer import Transformer


class PrefixPart(Part):
    """Keys and values of all layers, (V, layers * 2 * G * D), in PEFT's order."""

    def __init__(self, network: Transformer, adapter: str, length: int) -> None:
        super().__init__(adapter, length)
        config = network.config
        self.shape = (length, config.num_layers, 2, config.num_kv_heads, config.head_dim)
        width = config.num_layers * 2 * config.num_kv_heads * config.head_dim
        self.prompt_embeddings = nn.Parameter(torch.zeros(length, width, **beside(next(network.parameters()))))

    def begin(self, network: nn.Module, ids: Sequence[int]) -> None:
        """Start from what the base remembers of a text."""
        assert isinstance(network, Transformer)
        with torch.no_grad():
            self.prompt_embeddings.copy_(flattened(network, fitted(ids, self.length)))

    def numbers(self) -> Tensor:
        """What every text sees."""
        return self.prompt_embeddings

    def remembered(self, network: nn.Module, batch: int) -> tuple[list[Tensor], list[Tensor]]:
        assert isinstance(network, Transformer)
        both = (
            self.numbers().to(network.embedding.weight.dtype).view(self.shape).permute(1, 2, 3, 0, 4)
        )  # (L, 2, G, V, D)
        keys, values = ([layer[side][None].expand(batch, -1, -1, -1) for layer in both] for side in (0, 1))
        return keys, values


class ProjectedPart(PrefixPart):
    """The start plus what a small network makes of trained vectors; its last layer begins at zero."""

    def __init__(self, network: Transformer, adapter: str, length: int, width: int) -> None:
        super().__init__(network, adapter, length)
        self.prompt_embeddings.requires_grad_(False)
        self.vectors = nn.Parameter(torch.randn(length, width).to(self.prompt_embeddings))
        self.inner = nn.Linear(width, width).to(self.prompt_embeddings)
        self.outer = nn.Linear(width, self.prompt_embeddings.shape[1]).to(self.prompt_embeddings)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def numbers(self) -> Tensor:
        return self.prompt_embeddings + self.outer(torch.tanh(self.inner(self.vectors)))


def flattened(network: Transformer, ids: list[int]) -> Tensor:
    """The keys and values of a text alone, (V, layers * 2 * G * D)."""
    found = network.remember(torch.tensor([ids], device=next(network.parameters()).device))
    both = torch.stack([torch.stack(found.k_LBGTD), torch.stack(found.v_LBGTD)], 1)  # (L, 2, 1, G, V, D)
    return both[:, :, 0].permute(3, 0, 1, 2, 4).flatten(1)


def fitted(ids: Sequence[int], length: int) -> list[int]:
    """A text cut or repeated to a length, as PEFT does it."""
    return (list(ids) * -(-length // len(ids)))[:length]


@dataclass(frozen=True)
class Prefix:
    """How many tokens. `projection`: the width of the network behind them while they are trained, None for none."""

    length: int
    projection: int | None = None

    peft_type: ClassVar[str] = "PREFIX_TUNING"
    can_merge: ClassVar[bool] = False
    name: ClassVar[str] = "prefix"

    @classmethod
    def read(cls, config: dict[str, Any], path: Path) -> Prefix:
        return cls(int(config["num_virtual_tokens"]))

    def keys(self) -> dict[str, Any]:
        return {
            "num_virtual_tokens": self.length,
            "prefix_projection": self.projection is not None,
            "encoder_hidden_size": self.projection,
        }

    def shape_keys(self, config: ModelConfig) -> dict[str, Any]:
        """What PEFT works out from the base."""
        return {
            "token_dim": config.num_kv_heads * config.head_dim,
            "num_attention_heads": config.num_kv_heads,
            "num_layers": config.num_layers,
            "num_transformer_submodules": 1,
        }

    def attach(self, network: nn.Module, adapter: str, active: Active) -> None:
        """Raises `prefix-family` where blocks have no room for other keys, `prompt-too-wide`."""
        assert isinstance(network, Transformer)
        if not network.takes_prefix:
            raise fail("prefix-family", family=network.config.model_type)
        check_room(network.config, self.length)
        if self.projection is None:
            part = PrefixPart(network, adapter, self.length)
        else:
            part = ProjectedPart(network, adapter, self.length, self.projection)
        BeforeText.on(network, active).parts.append(part)


def check_room(config: ModelConfig, length: int) -> None:
    """Leave a text at least half of the window."""
    if length * 2 > config.max_length:
        raise fail("prompt-too-wide", length=length, window=config.max_length)
