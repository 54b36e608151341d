"""Texts that must not, or must, be said, whatever tokens say them; DRY; what a request remembers."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from naive import written_by
from reference_sampling import completing, repeats
from test_constraint_engine import spaced_model

from ingot import IngotError
from ingot.adapt.load import LanguageModel
from ingot.infer.engine import generate
from ingot.infer.sampling import NO_TOKEN, Sampling
from ingot.infer.sampling.dry import Dry
from ingot.infer.sampling.state import Counts
from ingot.infer.sampling.texts import Finder, Forbidden, Wanted
from ingot.text.spelling import Spelling, spelling_of
from ingot.text.tokenizer import Tokenizer

Tiny = Callable[..., LanguageModel]


@pytest.fixture(scope="module")
def spelling(tokenizer_dir: Any) -> Spelling:
    return spelling_of(Tokenizer.open(tokenizer_dir))


@pytest.fixture(scope="module")
def spaced(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return spaced_model(tmp_path_factory.mktemp("spaced"))


def tokenizations(spelling: Spelling, text: bytes) -> Iterator[list[int]]:
    """Every way to write these bytes."""
    if not text:
        yield []
    for size in range(1, len(text) + 1):
        for token in (id for id, own in enumerate(spelling.written) if own == text[:size]):
            yield from ([token, *rest] for rest in tokenizations(spelling, text[size:]))


@pytest.mark.parametrize("text", ["the cat", " on", "天空", "色的，", "é", "a", "aab"])
def test_no_tokenization_writes_a_forbidden_text(spelling: Spelling, text: str) -> None:
    """All of them, with letters before and behind that may share tokens with the text: the token that would complete
    it is forbidden, and none before."""
    ways = list(tokenizations(spelling, ("a" + text + "t").encode()))
    assert ways
    for way in ways:
        forbidden, written, stopped = Forbidden([text], spelling), b"", False
        for token in way:
            blocked = token in np.concatenate(forbidden.ids())
            assert blocked == (text.encode() in written + spelling.written[token])
            if stopped := blocked:
                break
            written += spelling.written[token]
            forbidden.push(spelling.written[token])
        assert stopped


@pytest.mark.parametrize("seed", range(3))
def test_forbidden_tokens_are_those_that_complete_a_text(spelling: Spelling, seed: int) -> None:
    """Against the whole vocabulary tried one by one, along walks that like to begin the texts. They overlap, repeat
    themselves and hold one another."""
    texts = ["the", "he cat", "aaa", "aab", "天空是", "空", "3. h"]
    chooser, forbidden, answer = random.Random(seed), Forbidden(texts, spelling), list[int]()
    near = [id for id, own in enumerate(spelling.written) if own and any(own[-1:] in text.encode() for text in texts)]
    for _ in range(150):
        expected = completing(texts, answer, spelling.written)
        assert set(np.concatenate(forbidden.ids()).tolist()) == expected
        answer.append(chooser.choice([token for token in near if token not in expected]))
        forbidden.push(spelling.written[answer[-1]])


def test_finder_finds_what_python_finds(spelling: Spelling) -> None:
    chooser, texts = random.Random(1), [b"ab", b"abab", b"bab", b"ba", b"c"]
    finder, written = Finder(texts), b""
    for _ in range(300):
        piece = bytes(chooser.choices(b"abc", k=chooser.randrange(4)))
        found = {text for text in texts if text in (written[-len(text) + 1 :] if len(text) > 1 else b"") + piece}
        assert finder.push(piece) == found
        written += piece


@pytest.mark.parametrize("words", [["the"], ["e", "天", "是"], [" "], ["t", "h", "a", "的"]])
def test_answers_never_hold_a_bad_word(tiny: Tiny, words: list[str]) -> None:
    """Random weights, hot, and biased towards what the words are made of; tokens that split characters among them."""
    model = tiny()
    bias = {token: 9.0 for word in words for token in model.tokenizer.encode(word)}
    bias |= {id: 6.0 for id, own in enumerate(written_by(model)) if own and own in "".join(words).encode()}
    own = [Sampling(seed=seed, temperature=2.0, max_tokens=60, ignore_eos=True) for seed in range(6)]
    free = generate(model, ["the "] * 6, [each.model_copy(update={"logit_bias": bias}) for each in own])
    bound = generate(
        model, ["the "] * 6, [each.model_copy(update={"logit_bias": bias, "bad_words": words}) for each in own]
    )
    assert all(any(word in sequence.text for word in words) for sequence in free)
    assert not any(word in sequence.text for sequence in bound for word in words)
    assert [sequence.finish_reason for sequence in bound] == ["length"] * 6


@pytest.mark.parametrize("words", [["the cat sat"], ["天空"], ["dog", "dog ran", "是綠"], ["zz9"], ["e"]])
@pytest.mark.parametrize("extra", [0, 1, 2, 25])
def test_answers_hold_every_forced_word_however_little_room_there_is(tiny: Tiny, words: list[str], extra: int) -> None:
    """No room to spare, one token, plenty; end tokens are likely from the first token on."""
    model = tiny()
    needed = Wanted(words, spelling_of(model.tokenizer), None).num_needed
    own = [
        Sampling(seed=seed, max_tokens=needed + extra, force_words=words, logit_bias={min(model.eos_ids): 5.0})
        for seed in range(12)
    ]
    found = generate(model, ["the "] * 12, own)
    assert all(word in sequence.text for sequence in found for word in words)


@pytest.mark.parametrize("words", [[" "], [" the"], [" the", "天"], ["天 the"]])
@pytest.mark.parametrize("extra", [0, 1, 9])
def test_forced_words_come_whole_where_a_text_loses_its_first_space(
    spaced: LanguageModel, words: list[str], extra: int
) -> None:
    """Behind <s> nothing stands: "▁the" says "the"."""
    start = spaced.tokenizer.bos_id
    assert start is not None
    needed = Wanted(words, spelling_of(spaced.tokenizer), None, opens=True).num_needed
    assert (needed > Wanted(words, spelling_of(spaced.tokenizer), None).num_needed) == words[0].startswith(" ")
    own = [Sampling(seed=seed, max_tokens=needed + extra, force_words=words) for seed in range(12)]
    found = generate(spaced, [[start]] * 12, own)
    assert all(word in sequence.text for sequence in found for word in words)
    with pytest.raises(IngotError, match=f"takes at least {needed} tokens"):
        generate(spaced, [[start]], Sampling(max_tokens=needed - 1, force_words=words))


@pytest.mark.slow
def test_words_written_by_tokens_that_are_single_bytes(spaced: LanguageModel) -> None:
    """Chinese that the tokenizer has no token for. Whichever byte comes first, the last one is forbidden; where a byte
    that is no character stands beside the word, its decoder shows neither, and the answer says so."""
    word = spaced.tokenizer.encode("a好")[-3:]
    assert [spaced.tokenizer.token(id) for id in word] == ["<0xE5>", "<0xA5>", "<0xBD>"]
    likely = Sampling(max_tokens=30, allowed_token_ids=word)
    own = [likely.model_copy(update={"seed": seed, "bad_words": words}) for seed in range(20) for words in ([], ["好"])]
    found = generate(spaced, ["a"] * 40, own)
    written = [bytes(b"\xe5\xa5\xbd"[word.index(token)] for token in sequence.tokens) for sequence in found]
    assert any("好".encode() in answer for answer in written[::2])
    assert not any("好".encode() in answer for answer in written[1::2])
    words = [Sampling(seed=seed, max_tokens=8, force_words=["好"]) for seed in range(20)]
    found = generate(spaced, ["a"] * 20, words)
    assert {sequence.finish_reason == "error" for sequence in found} == {True, False}
    for sequence in found:
        assert ("好" in sequence.text) == (sequence.error is None)
        assert sequence.error is None or sequence.error.code == "force-words-not-met"


@pytest.mark.slow
def test_forced_words_keep_stop_strings_and_stop_tokens_away_until_they_have_come(tiny: Tiny) -> None:
    model = tiny()
    end = model.tokenizer.encode("a")[0]
    plain: dict[str, Any] = {
        "max_tokens": 60,
        "stop": ["e"],
        "stop_token_ids": [end],
        "logit_bias": {end: 2.0, "e": 2.0, "o": 2.0},
    }
    found = generate(model, ["the "] * 24, [Sampling(seed=n, force_words=["o"], **plain) for n in range(24)])
    assert all("o" in sequence.text for sequence in found)
    assert {sequence.stop_reason for sequence in found} >= {"e", end}
    free = generate(model, ["the "] * 24, [Sampling(seed=n, **plain) for n in range(24)])
    assert not all("o" in sequence.text for sequence in free)


def test_forced_words_that_cannot_come_are_refused(tiny: Tiny) -> None:
    with pytest.raises(IngotError, match="force_words takes at least"):
        generate(tiny(), ["a"], Sampling(force_words=["a long text, far too long"], max_tokens=2))
    with pytest.raises(IngotError, match="no tokens that the answer may have write 'b'"):
        generate(tiny(), ["a"], Sampling(force_words=["b"], allowed_token_ids=[5, 6]))


def test_rules_that_leave_nothing_end_their_own_answer_alone(tiny: Tiny) -> None:
    model = tiny()
    only = model.tokenizer.encode("a")[0]
    contradiction = Sampling(seed=1, allowed_token_ids=[only], bad_words=["aaa"], max_tokens=9)
    neighbour = Sampling(seed=2, max_tokens=9)
    ended, other = generate(model, ["the ", "the "], [contradiction, neighbour])
    assert (ended.text, ended.finish_reason, ended.tokens) == ("aa", "error", [only, only])
    (alone,) = generate(model, ["the "], neighbour)
    assert other.tokens == alone.tokens
    assert NO_TOKEN not in ended.tokens


def test_stop_token_shows_its_text_only_when_asked(tiny: Tiny) -> None:
    model = tiny()
    end = model.tokenizer.encode("a")[0]
    own = {"seed": 1, "logit_bias": {end: 6.0}, "max_tokens": 40, "stop_token_ids": [end], "ignore_eos": True}
    hidden, shown, late = generate(
        model,
        ["the "] * 3,
        [Sampling(**own, **more) for more in ({}, {"include_stop_in_output": True}, {"min_tokens": 9})],
    )
    assert (hidden.finish_reason, hidden.stop_reason, hidden.tokens[-1]) == ("stop", end, end)
    assert hidden.tokens == shown.tokens
    assert shown.text == hidden.text + "a"
    assert len(late.tokens) >= 10
    assert end not in late.tokens[:9]


def test_a_text_biases_every_token_of_its_encoding(tiny: Tiny) -> None:
    model = tiny()
    ids = model.tokenizer.encode("the cat")
    assert len(ids) > 1
    own = [Sampling(seed=1, logit_bias=bias, max_tokens=20) for bias in ({"the cat": 2.5, str(ids[0]): 0.5},
           {**dict.fromkeys(ids, 2.5), ids[0]: 3.0}, {})]  # fmt: skip
    text, token, none = generate(model, ["the "] * 3, own)
    assert text.tokens == token.tokens != none.tokens


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("more", [{}, {"dry_penalty_last_n": 12}, {"dry_sequence_breakers": ["b", "ac", "天"]},
                                  {"dry_allowed_length": 4, "dry_base": 1.0}], ids=str)  # fmt: skip
def test_repeats_equal_those_found_token_by_token(spelling: Spelling, seed: int, more: dict[str, Any]) -> None:
    """On a small alphabet, so that there are many; from prompts of every length, breakers split by tokens."""
    own, chooser = Sampling.of(dry_multiplier=0.5, **more), random.Random(seed)
    alphabet = [
        id
        for id, text in enumerate(spelling.written)
        if text in (b"a", b"b", b"c", "天".encode()[:1], b"\xa4", b"\xa9")
    ]
    tokens = chooser.choices(alphabet[:3] if seed % 2 else alphabet, k=seed * 20)
    dry = Dry(own, spelling, tokens)
    for _ in range(60):
        expected = repeats(own, tokens, spelling.written)
        assert dry.penalties() == pytest.approx(expected)
        token = chooser.choice(list(expected) or alphabet) if chooser.random() < 0.5 else chooser.choice(alphabet)
        tokens.append(token)
        dry.push(token)


def test_dry_by_hand(spelling: Spelling) -> None:
    """The example of llama.cpp's comments: behind "a b c c b c y a b c" the repeats are 3 before c, 2 before y, 1
    before b; one of at least two tokens is penalised."""
    a, b, c, y = (spelling.written.index(letter) for letter in (b"a", b"b", b"c", b"y"))
    dry = Dry(Sampling(dry_multiplier=2.0, dry_base=3.0), spelling, [a, b, c, c, b, c, y, a, b, c])
    assert dry.penalties() == {c: 6.0, y: 2.0}


@pytest.mark.parametrize("window", [None, 1, 3, 8])
def test_counts_see_the_last_tokens(window: int | None) -> None:
    read, answer = [1, 2, 2, 3], [2, 4, 4, 5, 1, 4]
    counts = Counts(read, window)
    for size in range(len(answer) + 1):
        history = ([(token, 0) for token in read] + [(token, 1) for token in answer[:size]])[-(window or 99) :]
        assert counts.seen == {token: sum(own for other, own in history if other == token) for token, _ in history}
        if size < len(answer):
            counts.push(answer[size])


def test_texts_need_a_tokenizer(tiny: Tiny, tmp_path: Any) -> None:
    from ingot.infer.sampling.check import check

    for own in (
        Sampling(bad_words=["a"]),
        Sampling(force_words=["a"]),
        Sampling(dry_multiplier=1),
        Sampling(logit_bias={"a": 1}),
    ):
        with pytest.raises(IngotError, match="has no text to work on"):
            check(own, 100, None, tmp_path)
    for own in (Sampling(logit_bias={100: 1}), Sampling(allowed_token_ids=[100]), Sampling(stop_token_ids=[100])):
        with pytest.raises(IngotError, match="has token id 100"):
            check(own, 100, None, tmp_path)
