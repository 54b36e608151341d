"""The bytes of tokens, joined, are the text: for every token of every kind of tokenizer, first and in the middle."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from tokenizer_kinds import byte_fallback, byte_level, digits_alone, metaspace_unigram, word_piece, write

from ingot.core.errors import IngotError
from ingot.text.spelling import Spelling
from ingot.text.token_bytes import read_token_bytes
from ingot.text.tokenizer import Tokenizer

SPECIALS = ["<s>", "</s>", "<pad>"]
KINDS: dict[str, Any] = {
    "byte-level": lambda: byte_level(SPECIALS),
    "split": lambda: digits_alone(SPECIALS),
    "byte fallback": lambda: byte_fallback(SPECIALS),
    "byte fallback, no prefix": lambda: byte_fallback(SPECIALS, prepend=False),
    "unigram, always": lambda: metaspace_unigram(SPECIALS),
    "unigram, never": lambda: metaspace_unigram(SPECIALS, "never"),
}


@pytest.fixture(scope="module", params=KINDS)
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.open(write(KINDS[request.param](), tmp_path_factory.mktemp("kind")))


def is_text(own: bytes) -> bool:
    return own.decode(errors="ignore").encode() == own


def test_bytes_of_any_tokens_are_their_text(opened: Tokenizer) -> None:
    found, chooser = read_token_bytes(opened), random.Random(1)
    texts = [id for id, own in enumerate(found.whole) if own and is_text(own)]
    assert len(texts) > 40
    for id in texts:
        for run in ([id], [chooser.choice(texts), id], [id, *chooser.choices(texts, k=9)]):
            assert opened.decode(run) == found.joined(run).decode(), run


def test_characters_split_over_tokens_are_joined(opened: Tokenizer) -> None:
    """Each byte of a text as a token of its own, where there are such tokens."""
    found = read_token_bytes(opened)
    single = {own[0]: id for id, own in enumerate(found.whole) if len(own) == 1}
    run = [single.get(byte) for byte in "xé天😀y".encode()]
    if None in run:
        assert not opened.is_byte_level
        assert not opened.has_byte_tokens
        return
    ids = [id for id in run if id is not None]
    assert opened.decode(ids) == found.joined(ids).decode() == "xé天😀y"


def test_special_tokens_have_no_bytes(opened: Tokenizer) -> None:
    found = read_token_bytes(opened)
    assert all(found.whole[id] == b"" for id in opened.special_ids)
    assert len(found.whole) == opened.vocab_size


def test_special_tokens_that_are_shown_are_text(opened: Tokenizer) -> None:
    shown = opened.id("<pad>")
    assert shown is not None
    found = read_token_bytes(opened, frozenset([shown]))
    word = next(id for id, own in enumerate(found.whole) if own.isalpha())
    for run in ([shown], [word, shown, word], [shown, shown]):
        assert opened.decode(run, shown=frozenset([shown])) == found.joined(run).decode()
    assert found.whole[shown] == b"<pad>"
    assert Spelling(opened, frozenset([shown])).starting_with(b"<pad>").tolist() == [shown]


def test_a_space_that_opens_a_text_is_known_to_be_dropped(tmp_path: Path) -> None:
    """Only where the decoder drops it."""
    drops = Tokenizer.open(write(byte_fallback(SPECIALS), tmp_path / "a"))
    keeps = Tokenizer.open(write(byte_fallback(SPECIALS, prepend=False), tmp_path / "b"))
    found = read_token_bytes(drops)
    word = next(id for id, own in enumerate(found.whole) if own.startswith(b" t"))
    assert found.opening[word] == found.whole[word][1:] == drops.decode([word]).encode()
    assert read_token_bytes(keeps).opening == {}


@pytest.mark.parametrize("cleanup", [True, False])
def test_a_decoder_that_joins_words_is_refused_by_name(tmp_path: Path, cleanup: bool) -> None:
    """Without its clean-up it still writes "##" where a text begins with the rest of a word."""
    from tokenizers import decoders

    made = word_piece(SPECIALS)
    made.decoder = decoders.WordPiece(cleanup=cleanup)
    tokenizer = Tokenizer.open(write(made, tmp_path))
    for read in (read_token_bytes, Spelling):
        with pytest.raises(IngotError, match="its decoder is WordPiece") as caught:
            read(tokenizer)
        assert caught.value.code == "tokenizer-not-bytewise"


def test_a_decoder_that_lies_about_its_parts_is_found_out(tmp_path: Path) -> None:
    """One that replaces a second sign, and one that strips more than a space."""
    from tokenizers import decoders

    strips, replaces = byte_fallback(SPECIALS), byte_fallback(SPECIALS)
    sequence = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    strips.decoder = decoders.Sequence([*sequence, decoders.Strip("a", 0, 3)])
    replaces.decoder = decoders.Sequence([*sequence, decoders.Replace("e", "E")])
    for number, made in enumerate((strips, replaces)):
        with pytest.raises(IngotError, match="one after the other"):
            read_token_bytes(Tokenizer.open(write(made, tmp_path / str(number))))
