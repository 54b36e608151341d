"""Swapped sentences against both versions written by hand, both ways; what must stay; the corpus that is written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from evaluating import write_lines

import ingot
from ingot.core.errors import IngotError
from ingot.evaluate.bias import own
from ingot.evaluate.bias.swap.swap import swap, swap_both

TAG = re.compile(r"\{([^{}|]*)\|([^{}|]*)\}")


def written_pairs() -> list[tuple[str, str, str]]:
    """(language, about a man, about a woman) of every tagged sentence."""
    from ingot.core.language import read_yaml

    found = read_yaml(own.shipped("pairs.yaml").read_text(encoding="utf-8"))
    return [
        (lang, TAG.sub(r"\1", one), TAG.sub(r"\2", one))
        for lang, domains in found.items() for tagged in domains.values() for one in tagged
    ]  # fmt: skip


def test_three_hundred_sentences_both_ways() -> None:
    pairs = written_pairs()
    assert [sum(lang == one for lang, _, _ in pairs) for one in ("en", "zh")] == [150, 150]
    wrong = [
        (before, swap(before, lang).text)
        for lang, man, woman in pairs for before, after in ((man, woman), (woman, man))
        if swap(before, lang).text != after or swap(after, lang).text != before
    ]  # fmt: skip
    assert wrong == []


@pytest.mark.parametrize(
    ("lang", "before", "after"),
    [
        ("en", "I gave her the book.", "I gave him the book."),
        ("en", "I read her book.", "I read his book."),
        ("en", "It was hers. HER coat, Her coat.", "It was his. HIS coat, His coat."),
        ("en", "The book was his, not mine.", "The book was hers, not mine."),
        ("en", "We saw her leave.", "We saw him leave."),
        ("en", "Her mother-in-law", "His father-in-law"),
        ("en", "The theme of the shepherd", "The theme of the shepherd"),
        ("zh", "牠跟著他，它在她手上。", "牠跟著她，它在他手上。"),
        ("zh", "其他人彈吉他，他彈鋼琴。", "其他人彈吉他，她彈鋼琴。"),
        ("zh", "王先生和她先生都來了。", "王小姐和他太太都來了。"),
        ("zh", "男女平等，男同事和女兒", "男女平等，女同事和兒子"),
        ("zh", "爸爸媽媽", "媽媽爸爸"),
    ],
)
def test_what_changes_and_what_stays(lang: str, before: str, after: str) -> None:
    assert swap(before, lang).text == after
    assert swap(after, lang).text == before


@pytest.mark.parametrize(("lang", "text", "word"), [
    ("en", "Mrs Lin came home.", "Mrs"), ("zh", "王太太來了。", "王太太"), ("zh", "舅舅來了。", "舅舅"),
])  # fmt: skip
def test_a_word_without_a_counterpart_holds_its_sentence(lang: str, text: str, word: str) -> None:
    assert swap(text, lang) == swap(text, lang).__class__(None, word)


def test_a_sentence_that_would_not_lead_back_is_not_given_out() -> None:
    assert swap("They sent him flowers.", "en").text is None  # "her flowers" would come back as "his flowers"


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(IngotError, match="'ja'") as error:
        swap("彼", "ja")
    assert error.value.code == "bias-language"


def test_a_corpus_beside_its_counterpart(tmp_path: Path) -> None:
    texts = ["He gave his sister 王先生's book; 他很高興.", "The sun shines.", "Mrs Lin waited."]
    data = write_lines(tmp_path / "data.jsonl", [{"text": text} for text in texts])
    made = ingot.data_counterfactual(data, out=tmp_path / "out")
    assert made.summary() | {"path": ""} == {"path": "", "documents": 3, "swapped": 1, "unchanged": 1, "held": 1}
    assert made.held == {"Mrs": 1}
    lines = [json.loads(line) for line in (tmp_path / "out" / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["text"] for line in lines if line["counterfactual"] == "as-it-is"] == texts
    (swapped,) = [line["text"] for line in lines if line["counterfactual"] == "swapped"]
    assert swapped == "She gave her brother 王小姐's book; 她很高興."
    assert swap_both(swapped).text == texts[0]


def test_an_empty_corpus_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    data.write_text("\n")
    with pytest.raises(IngotError):
        ingot.data_counterfactual(data, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
