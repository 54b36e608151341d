"""Texts as vectors: the mean of a network's last hidden states over the tokens it read.

A decoder reads from left to right (a prefix-LM in both directions), an encoder both ways, an encoder-decoder with its
encoder. The mean is over every token that was read, the tokenizer's own at either end included, in float32; each vector
is divided by its length unless the caller says otherwise, so that a dot product is a cosine. Texts of like length are
padded together, and no token looks at the padding; what comes out differs from one text read alone only by rounding.

Legend: R rows (texts), B rows of a group, T positions, C width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from ingot.adapt.load import LanguageModel
from ingot.core.errors import fail
from ingot.data.objectives.special import end_id
from ingot.model.encoder import Encoder
from ingot.model.encoder_decoder import EncoderDecoder
from ingot.text.tokenizer import Tokenizer

TOKENS_AT_ONCE = 512
"""Tokens of one padded group: what a running sequence may have to wait for. A longer text is read alone."""


def embed(
    model: LanguageModel,
    texts: Sequence[str | Sequence[int]],
    *,
    normalize: bool = True,
    adapters: Sequence[str] | None = None,
) -> Tensor:
    """A vector for each text (or its token ids, as they are), float32 (R, C), on the CPU. `adapters`: those of the
    model's that act, None for all. Raises what `check_ids` and `text_ids` raise."""
    rows = [text_ids(model, text) if isinstance(text, str) else list(text) for text in texts]
    found_RC = torch.zeros(len(rows), width(model))
    for places, vectors_BC in embed_groups(model, rows, normalize=normalize, adapters=adapters):
        found_RC[places] = vectors_BC
    return found_RC


def width(model: LanguageModel) -> int:
    """How many numbers a vector has."""
    return model.config.hidden_size


def text_ids(model: LanguageModel, text: str) -> list[int]:
    """A text as its network reads one: behind what starts a document, and with an end where it reads both sides.
    Raises `no-tokenizer`, `objective-lacks-end`."""
    tokenizer: Tokenizer = model.tokenizer
    if isinstance(model.network, Encoder):
        return [*tokenizer.start_ids, *tokenizer.encode(text), end_id(tokenizer)]
    ids = tokenizer.encode_document(text)
    return [*ids, end_id(tokenizer)] if isinstance(model.network, EncoderDecoder) else ids


def check_ids(model: LanguageModel, rows: Sequence[Sequence[int]]) -> None:
    """Raises `empty-prompt`, `row-too-long`, `token-outside`, by the row's number from 1."""
    for number, row in enumerate(rows, start=1):
        if not row:
            raise fail("empty-prompt")
        if len(row) > model.max_length:
            raise fail("row-too-long", row=number, found=len(row), limit=model.max_length)
        for token in (min(row), max(row)):
            if not 0 <= token < model.config.vocab_size:
                raise fail("token-outside", where=f"row {number}", found=token, size=model.config.vocab_size)


def embed_groups(
    model: LanguageModel,
    rows: Sequence[Sequence[int]],
    *,
    normalize: bool = True,
    adapters: Sequence[str] | None = None,
) -> Iterator[tuple[list[int], Tensor]]:
    """The same piece by piece: places in `rows` and their vectors (B, C). One piece is one pass of the network."""
    check_ids(model, rows)
    for places in _groups(rows):
        chosen = nullcontext() if adapters is None else model.active.rows([tuple(adapters)] * len(places))
        with chosen:
            found_BC = _pooled(model, [rows[place] for place in places], normalize)
        yield places, found_BC


def _groups(rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Places of rows of like length, as many together as TOKENS_AT_ONCE allows."""
    group: list[int] = []
    for place in sorted(range(len(rows)), key=lambda place: len(rows[place])):
        if group and (len(group) + 1) * len(rows[place]) > TOKENS_AT_ONCE:
            yield group
            group = []
        group.append(place)
    if group:
        yield group


@torch.inference_mode()
def _pooled(model: LanguageModel, rows: Sequence[Sequence[int]], normalize: bool) -> Tensor:
    lengths_B = torch.tensor([len(row) for row in rows], device=model.device)
    longest = max(map(len, rows))
    ids_BT = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=model.device)
    inside_BT = torch.arange(longest, device=model.device) < lengths_B[:, None]
    hidden_BTC = _hidden(model, ids_BT, inside_BT, lengths_B).float()
    sums_BC = torch.where(inside_BT[..., None], hidden_BTC, 0.0).sum(1)
    vectors_BC = sums_BC / lengths_B[:, None]
    if not bool(vectors_BC.isfinite().all()):
        raise fail("logits-not-finite", path=model.model_dir.path)
    return (torch.nn.functional.normalize(vectors_BC, dim=-1) if normalize else vectors_BC).cpu()


def _hidden(model: LanguageModel, ids_BT: Tensor, inside_BT: Tensor, lengths_B: Tensor) -> Tensor:
    """Hidden states (B, T, C) of rows read together, each as if it were alone."""
    network, segments_BT = model.network, inside_BT.long() - 1
    if isinstance(network, EncoderDecoder):
        return network.source_states(ids_BT, segments_BT)
    if isinstance(network, Encoder):
        return network(ids_BT, segments_BT=segments_BT)
    both_ways_BT = inside_BT if model.config.prefix_lm and ids_BT.shape[1] > 1 else None
    return network(ids_BT, prefix_BT=both_ways_BT, lengths_B=lengths_B)
