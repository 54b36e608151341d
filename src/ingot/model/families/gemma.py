"""Gemma 2 and 3: sandwich norms, norms around one, a scaled embedding, capped scores (2) or normalised queries and
keys (3), windows in most layers; Gemma 3's windowed layers have rotary positions of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ingot.model.cache import CacheRows
from ingot.model.config import Json, activation, only, optional
from ingot.model.families.llama import FULL, LlamaBackbone, LlamaConfig, attention, read_like_llama, windows_of
from ingot.model.layers import DecoderFamily, GatedMLP
from ingot.model.positions import Angles
from ingot.model.rope_config import read_rope, rope_of


@dataclass(frozen=True, kw_only=True)
class GemmaConfig(LlamaConfig):
    """The same fields; the class tells the two apart."""


class NormAroundOne(nn.Module):
    """x / rms(x) * (1 + weight), in float32: weight decay pulls the factor to one, not to zero."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.rms_norm(x.float(), (x.shape[-1],), 1.0 + self.weight.float(), self.eps).to(x.dtype)


class SandwichBlock(nn.Module):
    """A norm before and after attention, and before and after the feed-forward."""

    def __init__(self, config: GemmaConfig, layer: int) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.norm_eps
        self.self_attn = attention(config, layer, NormAroundOne)
        self.mlp = GatedMLP(width, config.intermediate_size, config.activation)
        self.input_layernorm = NormAroundOne(width, eps)
        self.post_attention_layernorm = NormAroundOne(width, eps)
        self.pre_feedforward_layernorm = NormAroundOne(width, eps)
        self.post_feedforward_layernorm = NormAroundOne(width, eps)

    def forward(self, x_BTC: Tensor, angles: Angles | None, mask: Tensor | None, rows: CacheRows | None) -> Tensor:
        looked = self.self_attn(self.input_layernorm(x_BTC), angles, mask, rows)
        x_BTC = x_BTC + self.post_attention_layernorm(looked)
        return x_BTC + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x_BTC)))


class GemmaBackbone(LlamaBackbone):
    """Llama's, with its embedding multiplied by sqrt(width)."""

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__(config, SandwichBlock, NormAroundOne)
        self.width = config.hidden_size

    def embed(self, ids_BT: Tensor, positions_BT: Tensor) -> Tensor:
        x_BTC = self.embed_tokens(ids_BT)
        return x_BTC * torch.tensor(self.embedding_scale, dtype=x_BTC.dtype)

    @property
    def embedding_scale(self) -> float:
        return float(self.width**0.5)


def gemma2(config: Json) -> GemmaConfig:
    """Gemma 2 (Gemma Team 2024, arXiv 2408.00118)."""
    kinds = config.get("layer_types") or _pattern(config, 2)
    return _gemma(config, kinds, qk_norm=None, ropes=(read_rope(config),) * len(kinds))


def gemma3(config: Json) -> GemmaConfig:
    """Gemma 3's text model (Gemma Team 2025, arXiv 2503.19786)."""
    kinds = config.get("layer_types") or _pattern(config, int(config.get("sliding_window_pattern", 6)))
    nested = config.get("rope_parameters") or {}
    plain = {key: value for key, value in config.items() if key != "rope_theta"}
    wide = dict(config.get("rope_scaling") or {}) | {"rope_theta": config.get("rope_theta")} | (nested.get(FULL) or {})
    near = {"rope_theta": config.get("rope_local_base_freq")} | (nested.get("sliding_attention") or {})
    full, local = rope_of(wide, plain, 1_000_000.0), rope_of(near, plain, 10_000.0)
    return _gemma(config, kinds, qk_norm="head", ropes=tuple(full if kind == FULL else local for kind in kinds))


def _gemma(config: Json, kinds: Sequence[str], **own: object) -> GemmaConfig:
    only(config, "use_bidirectional_attention", None, False)
    only(config, "attention_bias", False)
    completed = {"rms_norm_eps": 1e-6, "tie_word_embeddings": True} | config
    return read_like_llama(
        GemmaConfig,
        completed,
        windows=windows_of(kinds, config.get("sliding_window", 4096)),
        activation=activation(config, "hidden_activation", "gelu_pytorch_tanh"),
        attention_scale=float(config.get("query_pre_attn_scalar", 256)) ** -0.5,
        attention_softcap=optional(config, "attn_logit_softcapping", float),
        logit_softcap=optional(config, "final_logit_softcapping", float),
        **own,
    )


def _pattern(config: Json, every: int) -> list[str]:
    """Every n-th layer looks at everything, the others through a window."""
    layers = int(config["num_hidden_layers"])
    return ["sliding_attention" if (layer + 1) % every else FULL for layer in range(layers)]


GEMMA2 = DecoderFamily(gemma2, GemmaBackbone, "Gemma2ForCausalLM")
GEMMA3 = DecoderFamily(gemma3, GemmaBackbone, "Gemma3ForCausalLM")
