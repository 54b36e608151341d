"""BERT (Devlin et al. 2018, arXiv 1810.04805) and RoBERTa (Liu et al. 2019, arXiv 1907.11692): learned positions,
post-norm, the head a layer of its own. They differ in names and in where positions begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ingot.model.attention import split_heads
from ingot.model.cache import CacheRows
from ingot.model.config import Json, ModelConfig, activation, only
from ingot.model.encoder import Encoder
from ingot.model.layers import ACTIVATE, Embedding, Family, Look


@dataclass(frozen=True, kw_only=True)
class BertConfig(ModelConfig):
    """`first_position`: the row of the position table that position 0 reads. `types`: kinds of sentences."""

    first_position: int
    types: int


class Projections(nn.Module):
    """`attention.self`: queries, keys and values."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(config.hidden_size, config.hidden_size) for _ in range(3))


class Added(nn.Module):
    """A projection, added to what went in, normalised."""

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.norm_eps)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, stream: Tensor) -> Tensor:
        return self.LayerNorm(stream + self.drop(self.dense(x)))


class Attention(nn.Module):
    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.self = Projections(config)
        self.output = Added(config, config.hidden_size)
        self.look = Look(config, layer)

    def forward(self, x: Tensor, mask: Tensor | None, rows: CacheRows | None) -> Tensor:
        projections = (self.self.query, self.self.key, self.self.value)
        q, k, v = (split_heads(project(x), self.look.head_dim) for project in projections)
        return self.output(self.look(q, k, v, None, mask, rows, self.training), x)


class Intermediate(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activate = ACTIVATE[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.activate(self.dense(x))


class Block(nn.Module):
    """Attention and feed-forward, the stream normalised behind each."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.attention = Attention(config, layer)
        self.intermediate = Intermediate(config)
        self.output = Added(config, config.intermediate_size)

    def forward(self, x: Tensor, angles: object, mask: Tensor | None, rows: CacheRows | None) -> Tensor:
        """`angles` are not used: positions were added to the embedding."""
        x = self.attention(x, mask, rows)
        return self.output(self.intermediate(x), x)


class Embeddings(nn.Module):
    """Words, positions and sentence types, added and normalised."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word_embeddings = Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = Embedding(config.max_length + config.first_position, config.hidden_size)
        self.token_type_embeddings = Embedding(config.types, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.norm_eps)
        self.drop = nn.Dropout(config.dropout)
        self.first_position = config.first_position

    def forward(self, ids_BT: Tensor, positions_BT: Tensor, types_BT: Tensor | None) -> Tensor:
        types = self.token_type_embeddings(torch.zeros_like(ids_BT) if types_BT is None else types_BT)
        places = self.position_embeddings(positions_BT + self.first_position)
        return self.drop(self.LayerNorm(self.word_embeddings(ids_BT) + places + types))


class Layers(nn.Module):
    """`encoder.layer`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))


class BertBackbone(nn.Module):
    """The part of the checkpoint below `bert.` or `roberta.`."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = Layers(config)


class BertLike(Encoder):
    """What the two share; a subclass names the backbone and the head."""

    prefix: str
    takes_prefix = True

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        setattr(self, self.prefix, BertBackbone(config))

    @property
    def backbone(self) -> BertBackbone:
        return getattr(self, self.prefix)

    @property
    def embedding(self) -> nn.Embedding:
        return self.backbone.embeddings.word_embeddings

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return list(self.backbone.encoder.layer)

    def embed(self, ids_BT: Tensor, positions_BT: Tensor, types_BT: Tensor | None) -> Tensor:
        return self.backbone.embeddings(ids_BT, positions_BT, types_BT)


class Transform(nn.Module):
    """act(dense(x)), normalised, under BERT's names."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.norm_eps)
        self.activate = ACTIVATE[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.LayerNorm(self.activate(self.dense(x)))


class Predictions(nn.Module):
    """`cls.predictions`: the matrix is the embedding's."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.transform = Transform(config)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))


class Cls(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.predictions = Predictions(config)


class Bert(BertLike):
    prefix = "bert"

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.cls = Cls(config)

    @property
    def ties(self) -> dict[str, str]:
        decoder, bias = "cls.predictions.decoder", "cls.predictions.bias"
        return {f"{decoder}.weight": "bert.embeddings.word_embeddings.weight", f"{decoder}.bias": bias}

    def head(self, hidden: Tensor) -> Tensor:
        predictions = self.cls.predictions
        return F.linear(predictions.transform(hidden), self.embedding.weight, predictions.bias).float()


class RobertaHead(nn.Module):
    """`lm_head`: the same as BERT's under other names."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, config.norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))


class Roberta(BertLike):
    prefix = "roberta"

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.lm_head = RobertaHead(config)

    @property
    def ties(self) -> dict[str, str]:
        weight, bias = "roberta.embeddings.word_embeddings.weight", "lm_head.bias"
        return {"lm_head.decoder.weight": weight, "lm_head.decoder.bias": bias}

    def head(self, hidden: Tensor) -> Tensor:
        hidden = self.lm_head.layer_norm(F.gelu(self.lm_head.dense(hidden)))
        return F.linear(hidden, self.embedding.weight, self.lm_head.bias).float()


def _read(config: Json, first_position: int) -> BertConfig:
    only(config, "position_embedding_type", "absolute")
    only(config, "is_decoder", False)
    only(config, "tie_word_embeddings", True)
    hidden, heads, layers = (int(config[key]) for key in ("hidden_size", "num_attention_heads", "num_hidden_layers"))
    shared: dict[str, Any] = {"windows": (None,) * layers, "ropes": (None,) * layers, "causal": False}
    return BertConfig(
        model_type=config["model_type"],
        vocab_size=int(config["vocab_size"]),
        hidden_size=hidden,
        intermediate_size=int(config["intermediate_size"]),
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=hidden // heads,
        max_length=int(config["max_position_embeddings"]) - first_position,
        norm_eps=float(config.get("layer_norm_eps", 1e-12)),
        tie_embeddings=True,
        activation=activation(config, default="gelu"),
        dropout=float(config.get("hidden_dropout_prob", 0.1)),
        attention_dropout=float(config.get("attention_probs_dropout_prob", 0.1)),
        first_position=first_position,
        types=int(config.get("type_vocab_size", 2)),
        **shared,
    )


def bert(config: Json) -> BertConfig:
    return _read(config, 0)


def roberta(config: Json) -> BertConfig:
    """Positions begin behind the padding's row of the table."""
    return _read(config, int(config.get("pad_token_id", 1)) + 1)


BERT = Family(bert, Bert, "BertForMaskedLM")
ROBERTA = Family(roberta, Roberta, "RobertaForMaskedLM")
