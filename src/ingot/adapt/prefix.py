"""Prefix tuning: learned keys and values that every text sees in front of itself (Li and Liang 2021, arXiv 2101.00190).

It begins as the keys and values that the base computes for a real text, so that training starts from a model with
that text in its context rather than from noise. With `projection` what is trained is a small network whose output is
added to that start; files hold the sum, as PEFT's do.

Positions: a text behind a prefix of V tokens begins at position V, and sliding windows count the prefix.

An encoder-decoder's prefix stands in front of its target. PEFT 0.21 reads the file's layers for it in an order of its
own (`file_layers`), in which a file of an even number of layers gives some to two of the decoder's and some to none.
Files of ours hold an odd number, one more than the decoder has where that is even, so that each has its own.
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
from ingot.model.encoder_decoder import EncoderDecoder
from ingot.model.transformer import Transformer

SEQ2SEQ = "SEQ_2_SEQ_LM"
"""PEFT's word for tasks of encoder-decoders."""


class PrefixPart(Part):
    """Keys and values of all layers, (V, layers * 2 * G * D), in PEFT's order. `order`: which of the file's layers each
    of the network's reads."""

    def __init__(self, network: Transformer, adapter: str, length: int, layers: int, order: list[int]) -> None:
        super().__init__(adapter, length)
        config = network.config
        self.order, self.shape = order, (length, layers, 2, config.num_kv_heads, config.head_dim)
        width = layers * 2 * config.num_kv_heads * config.head_dim
        self.prompt_embeddings = nn.Parameter(torch.zeros(length, width, **beside(next(network.parameters()))))

    def begin(self, network: nn.Module, ids: Sequence[int]) -> None:
        """Start from what the base remembers of a text."""
        assert isinstance(network, Transformer)
        with torch.no_grad():
            for layer, both_2VGD in zip(self.order, layer_keys(network, fitted(ids, self.length)), strict=True):
                self.prompt_embeddings.view(self.shape)[:, layer] = both_2VGD.transpose(0, 1)

    def numbers(self) -> Tensor:
        """What every text sees."""
        return self.prompt_embeddings

    def remembered(self, network: nn.Module, batch: int) -> tuple[list[Tensor], list[Tensor]]:
        assert isinstance(network, Transformer)
        numbers = self.numbers().to(network.dtype)
        both = numbers.view(self.shape).permute(1, 2, 3, 0, 4)  # (L, 2, G, V, D)
        keys, values = ([both[at, side][None].expand(batch, -1, -1, -1) for at in self.order] for side in (0, 1))
        return keys, values


class ProjectedPart(PrefixPart):
    """The start plus what a small network makes of trained vectors; its last layer begins at zero."""

    def __init__(
        self, network: Transformer, adapter: str, length: int, layers: int, order: list[int], width: int
    ) -> None:
        super().__init__(network, adapter, length, layers, order)
        self.prompt_embeddings.requires_grad_(False)
        self.vectors = nn.Parameter(torch.randn(length, width).to(self.prompt_embeddings))
        self.inner = nn.Linear(width, width, **beside(self.prompt_embeddings))
        self.outer = nn.Linear(width, self.prompt_embeddings.shape[1], **beside(self.prompt_embeddings))
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def numbers(self) -> Tensor:
        return self.prompt_embeddings + self.outer(torch.tanh(self.inner(self.vectors)))


def layer_keys(network: Transformer, ids: list[int]) -> list[Tensor]:
    """The keys and values of a text alone, (2, V, G, D) of each layer."""
    found = network.remember(torch.tensor([ids], device=next(network.parameters()).device))
    pairs = zip(found.k_LBGTD, found.v_LBGTD, strict=True)
    return [torch.stack([keys[0], values[0]]).transpose(1, 2) for keys, values in pairs]


def file_layers(network: Transformer, layers: int | None = None) -> tuple[int, list[int]]:
    """How many layers a file holds (`layers`, or as ours do), and which of them each of the network's reads.

    In PEFT a decoder behind an encoder finds its keys and values in a list of the file's layers written down twice, of
    which it takes every other pair: layer g reads layer 2g modulo their number. Raises `prefix-layers` where that list
    is too short, as it is in PEFT.
    """
    own = network.config.num_layers
    if not isinstance(network, EncoderDecoder):
        return own, list(range(own))
    layers = own + 1 - own % 2 if layers is None else layers
    if layers < own:
        raise fail("prefix-layers", found=layers, expected=own)
    return layers, [2 * number % layers for number in range(own)]


def fitted(ids: Sequence[int], length: int) -> list[int]:
    """A text cut or repeated to a length, as PEFT does it."""
    return (list(ids) * -(-length // len(ids)))[:length]


@dataclass(frozen=True)
class Prefix:
    """How many tokens. `projection`: the width of the network behind them while they are trained, None for none;
    `layers`: how many the file holds, None for as many as ours do."""

    length: int
    projection: int | None = None
    layers: int | None = None

    peft_type: ClassVar[str] = "PREFIX_TUNING"
    can_merge: ClassVar[bool] = False
    name: ClassVar[str] = "prefix"

    @classmethod
    def read(cls, config: dict[str, Any], path: Path) -> Prefix:
        found, expected = config.get("num_transformer_submodules"), 2 if config.get("task_type") == SEQ2SEQ else 1
        if found not in (None, expected):  # PEFT then mixes the keys of a target and of its source
            raise fail("adapter-not-supported", path=path, key="num_transformer_submodules", found=repr(found))
        layers = config.get("num_layers")
        return cls(int(config["num_virtual_tokens"]), layers=None if layers is None else int(layers))

    def keys(self) -> dict[str, Any]:
        return {
            "num_virtual_tokens": self.length,
            "prefix_projection": self.projection is not None,
            "encoder_hidden_size": self.projection,
        }

    def shape_keys(self, network: Transformer) -> dict[str, Any]:
        """What PEFT works out from the base."""
        config = network.config
        return {
            "token_dim": config.num_kv_heads * config.head_dim,
            "num_attention_heads": config.num_kv_heads,
            "num_layers": file_layers(network, self.layers)[0],
            "num_transformer_submodules": stacks(network),
        }

    def attach(self, network: nn.Module, adapter: str, active: Active) -> None:
        """Raises `prefix-family` where blocks have no room for other keys, `prefix-layers`, `prompt-too-wide`."""
        assert isinstance(network, Transformer)
        if not network.takes_prefix:
            raise fail("prefix-family", family=network.config.model_type)
        check_room(network.config, self.length)
        where = file_layers(network, self.layers)
        if self.projection is None:
            part = PrefixPart(network, adapter, self.length, *where)
        else:
            part = ProjectedPart(network, adapter, self.length, *where, self.projection)
        BeforeText.on(network, active).parts.append(part)


def check_room(config: ModelConfig, length: int) -> None:
    """Leave a text at least half of the window."""
    if length * 2 > config.max_length:
        raise fail("prompt-too-wide", length=length, window=config.max_length)


def stacks(network: nn.Module) -> int:
    """PEFT's count of stacks that might each have something in front."""
    return 2 if isinstance(network, EncoderDecoder) else 1
