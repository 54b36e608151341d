"""The special tokens that objectives need, found in a tokenizer by the names the field uses, or refused by name."""

from __future__ import annotations

import re
from typing import NamedTuple

from ingot.core.errors import IngotError, fail
from ingot.text.tokenizer import Tokenizer

MASKS = ("[MASK]", "<mask>", "<|mask|>")
"""Mask tokens of BERT, RoBERTa and our own tokenizers, looked for where tokenizer_config.json names no mask_token."""

FILL_IN_MIDDLE = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen2.5-Coder, CodeGemma, our own
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, Granite
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),  # Code Llama
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek: the hole stands where the suffix begins
)
"""Tokens before the prefix, the suffix and the middle; the first complete set in the tokenizer is used."""


SENTINEL = re.compile(r"<extra_id_[0-9]+>")


class FimIds(NamedTuple):
    """Ids of the tokens before the prefix, the suffix and the middle."""

    prefix: int
    suffix: int
    middle: int


def sentinel(number: int) -> str:
    """The token that stands for a document's cut number 0, 1, 2...: T5's names."""
    return f"<extra_id_{number}>"


def end_id(tokenizer: Tokenizer) -> int:
    """What ends a document: the end-of-sequence token, or BERT's separator. Raises `objective-lacks-end`."""
    separator = tokenizer.special_tokens.get("sep_token")
    found = tokenizer.eos_id if separator is None or tokenizer.eos_id is not None else tokenizer.id(separator)
    if found is None:
        raise fail("objective-lacks-end", path=tokenizer.path)
    return found


def mask_id(tokenizer: Tokenizer) -> int:
    """The mask token. Raises `objective-lacks-tokens`."""
    named = tokenizer.special_tokens.get("mask_token")
    found = [id for token in (named, *MASKS) if token is not None and (id := _special(tokenizer, token)) is not None]
    if not found:
        raise _lacking("masked-lm", tokenizer, [MASKS[-1]])
    return found[0]


def sentinel_ids(tokenizer: Tokenizer, count: int) -> list[int]:
    """The first `count` sentinels. Raises `objective-lacks-tokens`, naming those that are missing."""
    found = {sentinel(number): _special(tokenizer, sentinel(number)) for number in range(count)}
    missing = [token for token, id in found.items() if id is None]
    if missing:
        raise _lacking("span-corruption", tokenizer, missing)
    return [id for id in found.values() if id is not None]


def known_sentinels(tokenizer: Tokenizer) -> frozenset[int]:
    """All sentinels that a tokenizer has."""
    names = {id: tokenizer.token(id) for id in tokenizer.special_ids}
    return frozenset(id for id, name in names.items() if name is not None and SENTINEL.fullmatch(name))


def fim_ids(tokenizer: Tokenizer) -> FimIds:
    """The three tokens of fill-in-middle. Raises `objective-lacks-tokens`."""
    for names in FILL_IN_MIDDLE:
        ids = [id for name in names if (id := tokenizer.id(name)) is not None]
        if len(ids) == len(names):
            return FimIds(*ids)
    raise _lacking("fill-in-middle", tokenizer, [n for n in FILL_IN_MIDDLE[0] if tokenizer.id(n) is None])


def _special(tokenizer: Tokenizer, token: str) -> int | None:
    """The id of a token that no text can contain."""
    found = tokenizer.id(token)
    return found if found in tokenizer.special_ids else None


def _lacking(objective: str, tokenizer: Tokenizer, missing: list[str]) -> IngotError:
    return fail("objective-lacks-tokens", objective=objective, path=tokenizer.path, missing=",".join(missing))
