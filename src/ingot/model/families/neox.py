"""GPT-NeoX and Pythia (Black et al. 2022, arXiv 2204.06745): attention and feed-forward read the same stream side by
side, rotary positions on a quarter of each head, queries, keys and values interleaved by head in one projection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ingot.model.attention import split_interleaved
from ingot.model.cache import CacheRows
from ingot.model.config import Json, ModelConfig, activation
from ingot.model.layers import ACTIVATE, Backbone, DecoderFamily, Embedding, Look
from ingot.model.positions import Angles
from ingot.model.rope_config import read_partial_rope


@dataclass(frozen=True, kw_only=True)
class NeoXConfig(ModelConfig):
    """`parallel`: both halves of a block read its input; else one after the other."""

    parallel: bool
    bias: bool


class Attention(nn.Module):
    """Multi-head attention from one interleaved projection."""

    def __init__(self, config: NeoXConfig, layer: int) -> None:
        super().__init__()
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=config.bias)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size, bias=config.bias)
        self.look = Look(config, layer)

    def forward(self, x_BTC: Tensor, angles: Angles | None, mask: Tensor | None, rows: CacheRows | None) -> Tensor:
        q, k, v = split_interleaved(self.query_key_value(x_BTC), self.look.head_dim)
        return self.dense(self.look(q, k, v, angles, mask, rows, self.training))


class MLP(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.hidden_size, config.intermediate_size)
        self.dense_4h_to_h = nn.Linear(config.intermediate_size, config.hidden_size)
        self.activate = ACTIVATE[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.dense_4h_to_h(self.activate(self.dense_h_to_4h(x)))


class Block(nn.Module):
    def __init__(self, config: NeoXConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(config.hidden_size, config.norm_eps)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, config.norm_eps)
        self.attention = Attention(config, layer)
        self.mlp = MLP(config)
        self.drop = nn.Dropout(config.dropout)
        self.parallel = config.parallel

    def forward(self, x: Tensor, angles: Angles | None, mask: Tensor | None, rows: CacheRows | None) -> Tensor:
        looked = x + self.drop(self.attention(self.input_layernorm(x), angles, mask, rows))
        read = x if self.parallel else looked
        return looked + self.drop(self.mlp(self.post_attention_layernorm(read)))


class NeoXBackbone(Backbone):
    """The part of the checkpoint below `gpt_neox.`."""

    def __init__(self, config: NeoXConfig) -> None:
        super().__init__()
        self.embed_in = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, config.norm_eps)
        self.dropout = config.embedding_dropout

    @property
    def embedding(self) -> nn.Embedding:
        return self.embed_in

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return list(self.layers)

    def embed(self, ids_BT: Tensor, positions_BT: Tensor) -> Tensor:
        return F.dropout(self.embed_in(ids_BT), self.dropout, self.training)

    def final(self, x_BTC: Tensor) -> Tensor:
        return self.final_layer_norm(x_BTC)


def gpt_neox(config: Json) -> NeoXConfig:
    """v4 configs call the base `rotary_emb_base` and the rotated part `rotary_pct`."""
    hidden, heads, layers = (int(config[key]) for key in ("hidden_size", "num_attention_heads", "num_hidden_layers"))
    base = {"rope_theta": config.get("rotary_emb_base")} | config
    hidden_dropout = float(config.get("hidden_dropout", 0.0))
    return NeoXConfig(
        model_type="gpt_neox",
        vocab_size=int(config["vocab_size"]),
        hidden_size=hidden,
        intermediate_size=int(config["intermediate_size"]),
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=hidden // heads,
        max_length=int(config["max_position_embeddings"]),
        norm_eps=float(config.get("layer_norm_eps", 1e-5)),
        tie_embeddings=bool(config.get("tie_word_embeddings", False)),
        activation=activation(config, default="gelu"),
        windows=(None,) * layers,
        ropes=(read_partial_rope(base, "rotary_pct", 0.25),) * layers,
        dropout=hidden_dropout,
        embedding_dropout=hidden_dropout,
        attention_dropout=float(config.get("attention_dropout", 0.0)),
        parallel=bool(config.get("use_parallel_residual", True)),
        bias=bool(config.get("attention_bias", True)),
    )


GPT_NEOX = DecoderFamily(gpt_neox, NeoXBackbone, "GPTNeoXForCausalLM", "gpt_neox", "embed_out")
