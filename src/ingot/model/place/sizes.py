"""What the parts of a model weigh where they are computed, and in the files: from its config and headers alone."""

from __future__ import annotations

from collections import defaultdict

import torch

from ingot.core.model_dir import ModelDir, TensorEntry
from ingot.model.config import ModelConfig
from ingot.model.parameters import Parameters, count
from ingot.model.place.disk import PIECE
from ingot.model.place.layout import Layout
from ingot.model.place.plan import Sizes

READ_AT_ONCE = 512
"""Tokens of prompts that one pass reads; the engine's default."""

WRITTEN_AT_ONCE = 8
"""Texts whose next token one pass draws; the verbs' default."""

STREAMS, LOGITS = 10, 4
"""Copies that live at once, at most: of what a layer passes on (512 tokens of the widest row), and of logits."""

LOADING = 2.5
"""What reading a tensor takes beside the place it is held in, as a multiple of what is stored: itself, and the check of
its values."""

DECODING = 26
"""Bytes a number of what decoding a quantised weight takes: codes as they are unpacked, twice, and the result."""

HEAP = 0.05
"""What blocks that were freed leave of holes, as a share of all (LOG.md)."""

FLOAT = 4


def sizes_of(
    base: ModelDir, config: ModelConfig, dtype: torch.dtype | None, kv_tokens: int, layout: Layout | None
) -> Sizes:
    """Of a directory whose weights are held in `dtype` (None: as stored), with room for `kv_tokens` in the caches.
    `layout`: where the layers lie in the files, None of a model whose layers cannot stay there."""
    parameters = count(config)
    item = dtype.itemsize if dtype else _stored_item(base)
    layers: dict[str, int] = defaultdict(int)
    for weight in parameters.weights:
        layers[weight.layer or ""] += weight.size * item
    home = layers.pop("", 0)
    kv = 2 * kv_tokens * config.num_kv_heads * config.head_dim * item
    largest = max((entry.end - entry.begin for entry in base.tensors.values()), default=0)
    quantized = base.config.get("quantization_config") is not None
    inside = max((weight.size for weight in parameters.weights if weight.layer is not None), default=0)
    decoding = DECODING * inside if quantized else PIECE
    return Sizes(
        home=home,
        layers=tuple(layers.values()),
        stored=tuple(layout.bytes(layer) if layout else 0 for layer in range(len(layers))),
        kv=kv,
        work=_pass(config),
        loading=max(round(LOADING * largest), decoding),
        reading=decoding,
        head=config.vocab_size * config.hidden_size * item,
        used=_used(parameters),
        heap=HEAP,
    )


def _pass(config: ModelConfig) -> int:
    """What a pass makes: streams and projections of a prompt's tokens, their mask, logits of those that are drawn."""
    widest = max(config.hidden_size, config.intermediate_size, config.num_heads * config.head_dim)
    streams = STREAMS * READ_AT_ONCE * widest * FLOAT + 2 * READ_AT_ONCE * config.max_length
    return streams + LOGITS * WRITTEN_AT_ONCE * config.vocab_size * FLOAT


def _stored_item(base: ModelDir) -> int:
    """Bytes of a number as it is stored, of the widest floats there are."""

    def width(entry: TensorEntry) -> int:
        numbers = 1
        for extent in entry.shape:
            numbers *= extent
        return (entry.end - entry.begin) // max(numbers, 1)

    return max((width(entry) for entry in base.tensors.values() if entry.dtype.startswith(("F", "BF"))), default=FLOAT)


def _used(parameters: Parameters) -> float:
    """What share of the layers a token works on; less than one with experts."""
    inside = [weight for weight in parameters.weights if weight.layer is not None]
    return sum(weight.size * weight.active for weight in inside) / max(1, sum(weight.size for weight in inside))
