"""DoRA: the length of each row of a weight is trained apart from its direction, which a low-rank update turns (Liu et
al. 2024, arXiv 2402.09353).

The norm of the turned weight counts as a constant in the gradient, as section 4.3 of the paper proposes. Of stacked
adapters each takes the norm of the base's own weight with its own update, as PEFT does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ingot.adapt.active import Active
from ingot.adapt.lora import LoRA, LoRAEmbedding, LoRALayer
from ingot.adapt.wrapped import Wrapped, is_transposed

MAGNITUDE = "lora_magnitude_vector"


class DoRALayer(LoRALayer):
    """magnitude / |W + scale B A| * (W x + scale B A x) + bias; the norms are those of rows, (out,)."""

    parts: ClassVar[tuple[str, ...]] = (*LoRALayer.parts, MAGNITUDE)

    def __init__(self, base: nn.Module, adapter: str, active: Active, rank: int, scale: float, dropout: float) -> None:
        super().__init__(base, adapter, active, rank, scale, dropout)
        with torch.no_grad():
            self.lora_magnitude_vector = nn.Parameter(self._norms(self.lora_A.weight.dtype).clone())

    def _rows(self, dtype: torch.dtype) -> Tensor:
        """The base's own weight, (out, in)."""
        weight: Any = self.origin.weight
        return (weight.t() if is_transposed(self) else weight).to(dtype)

    def _norms(self, dtype: torch.dtype) -> Tensor:
        return torch.linalg.norm(self._rows(dtype) + self.delta(dtype), dim=1)

    def changed(self, x: Tensor, out: Tensor) -> Tensor:
        factor = self.lora_magnitude_vector / self._norms(self.lora_A.weight.dtype).detach()
        bias: Any = self.origin.bias
        kept = F.dropout(x, self.dropout, self.training)
        if kept is not x:
            out = F.linear(kept, self._rows(x.dtype), bias)
        plain = out if bias is None else out - bias
        turned = (factor * self.added(plain, kept)).to(out.dtype)
        return turned if bias is None else turned + bias

    def merged(self, part: str, dtype: torch.dtype) -> Tensor:
        factor = self.lora_magnitude_vector.to(dtype) / self._norms(dtype)
        summed = super().merged(part, dtype)
        if part == "bias":  # the base's own is not scaled; what adapters below added to it is
            own = self.origin.get_parameter("bias").to(dtype)
            return own + factor * (summed - own)
        return summed * (factor[None] if is_transposed(self) else factor[:, None])

    def taken_out(self, part: str, merged: Tensor) -> Tensor:
        return Wrapped.taken_out(self, part, merged)


class DoRAEmbedding(LoRAEmbedding):
    """The same for a table, by its columns, (width,)."""

    parts: ClassVar[tuple[str, ...]] = (*LoRAEmbedding.parts, MAGNITUDE)

    def __init__(self, base: nn.Module, adapter: str, active: Active, rank: int, scale: float, dropout: float) -> None:
        super().__init__(base, adapter, active, rank, scale, dropout)
        with torch.no_grad():
            self.lora_magnitude_vector = nn.Parameter(self._norms(self.lora_embedding_A.dtype).clone())

    def _norms(self, dtype: torch.dtype) -> Tensor:
        return torch.linalg.norm(self.origin.weight.to(dtype) + self.delta(dtype), dim=0)  # type: ignore[operator]

    def changed(self, x: Tensor, out: Tensor) -> Tensor:
        factor = self.lora_magnitude_vector / self._norms(self.lora_embedding_A.dtype).detach()
        return (super().changed(x, out) * factor).to(out.dtype)

    def merged(self, part: str, dtype: torch.dtype) -> Tensor:
        return super().merged(part, dtype) * (self.lora_magnitude_vector.to(dtype) / self._norms(dtype))

    def taken_out(self, part: str, merged: Tensor) -> Tensor:
        return Wrapped.taken_out(self, part, merged)


@dataclass(frozen=True)
class DoRA(LoRA):
    """LoRA's settings."""

    layer: ClassVar[type[LoRALayer]] = DoRALayer
    embedding: ClassVar[type[LoRAEmbedding]] = DoRAEmbedding

    @property
    def name(self) -> str:
        return "dora"

    @classmethod
    def read(cls, config: dict[str, Any], path: Path) -> LoRA:
        return super().read(config, path)

    def keys(self) -> dict[str, Any]:
        return super().keys() | {"use_dora": True}
