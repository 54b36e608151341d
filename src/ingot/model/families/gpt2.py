"""GPT-2 (Radford et al. 2019): learned positions, LayerNorm, one fused projection, weights stored transposed."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ingot.model.attention import split_heads
from ingot.model.cache import CacheRows
from ingot.model.config import Json, ModelConfig, activation, only
from ingot.model.layers import ACTIVATE, Backbone, Conv1D, DecoderFamily, Embedding, Look


class Attention(nn.Module):
    """Multi-head attention with one projection for queries, keys and values."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.c_attn = Conv1D(config.hidden_size, 3 * config.hidden_size)
        self.c_proj = Conv1D(config.hidden_size, config.hidden_size)
        self.look = Look(config, layer)

    def forward(self, x_BTC: Tensor, mask: Tensor | None, rows: CacheRows | None) -> Tensor:
        q, k, v = (split_heads(part, self.look.head_dim) for part in self.c_attn(x_BTC).chunk(3, -1))
        return self.c_proj(self.look(q, k, v, None, mask, rows, self.training))


class MLP(nn.Module):
    """c_proj(act(c_fc(x)))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.c_fc = Conv1D(config.hidden_size, config.intermediate_size)
        self.c_proj = Conv1D(config.intermediate_size, config.hidden_size)
        self.activate = ACTIVATE[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.activate(self.c_fc(x)))


class Block(nn.Module):
    """Attention and feed-forward, each behind a LayerNorm and added to the stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.hidden_size, config.norm_eps)
        self.attn = Attention(config, layer)
        self.ln_2 = nn.LayerNorm(config.hidden_size, config.norm_eps)
        self.mlp = MLP(config)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, angles: object, mask: Tensor | None, rows: CacheRows | None) -> Tensor:
        """`angles` are not used: positions were added to the embedding."""
        x = x + self.drop(self.attn(self.ln_1(x), mask, rows))
        return x + self.drop(self.mlp(self.ln_2(x)))


class GPT2Backbone(Backbone):
    """The part of the checkpoint below `transformer.`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.wte = Embedding(config.vocab_size, config.hidden_size)
        self.wpe = Embedding(config.max_length, config.hidden_size)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.ln_f = nn.LayerNorm(config.hidden_size, config.norm_eps)
        self.dropout = config.embedding_dropout

    @property
    def embedding(self) -> nn.Embedding:
        return self.wte

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return list(self.h)

    def embed(self, ids_BT: Tensor, positions_BT: Tensor) -> Tensor:
        return F.dropout(self.wte(ids_BT) + self.wpe(positions_BT), self.dropout, self.training)

    def final(self, x_BTC: Tensor) -> Tensor:
        return self.ln_f(x_BTC)


def gpt2(config: Json) -> ModelConfig:
    only(config, "scale_attn_weights", True)
    only(config, "scale_attn_by_inverse_layer_idx", False)
    only(config, "reorder_and_upcast_attn", False)
    only(config, "add_cross_attention", False)
    hidden, heads, layers = int(config["n_embd"]), int(config["n_head"]), int(config["n_layer"])
    return ModelConfig(
        model_type="gpt2",
        vocab_size=int(config["vocab_size"]),
        hidden_size=hidden,
        intermediate_size=int(config.get("n_inner") or 4 * hidden),
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=hidden // heads,
        max_length=int(config["n_positions"]),
        norm_eps=float(config.get("layer_norm_epsilon", 1e-5)),
        tie_embeddings=bool(config.get("tie_word_embeddings", True)),
        activation=activation(config, "activation_function", "gelu_new"),
        windows=(None,) * layers,
        ropes=(None,) * layers,
        dropout=float(config.get("resid_pdrop", 0.1)),
        embedding_dropout=float(config.get("embd_pdrop", 0.1)),
        attention_dropout=float(config.get("attn_pdrop", 0.1)),
    )


GPT2 = DecoderFamily(gpt2, GPT2Backbone, "GPT2LMHeadModel", "transformer")
