"""The Unigram trainer against plain loops over every cut, and against the trainer of `tokenizers`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.text.learn import learn
from ingot.text.learn.unigram import Lattice, digamma, learn_pieces

BYTES = [bytes([byte]) for byte in range(256)]
words = st.lists(
    st.sampled_from(["a", "ab", "abc", "abab", "cab", "好a", "好好"]).map(str.encode), min_size=1, max_size=4
)
extra = st.lists(st.sampled_from(["ab", "bc", "abab", "ca", "好", "好好"]).map(str.encode), unique=True, max_size=6)


def cuts(word: bytes, pieces: list[bytes]) -> Iterator[list[bytes]]:
    """Every way to cut a word into pieces."""
    if not word:
        yield []
    for piece in pieces:
        if word.startswith(piece):
            yield from ([piece, *rest] for rest in cuts(word[len(piece) :], pieces))


@given(words, extra, st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_expected_counts_and_best_cuts_equal_a_sum_over_every_cut(
    some: list[bytes], more: list[bytes], seed: int
) -> None:
    pieces = BYTES + more
    scores = np.log(np.random.default_rng(seed).dirichlet(np.ones(len(pieces))))
    weights = np.arange(1.0, len(some) + 1)
    expected = Counter[bytes]()
    best = []
    for word, weight in zip(some, weights, strict=True):
        found = list(cuts(word, pieces))
        logs = [sum(scores[pieces.index(piece)] for piece in cut) for cut in found]
        total = sum(map(math.exp, logs))
        best.append(max(logs))
        for cut, log in zip(found, logs, strict=True):
            for piece in cut:
                expected[piece] += weight * math.exp(log) / total
    lattice = Lattice.of(some, pieces)
    counts = lattice.expected_counts(scores, weights)
    assert counts == pytest.approx([expected[piece] for piece in pieces], rel=1e-9, abs=1e-12)
    assert lattice.best(scores, np.zeros(len(lattice.pieces), np.bool_)) == pytest.approx(best)


@given(words, extra, st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_a_lattice_without_some_pieces_is_the_lattice_of_the_rest(
    some: list[bytes], more: list[bytes], seed: int
) -> None:
    pieces = BYTES + more
    alive = np.random.default_rng(seed).random(len(pieces)) < 0.5
    alive[:256] = True
    rest = [piece for piece, kept in zip(pieces, alive, strict=True) if kept]
    scores = -np.arange(1.0, len(rest) + 1) / 99
    weights = np.ones(len(some))
    kept = Lattice.of(some, pieces).keep(alive).expected_counts(scores, weights)
    assert kept == pytest.approx(Lattice.of(some, rest).expected_counts(scores, weights))


def test_digamma_is_the_derivative_of_log_gamma() -> None:
    for x in (0.001, 0.5, 1.0, 3.7, 1e6):
        step = max(x * 1e-5, 1e-9)
        slope = (math.lgamma(x + step) - math.lgamma(x - step)) / (2 * step)
        assert digamma(np.asarray([x]))[0] == pytest.approx(slope, rel=1e-4)
    assert digamma(np.asarray([1.0]))[0] == pytest.approx(-0.5772156649015329, rel=1e-9)


def test_it_finds_the_words_a_text_is_made_of() -> None:
    counts = Counter({b"walking": 40, b"walked": 30, b"talking": 30, b"talked": 40, "臺北市".encode(): 50})
    pieces = dict(learn_pieces(counts, 262))
    assert 256 < len(pieces) <= 262
    assert "臺北市".encode() in pieces
    assert {piece for piece in pieces if len(piece) == 1} == set(BYTES)
    assert 0.5 < sum(map(math.exp, pieces.values())) <= 1


def test_no_piece_ends_inside_a_character() -> None:
    counts = Counter({"天氣很好我們".encode(): 9, "天氣真好他們".encode(): 7, "café naïve".encode(): 5})
    for piece, _ in learn_pieces(counts, 290):
        assert len(piece) == 1 or piece.decode()


def test_the_order_of_the_words_changes_nothing() -> None:
    counts = {
        f"{first}{second}".encode(): len(first) + 1 for first in ("ab", "cde", "好") for second in ("xy", "z", "q")
    }
    assert learn_pieces(counts, 270) == learn_pieces(dict(reversed(counts.items())), 270)


@pytest.mark.parametrize("counts", [{}, {b"a": 1}, {b"": 3}])
def test_hardly_any_text_gives_the_bytes(counts: dict[bytes, int]) -> None:
    assert {piece for piece, _ in learn_pieces(counts, 300)} == set(BYTES)


def test_it_needs_no_more_tokens_than_the_trainer_of_the_library() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    stems, ends = ["walk", "talk", "jump", "paint", "learn", "train"], ["ing", "ed", "s", "er", "ers", ""]
    words = [stem + end for stem in stems for end in ends] * 5 + [f"{a}{b}" for a in stems for b in stems]
    theirs = Tokenizer(models.Unigram())
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.UnigramTrainer(vocab_size=280, initial_alphabet=alphabet, show_progress=False)
    theirs.train_from_iterator(words, trainer)
    learnt = learn_pieces(Counter(word.encode() for word in words), 280)
    pieces = [piece for piece, _ in learnt]
    scores = np.asarray([score for _, score in learnt])
    encoded = [word.encode() for word in words]
    best = min(len(min(cuts(word, [p for p in pieces if p in word]), key=len)) for word in encoded)
    assert best == 1
    ours = sum(_best_length(word, dict(zip(pieces, scores, strict=True))) for word in encoded)
    assert ours <= 1.02 * sum(len(found.ids) for found in theirs.encode_batch(words))


def _best_length(word: bytes, scores: dict[bytes, float]) -> int:
    """Tokens of the likeliest cut, by a plain loop over where it may end."""
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(word) + 1):
        options = [
            (best[begin][0] + scores[word[begin:end]], best[begin][1] + 1)
            for begin in range(end)
            if word[begin:end] in scores
        ]
        best.append(max(options))
    return best[-1][1]


@pytest.mark.slow
def test_as_few_tokens_as_sentencepiece(real_data: Path) -> None:
    """At the same size of vocabulary, on the text learnt from: at most one per cent more."""
    import io

    import sentencepiece

    lines = [line for line in (real_data / "02_text/botchan_en.txt").read_text()[:120_000].splitlines() if line.strip()]
    ours = learn([lines], "unigram", 1200).backend
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=1200, model_type="unigram", byte_fallback=True,
        normalization_rule_name="identity", split_digits=True, remove_extra_whitespaces=False, minloglevel=2,
    )  # fmt: skip
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    used = sum(len(found.ids) for found in ours.encode_batch(lines, add_special_tokens=False))
    assert used <= 1.01 * sum(map(len, theirs.encode(lines)))
    assert ours.get_vocab_size() == theirs.vocab_size() == 1200
