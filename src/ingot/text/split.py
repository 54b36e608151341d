"""Cutting text into words before a tokenizer sees it: the patterns, and a fast exact way to apply one.

`tokenizers` cuts with Oniguruma, about 1.5 MB a second; `Splitter` cuts with the `regex` module, several times as fast.
Both follow Unicode, of different years. Where they could differ, on code points that one of them may not know yet, the
text goes to `tokenizers` itself, so the words are always those that encoding will see.
"""

from __future__ import annotations

import unicodedata
from functools import cache, cached_property

import numpy as np
import regex
from numpy.typing import NDArray
from tokenizers import Regex, pre_tokenizers

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    r"|\p{Han}+"
    r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}&&[^\p{Han}]]+"
    r"|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""GPT-4's pattern with digits one by one and Han runs apart."""

WORDS = SPLIT.replace(r"|\p{Han}+", r"|\p{Han}")
"""The same with every Han character a word: Chinese writes no spaces, and a run of Han is a clause, not a word."""

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
PATTERNS = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "cl100k": LLAMA3.replace(r"|\s*[\r\n]+", r"|\s+\z|\s*[\r\n]+"),
    "o200k": (
        rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTION}"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "llama3": LLAMA3,
    "qwen2": LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}"),
    "ingot": SPLIT,
}
"""Patterns by the names they are known by: gpt2 (also r50k, p50k), cl100k (GPT-4), o200k (GPT-4o), llama3, qwen2."""

PLANES = (0, 1, 2, 3, 14)
"""Planes of Unicode in which characters are still being assigned."""


class Splitter:
    """Cuts texts with a pattern: `cut(text)` gives all that it matches, in order."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self._fast = regex.compile(pattern, regex.VERSION1)

    def cut(self, text: str) -> list[str]:
        if is_settled(text):
            return self.cut_settled(text)
        return [word for word, _ in self.exact.pre_tokenize_str(text)]

    def cut_settled(self, text: str) -> list[str]:
        """`cut` of a text that is known to be settled."""
        words: list[str] = self._fast.findall(text)
        return words

    @cached_property
    def exact(self) -> pre_tokenizers.Split:
        """What `tokenizers` does, here also for a pattern that leaves text between words out."""
        return pre_tokenizers.Split(Regex(self.pattern), "removed", invert=True)


def is_settled(text: str) -> bool:
    """Are all characters assigned in Python's Unicode tables? Then every later version classes them alike."""
    if text.isascii():
        return True
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    return not _unassigned()[points].any()


@cache
def _unassigned() -> NDArray[np.bool_]:
    """For each code point, could a newer Unicode give it a class?"""
    table = np.zeros(0x110000, np.bool_)
    for plane in PLANES:
        begin = plane << 16
        table[begin : begin + 0x10000] = [
            unicodedata.category(chr(point)) == "Cn" for point in range(begin, begin + 0x10000)
        ]
    return table
