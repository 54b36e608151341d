"""Tokenizers inside GGUF files: the ids that their own tools give, and bad files refused by byte or entry."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from test_import_tokenizer import KINDS, SAMPLES, VOCAB, train_sentencepiece

from ingot.core.errors import IngotError
from ingot.text.formats.gguf import NEVER, PRE
from ingot.text.formats.gguf_meta import read_metadata
from ingot.text.formats.sentencepiece import BPE, read_model
from ingot.text.import_verb import tokenizer_import
from ingot.text.stream import byte_alphabet
from ingot.text.tokenizer import Tokenizer

TYPES = {bool: (7, "?"), int: (5, "i"), float: (6, "f")}


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def plain(value: Any) -> tuple[int, bytes]:
    """Type and bytes of a value that is no list."""
    if isinstance(value, str):
        return 8, text(value)
    kind, letter = TYPES[type(value)]
    return kind, struct.pack(f"<{letter}", value)


def gguf(values: dict[str, Any]) -> bytes:
    """A GGUF file of metadata alone."""
    parts = [b"GGUF", struct.pack("<IQQ", 3, 0, len(values))]
    for name, value in values.items():
        items = [plain(item) for item in value] if isinstance(value, list) else []
        inner = items[0][0] if items else 5
        body = struct.pack("<IIQ", 9, inner, len(items)) + b"".join(item for _, item in items)
        if not isinstance(value, list):
            kind, written = plain(value)
            body = struct.pack("<I", kind) + written
        parts += [text(name), body]
    return b"".join(parts)


def tokenizer(**values: Any) -> dict[str, Any]:
    return {f"tokenizer.ggml.{name}": value for name, value in values.items()}


ALPHABET = sorted(byte_alphabet())
SMALL = tokenizer(
    model="gpt2", pre="qwen2", tokens=[*ALPHABET, "th", "Ġthe", "the", "<think>", "<|end|>", "[PAD261]"],
    token_type=[1] * 259 + [4, 3, 4], merges=["t h", "th e", "Ġ the"], eos_token_id=260, add_bos_token=False,
) | {"tokenizer.chat_template": "{% for m in messages %}{{ m.content }}<|end|>{% endfor %}"}  # fmt: skip


def open_imported(path: Path, values: dict[str, Any] | bytes, **options: Any) -> Tokenizer:
    path.with_suffix(".gguf").write_bytes(values if isinstance(values, bytes) else gguf(values))
    return Tokenizer.open(tokenizer_import(path.with_suffix(".gguf"), out=path, **options).path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert-bge", "deepseek-coder", "deepseek-llm", "gpt-2", "refact", "starcoder"])
def test_real_vocabularies_give_the_published_ids_and_the_library_s_offsets(
    name: str, real_data: Path, tmp_path: Path
) -> None:
    file = real_data / f"08_tokenizers/llama.cpp/ggml-vocab-{name}.gguf"
    made = tokenizer_import(file, out=tmp_path / "out")
    ours, theirs = Tokenizer.open(made.path), tokenizers.Tokenizer.from_file(str(made.path / "tokenizer.json"))
    theirs.encode_special_tokens = True
    texts = Path(f"{file}.inp").read_text().split("\n__ggml_vocab_test__\n")
    expected = Path(f"{file}.out").read_text().splitlines()
    assert len(expected) == 46
    for given_text, line in zip(texts, expected, strict=False):
        ids = [int(id) for id in line.split()]
        assert ours.encode(given_text) == ids
        found, other = ours.encode_pieces([given_text]), theirs.encode(given_text, add_special_tokens=False)
        assert (found.ids, list(zip(found.begins, found.ends, strict=True))) == (other.ids, other.offsets)


def test_what_the_file_says_is_kept(tmp_path: Path) -> None:
    ours = open_imported(tmp_path / "out", SMALL)
    assert [ours.token(id) for id in ours.encode("the thin 12<think>")][:4] == ["the", "Ġ", "th", "i"]
    assert ours.id("<think>") in ours.encode("a<think>")
    assert ours.id("<|end|>") not in ours.encode("<|end|>")
    assert (ours.eos_id, ours.vocab_size, ours.document_prefix) == (260, 261, ())
    assert "<|end|>" in (ours.chat_template or "")
    assert ours.id("[PAD261]") is None


@pytest.mark.parametrize(("pre", "ids"), [("llama-bpe", [261]), ("qwen2", [*map(ALPHABET.index, "yzx")])])
def test_llama_3_takes_a_word_whole_that_no_merge_makes(pre: str, ids: list[int], tmp_path: Path) -> None:
    tokens = [*SMALL["tokenizer.ggml.tokens"][:-1], "yzx"]
    values = SMALL | tokenizer(pre=pre, tokens=tokens, token_type=[1] * 259 + [4, 3, 1])
    ours = open_imported(tmp_path / "out", values)
    assert ours.encode("yzx") == ids


@pytest.mark.parametrize("pre", PRE)
def test_every_pattern_loses_no_text(pre: str, tmp_path: Path) -> None:
    ours = open_imported(tmp_path / "out", SMALL | tokenizer(pre=pre))
    for sample in SAMPLES:
        assert ours.decode(ours.encode(sample), skip_special=False) == sample


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].get("byte_fallback")])
def test_sentencepiece_inside_gives_its_ids(kind: str, tmp_path: Path) -> None:
    file = train_sentencepiece(tmp_path / "a.model", **KINDS[kind])
    model, theirs = read_model(file), sentencepiece.SentencePieceProcessor(model_file=str(file))
    values = tokenizer(
        model="llama" if model.model_type == BPE else "t5", tokens=[piece.text for piece in model.pieces],
        scores=[piece.score for piece in model.pieces], token_type=[piece.kind for piece in model.pieces],
        unknown_token_id=0, bos_token_id=1, eos_token_id=2, add_space_prefix=model.dummy_prefix,
        remove_extra_whitespaces=model.remove_extra_spaces,
        **({"precompiled_charsmap": [byte - 256 * (byte > 127) for byte in model.charsmap]} if model.charsmap else {}),
    )  # fmt: skip
    ours = open_imported(tmp_path / "out", values)
    for sample in SAMPLES[:-2]:
        assert ours.encode(sample) == theirs.encode(sample)
    assert (ours.bos_id, ours.eos_id, ours.vocab_size) == (1, 2, theirs.vocab_size())


def test_bert_inside_is_bert(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(VOCAB) + "\n")
    plain_file = Tokenizer.open(tokenizer_import(tmp_path / "vocab.txt", out=tmp_path / "plain").path)
    written = [t if t[0] == "[" else t[2:] if t.startswith("##") else f"▁{t}" for t in VOCAB]
    ours = open_imported(tmp_path / "out", tokenizer(model="bert", tokens=written, unknown_token_id=1))
    assert [ours.token(id) for id in range(ours.vocab_size)] == VOCAB
    for sample in SAMPLES:
        assert ours.encode(sample) == plain_file.encode(sample)


def test_a_byte_without_a_token_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rare = [character for character, byte in byte_alphabet().items() if byte == 0xF1 or byte in NEVER]
    tokens = [
        token if token not in rare else f"x{number}" for number, token in enumerate(SMALL["tokenizer.ggml.tokens"])
    ]
    ours = open_imported(tmp_path / "out", SMALL | tokenizer(tokens=tokens))
    assert "1 of the bytes" in caplog.text
    assert ours.decode(ours.encode("好a😀")) == "好a😀"


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"model": None}, "bad-token-file", "tokenizer.ggml.model: it is missing"),
        ({"model": "rwkv"}, "unsupported-token-file", "a tokenizer of kind 'rwkv'"),
        ({"pre": None}, "pattern-needed", "cl100k"),
        ({"pre": "new"}, "unsupported-token-file", "the pre-tokenizer 'new'"),
        ({"tokens": ["a"]}, "bad-token-file", "tokenizer.ggml.token_type: it has 262 entries, there are 1 tokens"),
        ({"tokens": [1]}, "bad-token-file", "tokenizer.ggml.tokens: it is not a list of str"),
        ({"tokens": ["a"] * 262}, "bad-token-file", "tokenizer.ggml.tokens[1]: 'a' is token 0 already"),
        ({"token_type": [9] * 262}, "bad-token-file", "tokenizer.ggml.token_type[0]: there is no type 9"),
        ({"merges": ["t h", "h z"]}, "bad-token-file", "tokenizer.ggml.merges[1]: the vocabulary has no 'hz'"),
        ({"merges": ["th"]}, "bad-token-file", "tokenizer.ggml.merges[0]: 'th' is not two tokens"),
        ({"merges": None}, "bad-token-file", "tokenizer.ggml.merges: it is not a list of str"),
        ({"eos_token_id": 999}, "bad-token-file", "tokenizer.ggml.eos_token_id: there is no token 999"),
        ({"model": "llama"}, "bad-token-file", "tokenizer.ggml.scores: it is not a list of float"),
    ],
)
def test_bad_entries_are_refused_by_name(changes: Any, code: str, says: str, tmp_path: Path) -> None:
    values = {name: value for name, value in (SMALL | tokenizer(**changes)).items() if value is not None}
    with pytest.raises(IngotError) as caught:
        open_imported(tmp_path / "out", values)
    assert caught.value.code == code
    assert says in str(caught.value)
    assert not (tmp_path / "out").exists()


WHOLE = gguf(SMALL)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (WHOLE[:4] + struct.pack("<I", 1) + WHOLE[8:], "version 1 is not read"),
        (WHOLE[:16] + struct.pack("<Q", 1 << 62) + WHOLE[24:], "values are announced"),
        (WHOLE[:24] + struct.pack("<Q", 1 << 62) + WHOLE[32:], "bytes are announced"),
        (WHOLE[:1000], "values are announced"),
        (WHOLE.replace(b"qwen2", b"\xff\xff\xff\xff\xff"), "a text that is not UTF-8"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("tokenizer.a") + struct.pack("<IIQ", 9, 9, 1), "of type 9"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + (text("tokenizer.a") + struct.pack("<IB", 0, 1)) * 2, "again"),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_by_its_byte(content: bytes, says: str, tmp_path: Path) -> None:
    with pytest.raises(IngotError, match="byte") as caught:
        open_imported(tmp_path / "out", content)
    assert caught.value.code == "bad-token-file"
    assert says in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(at=st.integers(4, len(WHOLE) - 1), put=st.binary(min_size=1, max_size=9), cut=st.booleans())
def test_no_bytes_break_the_reader(at: int, put: bytes, cut: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("any") / "x.gguf"
    file.write_bytes(WHOLE[:at] + put + (b"" if cut else WHOLE[at + len(put) :]))
    with contextlib.suppress(IngotError):
        assert isinstance(read_metadata(file), dict)


def test_a_pattern_is_refused_where_the_file_names_one(tmp_path: Path) -> None:
    with pytest.raises(IngotError, match="pattern") as caught:
        open_imported(tmp_path / "out", SMALL, pattern="gpt2")
    assert caught.value.code == "setting-not-used"
    nameless = {name: value for name, value in SMALL.items() if not name.endswith(".pre")}
    assert open_imported(tmp_path / "out", nameless, pattern="gpt2").encode("the") == [258]
