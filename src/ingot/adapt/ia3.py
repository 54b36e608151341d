"""(IA)^3: learned factors of keys, values and the inside of the feed-forward (Liu et al. 2022, arXiv 2205.05638).

A factor of the output for keys and values, of the input for layers that read the feed-forward's inside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ingot.adapt.active import Active
from ingot.adapt.saved import save_modules
from ingot.adapt.targets import Names, Targets
from ingot.adapt.tied import untie
from ingot.adapt.wrapped import Wrapped, beside, is_linear, is_transposed, layers, like, replace
from ingot.core.errors import fail
from ingot.model.config import ModelConfig

GATED = (("k_proj", "v_proj", "down_proj"), ("down_proj",))

PLACES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "phi3": (("qkv_proj", "down_proj"), ("down_proj",)),
    "mixtral": (("k_proj", "v_proj", "w2"), ("w2",)),
    "gpt2": (("c_attn", "mlp.c_proj"), ("mlp.c_proj",)),
    "gpt_neox": (("query_key_value", "dense_4h_to_h"), ("dense_4h_to_h",)),
    "bloom": (("query_key_value", "dense_4h_to_h"), ("dense_4h_to_h",)),
    "bert": (("key", "value", "output.dense"), ("output.dense",)),
    "roberta": (("key", "value", "output.dense"), ("output.dense",)),
    "distilbert": (("k_lin", "v_lin", "lin2"), ("lin2",)),
    "modernbert": (("Wqkv", "mlp.Wo"), ("mlp.Wo",)),
    "t5": (("k", "v", "wo"), ("wo",)),
    "bart": (("k_proj", "v_proj", "fc2"), ("fc2",)),
    "marian": (("k_proj", "v_proj", "fc2"), ("fc2",)),
}
"""By family: what is wrapped, and what of it reads the feed-forward's inside. Fused projections are scaled whole."""


class IA3Layer(Wrapped):
    """base(x) * l, or base(x * l) in the feed-forward. l starts at one."""

    parts = ("ia3_l",)

    def __init__(self, base: nn.Module, adapter: str, active: Active, is_feedforward: bool) -> None:
        super().__init__(base, adapter, active)
        shape = (1, self.in_features) if is_feedforward else (self.out_features, 1)
        self.ia3_l = nn.Parameter(torch.ones(shape, **beside(like(base))))
        self.is_feedforward = is_feedforward

    def forward(self, x: Tensor) -> Tensor:
        if self.is_feedforward:
            return self.base_layer(self._scaled(x, x))
        return self._scaled(x, self.base_layer(x))

    def _scaled(self, batch: Tensor, x: Tensor) -> Tensor:
        rows, factor = self.active.of(self.adapter, batch), self.ia3_l.flatten()
        if rows is None:
            return (x * factor).to(x.dtype)
        return x.index_copy(0, rows, (x[rows] * factor).to(x.dtype)) if len(rows) else x

    def merged(self, part: str, dtype: torch.dtype) -> Tensor:
        return self.inner(part, dtype) * self._factor(part, dtype)

    def taken_out(self, part: str, merged: Tensor) -> Tensor:
        if (self.ia3_l == 0).any():
            raise fail("adapter-cannot-unmerge", adapter=self.adapter, kind="IA3Layer: 0")
        return merged / self._factor(part, merged.dtype)

    def _factor(self, part: str, dtype: torch.dtype) -> Tensor | int:
        """What the weight or bias is multiplied by, as the base stores it."""
        factor = self.ia3_l.to(dtype)
        if part == "bias":
            return 1 if self.is_feedforward else factor.flatten()
        return factor.t() if is_transposed(self) else factor


@dataclass(frozen=True)
class IA3:
    """Where; `feedforward` names the targets whose input is scaled."""

    targets: Targets
    feedforward: Names

    peft_type: ClassVar[str] = "IA3"
    can_merge: ClassVar[bool] = True
    name: ClassVar[str] = "ia3"

    @classmethod
    def of(cls, config: ModelConfig) -> IA3:
        """Keys, values and feed-forward of a family."""
        modules, feedforward = PLACES.get(config.model_type, GATED)
        return cls(Targets(modules), feedforward)

    @classmethod
    def read(cls, config: dict[str, Any], path: Path) -> IA3:
        found = config.get("feedforward_modules") or []
        return cls(Targets.read(config, path), found if isinstance(found, str) else tuple(sorted(found)))

    def keys(self) -> dict[str, Any]:
        keys = {key: value for key, value in self.targets.keys().items() if not key.startswith("layers")}
        feedforward = self.feedforward if isinstance(self.feedforward, str) else list(self.feedforward)
        return keys | {"feedforward_modules": feedforward, "init_ia3_weights": True}

    def attach(self, network: nn.Module, adapter: str, active: Active) -> None:
        """Wrap the layers in place. Raises `no-target-modules`, `ia3-embedding`."""
        names, saved = self.targets.select(network), self.targets.saved(network)
        untie(network, [*names, *saved])
        found = layers(network)
        for name in names:
            if not is_linear(found[name]):
                raise fail("ia3-embedding", layer=name)
            replace(network, name, IA3Layer(found[name], adapter, active, self._reads_inside(name)))
        save_modules(network, saved, adapter, active)

    def _reads_inside(self, name: str) -> bool:
        """PEFT's rule, which takes the end of the name as it is, without looking for a dot."""
        if isinstance(self.feedforward, str):
            return re.fullmatch(self.feedforward, name) is not None
        return name.endswith(self.feedforward)
