"""The fast way of encoding: never other ids than `tokenizers`, only where that is certain, linear on long runs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_kinds import TEXTS
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

import ingot.text.tokenizer as tokenizer_module
from ingot.core.errors import IngotError
from ingot.text.fast import BORDER, KNOWN, FastEncoder
from ingot.text.learn import learn
from ingot.text.learn.parts import SPECIALS
from ingot.text.save import save
from ingot.text.split import PATTERNS
from ingot.text.tokenizer import Tokenizer

pytestmark = pytest.mark.slow

LEARNT = learn(
    [[*TEXTS, "aaaa  bb\n\n\tcc 1234 = 今天的天氣很好，今天 = \n    return x\n        return y\n" * 3]], "bpe", 500
)
MODEL = json.loads(LEARNT.backend.to_str())["model"]
NAMES = {pattern: name for name, pattern in PATTERNS.items()}
texts = st.one_of(
    st.text(max_size=60),
    st.text("ab 1天。!'sSſtT\n\r\t\x0b\x1c\x85\u00a0\u2028\u3000\u0301\u0378\0é😀", max_size=60),
    st.lists(st.sampled_from([*TEXTS, "   ", "\n", "\r\n", "\n    x", "don't ", BORDER, "<think>", "e\u0301"])).map(
        "".join
    ),
)


def build(pattern: str, directory: Path, *, normalizer: Any = None, ignore_merges: bool = False) -> Path:
    """The learnt merges behind another pattern, with an ordinary added token."""
    model = models.BPE(MODEL["vocab"], [tuple(pair) for pair in MODEL["merges"]], ignore_merges=ignore_merges)
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    made.decoder = decoders.ByteLevel()
    if normalizer:
        made.normalizer = normalizer
    made.add_tokens([AddedToken("<think>", normalized=False)])
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    directory.mkdir(parents=True, exist_ok=True)
    save(made, directory, {"eos_token": "<|endoftext|>"}, None)
    return directory


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_module, "LARGE", 0)


@pytest.mark.parametrize("pattern", KNOWN, ids=NAMES.get)
def test_ids_are_those_of_the_library(pattern: str, tmp_path: Path) -> None:
    path = build(pattern, tmp_path)
    ours, theirs = Tokenizer.open(path), tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
    theirs.encode_special_tokens = True
    assert ours._fast is not None

    @settings(max_examples=150, deadline=None)
    @given(texts)
    def equal(text: str) -> None:
        expected = theirs.encode(text, add_special_tokens=False).ids
        assert ours.encode(text) == expected
        fast = ours._fast.encode(text)  # type: ignore[union-attr]
        assert fast is None or fast == expected
        assert fast is not None or "<think>" in text or BORDER in text or not text.isascii()
        assert ours.decode(expected, skip_special=False) == text

    equal()


@pytest.mark.slow
@pytest.mark.parametrize("pattern", KNOWN, ids=NAMES.get)
def test_every_character_is_cut_as_the_library_cuts_it(pattern: str, tmp_path: Path) -> None:
    """All code points up to the end of the emoji, each between letters, spaces and digits."""
    path = build(pattern, tmp_path)
    ours, theirs = Tokenizer.open(path), tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
    assert ours._fast is not None
    step = 1 if pattern == PATTERNS["ingot"] else 7
    points = [chr(point) for point in range(0, 0x1FB00, step) if not 0xD800 <= point < 0xE000]
    settled = "".join(f"a{point}  {point}1" for point in points if ours._fast.encode(point) is not None)
    assert ours._fast.encode(settled) == theirs.encode(settled, add_special_tokens=False).ids


def test_real_text_and_code_have_equal_ids(real_data: Path, tmp_path: Path) -> None:
    path = build(PATTERNS["ingot"], tmp_path)
    ours, theirs = Tokenizer.open(path), tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
    theirs.encode_special_tokens = True
    folder = real_data / "02_text"
    files = [
        folder / "botchan_en.txt",
        folder / "zh_hant/ud_zh_hant_sentences.txt",
        *Path(__file__).parent.glob("*.py"),
    ]
    given = [file.read_text() for file in files]
    expected = [found.ids for found in theirs.encode_batch_fast(given, add_special_tokens=False)]
    assert ours.encode_batch(given) == expected
    assert [ours.encode(text) for text in given] == expected


@pytest.mark.parametrize("text", ["a", " ", "\n", " x", "天", "!"], ids=ascii)
def test_a_megabyte_of_one_character_takes_linear_time(text: str, tmp_path: Path) -> None:
    """Four times the text takes about four times as long, where merging naively takes sixteen times."""
    for name in ("ingot", "gpt2"):
        ours = Tokenizer.open(build(PATTERNS[name], tmp_path / name))
        long, quarter = (text * (size // len(text.encode())) for size in (1_000_000, 250_000))
        ours.encode("the proof comes first")
        assert least_seconds(ours, long) < 10 * least_seconds(ours, quarter) + 0.01
        assert ours.decode(ours.encode(long)) == long


def least_seconds(ours: Tokenizer, text: str) -> float:
    """The shortest of a few runs: what the machine does besides only adds."""
    spent = []
    for _ in range(4):
        begin = time.process_time()
        ours.encode(text)
        spent.append(time.process_time() - begin)
    return min(spent)


def test_text_is_normalised_first(tmp_path: Path) -> None:
    path = build(PATTERNS["qwen2"], tmp_path, normalizer=normalizers.NFC())
    ours, theirs = Tokenizer.open(path), tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
    for text in ("e\u0301a\u0300 \u1100\u1161", "好\uf900", "plain"):
        assert ours._fast is not None
        assert ours._fast.encode(text) == ours.encode(text) == theirs.encode(text).ids


def described(**changes: Any) -> dict[str, Any]:
    """A tokenizer.json with a changed model."""
    whole: dict[str, Any] = json.loads(LEARNT.backend.to_str())
    return whole | {"model": whole["model"] | changes}


def test_it_is_refused_where_ids_could_differ() -> None:
    """Each condition, broken alone."""
    vocab, merges = MODEL["vocab"], MODEL["merges"]
    assert FastEncoder.of(described(), []) is not None
    first, last = ("".join(merges[at]) for at in (0, -1))
    swapped = vocab | {first: vocab[last], last: vocab[first]}
    broken: list[dict[str, Any]] = [
        described(vocab=swapped),
        described(merges=[*merges[1:], merges[0]]),
        described(merges=merges[:-1]),
        described(unk_token="a"),
        described(vocab=vocab | {"zzz": len(vocab)}),
        described() | {"normalizer": {"type": "Lowercase"}},
        described() | {"pre_tokenizer": None},
        described() | {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}},
    ]
    for change in broken:
        assert FastEncoder.of(change, []) is None


def test_a_token_that_its_merges_never_reach_is_found_out() -> None:
    """By merges (bc first) abc is a, bc; the token abc, made of ab and c, is out of reach. tiktoken would give it."""
    letters = MODEL["vocab"].keys() - {"".join(pair) for pair in MODEL["merges"]}
    vocab = {token: id for id, token in enumerate(sorted(letters))}
    for token in ("bc", "ab", "abc"):
        vocab[token] = len(vocab)
    merges = [["b", "c"], ["a", "b"], ["ab", "c"]]
    assert FastEncoder.of(described(vocab=vocab, merges=merges[:2]) | {"added_tokens": []}, []) is None
    whole = described(vocab=vocab, merges=merges)
    assert FastEncoder.of(whole, []) is None
    whole["model"] |= {"vocab": {t: id for t, id in vocab.items() if t != "abc"}, "merges": merges[:2]}
    assert FastEncoder.of(whole, []) is not None


def test_lone_surrogates_are_refused_by_position(tmp_path: Path) -> None:
    ours = Tokenizer.open(build(PATTERNS["ingot"], tmp_path))
    for encode in (ours.encode, lambda text: ours.encode_batch([text]), lambda text: ours.encode(text, special=True)):
        with pytest.raises(IngotError, match=r"character 3 .*D800") as caught:
            encode("ab\ud800")
        assert caught.value.code == "lone-surrogate"
