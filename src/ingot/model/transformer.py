"""What decoders, encoders and encoder-decoders have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from ingot.model.cache import KVCache
from ingot.model.config import ModelConfig, Rope
from ingot.model.context import Recorder
from ingot.model.in_front import InFront
from ingot.model.positions import Angles, Rotary


class Transformer(nn.Module):
    """A network of any kind, with the rotary positions its config names. A kind or family gives the properties.

    `takes_prefix`: its blocks look at keys and values that are given them, beside their own.
    """

    takes_prefix: ClassVar[bool] = False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.ropes = [rope for rope in dict.fromkeys(config.ropes) if rope is not None]
        self.rotary = nn.ModuleList(Rotary(rope, config.head_dim) for rope in self.ropes)
        self.before: InFront | None = None

    def reset_buffers(self) -> None:
        """Compute what the config determines; called again once weights replace a model made on the meta device."""
        for rotary in self.rotary:
            assert isinstance(rotary, Rotary)
            rotary.reset()

    @property
    def embedding(self) -> nn.Embedding:
        raise NotImplementedError

    @property
    def embedding_scale(self) -> float:
        """What words' vectors are multiplied by once they are looked up, where whoever gives vectors instead of words
        is expected to have done so."""
        return 1.0

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The layers in order; an encoder's before its decoder's."""
        raise NotImplementedError

    @property
    def ties(self) -> dict[str, str]:
        """Tensors that a checkpoint may repeat -> the one they are."""
        raise NotImplementedError

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        table = next(module for module in self.embedding.modules() if isinstance(module, nn.Embedding))
        return getattr(table, "gives", None) or table.weight.dtype

    def keep_front(self, cache: KVCache, places_BS: Tensor) -> Tensor:
        """Write what adapters put in front of every text to the first of its places, once for as long as it goes on.
        How many tokens that is in each, (B,): where its text begins."""
        before = None if self.before is None else self.before.remembered(self, places_BS)
        if before is None:
            return places_BS.new_zeros(len(places_BS))
        before.keep(cache, places_BS)
        return before.lengths_B

    def remember(self, ids_BT: Tensor) -> Recorder:
        """The keys and values of every layer once `ids_BT` were read alone, where the network takes such in."""
        raise NotImplementedError

    def angles(
        self, positions_BT: Tensor, lengths_BT: Tensor | None, dtype: torch.dtype
    ) -> dict[Rope | None, Angles | None]:
        """cos and sin for each rotary description, None for layers without one."""
        found: dict[Rope | None, Angles | None] = {None: None}
        for rope, rotary in zip(self.ropes, self.rotary, strict=True):
            found[rope] = rotary(positions_BT, lengths_BT, dtype)
        return found
