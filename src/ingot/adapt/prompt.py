"""Prompt tuning: learned vectors in front of every text, where words' vectors would stand (Lester et al. 2021, arXiv
2104.08691).

The embedding is wrapped: ids beyond the vocabulary stand for the learned vectors, so that whatever a family does to
words (positions, scales, norms) happens to them too. A decoder reads them alone first and keeps their keys and values,
which no later text changes; an encoder, and the encoder of an encoder-decoder, reads them in front of every text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ingot.adapt.active import Active
from ingot.adapt.before import BeforeText, Part
from ingot.adapt.prefix import check_room, fitted, stacks
from ingot.adapt.wrapped import Wrapped, beside, layers, origin, replace
from ingot.model.decoder import Decoder
from ingot.model.transformer import Transformer


class PromptPart(Part):
    """The learned vectors, (V, C); of an encoder-decoder PEFT's file holds as many again that nothing reads."""

    has_ids = True

    def __init__(self, network: Transformer, adapter: str, length: int, first_id: int) -> None:
        super().__init__(adapter, length)
        shape = (length * stacks(network), network.config.hidden_size)
        self.prompt_embeddings = nn.Parameter(torch.zeros(shape, **beside(next(network.parameters()))))
        self.first_id = first_id

    def begin(self, network: nn.Module, ids: Sequence[int]) -> None:
        """Start from the vectors of a text's tokens."""
        assert isinstance(network, Transformer)
        with torch.no_grad():
            rows = network.embedding(torch.tensor(fitted(ids, self.length), device=self.prompt_embeddings.device))
            self.prompt_embeddings.copy_((rows * network.embedding_scale).repeat(stacks(network), 1))

    def ids(self, device: torch.device) -> Tensor:
        return torch.arange(self.first_id, self.first_id + self.length, device=device)

    def remembered(self, network: nn.Module, batch: int) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        assert isinstance(network, Decoder)
        ids_BV = self.ids(self.prompt_embeddings.device).expand(batch, -1)
        found = network.remember(ids_BV)
        return found.k_LBGTD, found.v_LBGTD


class PromptEmbedding(Wrapped):
    """The embedding it wraps, and a prompt's vectors under ids beyond its own."""

    def __init__(self, base: nn.Module, active: Active, part: PromptPart, scale: float) -> None:
        super().__init__(base, part.adapter, active)
        self.num_embeddings, self.scale = origin(base).num_embeddings, scale
        self._part = [part]  # in a list: its parameter belongs to the network's `before`

    def forward(self, ids: Tensor) -> Tensor:
        part = self._part[0]
        places = ids - part.first_id
        ours = (places >= 0) & (places < part.length)
        words = self.base_layer(torch.where(ours, 0, ids))
        vectors = F.embedding(places.clamp(0, part.length - 1), part.prompt_embeddings) / self.scale
        return torch.where(ours[..., None], vectors.to(words), words)


@dataclass(frozen=True)
class Prompt:
    """How many tokens."""

    length: int

    peft_type: ClassVar[str] = "PROMPT_TUNING"
    can_merge: ClassVar[bool] = False
    name: ClassVar[str] = "prompt"

    @classmethod
    def read(cls, config: dict[str, Any], path: Path) -> Prompt:
        return cls(int(config["num_virtual_tokens"]))

    def keys(self) -> dict[str, Any]:
        return {"num_virtual_tokens": self.length, "prompt_tuning_init": "RANDOM"}

    def shape_keys(self, network: Transformer) -> dict[str, Any]:
        """What PEFT works out from the base."""
        config = network.config
        return {
            "token_dim": config.hidden_size,
            "num_attention_heads": config.num_heads,
            "num_layers": config.num_layers,
            "num_transformer_submodules": stacks(network),
        }

    def attach(self, network: nn.Module, adapter: str, active: Active) -> None:
        """Raises `prompt-too-wide`."""
        assert isinstance(network, Transformer)
        check_room(network.config, self.length)
        before = BeforeText.on(network, active)
        first = network.config.vocab_size + before.total
        part = PromptPart(network, adapter, self.length, first)
        name = next(name for name, module in layers(network).items() if module is network.embedding)
        replace(network, name, PromptEmbedding(network.embedding, active, part, network.embedding_scale))
        before.parts.append(part)
