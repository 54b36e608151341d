"""A vocabulary as llguidance walks it: made once for a tokenizer, shared by all requests.

No special token is ever part of an answer's text, so none has bytes here. Which tokens end an answer is the model's
business: one more id, behind the vocabulary, stands for "may end here". Behind it come the tokens that say something
else when they begin a text (see `ingot.text.token_bytes`), so that the first mask is read from those.
"""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from numpy.typing import NDArray

from ingot.text.token_bytes import TokenBytes, read_token_bytes

if TYPE_CHECKING:
    from ingot.text.tokenizer import Tokenizer

LIMITS: dict[str, Any] = {"verbose_errors": False}
"""llguidance's own bounds on time and size stand; its messages are not to quote the state."""
STACK = 512 * 2**20
"""Bytes that the thread that compiles may use: a level takes about 6 kB, and a schema has at most 20,000 parts."""
STACK_LOCK = threading.Lock()
"""The size of new threads' stacks is one setting for the process."""


class _Vocabulary:
    """What LLTokenizer asks of a tokenizer. It asks for ids of a text only to force tokens, which is switched off."""

    bos_token_id = None

    def __init__(self, tokens: list[bytes], specials: list[int], end: int) -> None:
        self.tokens, self.special_token_ids, self.eos_token_id = tokens, specials, end

    def __call__(self, text: object) -> list[int]:
        return []


class TokenTrie:
    """`size`: ids of the tokenizer; `end`: the id that stands for the end; `silent`: tokens without text;
    `void`: those that say nothing when they begin a text, and are only a space that is dropped."""

    def __init__(self, bytes_: TokenBytes) -> None:
        self.size = self.end = len(bytes_.whole)
        self.opening = {id: self.end + 1 + at for at, id in enumerate(bytes_.opening)}
        self.void = [id for id, own in bytes_.opening.items() if not own]
        self.silent = frozenset(id for id, own in enumerate(bytes_.whole) if not own)
        tokens = [*bytes_.whole, b"", *bytes_.opening.values()]
        specials = [id for id, own in enumerate(tokens) if not own]
        vocabulary = _Vocabulary(tokens, specials, self.end)
        self._tokenizer = LLTokenizer(TokenizerWrapper(vocabulary), slices=LLTokenizer.json_slices())
        self.words = (len(tokens) + 31) // 32

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> TokenTrie:
        """Raises `tokenizer-not-bytewise`."""
        return cls(read_token_bytes(tokenizer))

    @cached_property
    def first(self) -> NDArray[np.int64]:
        """Where each id's bit stands in the mask of a text's first token."""
        places = np.arange(self.size)
        places[list(self.opening)] = list(self.opening.values())
        return places

    def matcher(self, grammar: str) -> LLMatcher:
        """One that has read nothing; in a state of error where the grammar is none. Made in a thread of its own:
        llguidance follows rules into rules by recursion, and a long chain of them would end the process."""
        found: list[LLMatcher] = []
        limits = LLParserLimits(**LIMITS)
        with STACK_LOCK:
            before = threading.stack_size(STACK)
            try:
                thread = threading.Thread(
                    target=lambda: found.append(LLMatcher(self._tokenizer, grammar, log_level=0, limits=limits))
                )
                thread.start()
            finally:
                threading.stack_size(before)
        thread.join()
        return found[0]


def byte_trie() -> TokenTrie:
    """Every byte is a token: for reading a text whatever tokens it came in."""
    return TokenTrie(TokenBytes([bytes([byte]) for byte in range(256)]))
