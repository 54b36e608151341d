"""Reading the metadata of a GGUF file: a header of named values, of which those of the tokenizer are kept.

The file is not trusted: every count and length is held against the bytes that are left before anything is made of it.
Its format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

from ingot.text.formats.parts import wrong

MAGIC = b"GGUF"
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Types of one number, as struct names them."""
TEXT, ARRAY = 8, 9
KEPT = ("tokenizer.", "general.")


def read_metadata(path: Path) -> dict[str, Any]:
    """The values of `KEPT` keys. Raises `bad-token-file` naming the byte."""
    with path.open("rb") as stream:
        if stream.read(4) != MAGIC:
            raise wrong(path, "byte 0", "it does not begin with GGUF")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(path, data).metadata()


class _Reader:
    """A place in the file, which every read moves on."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data, self.at = path, data, 4

    def metadata(self) -> dict[str, Any]:
        version = self.number("I")
        if version not in (2, 3):
            raise self.wrong(f"version {version} is not read, versions 2 and 3 are")
        self.number("Q")  # tensors, which stand behind
        found: dict[str, Any] = {}
        for _ in range(self.count(self.number("Q"), 13)):
            name = self.text()
            if name in found:
                raise self.wrong(f"the key {name!r} again")
            value = self.value(self.number("I"))
            if name.startswith(KEPT):
                found[name] = value
        return found

    def value(self, kind: int) -> Any:
        if kind == TEXT:
            return self.text()
        if kind != ARRAY:
            return self.number(self.letter(kind))
        inner, count = self.number("I"), self.number("Q")
        if inner == TEXT:
            return [self.text() for _ in range(self.count(count, 8))]
        letter = self.letter(inner)
        return list(struct.unpack(f"<{count}{letter}", self.take(count * struct.calcsize(letter))))

    def letter(self, kind: int) -> str:
        if kind not in NUMBERS:
            raise self.wrong(f"a value of type {kind}, which does not exist or does not stand here")
        return NUMBERS[kind]

    def number(self, letter: str) -> Any:
        (value,) = struct.unpack(f"<{letter}", self.take(struct.calcsize(letter)))
        return value

    def text(self) -> str:
        begin = self.at
        try:
            return self.take(self.number("Q")).decode()
        except UnicodeDecodeError:
            raise wrong(self.path, f"byte {begin}", "a text that is not UTF-8") from None

    def count(self, count: int, smallest: int) -> int:
        """A number of things of some bytes each at least, which the file must have room for."""
        if count * smallest > len(self.data) - self.at:
            raise self.wrong(f"{count} values are announced, and {len(self.data) - self.at} bytes are left")
        return count

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise self.wrong(f"{size} bytes are announced, and {len(self.data) - self.at} are left")
        self.at += size
        return self.data[self.at - size : self.at]

    def wrong(self, reason: str) -> Exception:
        return wrong(self.path, f"byte {self.at}", reason)
