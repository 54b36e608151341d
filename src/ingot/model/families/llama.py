"""Llama, Mistral, Qwen2 and Qwen3: pre-norm, rotary positions, grouped queries, a gated feed-forward; they differ in
biases, norms of queries and keys, and windows. Other families build on this backbone with blocks of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor, nn

from ingot.model.cache import CacheRows
from ingot.model.config import Json, ModelConfig, RefusedKeyError, activation, only
from ingot.model.layers import Attention, Backbone, DecoderFamily, Embedding, GatedMLP, RMSNorm
from ingot.model.positions import Angles
from ingot.model.rope_config import read_rope


@dataclass(frozen=True, kw_only=True)
class LlamaConfig(ModelConfig):
    """`qk_norm`: queries and keys are normalised by "head", over their whole "width", or not."""

    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: str | None = None


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and added to the stream."""

    def __init__(self, config: LlamaConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = attention(config, layer)
        self.mlp = GatedMLP(config.hidden_size, config.intermediate_size, config.activation, config.mlp_bias)
        self.input_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.norm_eps)

    def forward(self, x_BTC: Tensor, angles: Angles | None, mask: Tensor | None, rows: CacheRows | None) -> Tensor:
        x_BTC = x_BTC + self.self_attn(self.input_layernorm(x_BTC), angles, mask, rows)
        return x_BTC + self.mlp(self.post_attention_layernorm(x_BTC))


def attention(config: LlamaConfig, layer: int, norm: Callable[[int, float], nn.Module] = RMSNorm) -> Attention:
    """Attention as the config says."""
    return Attention(
        config, layer, qkv_bias=config.qkv_bias, out_bias=config.out_bias, qk_norm=config.qk_norm, norm=norm
    )


class LlamaBackbone(Backbone):
    """The part of the checkpoint below `model.`: embedding, blocks, final norm."""

    def __init__(
        self,
        config: Any,
        block: Callable[[Any, int], nn.Module] = Block,
        norm: Callable[[int, float], nn.Module] = RMSNorm,
    ) -> None:
        super().__init__()
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(block(config, layer) for layer in range(config.num_layers))
        self.norm = norm(config.hidden_size, config.norm_eps)

    @property
    def embedding(self) -> nn.Embedding:
        return self.embed_tokens

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return list(self.layers)

    def final(self, x_BTC: Tensor) -> Tensor:
        return self.norm(x_BTC)


C = TypeVar("C", bound=ModelConfig)


def read_like_llama(kind: type[C], config: Json, **own: Any) -> C:
    """The keys that Llama and the families after it share; `own` are fields read otherwise."""
    only(config, "pretraining_tp", 1)
    heads, layers = int(config["num_attention_heads"]), int(config["num_hidden_layers"])
    shared: Json = {
        "model_type": config["model_type"],
        "vocab_size": int(config["vocab_size"]),
        "hidden_size": int(config["hidden_size"]),
        "intermediate_size": int(config["intermediate_size"]),
        "num_layers": layers,
        "num_heads": heads,
        "num_kv_heads": int(config.get("num_key_value_heads") or heads),
        "head_dim": int(config.get("head_dim") or int(config["hidden_size"]) // heads),
        "max_length": int(config["max_position_embeddings"]),
        "norm_eps": float(config["rms_norm_eps"]),
        "tie_embeddings": bool(config.get("tie_word_embeddings", False)),
        "windows": (None,) * layers,
        "attention_dropout": float(config.get("attention_dropout") or 0.0),
    }
    if "activation" not in own:
        own["activation"] = activation(config, default="silu")
    if "ropes" not in own:
        own["ropes"] = (read_rope(config),) * layers
    return kind(**shared | own)


def llama(config: Json) -> LlamaConfig:
    """Llama 2 and 3 (Touvron et al. 2023; Grattafiori et al. 2024)."""
    bias, mlp_bias = bool(config.get("attention_bias", False)), bool(config.get("mlp_bias", False))
    return read_like_llama(LlamaConfig, config, qkv_bias=bias, out_bias=bias, mlp_bias=mlp_bias)


def mistral(config: Json) -> LlamaConfig:
    """Mistral (Jiang et al. 2023): Llama with a sliding window in every layer."""
    return read_like_llama(LlamaConfig, config, windows=everywhere(config, config.get("sliding_window")))


def qwen2(config: Json) -> LlamaConfig:
    """Qwen2 and 2.5 (Yang et al. 2024): Llama with biased query, key and value projections."""
    return read_like_llama(LlamaConfig, config, windows=qwen_windows(config), qkv_bias=True)


def qwen3(config: Json) -> LlamaConfig:
    """Qwen3 (Yang et al. 2025): no biases, queries and keys normalised per head."""
    bias = bool(config.get("attention_bias", False))
    windows = qwen_windows(config)
    return read_like_llama(LlamaConfig, config, windows=windows, qkv_bias=bias, out_bias=bias, qk_norm="head")


def everywhere(config: Json, window: int | None) -> tuple[int | None, ...]:
    """The same window in every layer."""
    return (window,) * int(config["num_hidden_layers"])


def qwen_windows(config: Json) -> tuple[int | None, ...]:
    """Qwen's window applies only to the layers its config marks, and only when switched on."""
    window = config.get("sliding_window") if config.get("use_sliding_window") else None
    first = int(config.get("max_window_layers", 28))
    kinds = ["sliding_attention" if layer >= first else FULL for layer in range(int(config["num_hidden_layers"]))]
    return windows_of(config.get("layer_types") or kinds, window)


FULL = "full_attention"


def windows_of(kinds: Sequence[str], window: int | None) -> tuple[int | None, ...]:
    """`layer_types` as windows."""
    for kind in kinds:
        if kind not in {FULL, "sliding_attention"}:
            raise RefusedKeyError("layer_types", kind)
    return tuple(None if kind == FULL else window for kind in kinds)


LLAMA = DecoderFamily(llama, LlamaBackbone, "LlamaForCausalLM")
MISTRAL = DecoderFamily(mistral, LlamaBackbone, "MistralForCausalLM")
QWEN2 = DecoderFamily(qwen2, LlamaBackbone, "Qwen2ForCausalLM")
QWEN3 = DecoderFamily(qwen3, LlamaBackbone, "Qwen3ForCausalLM")
