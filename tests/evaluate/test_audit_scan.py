"""Texts laid against a corpus: the same units, runs, spans and shares as a naive search finds."""

from __future__ import annotations

import random
import sys
import unicodedata

import numpy as np
import pytest
from auditing import documents, edited, naive_runs, words
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingot.data.clean.units import normalise, split_units
from ingot.evaluate.audit import chunks
from ingot.evaluate.audit.index import Index
from ingot.evaluate.audit.novelty import ngram_novelty
from ingot.evaluate.audit.sample import distinct, sample
from ingot.evaluate.audit.scan import scan
from ingot.evaluate.audit.units import split

MIXED = st.text(alphabet="aB é1_-，。 \n天空ﾊﾞｱ𠮷ＡＢ…㎡ﬁ①ëสวั", max_size=40)


@pytest.mark.slow
@settings(deadline=None)  # the first call folds every character there is
@given(MIXED)
@example("ﾊﾞﾊﾟ")
@example("cafe\u0301s")
def test_units_are_those_of_cleaning(text: str) -> None:
    found, expected = split(text), split_units(normalise(text))
    assert len(found) == len(expected)
    numbers: dict[str, int] = {}
    assert all(numbers.setdefault(unit, number) == number
               for unit, number in zip(expected, found.hashes.tolist(), strict=True))  # fmt: skip
    assert len(set(numbers.values())) == len(numbers)
    pieces = [found.text[begin:end] for begin, end in zip(found.begins, found.ends, strict=True)]
    assert [normalise(piece).replace(" ", "") for piece in pieces if "㎡" not in piece] == [
        unit for unit, piece in zip(expected, pieces, strict=True) if "㎡" not in piece
    ]


@pytest.mark.slow
def test_every_character_is_folded_as_cleaning_folds_it() -> None:
    """Between letters, to see whether it parts them; half-width sound marks join what stands before them."""
    for code in range(sys.maxunicode + 1):
        text = f"x{chr(code)}y"
        if unicodedata.category(text[1]) not in ("Cn", "Cs") and text[1] not in "ﾞﾟ":
            assert len(split(text)) == len(split_units(normalise(text))), hex(code)


def test_long_words() -> None:
    first, second = "a" * 5000, "a" * 4999 + "b"
    assert split(first).hashes != split(second).hashes
    assert split(first).hashes == split(f" {first}.").hashes


def corpus(seed: int) -> tuple[list[str], list[str]]:
    """Texts, and documents that hold parts of them, changed or not."""
    rng = random.Random(seed)
    texts = [words(rng, rng.randrange(6, 30), lang) for lang in ("en", "zh") for _ in range(6)]
    held = []
    for number, text in enumerate(texts):
        lang = "en" if number < 6 else "zh"
        piece = [text, edited(rng, text, lang, 0.15), text[: len(text) // 2], ""][number % 4]
        held.append(f"{words(rng, 20, lang)}\n{piece}\n{words(rng, 20, lang)}")
    rng.shuffle(held)
    return texts, held


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [1 << 20, 400])
def test_the_longest_copy_is_the_naive_one(seed: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK", size)
    monkeypatch.setattr(chunks, "OVERLAP", 250)
    texts, held = corpus(seed)
    _, found = scan([split(text) for text in texts], documents(held), 3, 0.5)
    for text, copied in zip(texts, found, strict=True):
        whole = [split_units(normalise(one)) for one in held]
        mine = split_units(normalise(text))
        longest = max((end - begin for begin in range(len(mine)) for end in range(begin + 3, len(mine) + 1)
                       for one in whole if _holds(one, mine[begin:end])), default=0)  # fmt: skip
        assert copied.longest == longest
        if longest:
            place = copied.longest_place
            assert place is not None
            quoted = split_units(normalise(copied.quote))
            assert quoted == mine[copied.longest_at : copied.longest_at + longest]
            assert _holds(whole[place.line - 1], quoted)


def _holds(units: list[str], wanted: list[str]) -> bool:
    return any(units[at : at + len(wanted)] == wanted for at in range(len(units) - len(wanted) + 1))


@pytest.mark.parametrize("seed", range(4))
def test_shares_where_documents_are_short(seed: int) -> None:
    """In a document no longer than half a window all shared runs stand together: the share is the naive cover."""
    rng = random.Random(seed)
    texts = [words(rng, 40, lang) for lang in ("en", "zh")]
    held = [edited(rng, text, lang, 0.2)[: len(text) // 2] for text, lang in zip(texts, ("en", "zh"), strict=True)]
    _, found = scan([split(text) for text in texts], documents(held), 3, 0.2)
    for text, copied in zip(texts, found, strict=True):
        runs = naive_runs(text, 3)
        covers = []
        for one in held:
            shared = set(naive_runs(one, 3))
            covered = {at + step for at, run in enumerate(runs) if run in shared for step in range(3)}
            covers.append(len(covered) / (len(runs) + 2))
        assert copied.share == pytest.approx(max(covers))
        assert copied.documents == sum(cover >= 0.2 for cover in covers)


def test_runs_do_not_reach_from_one_document_into_the_next() -> None:
    text = "one two three four five six"
    _, found = scan([split(text)], documents(["one two three", "four five six"]), 4, 0.5)
    assert found[0].longest == 0
    assert found[0].share == 0


def test_a_whole_copy_is_one_though_its_phrases_are_common() -> None:
    """Runs of a phrase that three texts share are left out; what stands around it, and it itself, is compared."""
    frame = "哪一個敘述最能說明這個現象的成因"
    texts = [f"{subject}{frame}{subject[::-1]}" for subject in ("海邊的風向變化", "高山的植物分布", "城市的夜間溫度")]
    held = [texts[0], texts[1].replace("最能說明", "不能說明"), f"前文{texts[2]}", texts[2][:-1]]
    _, found = scan([split(text) for text in texts], documents(held), 5, 0.5, common=2)
    assert [one.share for one in found] == [1.0, 1.0, 1.0]
    assert [one.longest == len(split(text)) for one, text in zip(found, texts, strict=True)] == [True, False, True]
    assert (found[0].quote, found[2].quote) == (texts[0], texts[2])
    assert str(found[2].longest_place).endswith(":3")


def test_scattered_runs_do_not_add_up() -> None:
    """Ten runs of three words, far from each other, are no copy of thirty words."""
    rng = random.Random(0)
    text = words(rng, 30, "en")
    parts = [" ".join(text.split()[at : at + 3]) for at in range(0, 30, 3)]
    far = " ".join(f"{part} {words(rng, 200, 'en')}" for part in parts)
    near = " ".join(f"{part} other" for part in parts)
    assert scan([split(text)], documents([far]), 3, 0.5)[1][0].share <= 0.2
    assert scan([split(text)], documents([near]), 3, 0.5)[1][0].share == 1.0


def test_phrases_of_many_texts_do_not_count() -> None:
    rng = random.Random(1)
    phrase = "which of the following is always true of"
    texts = [split(f"{phrase} {words(rng, 12, 'en')}") for _ in range(8)]
    held = documents([f"we asked {phrase} everything"])
    assert scan(texts, held, 5, 0.5, common=20)[1][0].share > 0.3
    index, found = scan(texts, held, 5, 0.5, common=4)
    assert found[0].share == 0
    assert index.coverable[0] == 12 + 4  # the runs that begin in the phrase and reach beyond it stay


@pytest.mark.parametrize("seed", range(3))
def test_novelty_is_the_naive_share(seed: int) -> None:
    texts, held = corpus(seed)
    found = ngram_novelty([split(text) for text in texts], documents(held), range(1, 7))
    for row, n in enumerate(found.orders):
        known = {run for one in held for run in naive_runs(one, n)}
        for at, text in enumerate(texts):
            runs = naive_runs(text, n)
            assert found.counts[row, at] == len(runs)
            assert found.new[row, at] == sum(run not in known for run in runs)


def test_a_sample_depends_on_the_texts_alone() -> None:
    rng = random.Random(2)
    every = documents([f"text {number}" for number in range(200)])
    first = [one.text for one in sample(every, 20, 0, lambda one: True)]
    shuffled = [*every, *every]
    rng.shuffle(shuffled)
    assert [one.text for one in sample(shuffled, 20, 0, lambda one: True)] == first
    assert len(set(first)) == 20
    assert [one.text for one in sample(every, 20, 1, lambda one: True)] != first
    assert set(first) <= {one.text for one in sample(every, 40, 0, lambda one: True)}


def test_near_duplicates_are_taken_once() -> None:
    rng = random.Random(3)
    one, other = words(rng, 60, "en"), words(rng, 60, "zh")
    near = f"{one} and a little more"
    assert distinct([split(text) for text in (one, other, near, other)]) == [0, 1]


def test_an_index_of_nothing() -> None:
    index = Index([split("")], 3)
    assert len(index.hits(split("one two three four").hashes)) == 0
    assert np.array_equal(index.coverable, [0])
