"""decode(encode(x)) == x for a million drawn strings, and a fifth of them through Unigram on bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tokenizer_kinds import TEXTS

import ingot.text.tokenizer as tokenizer_module
from ingot.core.errors import IngotError
from ingot.text.learn import learn
from ingot.text.save import save
from ingot.text.tokenizer import Tokenizer

pytestmark = pytest.mark.slow

MILLION = 1_000_000
BLOCK = 20_000
PLANES = [*range(0x20, 0xD800, 7), *range(0xE000, 0x110000, 37)]
ODD = [0, 0, 0x0A, 0x0D, 0x0A, 0x09, 0x20, 0x20, 0x20, 0x0B, 0x1C, 0x7F, 0x85, 0xA0, 0xAD, 0x200B, 0x200D, 0x2028,
       0x3000, 0xFEFF, 0xFFFD, 0xFFFE, 0xFFFF, 0x10FFFF, 0x301, 0x20DD, 0xFE0F]  # fmt: skip
SPECIAL = ["<|endoftext|>", "<|im_end|>", "\r\n", "\r\n\r\n", "\0\0", " \r\n ", "👩\u200d🔬", "e\u0301", "ﬁ", "天氣"]


def drawn(seed: int, count: int) -> Iterator[list[str]]:
    """Strings of 0 to 24 characters in blocks: each of one, two or all of four kinds of characters."""
    draw = np.random.default_rng(seed)
    tables = [np.arange(0x20, 0x7F), np.asarray(ODD), np.asarray(PLANES), np.arange(0x4E00, 0x9FA6)]
    for _ in range(0, count, BLOCK):
        kinds = np.minimum(draw.integers(0, 12, BLOCK), 4)
        lengths = draw.integers(0, 25, BLOCK)
        owner = np.repeat(kinds, lengths)
        kind = np.where(owner < 4, owner, draw.integers(0, 4, len(owner)))
        points = np.choose(kind, [table[draw.integers(0, len(table), len(owner))] for table in tables])
        text = points.astype("<u4").tobytes().decode("utf-32-le")
        ends = np.cumsum(lengths).tolist()
        block = [text[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
        for at in range(0, BLOCK, 50):
            block[at] += SPECIAL[at // 50 % len(SPECIAL)] + block[at + 1]
        yield block


def test_the_strings_are_of_all_planes() -> None:
    seen = set[str]().union(*(set("".join(block)) for block in drawn(0, 200_000)))
    assert {ord(character) >> 16 for character in seen} == set(range(17))
    assert {"\0", "\r", "\n", "\uffff", "\U0010ffff"} <= seen


@pytest.mark.parametrize(("algorithm", "wanted"), [("bpe", MILLION), ("unigram", MILLION // 5)])
def test_no_string_of_a_million_is_lost(
    algorithm: str, wanted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer_module, "LARGE", 0)
    save(learn([TEXTS], algorithm, 500).backend, tmp_path, {"eos_token": "<|endoftext|>"}, None)
    ours = Tokenizer.open(tmp_path)
    count = 0
    for block in drawn(1, wanted):
        ids = [ours.encode(text) for text in block]
        lost = [text for text, own in zip(block, ids, strict=True) if ours.decode(own, skip_special=False) != text]
        assert lost == []
        assert not ours.special_ids & {id for own in ids for id in own}
        count += len(block)
    assert count == wanted


def test_a_lone_surrogate_anywhere_is_refused_by_position(tmp_path: Path) -> None:
    save(learn([TEXTS], "bpe", 300).backend, tmp_path, {}, None)
    ours = Tokenizer.open(tmp_path)
    draw = np.random.default_rng(2)
    for text in next(drawn(2, BLOCK))[:2000]:
        at = int(draw.integers(0, len(text) + 1))
        with pytest.raises(IngotError, match=f"character {at + 1} ") as caught:
            ours.encode(text[:at] + chr(draw.integers(0xD800, 0xE000)) + text[at:])
        assert caught.value.code == "lone-surrogate"
