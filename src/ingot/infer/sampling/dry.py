"""DRY: which tokens would go on repeating what was written, and by how much they are penalised.

For every earlier place, how many tokens up to it equal those written last. One more token lengthens the matches that it
continues and begins new ones, so each step touches only the earlier places of that token. A sequence breaker is a text,
found wherever it ends, whatever tokens write it: what stands before its last token is not matched. (llama.cpp looks for
tokens that hold the breaker, or begin it before the tokens of its own encoding.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ingot.infer.options import Sampling
from ingot.infer.sampling.texts import Finder
from ingot.text.spelling import Spelling

MAX_MATCH = 512
"""Tokens of a repeat that are counted; longer ones are penalised as if they were so long."""

MAX_EXPONENT_LOG = 88.0
"""base ** exponent stays a float32 number."""


class Dry:
    """Knows prompt and answer; `penalties()` is what the next token's logits lose."""

    def __init__(self, own: Sampling, spelling: Spelling, prompt: Sequence[int]) -> None:
        self._own = own
        self._spelling = spelling
        self._breakers = Finder([text.encode() for text in own.dry_sequence_breakers])
        self._tokens = list(prompt)
        self._places: dict[int, list[int]] = {}
        for place, token in enumerate(prompt):
            self._places.setdefault(token, []).append(place)
        self._lengths = self._matches(self._free(prompt))

    def push(self, token: int) -> None:
        """One more token."""
        before, end = self._lengths, len(self._tokens)
        self._tokens.append(token)
        places = self._places.setdefault(token, [])
        if self._breakers.push(self._written(token)):
            self._lengths = {}
        else:
            self._lengths = {place: min(before.get(place - 1, 0) + 1, MAX_MATCH) for place in places}
        places.append(end)

    def penalties(self) -> dict[int, float]:
        """{token: what to subtract from its logit}."""
        own, longest = self._own, self._longest_by_token()
        most = MAX_EXPONENT_LOG / np.log(own.dry_base) if own.dry_base > 1 else np.inf
        return {
            token: own.dry_multiplier * own.dry_base ** min(length - own.dry_allowed_length, most)
            for token, length in longest.items()
            if not any(breaker in self._written(token) for breaker in self._breakers.texts)
        }

    def _longest_by_token(self) -> dict[int, int]:
        """The longest match, of more than is free, that each token would lengthen."""
        own, begin = self._own, 0
        if own.dry_penalty_last_n is not None:
            begin = max(0, len(self._tokens) - own.dry_penalty_last_n)
        longest: dict[int, int] = {}
        for place, length in self._lengths.items():
            inside = min(length, place - begin + 1)
            if inside >= own.dry_allowed_length:
                token = self._tokens[place + 1]
                longest[token] = max(longest.get(token, 0), inside)
        return longest

    def _free(self, prompt: Sequence[int]) -> int:
        """How many tokens the prompt has behind its last breaker."""
        free = 0
        for token in prompt:
            free = 0 if self._breakers.push(self._written(token)) else free + 1
        return free

    def _matches(self, limit: int) -> dict[int, int]:
        """{earlier place: how many tokens up to it equal the prompt's last}, at most `limit`."""
        tokens = np.asarray(self._tokens, dtype=np.int64)
        last = len(tokens) - 1
        places = np.arange(max(last, 0))
        lengths = np.zeros(len(places), dtype=np.int64)
        for size in range(min(limit, MAX_MATCH)):
            places = places[places >= size]
            places = places[tokens[places - size] == tokens[last - size]]
            if not len(places):
                break
            lengths[places] += 1
        return {int(place): int(lengths[place]) for place in lengths.nonzero()[0]}

    def _written(self, token: int) -> bytes:
        return self._spelling.written[token] if token < len(self._spelling.written) else b""
