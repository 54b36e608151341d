"""Where one answer stands in its grammar: which tokens may come next, and what becomes of the one that came.

The state moves with each accepted token and nothing else, so it is the same alone, in a batch, after a sequence had to
wait, and when several positions are drawn in one step.
"""

from __future__ import annotations

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from ingot.infer.constraint.proof import Proof
from ingot.text.trie import TokenTrie


class Matcher:
    """`is_first`: the next token begins a text. An end token is allowed where the grammar may end, and only there."""

    def __init__(
        self, grammar: LLMatcher, trie: TokenTrie, eos_ids: frozenset[int], is_first: bool, prove: Proof
    ) -> None:
        self._grammar, self._trie, self._prove = grammar, trie, prove
        self._eos_ids = sorted(token for token in eos_ids if token < trie.size)
        self._is_first = is_first and bool(trie.opening)
        self._allowed: NDArray[np.bool_] | None = None

    @property
    def may_end(self) -> bool:
        """Is what was written so far all that was asked for?"""
        return bool(self._grammar.is_accepting())

    @property
    def must_end(self) -> bool:
        """Is it, and can nothing more be written?"""
        return self.may_end and bool(self._grammar.is_stopped())

    def allowed(self) -> NDArray[np.bool_]:
        """Which tokens may come next, one entry an id of the tokenizer. Nothing where the grammar got too complex."""
        if self._allowed is None:
            words = np.zeros(self._trie.words, np.int32)
            if not self._grammar.is_error():
                self._grammar.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
            bits = np.unpackbits(words.view(np.uint8), bitorder="little").view(np.bool_)
            self._allowed = bits[self._trie.first] if self._is_first else bits[: self._trie.size].copy()
            if self._is_first and not self._allowed.any():
                self._allowed[self._trie.void] = True  # a text that begins with a space needs one before it
            self._allowed[self._eos_ids] = self.may_end
        return self._allowed

    def accept(self, token: int, is_forced: bool = False) -> bool:
        """Move on with this token; False where it was not allowed. An end token leaves the state as it is, and so does
        a token without text that the model's directory forces."""
        if is_forced and (token in self._eos_ids or token in self._trie.silent):
            return True
        if token in self._eos_ids:
            return self.may_end
        if token >= self._trie.size:
            return False
        if self._is_first and token in self._trie.void:
            can_begin, self._is_first, self._allowed = bool(self.allowed()[token]), False, None
            return can_begin
        said = self._trie.opening.get(token, token) if self._is_first else token
        self._is_first, self._allowed = False, None
        return bool(self._grammar.consume_token(said))

    @property
    def complaint(self) -> str:
        """What the grammar says of its state, where it can go no further."""
        return str(self._grammar.get_error()).strip().partition("\n")[0][:200]

    def prove(self, text: str) -> str | None:
        """Why a finished text is not what was asked for; None when it is."""
        return self._prove(text)
