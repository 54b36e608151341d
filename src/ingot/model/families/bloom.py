"""BLOOM (Scao et al. 2022, arXiv 2211.05100): no positions but ALiBi's slopes, a norm behind the embedding, queries,
keys and values interleaved by head in one projection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ingot.model.attention import split_interleaved
from ingot.model.cache import CacheRows
from ingot.model.config import Json, ModelConfig, only
from ingot.model.families.neox import MLP
from ingot.model.layers import Backbone, DecoderFamily, Embedding, Look


@dataclass(frozen=True, kw_only=True)
class BloomConfig(ModelConfig):
    """`add_normalised`: a block adds to its normalised input instead of its input."""

    add_normalised: bool


class Attention(nn.Module):
    def __init__(self, config: BloomConfig, layer: int) -> None:
        super().__init__()
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.look = Look(config, layer)

    def forward(self, x_BTC: Tensor, mask: Tensor | None, rows: CacheRows | None) -> Tensor:
        q, k, v = split_interleaved(self.query_key_value(x_BTC), self.look.head_dim)
        return self.dense(self.look(q, k, v, None, mask, rows, self.training))


class Block(nn.Module):
    def __init__(self, config: BloomConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(config.hidden_size, config.norm_eps)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, config.norm_eps)
        self.self_attention = Attention(config, layer)
        self.mlp = MLP(config)
        self.drop = nn.Dropout(config.dropout)
        self.add_normalised = config.add_normalised

    def forward(self, x: Tensor, angles: object, mask: Tensor | None, rows: CacheRows | None) -> Tensor:
        """`angles` are not used; the mask carries ALiBi's slopes."""
        normalised = self.input_layernorm(x)
        x = (normalised if self.add_normalised else x) + self.drop(self.self_attention(normalised, mask, rows))
        normalised = self.post_attention_layernorm(x)
        return (normalised if self.add_normalised else x) + self.drop(self.mlp(normalised))


class BloomBackbone(Backbone):
    """The part of the checkpoint below `transformer.`."""

    def __init__(self, config: BloomConfig) -> None:
        super().__init__()
        self.word_embeddings = Embedding(config.vocab_size, config.hidden_size)
        self.word_embeddings_layernorm = nn.LayerNorm(config.hidden_size, config.norm_eps)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.ln_f = nn.LayerNorm(config.hidden_size, config.norm_eps)

    @property
    def embedding(self) -> nn.Embedding:
        return self.word_embeddings

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return list(self.h)

    def embed(self, ids_BT: Tensor, positions_BT: Tensor) -> Tensor:
        return self.word_embeddings_layernorm(self.word_embeddings(ids_BT))

    def final(self, x_BTC: Tensor) -> Tensor:
        return self.ln_f(x_BTC)


def bloom(config: Json) -> BloomConfig:
    """The window is only what the tokenizer or trainer used: `seq_length`, else 2048, as BLOOM was trained with."""
    only(config, "pretraining_tp", 1)
    hidden = int(config.get("hidden_size") or config["n_embed"])
    heads = int(config.get("n_head") or config["num_attention_heads"])
    layers = int(config.get("n_layer") or config["num_hidden_layers"])
    return BloomConfig(
        model_type="bloom",
        vocab_size=int(config["vocab_size"]),
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=hidden // heads,
        max_length=int(config.get("seq_length") or 2048),
        norm_eps=float(config.get("layer_norm_epsilon", 1e-5)),
        tie_embeddings=bool(config.get("tie_word_embeddings", True)),
        activation="gelu_tanh",
        windows=(None,) * layers,
        ropes=(None,) * layers,
        dropout=float(config.get("hidden_dropout", 0.0)),
        attention_dropout=float(config.get("attention_dropout", 0.0)),
        alibi=True,
        add_normalised=bool(config.get("apply_residual_connection_post_layernorm", False)),
    )


BLOOM = DecoderFamily(bloom, BloomBackbone, "BloomForCausalLM", "transformer")
