"""Mixtral and Qwen3-MoE: Llama whose feed-forward is chosen token by token among experts (Shazeer et al. 2017,
arXiv 1701.06538; Jiang et al. 2024, arXiv 2401.04088). Experts are modules of their own, so an adapter or a quantiser
reaches each one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ingot.model.cache import CacheRows
from ingot.model.config import Json, only
from ingot.model.families.llama import LlamaBackbone, LlamaConfig, attention, everywhere, qwen_windows, read_like_llama
from ingot.model.layers import ACTIVATE, DecoderFamily, GatedMLP, RMSNorm
from ingot.model.positions import Angles


@dataclass(frozen=True, kw_only=True)
class MoEConfig(LlamaConfig):
    """`chosen` of `experts` work on a token; `normalise`: their weights sum to one. `dense_layers` have no experts."""

    experts: int
    chosen: int
    expert_size: int
    normalise: bool
    dense_layers: frozenset[int] = frozenset()


class MixtralExpert(nn.Module):
    """A gated feed-forward under Mixtral's names."""

    def __init__(self, config: MoEConfig) -> None:
        super().__init__()
        self.w1 = nn.Linear(config.hidden_size, config.expert_size, bias=False)
        self.w2 = nn.Linear(config.expert_size, config.hidden_size, bias=False)
        self.w3 = nn.Linear(config.hidden_size, config.expert_size, bias=False)
        self.activate = ACTIVATE[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(self.activate(self.w1(x)) * self.w3(x))


def qwen_expert(config: MoEConfig) -> GatedMLP:
    return GatedMLP(config.hidden_size, config.expert_size, config.activation)


class Experts(nn.Module):
    """A router and its experts. Each expert reads the tokens that chose it, all at once."""

    def __init__(self, config: MoEConfig, make: Callable[[MoEConfig], nn.Module]) -> None:
        super().__init__()
        self.gate = nn.Linear(config.hidden_size, config.experts, bias=False)
        self.experts = nn.ModuleList(make(config) for _ in range(config.experts))
        self.chosen, self.normalise = config.chosen, config.normalise

    def forward(self, x_BTC: Tensor) -> Tensor:
        x_NC = x_BTC.flatten(0, -2)
        weight_NK, expert_NK = self.gate(x_NC).float().softmax(-1).topk(self.chosen, -1)
        if self.normalise:
            weight_NK = weight_NK / weight_NK.sum(-1, keepdim=True)
        weight_NK = weight_NK.to(x_NC.dtype)
        out_NC = torch.zeros_like(x_NC)
        for number, expert in enumerate(self.experts):
            token, place = torch.where(expert_NK == number)
            if (
                len(token) or self.training
            ):  # in training each has a gradient, on every process: 0 where nothing chose it
                out_NC = out_NC.index_add(0, token, expert(x_NC[token]) * weight_NK[token, place, None])
        return out_NC.view_as(x_BTC)


class MixtralBlock(nn.Module):
    """Llama's block with experts under Mixtral's name for them."""

    def __init__(self, config: MoEConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = attention(config, layer)
        self.block_sparse_moe = Experts(config, MixtralExpert)
        self.input_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.norm_eps)

    def forward(self, x_BTC: Tensor, angles: Angles | None, mask: Tensor | None, rows: CacheRows | None) -> Tensor:
        x_BTC = x_BTC + self.self_attn(self.input_layernorm(x_BTC), angles, mask, rows)
        return x_BTC + self.block_sparse_moe(self.post_attention_layernorm(x_BTC))


class QwenBlock(nn.Module):
    """Llama's block; `mlp` is one feed-forward in dense layers, experts elsewhere."""

    def __init__(self, config: MoEConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = attention(config, layer)
        dense = layer in config.dense_layers
        self.mlp = (
            GatedMLP(config.hidden_size, config.intermediate_size, config.activation)
            if dense
            else Experts(config, qwen_expert)
        )
        self.input_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.norm_eps)

    def forward(self, x_BTC: Tensor, angles: Angles | None, mask: Tensor | None, rows: CacheRows | None) -> Tensor:
        x_BTC = x_BTC + self.self_attn(self.input_layernorm(x_BTC), angles, mask, rows)
        return x_BTC + self.mlp(self.post_attention_layernorm(x_BTC))


def mixtral_backbone(config: Any) -> LlamaBackbone:
    return LlamaBackbone(config, MixtralBlock)


def qwen_backbone(config: Any) -> LlamaBackbone:
    return LlamaBackbone(config, QwenBlock)


def mixtral(config: Json) -> MoEConfig:
    """Mixtral (Jiang et al. 2024). Random jitter of the router's input is not computed."""
    only(config, "router_jitter_noise", 0, 0.0, None)
    return read_like_llama(
        MoEConfig,
        config,
        windows=everywhere(config, config.get("sliding_window")),
        experts=int(config["num_local_experts"]),
        chosen=int(config["num_experts_per_tok"]),
        expert_size=int(config["intermediate_size"]),
        normalise=True,
    )


def qwen3_moe(config: Json) -> MoEConfig:
    """Qwen3-MoE (Yang et al. 2025). transformers 5 writes the number of experts under Mixtral's name."""
    bias, layers = bool(config.get("attention_bias", False)), int(config["num_hidden_layers"])
    every, listed = int(config.get("decoder_sparse_step", 1)), set(config.get("mlp_only_layers") or ())
    experts = int(config["num_experts" if "num_experts" in config else "num_local_experts"])
    return read_like_llama(
        MoEConfig,
        config,
        windows=qwen_windows(config),
        qkv_bias=bias,
        out_bias=bias,
        qk_norm="head",
        experts=experts,
        chosen=int(config["num_experts_per_tok"]),
        expert_size=int(config["moe_intermediate_size"]),
        normalise=bool(config.get("norm_topk_prob", False)),
        dense_layers=frozenset(n for n in range(layers) if n in listed or experts == 0 or (n + 1) % every),
    )


MIXTRAL = DecoderFamily(mixtral, mixtral_backbone, "MixtralForCausalLM")
QWEN3_MOE = DecoderFamily(qwen3_moe, qwen_backbone, "Qwen3MoeForCausalLM")
