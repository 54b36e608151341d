"""What each token writes: the bytes it adds in the middle of a text, and which tokens write what.

Rules about text (a phrase that must not, or must, be said) are kept whatever tokens spell it, so they ask here. Special
tokens write nothing, but for those that are shown. A token that is dropped at the beginning of a text (the space of
sentencepiece's first word) counts as written: whoever forbids is then too strict there, never too lax.

What this does not do: tokenizers whose decoder rewrites what stands between tokens (WordPiece's clean-up, CTC, words
with an end mark); they are refused by name.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from ingot.core.errors import fail
from ingot.text.stream import BYTE_TOKEN, token_bytes
from ingot.text.tokenizer import Tokenizer

Ids = NDArray[np.int64]


class Spelling:
    """`written[id]`: the bytes of each token. Raises `no-spelling`."""

    def __init__(self, tokenizer: Tokenizer, shown: frozenset[int] = frozenset()) -> None:
        silent = tokenizer.special_ids - shown
        write = _byte_level if tokenizer.is_byte_level else _Pairs(tokenizer)
        tokens = [(id, None if id in silent else tokenizer.token(id)) for id in range(tokenizer.vocab_size)]
        self.written = [b"" if token is None else write(id, token) for id, token in tokens]
        self.longest = max(map(len, self.written), default=0)

    def starting_with(self, begin: bytes) -> Ids:
        """Tokens whose bytes begin with these."""
        order, written = self._sorted
        low = bisect_left(written, begin)
        return order[low : bisect_right(written, begin, lo=low, key=lambda other: other[: len(begin)])]

    def containing(self, part: bytes) -> Ids:
        """Tokens in whose bytes these stand."""
        whole, begins = self._joined
        found, at = [], whole.find(part)
        while at >= 0:
            token = int(np.searchsorted(begins, at, side="right")) - 1
            inside = at + len(part) <= begins[token + 1]
            found += [token] if inside else []
            at = whole.find(part, int(begins[token + 1]) if inside else at + 1)
        return np.asarray(found, dtype=np.int64)

    def cover(self, text: bytes, usable: Collection[int] | None = None) -> list[list[int] | None]:
        """For each place in `text` the fewest tokens that write the rest of it; None where none can. The first token
        is the longest of those that do, of equal spellings the lowest id. `usable`: only these."""
        rest: list[list[int] | None] = [None] * len(text) + [[]]
        for begin in reversed(range(len(text))):
            for end in range(min(len(text), begin + self.longest), begin, -1):
                after = rest[end]
                token = None if after is None else self._token(text[begin:end], usable)
                known = rest[begin]
                if token is not None and after is not None and (known is None or len(after) + 1 < len(known)):
                    rest[begin] = [token, *after]
        return rest

    def _token(self, written: bytes, usable: Collection[int] | None) -> int | None:
        return next((id for id in self._by_bytes.get(written, ()) if usable is None or id in usable), None)

    @cached_property
    def _by_bytes(self) -> dict[bytes, list[int]]:
        found: dict[bytes, list[int]] = {}
        for id, written in enumerate(self.written):
            found.setdefault(written, []).append(id)
        return found

    @cached_property
    def _sorted(self) -> tuple[Ids, list[bytes]]:
        order = sorted(range(len(self.written)), key=self.written.__getitem__)
        return np.asarray(order, dtype=np.int64), [self.written[id] for id in order]

    @cached_property
    def _joined(self) -> tuple[bytes, Ids]:
        """All bytes in a row, and where each token begins in them."""
        return b"".join(self.written), np.cumsum([0, *map(len, self.written)])


@lru_cache(maxsize=8)
def spelling_of(tokenizer: Tokenizer, shown: frozenset[int] = frozenset()) -> Spelling:
    """The spelling of an opened tokenizer, made once."""
    return Spelling(tokenizer, shown)


def _byte_level(id: int, token: str) -> bytes:
    return token_bytes(token)


class _Pairs:
    """For every other tokenizer: what the decoder adds when the token comes behind a letter."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        if not tokenizer.is_additive:
            raise fail("no-spelling", path=tokenizer.path)
        self._tokenizer = tokenizer
        self._letter = tokenizer.encode("a")[-1:]
        self._size = len(tokenizer.decode(self._letter, skip_special=False))

    def __call__(self, id: int, token: str) -> bytes:
        if self._tokenizer.has_byte_tokens and BYTE_TOKEN.fullmatch(token):
            return bytes([int(token[3:5], 16)])
        return self._tokenizer.decode([*self._letter, id], skip_special=False)[self._size :].encode()
