"""Variety, novelty and divergence against definitions that anyone can check."""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
import pytest
import sacrebleu

from ingot.core.errors import IngotError
from ingot.evaluate.metrics.divergence import character_features, cluster, divergence
from ingot.evaluate.metrics.diversity import distinct, rarefied, self_bleu, self_bleu_stats
from ingot.evaluate.metrics.novelty import Automaton, joined, novelty
from ingot.evaluate.metrics.tokens import CJK_NAME, cjk_tokens
from ingot.evaluate.metrics.translation import bleu_of_sums

RNG = random.Random(5)
TOY = [" ".join(RNG.choice("abcde") for _ in range(RNG.randrange(1, 12))) for _ in range(40)]


def sentences(words: list[str], count: int, length: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choice(words) for _ in range(length)) for _ in range(count)]


VARIED = sentences([f"w{n}" for n in range(400)], 200, 20, seed=1)
PLAIN = sentences([f"w{n}" for n in range(60)], 200, 20, seed=2)


@pytest.mark.parametrize("texts", [TOY, ["a b c", "a b c d e", "a b c d e f g"]], ids=["many", "lengths as near"])
def test_self_bleu_is_exact(texts: list[str]) -> None:
    own = bleu_of_sums(self_bleu_stats([text.split() for text in texts]), True)
    metric = sacrebleu.BLEU(tokenize="none", effective_order=True)
    peer = [metric.sentence_score(text, texts[:at] + texts[at + 1 :]).score for at, text in enumerate(texts)]
    assert own == pytest.approx(peer, abs=1e-9)


def test_a_sample_is_what_it_says() -> None:
    pool = [kind for kind, count in enumerate([5, 3, 1, 1]) for _ in range(count)]
    every = [len(set(drawn)) / 4 for drawn in combinations(pool, 4)]
    assert rarefied([5, 3, 1, 1], 4) == pytest.approx(np.mean(every))
    assert rarefied([1, 1, 1], 3) == 1


def measure(texts: list[str]) -> dict[str, float]:
    found = [distinct(texts, cjk_tokens, CJK_NAME, n, 500, "") for n in (1, 2)]
    found.append(self_bleu(texts, cjk_tokens, CJK_NAME, 0, ""))
    return {one.name: one.value for one in found}


def test_ranks_do_not_change_at_half_the_length() -> None:
    for halve in (False, True):
        varied, plain = (
            measure([" ".join(text.split()[: 10 if halve else 20]) for text in texts]) for texts in (VARIED, PLAIN)
        )
        assert varied["distinct-1"] > plain["distinct-1"]
        assert varied["distinct-2"] > plain["distinct-2"]
        assert varied["self-bleu"] < plain["self-bleu"]


def test_distinct_does_not_fall_with_the_amount_of_text() -> None:
    """The plain share does."""
    half, whole = (distinct(texts, cjk_tokens, CJK_NAME, 1, 500, "") for texts in (VARIED[:100], VARIED))
    assert half.value == pytest.approx(whole.value, abs=0.01)
    assert half.extra["raw"] > 1.5 * whole.extra["raw"]  # type: ignore[operator]
    assert whole.interval is not None
    assert whole.interval.low < whole.value < whole.interval.high  # type: ignore[operator]


def test_a_small_sample_is_named() -> None:
    few = distinct(["a b c", "d e f"], cjk_tokens, CJK_NAME, 1, 1000, "")
    assert "sample:3" in few.signature
    assert few.notes
    with pytest.raises(IngotError, match="distinct-4"):
        distinct(["a b"], cjk_tokens, CJK_NAME, 4, 10, "")
    with pytest.raises(IngotError, match="self-bleu"):
        self_bleu(["a"], cjk_tokens, CJK_NAME, 0, "")


def test_copied_stretches_are_those_of_a_search() -> None:
    rng = random.Random(0)
    for _ in range(200):
        texts = [[rng.choice("abc") for _ in range(rng.randrange(9))] for _ in range(rng.randrange(1, 4))]
        corpus = [[rng.choice("abcd") for _ in range(rng.randrange(12))] for _ in range(rng.randrange(3))]
        automaton = Automaton(texts)
        for document in corpus:
            automaton.read(document)
        held = ["".join(document) for document in corpus]
        for tokens, found in zip(texts, automaton.copied(), strict=True):
            text = "".join(tokens)
            expected = [max(n for n in range(end + 1) if not n or any(text[end - n : end] in d for d in held))
                        for end in range(1, len(text) + 1)]  # fmt: skip
            assert found.tolist() == expected


def test_novelty_of_chinese() -> None:
    corpus = ["白日依山盡，黃河入海流。欲窮千里目，更上一層樓。", "床前明月光"]
    texts = ["他說：欲窮千里目，更上一層樓！", "今天天氣很好，我們去公園走走。"]
    found = novelty(texts, corpus, "poems")
    assert found.extra["longest_copied"] == 10
    assert found.extra["longest_copied_text"] == 1
    assert "欲窮千里目更上一層樓" in found.notes[0]
    assert found.items is not None
    assert found.items[1] == 1
    assert novelty(corpus, corpus, "itself").value == 0
    assert joined(["gpu", "is", "好", "的"]) == "gpu is好的"


@pytest.mark.slow
def test_halves_are_alike_and_others_are_not(caplog: pytest.LogCaptureFixture) -> None:
    texts = sentences([f"w{n}" for n in range(100)], 1200, 12, seed=3)
    others = sentences([f"w{n}" for n in range(60, 160)], 600, 12, seed=4)
    points = character_features(texts), character_features(others)
    halves = divergence(texts[:600], texts[600:], (points[0][:600], points[0][600:]), "x", 0, 100)
    apart = divergence(texts[:600], others, (points[0][:600], points[1]), "x", 0, 100)
    assert halves.value > 0.95
    assert halves.extra["p_value"] > 0.05  # type: ignore[operator]
    assert apart.value < 0.8
    assert apart.extra["p_value"] < 0.01  # type: ignore[operator]


def test_few_texts_are_warned_of(heard: pytest.LogCaptureFixture) -> None:
    points = character_features(TOY)
    divergence(TOY, TOY, (points, points), "x", 0, 100)
    assert "below 500" in heard.text


def test_clusters_find_clouds() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(centre, 0.01, (50, 2)) for centre in (0.0, 1.0, 5.0)])
    labels = cluster(points, 3, 0)
    assert [len(set(labels[at : at + 50])) for at in (0, 50, 100)] == [1, 1, 1]
    assert len(set(labels.tolist())) == 3
