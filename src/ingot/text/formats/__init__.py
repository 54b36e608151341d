"""Tokenizers in the files of other tools; each format is read by a file of its own, with the ids of its own tool."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ingot.core.errors import fail
from ingot.text.formats.gguf import read_gguf
from ingot.text.formats.gguf_meta import MAGIC
from ingot.text.formats.gpt2 import read_gpt2
from ingot.text.formats.parts import Imported, Settings
from ingot.text.formats.sentencepiece import read_sentencepiece
from ingot.text.formats.tiktoken import is_rank_file, read_tiktoken
from ingot.text.formats.vocab_txt import read_vocab_txt

FORMATS: dict[str, Callable[[Path, Settings], Imported]] = {
    "sentencepiece": read_sentencepiece,
    "tiktoken": read_tiktoken,
    "vocab.txt": read_vocab_txt,
    "vocab.json": read_gpt2,
    "gguf": read_gguf,
}
"""How a file of each format is read."""


def format_of(path: Path) -> str:
    """Which format a file is in: by what it looks like where names are ambiguous (Llama's rank files end in .model).

    Raises `no-such-file`.
    """
    if not path.exists():
        raise fail("no-such-file", path=path)
    if path.is_dir() or path.suffix == ".json":
        return "vocab.json"
    with path.open("rb") as stream:
        if stream.read(4) == MAGIC:
            return "gguf"
    if is_rank_file(path):
        return "tiktoken"
    return "vocab.txt" if path.suffix == ".txt" else "sentencepiece"
