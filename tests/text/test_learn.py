"""Learning: counts in bounded memory, merges against `tokenizers`, 64 bits, morphemes against Morfessor."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from ingot.core.errors import IngotError
from ingot.text.learn import ALGORITHMS, count, learn, merges
from ingot.text.learn.count import Counts, count_batch, count_words
from ingot.text.learn.merges import Corpus, Learner, frequent_words
from ingot.text.learn.morpheme import PATTERN, learn_morphs, morpheme, train
from ingot.text.learn.parts import SPECIALS
from ingot.text.learn.wordpiece import WORD
from ingot.text.split import SPLIT, WORDS, Splitter, is_settled
from ingot.text.stream import byte_alphabet

pytestmark = pytest.mark.slow

TEXTS = [
    "the banana bandana, the band and the abab ababab banananana of the cabana",
    "今天的天氣很好，我們一起去臺北看展覽吧！今天的天氣真好，臺北的天氣更好。",
    "aaaa aaaaa aaa aaaaaaa aa 1212 1212 == == ==== ==",
    "for i in range(10):\n    print(i)\n    for j in range(i):\n        print(j)\n",
] * 3


# ---- words


@pytest.mark.parametrize("pattern", [SPLIT, WORDS, WORD])
@settings(max_examples=60, deadline=None)
@given(text=st.one_of(st.text(), st.text("aB's 天1.\r\n\t\u3000ſ\u0301\U00020000\u0378")))
def test_words_are_those_that_encoding_sees(pattern: str, text: str) -> None:
    kind = ("removed", True) if pattern == WORD else ("isolated", False)
    exact = pre_tokenizers.Split(Regex(pattern), *kind)
    assert Splitter(pattern).cut(text) == [word for word, _ in exact.pre_tokenize_str(text)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [r"\p{L}", r"\p{N}", r"\p{M}", r"\p{Han}", r"\s"])
def test_every_settled_character_has_one_class(kind: str) -> None:
    """All code points that Python's tables know."""
    points = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    text = "".join(point for point in points if is_settled(point))
    splitter = Splitter(kind)
    assert len(text) > 280_000
    assert splitter.cut(text) == [word for word, _ in splitter.exact.pre_tokenize_str(text)]


# ---- counts


def naive_counts(texts: list[str]) -> Counter[str]:
    return Counter(word for text in texts for word, _ in Splitter(SPLIT).exact.pre_tokenize_str(text))


@pytest.mark.parametrize("pattern", [SPLIT, WORDS, WORD, PATTERN])
@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.one_of(st.text(), st.text("aB's 天1.\r\n\t\u3000ſ\u0301\U00020000\u0378\x1f"), st.sampled_from(TEXTS)))
)
def test_text_is_cut_before_spaces_without_a_trace(pattern: str, texts: list[str]) -> None:
    splitter = Splitter(pattern)
    given = [*texts, *texts[:2], " ".join(texts)]
    assert count_batch(given, splitter) == Counter(
        word for text in given for word, _ in splitter.exact.pre_tokenize_str(text)
    )


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_counts_are_the_same_for_any_number_of_processes(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(count, "BATCH", 100)
    found = count_words([TEXTS[:5], TEXTS[5:]], SPLIT, threads)
    assert found.words == naive_counts(TEXTS)
    assert list(found.words) == list(count_words([TEXTS], SPLIT, 1).words)
    assert found.numbers["words"] == sum(naive_counts(TEXTS).values())


@pytest.mark.parametrize("threads", [1, 2])
def test_the_rarest_words_are_forgotten_when_there_are_too_many(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(count, "BATCH", 100)
    found = count_words([TEXTS], SPLIT, threads, limit=30)
    assert found.words == count_words([TEXTS], SPLIT, 1, limit=30).words
    assert len(found.words) <= 30
    assert found.forgotten > 0
    assert found.total == sum(naive_counts(TEXTS).values()) == found.forgotten + sum(found.words.values())


def test_counting_stops_cleanly_when_the_texts_end_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(count, "BATCH", 100)

    def texts() -> Any:
        yield TEXTS
        raise KeyError("bad file")

    with pytest.raises(KeyError, match="bad file"):
        count_words(texts(), SPLIT, 2)


# ---- merges


def library_merges(texts: list[str], vocab_size: int) -> tuple[list[tuple[str, str]], dict[str, int]]:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=2, special_tokens=list(SPECIALS),
        initial_alphabet=sorted(byte_alphabet()), show_progress=False,
    )  # fmt: skip
    made.train_from_iterator([texts], trainer)
    model = json.loads(made.to_str())["model"]
    return [tuple(pair) for pair in model["merges"]], model["vocab"]


def own_merges(texts: list[str], vocab_size: int) -> tuple[list[tuple[str, str]], dict[str, int]]:
    model = json.loads(learn([texts], "bpe", vocab_size).backend.to_str())["model"]
    return [tuple(pair) for pair in model["merges"]], model["vocab"]


@pytest.mark.parametrize("few", [0, 3, 10**9])
def test_merges_equal_those_of_the_library(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All occurrences at once, one by one, and some this way and some that."""
    monkeypatch.setattr(merges, "FEW", few)

    @settings(max_examples=60, deadline=None)
    @given(texts=st.lists(st.text("ab c天地\n1", max_size=60), max_size=6), size=st.integers(260, 400))
    def equal(texts: list[str], size: int) -> None:
        assert own_merges([*texts, *TEXTS], size) == library_merges([*texts, *TEXTS], size)

    equal()


@pytest.mark.slow
def test_merges_of_real_text_equal_those_of_the_library(real_data: Path) -> None:
    folder = real_data / "02_text"
    files = ("botchan_en.txt", "zh_hant/ud_zh_hant_sentences.txt", "wagahaiwa_ja.txt")
    texts = [line for file in files for line in (folder / file).read_text().splitlines(keepends=True)]
    assert own_merges(texts, 2000) == library_merges(texts, 2000)


def test_counts_beyond_32_bits() -> None:
    """With 32-bit counts "the" is lost from large corpora (tokenizers#437). Here every count is beyond 2**32."""
    words = {"the": 9 * 2**40, "that": 7 * 2**40, "cat": 2**33, "cats": 2**32 + 1, "dog": 2**32}
    small = {"the": 9 * 2**10, "that": 7 * 2**10, "cat": 2**3, "cats": 5, "dog": 4}

    def learnt(counts: dict[str, int]) -> list[tuple[str, str]]:
        letters = sorted(set("".join(counts)))
        spelled = [([letters.index(letter) for letter in word], number) for word, number in frequent_words(counts)]
        return Learner(Corpus.of(spelled), letters).run(100)

    found = learnt(words)
    assert found == learnt(small)
    assert found[:2] == [("t", "h"), ("th", "e")]
    total = Counts()
    total.add({"the": 2**63}, 10)
    total.add({"the": 2**63}, 10)
    assert total.words["the"] == 2**64


def naive_bpe(words: dict[str, int], size: int) -> list[tuple[str, str]]:
    """Counting all pairs again before each merge."""
    spelled = {word: list(word) for word in words}
    tokens = sorted(set("".join(words)))
    merges = []
    while len(tokens) < size:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, number in words.items():
            for pair in zip(spelled[word], spelled[word][1:], strict=False):
                pairs[pair] += number
        best = min(pairs, key=lambda pair: (-pairs[pair], *map(tokens.index, pair)), default=None)
        if best is None or pairs[best] < 2:
            break
        merges.append(best)
        tokens += [best[0] + best[1]] * (best[0] + best[1] not in tokens)
        for word, parts in spelled.items():
            at = 0
            while at < len(parts) - 1:
                if (parts[at], parts[at + 1]) == best:
                    parts[at : at + 2] = [best[0] + best[1]]
                at += 1
            spelled[word] = parts
    return merges


@settings(max_examples=100, deadline=None)
@given(words=st.dictionaries(st.text("abcd", min_size=1, max_size=7), st.integers(1, 9), min_size=1, max_size=12))
def test_merges_of_words_without_repeats_equal_the_naive_ones(words: dict[str, int]) -> None:
    """A repeat such as aaa is counted as `tokenizers` counts it, which a recount does not reproduce."""
    words = {word: number for word, number in words.items() if not any(a == b for a, b in pairwise(word))}
    letters = sorted(set("".join(words)))
    spelled = [([letters.index(letter) for letter in word], number) for word, number in frequent_words(words)]
    merges = Learner(Corpus.of(spelled), list(letters)).run(len(letters) + 3) if words else []
    assert merges == naive_bpe(words, len(letters) + 3)


# ---- morphemes


def test_morphemes_are_those_of_morfessor() -> None:
    words = {f"{stem}{end}": 3 for stem in ("walk", "talk", "jump", "look", "open") for end in ("", "s", "ed", "ing")}
    found = morpheme([[" ".join([word] * number) for word, number in words.items()]], 200, 1)
    counted = {word: words[word] for word in sorted(words)}
    oracle = train(counted)
    assert learn_morphs(counted) == dict(oracle.get_constructions())
    for word in [*words, "walkopening", "jumpsed", "lo"]:
        expected = oracle.viterbi_segment(word, addcount=0)[0]
        assert found.backend.encode(word).tokens == expected
    walks = oracle.viterbi_segment("walks", addcount=0)[0]
    assert found.backend.encode("walks 1").tokens == [*walks, " ", "1"]  # an unknown token keeps its text here
    assert found.backend.encode("walks 1").ids[-1] == found.backend.token_to_id("<unk>")
    assert found.numbers["morphs_left_out"] == 0


def test_morphemes_do_not_depend_on_the_hash_seed() -> None:
    program = (
        "from ingot.text.learn.morpheme import learn_morphs; import zlib;"
        "print(zlib.crc32(repr(sorted(learn_morphs({f'{a}{b}{c}': 2 for a in ('re', 'un', '') "
        "for b in ('walk', 'talk', 'jump') for c in ('s', 'ed', 'ing')}).items())).encode()))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True)
        for seed in ("1", "2")
    ]
    assert runs[0].stdout == runs[1].stdout != b""


def test_morphemes_need_words() -> None:
    with pytest.raises(IngotError, match="morphemes") as caught:
        morpheme([["1 2 3"]], 50, 1)
    assert caught.value.code == "no-words"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_threads_do_not_change_the_result(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(count, "BATCH", 200)
    made = [learn([TEXTS], algorithm, 300, threads).backend.to_str() for threads in (1, 2)]
    assert made[0] == made[1]
