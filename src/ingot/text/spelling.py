"""Which tokens write what: `ingot.text.token_bytes` the other way round.

Rules about text (a phrase that must not, or must, be said) are kept whatever tokens spell it, so they ask here.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from ingot.text.token_bytes import read_token_bytes
from ingot.text.tokenizer import Tokenizer

Ids = NDArray[np.int64]


class Spelling:
    """`written[id]`: the bytes of each token; `opening[id]`: as the first of a text, where they are others. Special
    tokens write nothing, but for those that are `shown`. Raises `tokenizer-not-bytewise`."""

    def __init__(self, tokenizer: Tokenizer, shown: frozenset[int] = frozenset()) -> None:
        found = read_token_bytes(tokenizer, shown)
        self.written, self.opening = found.whole, found.opening
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
