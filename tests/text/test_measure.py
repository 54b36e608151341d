"""Figures of a tokenizer on texts: equal to TokLens' where it has them, and to a slow recount."""

from __future__ import annotations

import importlib.util
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from ingot.text.fertility import HAN, fertility
from ingot.text.kind import kind_of
from ingot.text.measure import METRICS, Measured, ends_open, is_text, measure
from ingot.text.tokenizer import Tokenizer
from tiny import write_tokenizer

TEXTS = ["the cat sat on the mat, said the dog.", "天空是藍色的，草地是綠色的。", "naïve 😀 𠮷 and 好 x\n", "1 + 2 = 3"]


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.open(write_tokenizer(tmp_path_factory.mktemp("tokens") / "tok"))


@pytest.fixture(scope="module")
def fallback(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Characters and a few words, bytes for all else, as Llama 2 has it; and an unknown token that never comes."""
    vocab = {"<unk>": 0, **{f"<0x{byte:02X}>": byte + 1 for byte in range(256)}}
    for token in ["▁", "t", "h", "e", "th", "the", "▁the", "天"]:
        vocab[token] = len(vocab)
    merges = [("t", "h"), ("th", "e"), ("▁", "the")]
    made = tokenizers.Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    path = tmp_path_factory.mktemp("tokens")
    made.save(str(path / "tokenizer.json"))
    return Tokenizer.open(path)


@pytest.fixture(scope="module")
def unknowing(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    made = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "cat": 2, "天": 3}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    path = tmp_path_factory.mktemp("tokens")
    made.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps({"unk_token": "[UNK]"}))
    return Tokenizer.open(path)


def recount(tokenizer: Tokenizer, text: str) -> dict[str, int]:
    """The same counts, a unit at a time, characters followed through the bytes of a byte-level tokenizer."""
    ids = tokenizer.encode(text)
    words = [len(tokenizer.encode(word)) for word in text.split()]
    han = [len(tokenizer.encode(character)) for character in text if HAN.match(character)]
    return {
        "bytes": len(text.encode()),
        "characters": len(text),
        "tokens": len(ids),
        "words": len(words),
        "word_tokens": sum(words),
        "whole_words": sum(size == 1 for size in words),
        "han": len(han),
        "whole_han": sum(size == 1 for size in han),
    }


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=60))
def test_counts_equal_a_slow_recount(byte_level: Tokenizer, text: str) -> None:
    found = measure(byte_level, [text])
    for name, expected in recount(byte_level, text).items():
        assert found.counts[name].tolist() == [expected], name
    assert found.uses.sum() == len(byte_level.encode(text))


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=60))
def test_split_characters_are_those_with_a_border_inside(byte_level: Tokenizer, text: str) -> None:
    borders = {0}
    partial = 0
    for id in byte_level.encode(text):
        raw = b"".join(bytes([byte]) for byte in _bytes(byte_level, id))
        partial += not is_text(raw)
        borders.add(max(borders) + len(raw))
    at, split = 0, 0
    for character in text:
        size = len(character.encode())
        split += any(at < border < at + size for border in borders)
        at += size
    found = measure(byte_level, [text])
    assert found.counts["split_characters"].tolist() == [split]
    assert found.counts["split_tokens"].tolist() == [partial]


def _bytes(tokenizer: Tokenizer, id: int) -> bytes:
    from tokenizers.pre_tokenizers import ByteLevel

    table: dict[str, int] = {}
    for code in range(256):
        if code < 0x80:
            table[ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(chr(code))[0][0]] = code
    others = sorted(set(ByteLevel.alphabet()) - set(table))
    printable = [*range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table |= {chr(code): code for code in printable}
    rest = [code for code in range(0x80, 0x100) if code not in printable]
    table |= dict(zip([other for other in others if ord(other) > 0xFF], rest, strict=True))
    token = tokenizer.token(id)
    assert token is not None
    return bytes(table[character] for character in token)


def test_byte_fallback(fallback: Tokenizer) -> None:
    found = measure(fallback, ["the 天", "好", "é"])
    assert found.counts["tokens"].tolist() == [len(fallback.encode(text)) for text in ("the 天", "好", "é")]
    assert found.counts["byte_tokens"].tolist() == [0, 3, 2]
    assert found.counts["split_tokens"].tolist() == [0, 3, 2]
    assert found.counts["split_characters"].tolist() == [0, 1, 1]
    assert found.counts["unknown"].tolist() == [0, 0, 0]


def test_an_ascii_byte_is_a_fallback_but_splits_nothing(fallback: Tokenizer) -> None:
    found = measure(fallback, ["q"])
    assert (found.value("byte_fallback_rate"), found.value("split_token_rate")) == (0.5, 0.0)  # the ▁ before it is none


def test_unknown_tokens(unknowing: Tokenizer) -> None:
    found = measure(unknowing, ["the dog 天", "cat"])
    assert found.counts["unknown"].tolist() == [1, 0]
    assert found.value("unknown_rate") == 1 / 4
    assert found.value("byte_fallback_rate") == 0


def test_figures_agree_with_those_of_training(byte_level: Tokenizer) -> None:
    chinese = [TEXTS[1]]
    assert (
        round(_value(measure(byte_level, chinese), "tokens_per_han"), 4)
        == fertility(byte_level, chinese)["zh_tokens_per_character"]
    )
    everything = measure(byte_level, TEXTS)
    assert round(_value(everything, "bytes_per_token"), 4) == fertility(byte_level, TEXTS)["bytes_per_token"]


def test_nothing_to_divide_by(byte_level: Tokenizer) -> None:
    assert measure(byte_level, ["abc"]).value("tokens_per_han") is None
    assert measure(byte_level, []).value("tokens_per_word") is None


@pytest.mark.parametrize(
    ("raw", "expected"),
    [(b"abc", False), ("好".encode()[:1], True), ("好".encode()[:2], True), ("好".encode(), False),
     ("好".encode()[1:], False), (b"x" + "😀".encode()[:3], True), ("😀".encode(), False), (b"", False),
     ("é".encode()[1:] + "é".encode()[:1], True)],
)  # fmt: skip
def test_ends_open(raw: bytes, expected: bool) -> None:
    assert ends_open(raw) is expected


@pytest.mark.peers
@pytest.mark.parametrize("text", [*TEXTS, " ".join(TEXTS), "一 二 cat\tdog\n\nthe"])
def test_figures_equal_toklens(byte_level: Tokenizer, text: str) -> None:
    toklens = _toklens()
    backend = tokenizers.Tokenizer.from_file(str(byte_level.path / "tokenizer.json"))
    expected = toklens.compute_all(backend, text)
    ours = {"fertility": "tokens_per_word", "cpt": "characters_per_token", "compression_ratio": "bytes_per_token",
            "strr": "whole_words"}  # fmt: skip
    found = measure(byte_level, [text])
    assert {name: _value(found, metric) for name, metric in ours.items()} == {name: expected[name] for name in ours}


def _toklens() -> Any:
    """Its metrics alone: the package itself imports data sets."""
    spec = importlib.util.find_spec("toklens")
    if spec is None or spec.origin is None:
        pytest.skip("TokLens is not installed")
    file = Path(spec.origin).with_name("metrics.py")
    own = importlib.util.spec_from_file_location("toklens_metrics", file)
    assert own is not None
    assert own.loader is not None
    module = importlib.util.module_from_spec(own)
    own.loader.exec_module(module)
    return module


def _value(found: Measured, metric: str) -> float:
    value = found.value(metric)
    assert value is not None
    assert metric in METRICS
    return value


CODE = "import os\n\n\ndef main(path):\n    names = os.listdir(path)\n    for name in names:\n        print(name)\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [(TEXTS[0], "en"), (TEXTS[1], "zh"), (CODE, "code"), ("吾輩は猫である。名前はまだ無い。", "other"),
     ("Съешь ещё этих мягких булок", "other"), ("", "other"), ("12 + 34", "other"),
     ("他說 hello world，就走了，再也沒有回來。", "zh"), ("int main() {\n  return 0;\n}\n", "code"),
     (inspect.getsource(recount), "code"), (measure.__doc__ or "", "en")],
)  # fmt: skip
def test_kinds(text: str, expected: str) -> None:
    assert kind_of(text) == expected
