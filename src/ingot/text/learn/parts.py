"""What the ways of learning a tokenizer share: special tokens, what comes out, and the two pipelines around a model.

On bytes (GPT-2's printable stand-ins) all 256 are in every vocabulary, so nothing is ever unknown and
decode(encode(x)) == x. On characters, those that are not in the vocabulary become the unknown token; everything else,
spaces included, is kept as it is written, so that the tokens joined are the text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, pre_tokenizers

from ingot.core.errors import fail
from ingot.text.split import SPLIT
from ingot.text.stream import byte_alphabet

Texts = Iterable[list[str]]
"""Texts in batches."""

END_OF_TEXT, PAD, TURN_BEGIN, TURN_END = SPECIALS = ("<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>")
"""Special tokens of our own tokenizers, with ids 0 to 3. End of text is the eos; padding has a token of its own, so
that masking padding never masks the end of a text."""
UNKNOWN = "<unk>"

COVERAGE = 0.9995
"""Share of the characters of a text that the alphabet covers (sentencepiece's default for Chinese and Japanese); the
rarest become the unknown token."""


@dataclass(frozen=True)
class Learnt:
    """A tokenizer as learnt. `roles` are its special tokens as tokenizer_config.json names them; `lossless` promises
    that every text comes back; `spells` that known tokens, joined, are the text they stand for."""

    backend: tokenizers.Tokenizer
    numbers: Mapping[str, Any]
    roles: Mapping[str, str] = field(default_factory=dict)
    lossless: bool = True
    spells: bool = True


def check_bytes_fit(vocab_size: int) -> None:
    """Raises `vocab-too-small` when the bytes and special tokens alone do not fit."""
    smallest = len(byte_alphabet()) + len(SPECIALS)
    if vocab_size < smallest:
        raise fail("vocab-too-small", found=vocab_size, smallest=smallest, specials=len(SPECIALS))


def alphabet(words: Mapping[str, int], room: int) -> list[str]:
    """The characters to know: the most frequent, until COVERAGE of the text is covered, in code point order.

    Raises `alphabet-too-large` when there are more than `room`.
    """
    counts = character_counts(words)
    missing = (1 - COVERAGE) * sum(counts.values())
    known = by_frequency(counts)
    while known and (missing := missing - counts[known[-1]]) >= 0:
        known.pop()
    if len(known) > room:
        raise fail("alphabet-too-large", found=len(known), room=room, coverage=COVERAGE)
    return sorted(known)


def character_counts(words: Mapping[str, int]) -> Counter[str]:
    """How often each character occurs."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            counts[character] += count
    return counts


def by_frequency(counts: Mapping[str, int]) -> list[str]:
    """The most frequent first; of equally frequent ones the first in code point order."""
    ordered = sorted(counts)
    ordered.sort(key=counts.__getitem__, reverse=True)  # equal ones stay in order
    return ordered


def on_bytes(model: Any) -> tokenizers.Tokenizer:
    """A tokenizer with this model behind SPLIT and bytes."""
    made = tokenizers.Tokenizer(model)
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(SPLIT), "isolated"), to_bytes])
    made.decoder = decoders.ByteLevel()
    return made


def on_characters(model: Any, pattern: str = SPLIT) -> tokenizers.Tokenizer:
    """A tokenizer with this model behind a pattern; its tokens, joined, are the text."""
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    made.decoder = decoders.Fuse()
    return made


def with_specials(made: tokenizers.Tokenizer, further: Sequence[str] = ()) -> tokenizers.Tokenizer:
    """The tokenizer with SPECIALS and some more, which its vocabulary holds already."""
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (*SPECIALS, *further)])
    return made
