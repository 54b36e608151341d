"""The ids that a prompt becomes for each kind of network."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ingot.adapt.load import LanguageModel
from ingot.core.errors import fail
from ingot.model.encoder import Encoder

ANSWER = 12
"""Tokens that an encoder-decoder writes at most when no target is given."""


def prompt_ids(model: LanguageModel, text: str, special: bool) -> list[int]:
    """The ids the network reads: behind the tokenizer's own beginning; an encoder's and a source also have an end."""
    tokenizer = model.tokenizer
    ids = [*tokenizer.document_prefix, *tokenizer.encode(text, special=special)]
    if isinstance(model.network, Encoder):
        ids += [end for end in (tokenizer.id(tokenizer.special_tokens.get("sep_token", "")),) if end is not None]
    elif model.model_dir.config.get("is_encoder_decoder") and tokenizer.eos_id is not None:
        ids.append(tokenizer.eos_id)
    if not ids:
        raise fail("inspect-empty")
    return ids


def target_ids(model: LanguageModel, source: Sequence[int], text: str) -> list[int]:
    """What the decoder of an encoder-decoder reads: its start, then the target, or what it writes itself."""
    start = model.model_dir.config.get("decoder_start_token_id")
    start = model.tokenizer.pad_id if start is None else start
    ids = [0 if start is None else int(start)]
    if text:
        return ids + model.tokenizer.encode(text)
    while len(ids) <= ANSWER and (len(ids) == 1 or ids[-1] not in model.eos_ids):
        ids.append(int(torch.argmax(model.logits([ids], [source])[0, -1])))
    return ids
