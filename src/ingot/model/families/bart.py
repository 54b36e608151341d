"""BART (Lewis et al. 2019, arXiv 1910.13461) and Marian: post-norm encoder-decoders.

Marian with ReLU is the original Transformer (Vaswani et al. 2017, arXiv 1706.03762): sinusoidal positions, the
embedding multiplied by sqrt(width), norms behind attention and feed-forward, one embedding for both sides and the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ingot.model.attention import attend, split_heads
from ingot.model.cache import CacheRows, Keys
from ingot.model.config import Json, ModelConfig, activation, only
from ingot.model.encoder_decoder import EncoderDecoder, Memory, Target, source_keys
from ingot.model.layers import ACTIVATE, Embedding, Family


@dataclass(frozen=True, kw_only=True)
class BartConfig(ModelConfig):
    """The encoder's own shapes, the dropout inside the feed-forward, and what tells Marian from BART."""

    encoder_layers: int
    encoder_heads: int
    encoder_intermediate_size: int
    inner_dropout: float
    scale_embedding: bool
    sinusoidal: bool


OFFSET = 2
"""BART's position 0 reads row 2 of its table."""


class Attention(nn.Module):
    def __init__(self, config: BartConfig, num_heads: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))
        self.head_dim, self.dropout = width // num_heads, config.attention_dropout

    def keys(self, read: Tensor) -> Keys:
        """Keys and values of what is looked at, (B, S, C)."""
        return split_heads(self.k_proj(read), self.head_dim), split_heads(self.v_proj(read), self.head_dim)

    def forward(self, x: Tensor, keys: Keys, mask: Tensor | None) -> Tensor:
        """`x` (B, T, C) looks."""
        dropout = self.dropout if self.training else 0.0
        q = split_heads(self.q_proj(x), self.head_dim)
        return self.out_proj(attend(q, *keys, mask, dropout=dropout, causal=False))


class EncoderBlock(nn.Module):
    def __init__(self, config: BartConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.encoder_intermediate_size
        self.self_attn = Attention(config, config.encoder_heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.final_layer_norm = nn.LayerNorm(width)
        self.activate = ACTIVATE[config.activation]
        self.drop, self.inner_drop = nn.Dropout(config.dropout), nn.Dropout(config.inner_dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = self.self_attn_layer_norm(x + self.drop(self.self_attn(x, self.self_attn.keys(x), mask)))
        inner = self.inner_drop(self.activate(self.fc1(x)))
        return self.final_layer_norm(x + self.drop(self.fc2(inner)))


class DecoderBlock(nn.Module):
    def __init__(self, config: BartConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        width, inner = config.hidden_size, config.intermediate_size
        self.self_attn = Attention(config, config.num_heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.encoder_attn = Attention(config, config.num_heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.final_layer_norm = nn.LayerNorm(width)
        self.activate = ACTIVATE[config.activation]
        self.drop, self.inner_drop = nn.Dropout(config.dropout), nn.Dropout(config.inner_dropout)

    def forward(self, x: Tensor, mask: Tensor, memory: Memory, across: Tensor | None, rows: CacheRows | None) -> Tensor:
        keys = self.self_attn.keys(x)
        keys = keys if rows is None else rows.append(self.layer, keys)
        x = self.self_attn_layer_norm(x + self.drop(self.self_attn(x, keys, mask)))
        keys = source_keys(self.encoder_attn, self.layer, memory)
        x = self.encoder_attn_layer_norm(x + self.drop(self.encoder_attn(x, keys, across)))
        inner = self.inner_drop(self.activate(self.fc1(x)))
        return self.final_layer_norm(x + self.drop(self.fc2(inner)))


class Sinusoids(nn.Module):
    """Sines in the first half of a vector, cosines in the second, as Marian has them. No weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, positions: Tensor) -> Tensor:
        """(..., width), computed in float64."""
        exponent = torch.arange(0, self.width, 2, dtype=torch.float64, device=positions.device) / self.width
        angle = positions[..., None].double() / 10000.0**exponent
        return torch.cat((angle.sin(), angle.cos()), -1).float()


class Stack(nn.Module):
    """`model.encoder` or `model.decoder`."""

    def __init__(self, config: BartConfig, blocks: list[nn.Module]) -> None:
        super().__init__()
        width = config.hidden_size
        if not config.sinusoidal:
            self.embed_positions = Embedding(config.max_length + OFFSET, width)
            self.layernorm_embedding = nn.LayerNorm(width)
        self.layers = nn.ModuleList(blocks)
        self.sinusoids = Sinusoids(width) if config.sinusoidal else None
        self.scale = width**0.5 if config.scale_embedding else 1.0
        self.drop = nn.Dropout(config.dropout)

    def embed(self, words: Tensor, positions: Tensor) -> Tensor:
        """Words and positions, added; BART normalises them."""
        if self.sinusoids is not None:
            return self.drop(words * self.scale + self.sinusoids(positions).to(words.dtype))
        return self.drop(self.layernorm_embedding(words * self.scale + self.embed_positions(positions + OFFSET)))


class BartBackbone(nn.Module):
    def __init__(self, config: BartConfig) -> None:
        super().__init__()
        self.shared = Embedding(config.vocab_size, config.hidden_size)
        self.encoder = Stack(config, [EncoderBlock(config) for _ in range(config.encoder_layers)])
        self.decoder = Stack(config, [DecoderBlock(config, layer) for layer in range(config.num_layers)])


class Bart(EncoderDecoder):
    final_logits_bias: Tensor

    def __init__(self, config: BartConfig) -> None:
        super().__init__(config)
        self.model = BartBackbone(config)
        self.register_buffer("final_logits_bias", torch.zeros(1, config.vocab_size))

    @property
    def embedding(self) -> nn.Embedding:
        return self.model.shared

    @property
    def embedding_scale(self) -> float:
        return self.model.encoder.scale

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return [*self.model.encoder.layers, *self.model.decoder.layers]

    @property
    def ties(self) -> dict[str, str]:
        names = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
        return dict.fromkeys(names, "model.shared.weight")

    def encode(self, ids_BS: Tensor, positions_BS: Tensor, mask: Tensor | None) -> Tensor:
        x = self.model.encoder.embed(self.model.shared(ids_BS), positions_BS)
        for block in self.model.encoder.layers:
            x = block(x, mask)
        return x

    def decode(self, ids_BT: Tensor, target: Target) -> Tensor:
        x = self.model.decoder.embed(self.model.shared(ids_BT), target.positions_BT)
        for block in self.model.decoder.layers:
            x = block(x, target.mask, target.memory, target.across, target.rows)
        return x

    @property
    def cross_attentions(self) -> Sequence[Attention]:
        return [block.encoder_attn for block in self.model.decoder.layers]  # type: ignore[misc]

    def head(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.model.shared.weight, self.final_logits_bias[0].to(hidden.dtype)).float()


def _read(config: Json, sinusoidal: bool, scale_embedding: bool) -> BartConfig:
    for key in ("encoder_layerdrop", "decoder_layerdrop"):
        only(config, key, 0, 0.0, None)
    only(config, "tie_word_embeddings", True)
    hidden, heads, layers = (int(config[key]) for key in ("d_model", "decoder_attention_heads", "decoder_layers"))
    return BartConfig(
        model_type=config["model_type"],
        vocab_size=int(config["vocab_size"]),
        hidden_size=hidden,
        intermediate_size=int(config["decoder_ffn_dim"]),
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=hidden // heads,
        max_length=int(config["max_position_embeddings"]),
        norm_eps=1e-5,
        tie_embeddings=True,
        activation=activation(config, "activation_function", "gelu"),
        windows=(None,) * layers,
        ropes=(None,) * layers,
        dropout=float(config.get("dropout", 0.1)),
        attention_dropout=float(config.get("attention_dropout", 0.0)),
        causal=False,
        encoder_layers=int(config["encoder_layers"]),
        encoder_heads=int(config["encoder_attention_heads"]),
        encoder_intermediate_size=int(config["encoder_ffn_dim"]),
        inner_dropout=float(config.get("activation_dropout", 0.0)),
        scale_embedding=scale_embedding,
        sinusoidal=sinusoidal,
    )


def bart(config: Json) -> BartConfig:
    return _read(config, sinusoidal=False, scale_embedding=bool(config.get("scale_embedding", False)))


def marian(config: Json) -> BartConfig:
    """One vocabulary for both sides; Marian's models of two are refused."""
    only(config, "share_encoder_decoder_embeddings", True)
    only(config, "decoder_vocab_size", None, config["vocab_size"])
    return _read(config, sinusoidal=True, scale_embedding=bool(config.get("scale_embedding", False)))


BART = Family(bart, Bart, "BartForConditionalGeneration")
MARIAN = Family(marian, Bart, "MarianMTModel")
