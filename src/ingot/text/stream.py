"""Streaming decode: one id in, text out as soon as no later id can change it; never half a character.

The texts given out, joined, equal `Tokenizer.decode` of all ids, also for ids no sane model would produce. Byte-level
tokenizers are decoded byte by byte. All others go through the tokenizer's own decoder with the last word as context,
because what stands between two words (a space, nothing) belongs to the pair; runs of byte tokens such as <0xE4> are
held until they end, because the decoder judges a run as a whole.
"""

from __future__ import annotations

import codecs
import re
from functools import cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ingot.text.tokenizer import Tokenizer

BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")


class StreamDecoder(Protocol):
    """push(id) gives the text that is now certain ("" while a character is incomplete); finish() gives what is left."""

    def push(self, id: int) -> str: ...

    def finish(self) -> str: ...


class ByteStream:
    """For byte-level tokenizers: every token is some bytes, and UTF-8 tells where a character ends."""

    def __init__(self, tokenizer: Tokenizer, skipped: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._skipped = skipped
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, id: int) -> str:
        token = None if id in self._skipped else self._tokenizer.token(id)
        return "" if token is None else self._decoder.decode(token_bytes(token))

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


class WindowStream:
    """For every other tokenizer: decode (last shown token + held ids) and give out what the first does not explain."""

    def __init__(self, tokenizer: Tokenizer, skipped: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._skipped = skipped
        self._context: list[int] = []
        self._held: list[int] = []

    def push(self, id: int) -> str:
        token = None if id in self._skipped else self._tokenizer.token(id)
        if token is None:
            return ""
        self._held.append(id)
        if self._tokenizer.has_byte_tokens and BYTE_TOKEN.fullmatch(token):
            return ""
        text = self._new()
        self._context, self._held = [id], []
        return text

    def finish(self) -> str:
        text, self._held = self._new() if self._held else "", []
        return text

    def _new(self) -> str:
        """Of ids none of which is skipped."""
        shown = self._tokenizer.decode(self._context, skip_special=False)
        return self._tokenizer.decode(self._context + self._held, skip_special=False)[len(shown) :]


def token_bytes(token: str) -> bytes:
    """The bytes of a byte-level token; a token with a character outside the byte alphabet stands for itself."""
    alphabet = byte_alphabet()
    if all(character in alphabet for character in token):
        return bytes(alphabet[character] for character in token)
    return token.encode()


@cache
def byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for the 256 bytes: character -> byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}
