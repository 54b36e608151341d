"""Phi-3 and Phi-4 (Abdin et al. 2024, arXiv 2404.14219): Llama with one projection for queries, keys and values and
one for gate and up, rotary positions on a part of each head, LongRoPE for long windows."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ingot.model.attention import split_heads
from ingot.model.cache import CacheRows
from ingot.model.config import Json, ModelConfig
from ingot.model.families.llama import LlamaBackbone, everywhere, read_like_llama
from ingot.model.layers import ACTIVATE, DecoderFamily, Look, RMSNorm
from ingot.model.positions import Angles
from ingot.model.rope_config import read_partial_rope


class FusedAttention(nn.Module):
    """Queries, keys and values, one after the other, from one projection."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.sizes = [heads * config.head_dim for heads in (config.num_heads, config.num_kv_heads, config.num_kv_heads)]
        self.qkv_proj = nn.Linear(config.hidden_size, sum(self.sizes), bias=False)
        self.o_proj = nn.Linear(self.sizes[0], config.hidden_size, bias=False)
        self.look = Look(config, layer)

    def forward(self, x_BTC: Tensor, angles: Angles | None, mask: Tensor | None, rows: CacheRows | None) -> Tensor:
        q, k, v = (split_heads(part, self.look.head_dim) for part in self.qkv_proj(x_BTC).split(self.sizes, -1))
        return self.o_proj(self.look(q, k, v, angles, mask, rows, self.training))


class FusedMLP(nn.Module):
    """down(act(gate) * up), gate and up from one projection."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.activate = ACTIVATE[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(x).chunk(2, -1)
        return self.down_proj(self.activate(gate) * up)


class PhiBlock(nn.Module):
    """Llama's block with fused projections and dropout on what is added."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = FusedAttention(config, layer)
        self.mlp = FusedMLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.dropout = config.dropout

    def forward(self, x_BTC: Tensor, angles: Angles | None, mask: Tensor | None, rows: CacheRows | None) -> Tensor:
        looked = self.self_attn(self.input_layernorm(x_BTC), angles, mask, rows)
        x_BTC = x_BTC + F.dropout(looked, self.dropout, self.training)
        return x_BTC + F.dropout(self.mlp(self.post_attention_layernorm(x_BTC)), self.dropout, self.training)


def backbone(config: ModelConfig) -> LlamaBackbone:
    return LlamaBackbone(config, PhiBlock)


def phi3(config: Json) -> ModelConfig:
    """Old configs call LongRoPE "su" or "yarn"."""
    scaling = dict(config.get("rope_scaling") or config.get("rope_parameters") or {})
    for key in ("type", "rope_type"):
        if scaling.get(key) in {"su", "yarn"}:
            scaling[key] = "longrope"
    plain = {key: value for key, value in config.items() if key != "rope_scaling"} | {"rope_parameters": scaling}
    rope = read_partial_rope(plain, "partial_rotary_factor", 1.0)
    return read_like_llama(
        ModelConfig,
        config,
        ropes=(rope,) * int(config["num_hidden_layers"]),
        windows=everywhere(config, config.get("sliding_window")),
        dropout=float(config.get("resid_pdrop") or 0.0),
    )


PHI3 = DecoderFamily(phi3, backbone, "Phi3ForCausalLM")
