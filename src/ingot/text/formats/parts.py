"""What the readers of other tools' files share: what they give, the patterns they know by name, how lines are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers

from ingot.core.errors import fail


@dataclass(frozen=True)
class Settings:
    """What a file cannot tell: the pattern that cuts text (tiktoken, GPT-2), special tokens with their ids (tiktoken),
    whether text is lowered (vocab.txt; None: decided by the vocabulary)."""

    pattern: str | None = None
    special: Mapping[str, int] = field(default_factory=dict)
    lowercase: bool | None = None


@dataclass(frozen=True)
class Imported:
    """A tokenizer as read. `vocabulary` is every token of the file with its id, as it stands in tokenizer.json; `roles`
    its special tokens as tokenizer_config.json names them; `lossless` promises that every text comes back; `config` are
    further keys of tokenizer_config.json."""

    backend: tokenizers.Tokenizer
    vocabulary: Mapping[str, int]
    roles: Mapping[str, str]
    lossless: bool
    numbers: Mapping[str, Any] = field(default_factory=dict)
    chat_template: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)


ROLES = {
    "<|endoftext|>": "eos_token",
    "<|end_of_text|>": "eos_token",
    "</s>": "eos_token",
    "<|begin_of_text|>": "bos_token",
    "<s>": "bos_token",
    "<pad>": "pad_token",
    "<|pad|>": "pad_token",
    "<unk>": "unk_token",
    "[UNK]": "unk_token",
    "[CLS]": "cls_token",
    "[SEP]": "sep_token",
    "[PAD]": "pad_token",
    "[MASK]": "mask_token",
}
"""What a special token of a well-known name is for."""


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file without their ends, from 1. Raises `bad-token-file` naming the line."""
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        try:
            yield number, line.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise wrong(path, f"line {number}", f"byte {error.start + 1} is not UTF-8") from None


def wrong(path: Path, place: str, reason: str) -> Exception:
    """The error for a file that is not what it should be."""
    return fail("bad-token-file", path=path, place=place, reason=reason)
