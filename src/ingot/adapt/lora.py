"""LoRA: a low-rank update beside a frozen layer (Hu et al. 2021, arXiv 2106.09685).

rsLoRA (Kalajdzievski 2023, arXiv 2312.03732) divides by the square root of the rank instead of the rank. Embeddings
are wrapped too: their update is looked up. The base's weights are never touched.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ingot.adapt.active import Active
from ingot.adapt.experts import targets
from ingot.adapt.saved import save_modules
from ingot.adapt.targets import ALL_LINEAR, Targets
from ingot.adapt.tied import untie
from ingot.adapt.wrapped import Wrapped, beside, is_linear, is_transposed, layers, like, origin, replace
from ingot.core.errors import fail


class LoRALayer(Wrapped):
    """base(x) + scale * B A x. A starts random, B zero, so that training starts from the base."""

    parts: ClassVar[tuple[str, ...]] = ("lora_A.weight", "lora_B.weight")

    def __init__(self, base: nn.Module, adapter: str, active: Active, rank: int, scale: float, dropout: float) -> None:
        super().__init__(base, adapter, active)
        at = beside(like(base))
        self.lora_A = nn.Linear(self.in_features, rank, bias=False, **at)
        self.lora_B = nn.Linear(rank, self.out_features, bias=False, **at)
        nn.init.kaiming_uniform_(self.lora_A.weight, a=math.sqrt(5))
        nn.init.zeros_(self.lora_B.weight)
        self.rank, self.scale, self.dropout = rank, scale, dropout

    def changed(self, x: Tensor, out: Tensor) -> Tensor:
        return self.added(out, F.dropout(x, self.dropout, self.training))

    def added(self, out: Tensor, x: Tensor) -> Tensor:
        """out + scale B A x. The second product adds to what is there, which a sum of its own would read and write once
        more."""
        inner = F.linear(x, self.lora_A.weight.to(x.dtype)).flatten(0, -2)
        outer = self.lora_B.weight.to(inner.dtype).t()
        return torch.addmm(out.flatten(0, -2), inner, outer, alpha=self.scale).view(out.shape)

    def delta(self, dtype: torch.dtype) -> Tensor:
        """The update of the weight, (out, in)."""
        return self.scale * (self.lora_B.weight.to(dtype) @ self.lora_A.weight.to(dtype))

    def merged(self, part: str, dtype: torch.dtype) -> Tensor:
        return self.inner(part, dtype) + self._added(part, dtype)

    def taken_out(self, part: str, merged: Tensor) -> Tensor:
        return merged - self._added(part, merged.dtype)

    def _added(self, part: str, dtype: torch.dtype) -> Tensor | int:
        """What comes to the weight, as the base stores it; nothing to the bias."""
        if part != "weight":
            return 0
        delta = self.delta(dtype)
        return delta.t() if is_transposed(self) else delta


class LoRAEmbedding(Wrapped):
    """The same for a table: row i of the update is column i of A, turned by B. Here A starts zero, B random."""

    parts: ClassVar[tuple[str, ...]] = ("lora_embedding_A", "lora_embedding_B")

    def __init__(self, base: nn.Module, adapter: str, active: Active, rank: int, scale: float, dropout: float) -> None:
        super().__init__(base, adapter, active)
        weight: Any = origin(base).weight
        rows, width = weight.shape
        self.lora_embedding_A = nn.Parameter(torch.zeros(rank, rows, **beside(weight)))
        self.lora_embedding_B = nn.Parameter(torch.randn(width, rank, **beside(weight)))
        self.num_embeddings, self.embedding_dim, self.rank, self.scale = rows, width, rank, scale

    def changed(self, x: Tensor, out: Tensor) -> Tensor:
        update = F.embedding(x, self.lora_embedding_A.t()) @ self.lora_embedding_B.t()
        return out + (self.scale * update).to(out.dtype)

    def delta(self, dtype: torch.dtype) -> Tensor:
        """The update of the table, (rows, width)."""
        return self.scale * (self.lora_embedding_B.to(dtype) @ self.lora_embedding_A.to(dtype)).t()

    def merged(self, part: str, dtype: torch.dtype) -> Tensor:
        return self.inner(part, dtype) + self.delta(dtype)

    def taken_out(self, part: str, merged: Tensor) -> Tensor:
        return merged - self.delta(merged.dtype)


@dataclass(frozen=True)
class LoRA:
    """Rank, strength, dropout on the update's input, where; `by_rank` and `by_alpha`: other numbers for some layers,
    by a regular expression for the end of their name; `parameters`: what else is updated (`ingot.adapt.experts`)."""

    rank: int
    alpha: float
    dropout: float
    targets: Targets
    rslora: bool = False
    by_rank: dict[str, int] = field(default_factory=dict)
    by_alpha: dict[str, float] = field(default_factory=dict)
    parameters: tuple[str, ...] = ()

    peft_type: ClassVar[str] = "LORA"
    can_merge: ClassVar[bool] = True
    layer: ClassVar[type[LoRALayer]] = LoRALayer
    embedding: ClassVar[type[LoRAEmbedding]] = LoRAEmbedding

    @property
    def name(self) -> str:
        return "rslora" if self.rslora else "lora"

    @classmethod
    def read(cls, config: dict[str, Any], path: Path) -> LoRA:
        parameters = config.get("target_parameters") or ()
        if parameters:
            check_parameters(cls, config, path)
            config = config | {"target_modules": config.get("target_modules") or []}
        return cls(
            int(config.get("r", 8)),
            float(config.get("lora_alpha", 8)),
            float(config.get("lora_dropout", 0.0)),
            Targets.read(config, path),
            bool(config.get("use_rslora", False)),
            {key: int(value) for key, value in (config.get("rank_pattern") or {}).items()},
            {key: float(value) for key, value in (config.get("alpha_pattern") or {}).items()},
            tuple(sorted(parameters)),
        )

    def keys(self) -> dict[str, Any]:
        return {
            "r": self.rank,
            "lora_alpha": int(self.alpha) if self.alpha == int(self.alpha) else self.alpha,
            "lora_dropout": self.dropout,
            **self.targets.keys(),
            "rank_pattern": self.by_rank,
            "alpha_pattern": self.by_alpha,
            "use_rslora": self.rslora,
            "use_dora": False,
            "bias": "none",
            "init_lora_weights": True,
        }

    def scale(self, name: str) -> tuple[int, float]:
        """Rank and factor of a layer's update."""
        rank, alpha = by_pattern(self.by_rank, name, self.rank), by_pattern(self.by_alpha, name, self.alpha)
        return rank, alpha / (math.sqrt(rank) if self.rslora else rank)

    def refuse_idle_rank(self, network: nn.Module) -> None:
        """Raises `rank-too-large` where a layer has no room for so many ranks: to train them is a mistake. (Files may
        hold more: adapters added up exactly do.)"""
        found = layers(network)
        for name in self.targets.select(network):
            rank, layer = self.scale(name)[0], cast(Any, origin(found[name]))
            sides = (layer.in_features, layer.out_features) if is_linear(layer) else layer.weight.shape
            if rank > min(sides):
                raise fail("rank-too-large", rank=rank, module=name, limit=min(sides))

    def attach(self, network: nn.Module, adapter: str, active: Active) -> None:
        """Wrap the layers in place. Raises `no-target-modules`."""
        names, saved = self.targets.select(network), self.targets.saved(network)
        untie(network, [*names, *saved])
        found = layers(network)
        for name in names:
            rank, scale = self.scale(name)
            kind: Any = self.layer if is_linear(found[name]) else self.embedding
            replace(network, name, kind(found[name], adapter, active, rank, scale, self.dropout))
        for target in targets(network, self.parameters) if self.parameters else ():
            rank, scale = self.scale(target.parameter)
            for name in target.layers:
                replace(network, name, LoRALayer(found[name], adapter, active, rank, scale, 0.0))
        save_modules(network, saved, adapter, active)


def low_rank(rank: int) -> LoRA:
    """An update of every layer, twice as strong as its rank."""
    return LoRA(rank, 2.0 * rank, 0.0, Targets((ALL_LINEAR,)))


def check_parameters(kind: type[LoRA], config: dict[str, Any], path: Path) -> None:
    """Refuse what PEFT, too, cannot put on parameters. Raises `adapter-not-supported`."""
    found = config["target_parameters"]
    if kind is not LoRA or not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise fail("adapter-not-supported", path=path, key="target_parameters", found=repr(found))


T = TypeVar("T")


def by_pattern(patterns: dict[str, T], name: str, default: T) -> T:
    """The value of the first pattern that matches the end of a name, as PEFT matches them."""
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", name)), default)
