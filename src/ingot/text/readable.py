"""Tokens as a person can read them, one by one."""

from __future__ import annotations

import re

from ingot.text.stream import token_bytes
from ingot.text.tokenizer import Tokenizer

PIECES = re.compile("[\udc80-\udcff]+")


def readable(tokenizer: Tokenizer, id: int) -> str:
    """A token's text: spaces at its ends as ␣, newlines as ⏎; bytes of a character cut apart as ⟨E4 BD⟩."""
    token = tokenizer.token(id)
    if token is None:
        return f"#{id}"
    if id in tokenizer.special_ids:
        return token
    if tokenizer.is_byte_level:
        text = token_bytes(token).decode("utf-8", "surrogateescape")  # a byte outside a character: U+DC80 + byte
        return PIECES.sub(
            lambda found: f"⟨{found[0].encode('utf-8', 'surrogateescape').hex(' ').upper()}⟩", _marked(text)
        )
    if token.startswith("<0x") and token.endswith(">"):
        return f"⟨{token[3:-1]}⟩"
    return _marked(token.replace("▁", " "))


def _marked(text: str) -> str:
    inner = text.strip(" ")
    first = len(text) - len(text.lstrip(" "))
    last = len(text) - len(inner) - first
    return ("␣" * first + inner + "␣" * last).replace("\n", "⏎").replace("\t", "⇥") or "∅"
