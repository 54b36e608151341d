"""A broken tokenizer.json is refused by the place of the fault, never with the library's message alone."""

from __future__ import annotations

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_kinds import byte_fallback, byte_level, digits_alone, metaspace_unigram, word_piece

from ingot.core.errors import IngotError
from ingot.text.tokenizer import Tokenizer

ADDED = {"id": 3, "content": "<s>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}  # fmt: skip
BPE: dict[str, Any] = {
    "added_tokens": [ADDED],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Prepend", "prepend": "x"}]},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "post_processor": None,
    "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
}
UNIGRAM = {"model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.5]]}}
WORDPIECE = {"model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                       "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "a": 1}}}  # fmt: skip
WORDS = {"model": {"type": "WordLevel", "unk_token": "<unk>", "vocab": {"<unk>": 0, "a": 1}}}
GONE = object()


def changed(whole: Any, keys: tuple[Any, ...], value: Any) -> Any:
    """A copy with the value at some keys replaced, or taken out."""
    whole = copy.deepcopy(whole)
    part = whole
    for key in keys[:-1]:
        part = part[key]
    if value is GONE:
        del part[keys[-1]]
    else:
        part[keys[-1]] = value
    return whole


def refusal(directory: Path, content: Any) -> str:
    """The sentence that a tokenizer.json is refused with."""
    written = content if isinstance(content, bytes) else json.dumps(content).encode()
    (directory / "tokenizer.json").write_bytes(written)
    with pytest.raises(IngotError) as caught:
        Tokenizer.open(directory)
    assert caught.value.code == "bad-tokenizer"
    assert "tokenizer.json" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("good", [BPE, UNIGRAM, WORDPIECE, WORDS])
def test_what_is_whole_is_opened(good: Any, tmp_path: Path) -> None:
    for model in (good, changed(good, ("model", "type"), GONE)):
        (tmp_path / "tokenizer.json").write_text(json.dumps(model))
        assert Tokenizer.open(tmp_path).token(1) in ("b", "a")


@pytest.mark.parametrize(
    ("whole", "keys", "value", "says"),
    [
        (BPE, ("model", "merges"), [["a", "b"], ["ab", "c"]], "$.model.merges[1]: refers to token 'c', which is not"),
        (BPE, ("model", "merges"), ["a b", "b a"], "$.model.merges[1]: refers to token 'ba'"),
        (BPE, ("model", "merges"), ["ab"], '$.model.merges[0]: "ab" is not two tokens'),
        (BPE, ("model", "merges"), [["a", 1]], '$.model.merges[0]: ["a", 1] is not two tokens'),
        (BPE, ("model", "merges"), GONE, "$.model.merges: it is missing; expected a list"),
        (BPE, ("model", "merges"), {}, "$.model.merges: it is {}; expected a list"),
        (BPE, ("model", "vocab"), {"a": 0, "b": 0, "ab": 2}, "'b' has the id 0, which is that of 'a' already"),
        (BPE, ("model", "vocab", "ab"), -1, '$.model.vocab["ab"]: the id is -1; expected a whole number from 0'),
        (BPE, ("model", "vocab", "ab"), 4 * 10**9, "the id is 4000000000; expected a whole number from 0 to 4194303"),
        (BPE, ("model", "vocab", "ab"), 1.5, '$.model.vocab["ab"]: the id is 1.5'),
        (BPE, ("model", "vocab", "ab"), True, '$.model.vocab["ab"]: the id is true'),
        (BPE, ("model", "vocab", "ab"), "2", '$.model.vocab["ab"]: the id is "2"'),
        (BPE, ("model", "vocab"), GONE, "$.model.vocab: it is missing; expected an object"),
        (BPE, ("model", "vocab"), ["a"], '$.model.vocab: it is ["a"]; expected an object'),
        (BPE, ("model", "type"), "BPF", "$.model.type: there is no model of type 'BPF'; known: BPE"),
        (BPE, ("model",), GONE, "$.model: it is missing; expected an object"),
        (BPE, ("model",), None, "$.model: it is null; expected an object"),
        (BPE, ("added_tokens", 0, "id"), 0, "$.added_tokens[0].id: '<s>' has the id 0, which is that of 'a' already"),
        (BPE, ("added_tokens", 0, "id"), 7, "$.added_tokens[0].id: '<s>' is to have the id 7, but"),
        (BPE, ("added_tokens", 0, "id"), None, "$.added_tokens[0].id: the id is null"),
        (BPE, ("added_tokens", 0, "content"), "a", "$.added_tokens[0].id: 'a' is there already, with the id 0"),
        (BPE, ("added_tokens", 0, "content"), GONE, "$.added_tokens[0].content: it is missing; expected a text"),
        (BPE, ("added_tokens", 0, "special"), GONE, "$.added_tokens[0].special: it is missing; expected true or false"),
        (BPE, ("added_tokens", 0, "lstrip"), "no", '$.added_tokens[0].lstrip: it is "no"; expected true or false'),
        (BPE, ("added_tokens",), [ADDED, ADDED | {"content": "<t>"}], "$.added_tokens[1].id: '<t>' has the id 3"),
        (BPE, ("added_tokens",), [ADDED, ADDED | {"id": 4}], "$.added_tokens[1].id: '<s>' is there already"),
        (BPE, ("added_tokens",), ["<s>"], '$.added_tokens[0]: it is "<s>"; expected an object'),
        (BPE, ("normalizer", "normalizers", 1, "type"), "Perpend", 'normalizers[1].type: there is no type "Perpend"'),
        (BPE, ("normalizer", "normalizers", 1, "prepend"), GONE, "$.normalizer.normalizers[1]: the library"),
        (BPE, ("pre_tokenizer",), {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False},
         "$.pre_tokenizer: the library tokenizers refuses it: Oniguruma"),
        (BPE, ("decoder",), {"type": "Strip"}, "$.decoder: the library"),
        (UNIGRAM, ("model", "unk_id"), 2, "$.model.unk_id: the id is 2; expected a whole number from 0 to 1"),
        (UNIGRAM, ("model", "vocab", 1), ["<unk>", -2.0], "$.model.vocab[1]: '<unk>' is there already, with the id 0"),
        (UNIGRAM, ("model", "vocab", 1), ["a"], '$.model.vocab[1]: ["a"] is not a token and its score'),
        (WORDPIECE, ("model", "unk_token"), "[U]", "$.model.unk_token: refers to token '[U]', which is not"),
        (WORDS, ("model", "unk_token"), GONE, "$.model.unk_token: it is missing; expected a text"),
    ],
)  # fmt: skip
def test_faults_are_named_by_their_place(whole: Any, keys: Any, value: Any, says: str, tmp_path: Path) -> None:
    assert says in refusal(tmp_path, changed(whole, keys, value))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"model": {"type": "BPE",\n  "vocab": {"a": 0,,}}}', "line 2, column 20: it is not JSON"),
        (b"", "line 1, column 1: it is not JSON"),
        (b"[]", "$: it is []; expected an object"),
        (b'{"model": "\xff"}', "byte 12: it is not UTF-8"),
        (b'{"model": {"type": "BPE", "merges": [], "vocab": {"a": 0, "a": 1}}}', "has the key 'a' twice"),
        (b"[" * 100_000, "$: it is nested too deeply"),
    ],
)
def test_what_is_no_json_is_refused_by_line(content: bytes, says: str, tmp_path: Path) -> None:
    assert says in refusal(tmp_path, content)


def test_the_user_reads_it_in_chinese(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGOT_LANG", "zh-TW")
    said = refusal(tmp_path, changed(BPE, ("model", "merges"), [["a", "z"]]))
    assert "$.model.merges[0]：用到詞元 'z'，但詞彙表裡沒有" in said


def leaves(part: Any, keys: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value."""
    inner = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    return [keys] * bool(keys) + [way for key, value in inner for way in leaves(value, (*keys, key))]


KINDS = [json.loads(make(["<s>"]).to_str()) for make in (byte_level, byte_fallback, metaspace_unigram, word_piece,
                                                          digits_alone)]  # fmt: skip
WAYS = [[way for way in leaves(kind) if "vocab" not in way[:-1] and "merges" not in way[:-1]] for kind in KINDS]


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(data=st.data(), value=st.sampled_from([GONE, None, 0, -1, 3.5, True, "x", [], {}, [None], {"type": "x"}, "(("]))
def test_any_change_opens_or_is_refused_by_place(data: st.DataObject, value: Any, tmp_path_factory: Any) -> None:
    number = data.draw(st.integers(0, len(KINDS) - 1))
    keys = data.draw(st.sampled_from(WAYS[number]))
    path = tmp_path_factory.mktemp("any")
    (path / "tokenizer.json").write_text(json.dumps(changed(KINDS[number], keys, value)))
    with contextlib.suppress(IngotError):
        assert Tokenizer.open(path).vocab_size > 0
        return
    assert ": " in refusal(path, changed(KINDS[number], keys, value)).split(" $.")[1]
