"""The few parts that families share. A family's file puts them together under its checkpoint's names.

Every block is called as `block(x_BTC, angles, mask, rows)`: rotary angles or None, who may look at whom (None: causal),
and the rows of a cache to write and read, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ingot.model.attention import attend, split_heads
from ingot.model.cache import CacheRows
from ingot.model.config import Json, ModelConfig
from ingot.model.positions import Angles, rotate

ACTIVATE: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}


class Embedding(nn.Embedding):
    """A table of vectors, not filled when it is made: weights come from a checkpoint or from `train.initial`.

    `gives`: the dtype of what is looked up, where that is not the table's own.
    """

    gives: torch.dtype | None = None

    def reset_parameters(self) -> None:
        pass

    def forward(self, ids: Tensor) -> Tensor:
        found = super().forward(ids)
        return found if self.gives is None else found.to(self.gives)


class Conv1D(nn.Module):
    """A linear layer whose weight is stored (in, out), as GPT-2's checkpoints have it."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width_in, width_out))
        self.bias = nn.Parameter(torch.zeros(width_out))

    @property
    def in_features(self) -> int:
        return self.weight.shape[0]

    @property
    def out_features(self) -> int:
        return self.weight.shape[1]

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.t(), self.bias)


class RMSNorm(nn.Module):
    """x / rms(x) * weight (Zhang and Sennrich 2019)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.eps)


class Attention(nn.Module):
    """Grouped-query attention (Ainslie et al. 2023), rotary where the layer has angles.

    `norm` makes the normalisation of queries and keys, which is "head" by head, over their whole "width", or None.
    """

    def __init__(
        self,
        config: ModelConfig,
        layer: int,
        *,
        qkv_bias: bool = False,
        out_bias: bool = False,
        qk_norm: str | None = None,
        norm: Callable[[int, float], nn.Module] = RMSNorm,
    ) -> None:
        super().__init__()
        width, inner, kv = config.hidden_size, config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.q_proj = nn.Linear(width, inner, bias=qkv_bias)
        self.k_proj = nn.Linear(width, kv, bias=qkv_bias)
        self.v_proj = nn.Linear(width, kv, bias=qkv_bias)
        self.o_proj = nn.Linear(inner, width, bias=out_bias)
        if qk_norm is not None:
            self.q_norm = norm(inner if qk_norm == "width" else config.head_dim, config.norm_eps)
            self.k_norm = norm(kv if qk_norm == "width" else config.head_dim, config.norm_eps)
        self.qk_norm, self.look = qk_norm, Look(config, layer)

    def forward(self, x_BTC: Tensor, angles: Angles | None, mask: Tensor | None, rows: CacheRows | None) -> Tensor:
        q_BTN, k_BTN, v_BTN = self.q_proj(x_BTC), self.k_proj(x_BTC), self.v_proj(x_BTC)
        if self.qk_norm == "width":
            q_BTN, k_BTN = self.q_norm(q_BTN), self.k_norm(k_BTN)
        q_BHTD, k_BGTD, v_BGTD = (split_heads(part, self.look.head_dim) for part in (q_BTN, k_BTN, v_BTN))
        if self.qk_norm == "head":
            q_BHTD, k_BGTD = self.q_norm(q_BHTD), self.k_norm(k_BGTD)
        return self.o_proj(self.look(q_BHTD, k_BGTD, v_BGTD, angles, mask, rows, self.training))


class Look:
    """What every attention does once it has its queries, keys and values."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        self.layer, self.head_dim, self.dropout = layer, config.head_dim, config.attention_dropout
        self.scale, self.softcap, self.causal = config.attention_scale, config.attention_softcap, config.causal

    def __call__(
        self,
        q_BHTD: Tensor,
        k_BGTD: Tensor,
        v_BGTD: Tensor,
        angles: Angles | None,
        mask: Tensor | None,
        rows: CacheRows | None,
        training: bool,
    ) -> Tensor:
        """Turn by the angles, append to the cache, attend: (B, T, H*D)."""
        if angles is not None:
            q_BHTD, k_BGTD = rotate(q_BHTD, angles), rotate(k_BGTD, angles)
        if rows is not None:
            k_BGTD, v_BGTD = rows.append(self.layer, (k_BGTD, v_BGTD))
        dropout = self.dropout if training else 0.0
        return attend(
            q_BHTD, k_BGTD, v_BGTD, mask, dropout=dropout, scale=self.scale, softcap=self.softcap, causal=self.causal
        )


class GatedMLP(nn.Module):
    """down(act(gate(x)) * up(x)) (Shazeer 2020)."""

    def __init__(self, width: int, inner: int, activation: str, bias: bool = False) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=bias)
        self.up_proj = nn.Linear(width, inner, bias=bias)
        self.down_proj = nn.Linear(inner, width, bias=bias)
        self.activate = ACTIVATE[activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.activate(self.gate_proj(x)) * self.up_proj(x))


class Backbone(nn.Module):
    """A decoder without its head, as `Decoder` drives it; its attributes carry the checkpoint's names.

    A family gives `embedding`, `blocks` and `final`, and overrides `embed` when it does more than look up.
    """

    @property
    def embedding(self) -> nn.Embedding:
        raise NotImplementedError

    @property
    def blocks(self) -> Sequence[nn.Module]:
        raise NotImplementedError

    @property
    def embedding_scale(self) -> float:
        """What `embed` multiplies words' vectors by."""
        return 1.0

    def final(self, x_BTC: Tensor) -> Tensor:
        """The norm after the last block."""
        raise NotImplementedError

    def embed(self, ids_BT: Tensor, positions_BT: Tensor) -> Tensor:
        """What the first block reads, (B, T, C)."""
        return self.embedding(ids_BT)


@dataclass(frozen=True)
class Family:
    """A family: how its config is read, and what makes its network.

    `architecture`: the class name that transformers expects in config.json.
    """

    read: Callable[[Json], ModelConfig]
    make: Callable[[Any], nn.Module]
    architecture: str


@dataclass(frozen=True)
class DecoderFamily(Family):
    """A family of decoders: `make` gives the backbone; what its checkpoint calls backbone and head."""

    make: Callable[[Any], Backbone]
    prefix: str = "model"
    head: str = "lm_head"
