"""T5 and Flan-T5 (Raffel et al. 2020, arXiv 1910.10683; Chung et al. 2022): pre-norm, a learned bias by distance
instead of positions, no scaling of scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ingot.model.attention import attend, split_heads
from ingot.model.cache import CacheRows, Keys
from ingot.model.config import ACTIVATIONS, Json, ModelConfig, RefusedKeyError
from ingot.model.encoder_decoder import EncoderDecoder, Memory, Target, source_keys
from ingot.model.layers import ACTIVATE, Embedding, Family, RMSNorm


@dataclass(frozen=True, kw_only=True)
class T5Config(ModelConfig):
    """`buckets` of distances up to `max_distance`; `scale_output`: hidden states are divided by sqrt(width) before the
    head (the first T5, not 1.1)."""

    encoder_layers: int
    gated: bool
    buckets: int
    max_distance: int
    scale_output: bool


class Attention(nn.Module):
    """Attention whose scores are neither scaled nor positional: positions come in through the mask."""

    def __init__(self, config: T5Config, has_bias: bool) -> None:
        super().__init__()
        inner = config.num_heads * config.head_dim
        self.q, self.k, self.v = (nn.Linear(config.hidden_size, inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, config.hidden_size, bias=False)
        if has_bias:
            self.relative_attention_bias = Embedding(config.buckets, config.num_heads)
        self.head_dim, self.dropout = config.head_dim, config.attention_dropout

    def keys(self, read: Tensor) -> Keys:
        """Keys and values of what is looked at, (B, S, C)."""
        return split_heads(self.k(read), self.head_dim), split_heads(self.v(read), self.head_dim)

    def forward(self, x: Tensor, keys: Keys, mask: Tensor | None) -> Tensor:
        """`x` (B, T, C) looks; `mask` is broadcast to (B, H, T, S)."""
        dropout = self.dropout if self.training else 0.0
        q = split_heads(self.q(x), self.head_dim)
        return self.o(attend(q, *keys, mask, scale=1.0, dropout=dropout, causal=False))


class SelfLayer(nn.Module):
    def __init__(self, config: T5Config, layer: int) -> None:
        super().__init__()
        self.SelfAttention = Attention(config, has_bias=layer == 0)
        self.layer_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.drop = nn.Dropout(config.dropout)
        self.number = layer

    def forward(self, x: Tensor, mask: Tensor | None, rows: CacheRows | None = None) -> Tensor:
        read = self.layer_norm(x)
        keys = self.SelfAttention.keys(read)
        keys = keys if rows is None else rows.append(self.number, keys)
        return x + self.drop(self.SelfAttention(read, keys, mask))


class CrossLayer(nn.Module):
    def __init__(self, config: T5Config, layer: int) -> None:
        super().__init__()
        self.EncDecAttention = Attention(config, has_bias=False)
        self.layer_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.drop = nn.Dropout(config.dropout)
        self.number = layer

    def forward(self, x: Tensor, memory: Memory, across: Tensor | None) -> Tensor:
        keys = source_keys(self.EncDecAttention, self.number, memory)
        return x + self.drop(self.EncDecAttention(self.layer_norm(x), keys, across))


class Dense(nn.Module):
    """wo(act(wi(x))), or wo(act(wi_0(x)) * wi_1(x))."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.gated = config.gated
        if self.gated:
            self.wi_0, self.wi_1 = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        else:
            self.wi = nn.Linear(width, inner, bias=False)
        self.wo = nn.Linear(inner, width, bias=False)
        self.activate, self.drop = ACTIVATE[config.activation], nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.activate(self.wi_0(x)) * self.wi_1(x) if self.gated else self.activate(self.wi(x))
        return self.wo(self.drop(inner))


class DenseLayer(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.DenseReluDense = Dense(config)
        self.layer_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(self.DenseReluDense(self.layer_norm(x)))


class EncoderBlock(nn.Module):
    def __init__(self, config: T5Config, layer: int) -> None:
        super().__init__()
        self.layer = nn.ModuleList([SelfLayer(config, layer), DenseLayer(config)])

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        attention, dense = self.layer
        return dense(attention(x, mask))


class DecoderBlock(nn.Module):
    def __init__(self, config: T5Config, layer: int) -> None:
        super().__init__()
        self.layer = nn.ModuleList([SelfLayer(config, layer), CrossLayer(config, layer), DenseLayer(config)])

    def forward(self, x: Tensor, mask: Tensor, memory: Memory, across: Tensor | None, rows: CacheRows | None) -> Tensor:
        attention, cross, dense = self.layer
        return dense(cross(attention(x, mask, rows), memory, across))


class Stack(nn.Module):
    """`encoder` or `decoder`: its blocks, the first of which owns the bias by distance."""

    def __init__(self, config: T5Config, kind: type[EncoderBlock] | type[DecoderBlock], num_layers: int) -> None:
        super().__init__()
        self.block = nn.ModuleList(kind(config, layer) for layer in range(num_layers))
        self.final_layer_norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.drop = nn.Dropout(config.dropout)
        self.buckets, self.max_distance = config.buckets, config.max_distance

    def bias(self, positions_BT: Tensor, keys_BS: Tensor, both_ways: bool, mask: Tensor | None) -> Tensor:
        """What distance adds to the scores, (B, H, T, S), -inf where the mask says no."""
        distance_BTS = keys_BS[:, None, :] - positions_BT[:, :, None]
        bucket_BTS = bucket(distance_BTS, both_ways, self.buckets, self.max_distance)
        first = self.block[0].layer[0].SelfAttention  # type: ignore[union-attr, index]
        bias_BHTS = first.relative_attention_bias(bucket_BTS).permute(0, 3, 1, 2)
        return bias_BHTS if mask is None else bias_BHTS.masked_fill(~mask, -torch.inf)


def bucket(distance: Tensor, both_ways: bool, buckets: int, max_distance: int) -> Tensor:
    """Distances (key minus query) to buckets: small ones have their own, larger ones share them by their logarithm."""
    first = torch.zeros_like(distance)
    if both_ways:
        buckets //= 2
        first = (distance > 0).long() * buckets
        distance = distance.abs()
    else:
        distance = -distance.clamp(max=0)
    exact = buckets // 2
    ratio = torch.log(distance.float().clamp(min=1) / exact) / math.log(max_distance / exact)
    shared = (exact + (ratio * (buckets - exact)).long()).clamp(max=buckets - 1)
    return first + torch.where(distance < exact, distance, shared)


class T5(EncoderDecoder):
    def __init__(self, config: T5Config) -> None:
        super().__init__(config)
        self.shared = Embedding(config.vocab_size, config.hidden_size)
        self.encoder = Stack(config, EncoderBlock, config.encoder_layers)
        self.decoder = Stack(config, DecoderBlock, config.num_layers)
        if not config.tie_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.output_scale = config.hidden_size**-0.5 if config.scale_output else 1.0

    @property
    def embedding(self) -> nn.Embedding:
        return self.shared

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return [*self.encoder.block, *self.decoder.block]

    @property
    def ties(self) -> dict[str, str]:
        names = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"]
        return dict.fromkeys([*names, *(["lm_head.weight"] if self.config.tie_embeddings else [])], "shared.weight")

    def encode(self, ids_BS: Tensor, positions_BS: Tensor, mask: Tensor | None) -> Tensor:
        x = self.encoder.drop(self.shared(ids_BS))
        bias = self.encoder.bias(positions_BS, positions_BS, True, mask)
        for block in self.encoder.block:
            x = block(x, bias)
        return self.encoder.drop(self.encoder.final_layer_norm(x))

    def decode(self, ids_BT: Tensor, target: Target) -> Tensor:
        x = self.decoder.drop(self.shared(ids_BT))
        bias = self.decoder.bias(target.positions_BT, target.keys_BS, False, target.mask)
        for block in self.decoder.block:
            x = block(x, bias, target.memory, target.across, target.rows)
        return self.decoder.drop(self.decoder.final_layer_norm(x))

    @property
    def cross_attentions(self) -> Sequence[Attention]:
        return [block.layer[1].EncDecAttention for block in self.decoder.block]  # type: ignore[union-attr, index]

    def head(self, hidden: Tensor) -> Tensor:
        weight = self.shared.weight if self.config.tie_embeddings else self.lm_head.weight
        return F.linear(hidden * self.output_scale, weight).float()


def t5(config: Json) -> T5Config:
    """`feed_forward_proj` is "relu", "gated-gelu" (which means its tanh approximation) and so on.

    Version 1.1 neither ties nor scales its output. transformers 5 calls every T5 tied and tells 1.1 by the scaling.
    """
    gating, _, name = str(config.get("feed_forward_proj", "relu")).rpartition("-")
    if gating not in {"", "gated"} or name not in ACTIVATIONS:
        raise RefusedKeyError("feed_forward_proj", config["feed_forward_proj"])
    tied, layers = bool(config.get("tie_word_embeddings", True)), int(config["num_layers"])
    scaled = bool(config.get("scale_decoder_outputs", tied))
    decoder_layers, dropout = int(config.get("num_decoder_layers") or layers), float(config.get("dropout_rate", 0.1))
    return T5Config(
        model_type="t5",
        vocab_size=int(config["vocab_size"]),
        hidden_size=int(config["d_model"]),
        intermediate_size=int(config["d_ff"]),
        num_layers=decoder_layers,
        num_heads=int(config["num_heads"]),
        num_kv_heads=int(config["num_heads"]),
        head_dim=int(config["d_kv"]),
        max_length=int(config.get("n_positions") or 512),
        norm_eps=float(config.get("layer_norm_epsilon", 1e-6)),
        tie_embeddings=tied and scaled,
        activation="gelu_tanh" if (gating, name) == ("gated", "gelu") else ACTIVATIONS[name],
        windows=(None,) * decoder_layers,
        ropes=(None,) * decoder_layers,
        dropout=dropout,
        attention_dropout=dropout,
        causal=False,
        encoder_layers=layers,
        gated=gating == "gated",
        buckets=int(config.get("relative_attention_num_buckets", 32)),
        max_distance=int(config.get("relative_attention_max_distance", 128)),
        scale_output=scaled,
    )


T5_FAMILY = Family(t5, T5, "T5ForConditionalGeneration")
