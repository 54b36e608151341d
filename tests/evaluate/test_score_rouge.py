"""ROUGE is rouge-score's to the last digit on its own tokens, and 1 for equal Chinese texts."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scoring_texts import CHINESE, SENTENCES, english_pairs, real_sentences

from ingot.evaluate.metrics.lcs import common_length, common_places, masks_of
from ingot.evaluate.metrics.rouge import KINDS, Cut, rouge
from ingot.evaluate.metrics.stem import stem
from ingot.evaluate.metrics.tokens import CJK_NAME, cjk_sentences, cjk_tokens, default_tokens, script_of, spaced_cjk


def furthest(pairs: list[tuple[str, str]], stemmed: bool) -> float:
    """The largest difference to rouge-score in any precision, recall or F."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(KINDS), use_stemmer=stemmed)
    ours = rouge([own for _, own in pairs], [[target for target, _ in pairs]], Cut("default", stemmed))
    peer = [scorer.score(target, own) for target, own in pairs]
    return max(float(np.abs(ours[kind] - np.array([tuple(one[kind]) for one in peer])).max()) for kind in KINDS)


@pytest.mark.parametrize("stemmed", [False, True])
def test_equals_rouge_score(stemmed: bool) -> None:
    assert furthest(english_pairs(SENTENCES, 300), stemmed) <= 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("stemmed", [False, True])
def test_equals_rouge_score_on_ten_thousand_pairs(real_data: Path, stemmed: bool) -> None:
    assert furthest(english_pairs(real_sentences(real_data), 10_000, seed=1), stemmed) <= 1e-12


def test_several_references_are_those_of_rouge_score() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    pairs, others = english_pairs(SENTENCES, 60, seed=3), english_pairs(SENTENCES, 60, seed=4)
    ours = rouge([p for _, p in pairs], [[t for t, _ in pairs], [t for t, _ in others]], Cut("default"))
    scorer = RougeScorer(list(KINDS))
    for number, ((target, own), (second, _)) in enumerate(zip(pairs, others, strict=True)):
        peer = scorer.score_multi([target, second], own)
        assert all(tuple(ours[kind][number]) == pytest.approx(tuple(peer[kind]), abs=1e-12) for kind in KINDS)


def test_the_stemmer_is_nltks(real_data: Path) -> None:
    from nltk.stem.porter import PorterStemmer

    words = set(re.findall("[a-z0-9]+", (real_data / "02_text/botchan_en.txt").read_text().lower()))
    words |= {"yyyy", "eeeeed", "aaaaing", "10ths", "syzygy", "controlling", "logi", "apologi", "dyed", "1iing"}
    peer = PorterStemmer()
    assert {word: stem(word) for word in words if len(word) > 3} == {w: peer.stem(w) for w in words if len(w) > 3}
    assert stem("was") == "was"


def naive_common(first: list[str], second: list[str]) -> tuple[int, set[int]]:
    """The table of lengths, walked back as rouge-score does."""
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, one in enumerate(first, start=1):
        for j, two in enumerate(second, start=1):
            table[i][j] = table[i - 1][j - 1] + 1 if one == two else max(table[i - 1][j], table[i][j - 1])
    i, j, places = len(first), len(second), set()
    while i and j:
        if first[i - 1] == second[j - 1]:
            places.add(i - 1)
            i, j = i - 1, j - 1
        elif table[i][j - 1] > table[i - 1][j]:
            j -= 1
        else:
            i -= 1
    return table[-1][-1], places


def test_common_subsequences_are_those_of_the_table() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        first, second = ([str(token) for token in rng.integers(0, 4, rng.integers(0, 12))] for _ in range(2))
        length, places = naive_common(first, second)
        masks = masks_of(first)
        assert common_length(masks, len(first), second) == length
        assert common_places(masks, len(first), second) == sum(1 << place for place in places)


def test_equal_chinese_texts_score_one() -> None:
    found = rouge(CHINESE, [CHINESE], Cut(CJK_NAME))
    assert {kind: triples.min() for kind, triples in found.items()} == dict.fromkeys(KINDS, 1.0)
    assert rouge(["貓"], [["狗"]], Cut(CJK_NAME))["rouge2"].max() == 0
    assert rouge(["！"], [["！"]], Cut(CJK_NAME))["rouge1"].max() == 0  # no token at all


def test_chinese_by_hand() -> None:
    found = rouge(["今天很好"], [["今天天氣很好"]], Cut(CJK_NAME))
    assert found["rouge1"][0].tolist() == pytest.approx([1, 4 / 6, 0.8])
    assert found["rouge2"][0].tolist() == pytest.approx([2 / 3, 2 / 5, 0.5])
    assert found["rougeL"][0].tolist() == pytest.approx([1, 4 / 6, 0.8])


def test_sentences_of_chinese_end_at_their_marks() -> None:
    assert cjk_sentences("他說：「好！」我走了。天\n氣好？是。") == [
        "他說：「好！」",
        "我走了。",
        "天",
        "氣好？",
        "是。",
    ]
    turned = rouge(["乙丙丁。甲甲甲甲。"], [["甲甲甲甲。乙丙丁。"]], Cut(CJK_NAME))
    assert turned["rougeLsum"][0, 2] == 1.0
    assert turned["rougeL"][0, 2] == pytest.approx(4 / 7)


def test_tokens_lose_no_letter() -> None:
    expected = [
        "gpu",
        "記",
        "憶",
        "體",
        "16gb",
        "𠮷",
        "野",
        "家",
        "か",
        "カ",
        "ー",
        "👍🏽",
        "🇹🇼",
        "café",
        "한국어",
        "привет",
    ]
    assert cjk_tokens("GPU記憶體16GB、𠮷野家かカー👍🏽🇹🇼 café 한국어，Привет") == expected
    assert spaced_cjk("GPU記憶體，16GB") == "GPU 記 憶 體 ， 16GB"
    for sentence in SENTENCES:
        assert not sentence.isascii() or cjk_tokens(sentence) == default_tokens(sentence)


def test_scripts_are_told_by_looking_at_every_text() -> None:
    assert (
        script_of(["plain", "a naïve walk through Zürich", "the word 記 alone in a long English sentence"]).language
        == "en"
    )
    one_of_many = script_of(["plain"] * 99 + ["今天"])
    assert (one_of_many.language, one_of_many.unspaced, one_of_many.lost) == ("zh", 1, 1)
    assert script_of(["きょうはいい天気"]).language == "ja"
    assert script_of(["Привет, мир"]).language == "spaced"
    assert script_of(["สวัสดี"]).language == "unspaced"
    assert script_of(["😀"]).lost == 1
