"""BERT's vocab.txt: a WordPiece token on each line, its id the line number from 0.

Whether text is lowered (and its accents dropped) does not stand in the file. Unless told, it is taken from the tokens:
a vocabulary without capital letters is of a model that lowers.
"""

from __future__ import annotations

from pathlib import Path

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from ingot.text.formats.parts import ROLES, Imported, Settings, numbered_lines, wrong

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def read_vocab_txt(path: Path, settings: Settings) -> Imported:
    """A vocab.txt. Raises `bad-token-file` naming the line."""
    vocabulary: dict[str, int] = {}
    lines = list(numbered_lines(path))
    for number, token in lines[:-1] if lines and not lines[-1][1] else lines:
        if token in vocabulary or not token:
            earlier = f"{token!r} again, which is line {vocabulary[token] + 1}" if token else "it is empty"
            raise wrong(path, f"line {number}", earlier)
        vocabulary[token] = number - 1
    return word_piece(path, vocabulary, settings)


def word_piece(path: Path, vocabulary: dict[str, int], settings: Settings) -> Imported:
    """BERT's tokenizer with these tokens."""
    missing = [token for token in ("[UNK]", "[CLS]", "[SEP]") if token not in vocabulary]
    if missing:
        raise wrong(path, "the whole file", f"it has no {missing[0]}; is it a WordPiece vocabulary?")
    special = [token for token in SPECIAL if token in vocabulary]
    has_capitals = any(token != token.lower() for token in vocabulary if token not in SPECIAL and token[0] != "[")
    lowercase = not has_capitals if settings.lowercase is None else settings.lowercase
    made = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=SPECIAL[1]))
    made.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    roles = {ROLES[token]: token for token in special}
    return Imported(made, vocabulary, roles, lossless=False, numbers={"lowercase": lowercase})
