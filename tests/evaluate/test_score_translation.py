"""BLEU, chrF and TER are sacrebleu's with its signature; the default is right on Chinese and a wrong choice refused."""

from __future__ import annotations

import numpy as np
import pytest
import sacrebleu
from scoring_texts import CHINESE, SENTENCES, english_pairs, noisy

from cases import first_fast
from ingot.core.errors import IngotError
from ingot.evaluate.metrics.measured import Measured
from ingot.evaluate.metrics.resample import intervals, paired
from ingot.evaluate.metrics.tokens import Script, script_of
from ingot.evaluate.metrics.translation import bleu, choose, chrf, ter

PAIRS = english_pairs(SENTENCES, 80)
REFERENCES = [" ".join(target.split()) for target, _ in PAIRS]
TEXTS = [" ".join(own.split()) for _, own in PAIRS]
OTHERS = noisy(REFERENCES, 0.02, seed=1)


def run(texts: list[str], *references: list[str], word_order: int = 0, **wanted: str) -> dict[str, Measured]:
    """All three by the verb's own choice."""
    script = script_of([*texts, *(one for each in references for one in each)])
    bleu_cut, _, bleu_forced = choose("bleu", wanted.get("bleu", "auto"), script, False)
    ter_cut, _, ter_forced = choose("ter", wanted.get("ter", "auto"), script, False)
    return {
        "bleu": bleu(texts, references, bleu_cut, lowercase=False, reason="", forced=bleu_forced),
        "chrf": chrf(texts, references, word_order=word_order, lowercase=False, script=script, force=False),
        "ter": ter(texts, references, ter_cut, reason="", forced=ter_forced),
    }


@first_fast("references", [[REFERENCES], [REFERENCES, OTHERS]], ids=["one", "two"])
def test_equals_sacrebleu(references: list[list[str]]) -> None:
    found = run(TEXTS, *references)
    for name, metric in {"bleu": sacrebleu.BLEU(), "chrf": sacrebleu.CHRF(), "ter": sacrebleu.TER()}.items():
        own, peer = found[name], metric.corpus_score(TEXTS, references)
        assert own.value == pytest.approx(peer.score, abs=1e-9)
        assert own.signature == metric.get_signature().format()
        assert own.stats is not None
        assert own.of_sums is not None
        assert own.of_sums(own.stats.sum(0)[None])[0] == pytest.approx(peer.score, abs=1e-9)


@pytest.mark.slow
def test_single_texts_equal_sacrebleu() -> None:
    found = run(TEXTS, REFERENCES)
    single = {"bleu": sacrebleu.BLEU(effective_order=True), "chrf": sacrebleu.CHRF(), "ter": sacrebleu.TER()}
    for name, metric in single.items():
        peer = [metric.sentence_score(own, [target]).score for own, target in zip(TEXTS, REFERENCES, strict=True)]
        assert found[name].items == pytest.approx(peer, abs=1e-9)


@pytest.mark.parametrize(
    ("tokenizer", "name"), [("zh", "tok:zh"), ("char", "tok:char"), ("ingot-cjk", "tok:ingot-cjk.1")]
)
def test_chinese_tokenizers(tokenizer: str, name: str) -> None:
    """sacrebleu's are reproduced with what they do not do; ours has another name."""
    texts, references = ["𠮷野家今天開了"], ["𠮷田家今天開了"]
    own = run(texts, references, bleu=tokenizer)["bleu"]
    assert name in own.signature
    if tokenizer != "ingot-cjk":
        assert own.value == pytest.approx(
            sacrebleu.corpus_bleu(texts, [references], tokenize=tokenizer).score, abs=1e-9
        )
    else:
        spaced = " ".join(texts[0]), " ".join(references[0])
        peer = sacrebleu.corpus_bleu([spaced[0]], [[spaced[1]]], tokenize="none")
        assert own.value == pytest.approx(peer.score, abs=1e-9)


def test_ours_cuts_what_zh_does_not() -> None:
    texts, references = ["𠮷𠮷𠮷𠮷𠮷𠮷"], ["𠮷𠮷𠮷𠮷𠮷𡃁"]
    assert run(texts, references, bleu="zh")["bleu"].value == 0
    assert run(texts, references, bleu="ingot-cjk")["bleu"].value > 50
    assert any("basic plane" in note for note in run(texts, references, bleu="zh")["bleu"].notes)


@pytest.mark.parametrize("texts", [[one] for one in CHINESE] + [CHINESE, ["word"], ["台北101"] * 3])
def test_equal_texts_are_perfect_by_default(texts: list[str]) -> None:
    found = run(texts, texts)
    assert {name: round(one.value, 9) for name, one in found.items()} == {"bleu": 100, "chrf": 100, "ter": 0}


def test_one_changed_character_is_one_edit() -> None:
    assert run(["今天天氣很好嗎"], ["今天天氣很壞嗎"])["ter"].value == pytest.approx(100 / 7)


@pytest.mark.parametrize(
    ("metric", "tokenizer"), [("bleu", "13a"), ("bleu", "none"), ("bleu", "intl"), ("ter", "tercom")]
)
def test_spaces_are_refused_for_chinese(metric: str, tokenizer: str) -> None:
    script = script_of(["plain English", "今天"])
    with pytest.raises(IngotError, match="1 of 2 texts") as error:
        choose(metric, tokenizer, script, False)
    assert error.value.code == "score-spaces"
    assert choose(metric, tokenizer, script, True)[2]
    assert not choose(metric, tokenizer, script_of(["plain"]), False)[2]


def test_what_was_forced_stands_in_the_signature() -> None:
    forced = bleu(["今天"], [["今天"]], "13a", lowercase=False, reason="", forced=True)
    assert forced.signature.endswith("|forced:spaces-on-unspaced-text")
    script = script_of(["今天"])
    with pytest.raises(IngotError, match="word_order"):
        chrf(["今天"], [["今天"]], word_order=2, lowercase=False, script=script, force=False)


def test_a_named_language_does_not_let_spaces_through() -> None:
    with pytest.raises(IngotError):
        choose("bleu", "auto", Script("en", 1, 1, 1, True), False)


@first_fast(("kind", "test", "draws"), [("bs", "bootstrap", 1000), ("ar", "randomisation", 2000)])
def test_p_values_are_those_of_sacrebleu(kind: str, test: str, draws: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from sacrebleu.significance import PairedTest

    monkeypatch.setattr("ingot.evaluate.metrics.resample.NUMBERS_AT_ONCE", 80 * 64)  # several portions
    one, two = run(TEXTS, REFERENCES), run(OTHERS, REFERENCES)
    metrics = {"BLEU": sacrebleu.BLEU(), "chrF": sacrebleu.CHRF(), "TER": sacrebleu.TER()}
    _, peer = PairedTest([("a", TEXTS), ("b", OTHERS)], metrics, [REFERENCES], kind, draws)()
    expected = [peer[name][1].p_value for name in ("BLEU", "chrF2", "TER")]  # type: ignore[union-attr]
    assert [paired(one[name], two[name], draws, 12345, test).p_value for name in one] == pytest.approx(expected)


def test_equal_systems_do_not_differ() -> None:
    """sacrebleu's formula gives them 1 / (draws + 1)."""
    found = run(TEXTS, REFERENCES)["bleu"]
    for test in ("bootstrap", "randomisation"):
        same = paired(found, found, 500, 1, test)
        assert (same.difference.value, same.p_value) == (0, 1)


def test_intervals_hold_the_score_and_narrow_with_texts() -> None:
    few, many = (intervals(run(TEXTS[:n], REFERENCES[:n])["chrf"], 500, 0) for n in (10, 80))
    assert few.low < few.value < few.high  # type: ignore[operator]
    assert many.high - many.low < few.high - few.low  # type: ignore[operator]
    alone = intervals(run(TEXTS[:1], REFERENCES[:1])["chrf"], 500, 0)
    assert (alone.low, alone.high) == (None, None)


def test_empty_texts_score_nothing() -> None:
    found = run(["", "the cat"], ["the cat sat", ""])
    assert np.isfinite([one.value for one in found.values()]).all()
    assert found["bleu"].items is not None
    assert found["bleu"].items.tolist() == [0, 0]
