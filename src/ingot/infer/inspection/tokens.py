"""The ids that a prompt becomes for each kind of network."""

from __future__ import annotations

from collections.abc import Sequence

from ingot.adapt.load import LanguageModel
from ingot.core.errors import fail
from ingot.infer.engine import generate
from ingot.infer.options import Sampling
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
    assert model.start_id is not None
    if text:
        return [model.start_id, *model.tokenizer.encode(text)]
    (written,) = generate(model, [source], Sampling(temperature=0, max_tokens=ANSWER))
    return [model.start_id, *written.tokens]
