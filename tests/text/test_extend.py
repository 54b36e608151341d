"""New merges behind old ones: old ids stay, only the script changes, nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.core.errors import IngotError
from ingot.text.extend import (
    SCRIPTS,
    Extension,
    Safe,
    count_runs,
    is_refined,
    learn_extension,
    write_extension,
)
from ingot.text.stream import token_bytes
from ingot.text.tokenizer import Tokenizer
from tiny import write_tokenizer

CHINESE = ["天空是藍色的，草地是綠色的。", "藍色的天空下，綠色的草地上。", "臺北的天空，臺南的草地。"] * 5
OTHERS = [
    "the cat sat on the mat",
    "привет мир",
    "こんにちは、世界",
    "안녕 하세요",
    "“quoted” – dash… 😀",
    "、。「」々〇",
]


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Tokenizer, Extension]:
    root = tmp_path_factory.mktemp("extended")
    source = write_tokenizer(root / "old")
    description = json.loads((source / "tokenizer.json").read_text())
    assert isinstance(description["model"]["merges"][0], list)
    old = Tokenizer.open(source)
    extension = learn_extension(old, count_runs(CHINESE, "han"), 40, "han")
    (root / "new").mkdir()
    write_extension(extension, source, root / "new")
    return old, Tokenizer.open(root / "new"), extension


def test_ids_continue_and_old_ones_stay(extended: tuple[Tokenizer, Tokenizer, Extension]) -> None:
    old, new, extension = extended
    assert extension.first_id == old.vocab_size
    assert new.vocab_size == old.vocab_size + len(extension.tokens)
    assert len(set(extension.tokens)) == len(extension.tokens) <= 40
    assert [new.token(id) for id in range(old.vocab_size)] == [old.token(id) for id in range(old.vocab_size)]
    assert [new.id(token) for token in extension.tokens] == list(range(old.vocab_size, new.vocab_size))
    assert new.special_ids == old.special_ids


def test_the_new_text_is_shorter_and_comes_back(extended: tuple[Tokenizer, Tokenizer, Extension]) -> None:
    old, new, _ = extended
    for text in CHINESE[:3]:
        assert len(new.encode(text)) < len(old.encode(text))
        assert new.decode(new.encode(text)) == text


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(text=st.one_of(st.text(max_size=40), st.text("天空是藍色的草地綠臺北南 a，\u3400𠮷", max_size=30)))
def test_text_changes_by_new_tokens_for_neighbours_only(
    extended: tuple[Tokenizer, Tokenizer, Extension], text: str
) -> None:
    old, new, extension = extended
    before, after = old.encode(text), new.encode(text)
    assert is_refined(before, after, old, new)
    pieces = {new.id(token): [old.id(piece) for piece in extension.pieces(token)] for token in extension.tokens}
    assert b"".join(token_bytes(old.token(id) or "") for id in before) == b"".join(
        token_bytes(old.token(piece or 0) or "") for id in after for piece in pieces.get(id, [id])
    )


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(text=st.one_of(st.text(max_size=40), st.sampled_from(OTHERS), st.text("“”、。々あアÄ½łå", max_size=20)))
def test_text_without_the_script_keeps_its_ids(extended: tuple[Tokenizer, Tokenizer, Extension], text: str) -> None:
    old, new, _ = extended
    if not count_runs([text], "han"):
        assert new.encode(text) == old.encode(text)


@pytest.mark.slow
def test_no_other_character_changes(extended: tuple[Tokenizer, Tokenizer, Extension]) -> None:
    old, new, _ = extended
    every = " ".join(chr(point) for point in range(0x80, 0x20000) if not 0xD800 <= point < 0xE000)
    text = regex.sub(SCRIPTS["han"], "", every)
    assert len(text.split()) > 80_000
    assert new.encode(text) == old.encode(text)


def test_new_tokens_are_whole_characters_or_the_beginning_of_one(
    extended: tuple[Tokenizer, Tokenizer, Extension],
) -> None:
    _, _, extension = extended
    for token in extension.tokens:
        raw = token_bytes(token)
        whole = raw.decode(errors="ignore")
        assert (whole.encode() == raw) if whole else raw[0] >= 0xC0


def test_learning_again_gives_the_same(extended: tuple[Tokenizer, Tokenizer, Extension]) -> None:
    old, _, extension = extended
    assert learn_extension(old, count_runs(CHINESE, "han"), 40, "han") == extension


def test_a_refinement_is_told_from_other_changes(extended: tuple[Tokenizer, Tokenizer, Extension]) -> None:
    old, new, _ = extended
    text = CHINESE[0]
    before, after = old.encode(text), new.encode(text)
    assert is_refined(before, after, old, new)
    assert not is_refined(before, after[:-1], old, new)
    assert not is_refined(before, [*after[:-1], after[-1] + 1], old, new)
    assert not is_refined(old.encode("the"), [old.id(character) or 0 for character in "the"], old, new)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [("天".encode(), True), ("天空".encode(), True), (" 天".encode(), True), ("天".encode()[:2], True),
     ("天".encode()[:1], False), ("天".encode()[1:], False), ("天".encode() + "空".encode()[:2], False),
     ("。".encode(), False), ("。".encode()[:2], False), (b"the", False), (b"", False), ("々".encode(), True),
     ("々".encode()[:2], False), ("䷀".encode()[:2], False), ("𠮷".encode()[:3], True)],
)  # fmt: skip
def test_safe_tokens(raw: bytes, expected: bool) -> None:
    assert Safe("han")(raw) is expected


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_matches_something(script: str) -> None:
    sample = "天 か 한국 привет ελλ سلام שלום नमस्ते สวัสดี"
    assert sum(count_runs([sample], script).values()) == 1
    assert not count_runs(["plain English, 1 + 2"], script)


def test_an_added_token_outside_the_model_keeps_its_id(tmp_path: Path) -> None:
    source = write_tokenizer(tmp_path / "old")
    file = source / "tokenizer.json"
    description = json.loads(file.read_text())
    last = max(description["model"]["vocab"].values())
    description["added_tokens"].append({"id": last + 1, "content": "<|tool|>", "single_word": False, "lstrip": False,
                                        "rstrip": False, "normalized": False, "special": True})  # fmt: skip
    file.write_text(json.dumps(description))
    old = Tokenizer.open(source)
    extension = learn_extension(old, count_runs(CHINESE, "han"), 5, "han")
    (tmp_path / "new").mkdir()
    write_extension(extension, source, tmp_path / "new")
    new = Tokenizer.open(tmp_path / "new")
    assert new.id("<|tool|>") == last + 1 == extension.first_id - 1
    assert new.encode("<|tool|>", special=True) == [last + 1]


def test_merges_written_as_strings_stay_strings(tmp_path: Path) -> None:
    source = write_tokenizer(tmp_path / "old")
    file = source / "tokenizer.json"
    description = json.loads(file.read_text())
    description["model"]["merges"] = [" ".join(pair) for pair in description["model"]["merges"]]
    file.write_text(json.dumps(description))
    old = Tokenizer.open(source)
    extension = learn_extension(old, count_runs(CHINESE, "han"), 5, "han")
    (tmp_path / "new").mkdir()
    write_extension(extension, source, tmp_path / "new")
    merges = json.loads((tmp_path / "new" / "tokenizer.json").read_text())["model"]["merges"]
    assert all(isinstance(merge, str) for merge in merges)
    assert is_refined(old.encode(CHINESE[0]), Tokenizer.open(tmp_path / "new").encode(CHINESE[0]), old,
                      Tokenizer.open(tmp_path / "new"))  # fmt: skip


def test_other_kinds_are_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers import models

    Backend(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(IngotError, match="WordLevel") as error:
        learn_extension(Tokenizer.open(tmp_path), count_runs(CHINESE, "han"), 5, "han")
    assert error.value.code == "extend-not-bpe"


def test_nothing_to_learn(tmp_path: Path) -> None:
    tokenizer = Tokenizer.open(write_tokenizer(tmp_path / "old"))
    with pytest.raises(IngotError, match="thai") as error:
        learn_extension(tokenizer, count_runs(CHINESE, "thai"), 5, "thai")
    assert error.value.code == "extend-nothing"
