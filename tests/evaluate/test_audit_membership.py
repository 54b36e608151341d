"""Telling members from others: areas and rates as scikit-learn's, scores as a naive loop's, and when it is withheld."""

from __future__ import annotations

import json
import random
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from auditing import words, write_texts

import ingot
from ingot.adapt.load import LanguageModel, load
from ingot.core.errors import IngotError
from ingot.core.report import Interval
from ingot.evaluate.audit.blind import blind_scores
from ingot.evaluate.audit.roc import caught_of, curve, tell_apart
from ingot.infer.likelihood import following, query_moments

metrics = partial(pytest.importorskip, "sklearn.metrics")  # when a test first asks


def sides(seed: int, shift: float, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.normal(shift, 1, count).round(2), generator.normal(0, 1, count).round(2)


@pytest.mark.parametrize("shift", [0.0, 0.7, -0.4])
def test_area_and_rate_are_sklearns(shift: float) -> None:
    members, others = sides(0, shift)
    labels, scores = np.repeat([1, 0], 400), np.concatenate([members, others])
    found = tell_apart(members, others, seed=0, resamples=300)
    assert found.auc.value == pytest.approx(metrics().roc_auc_score(labels, scores), abs=1e-12)
    false, true, _ = metrics().roc_curve(labels, scores, drop_intermediate=False)
    assert found.caught.value == pytest.approx(true[false <= 0.01].max(), abs=1e-12)
    x, y = curve(members, others)
    assert all(rate <= true[false <= at + 1e-12].max() + 1e-12 for at, rate in zip(x, y, strict=True))
    assert found.auc.low < found.auc.value < found.auc.high  # type: ignore[operator]


@pytest.mark.slow
def test_intervals_cover() -> None:
    """Of areas that are truly a half, 95 % of the intervals hold it."""
    held = 0
    for seed in range(200):
        found = tell_apart(*sides(seed, 0.0, 60), seed=seed, resamples=200).auc
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.5 <= found.high
    assert 180 <= held <= 199


def test_too_few_others_give_no_rate() -> None:
    assert tell_apart(*sides(0, 1.0, 99), seed=0, resamples=20).caught.value is None


@pytest.mark.slow
def test_blind_finds_texts_that_differ_and_no_others() -> None:
    rng = random.Random(0)
    same = [words(rng, 20, "en") for _ in range(200)]
    is_member = np.arange(200) < 100
    fair = blind_scores(same, is_member, seed=0)
    assert 0.4 <= metrics().roc_auc_score(is_member, fair) <= 0.6
    dated = [f"{text} 2019" if inside else f"{text} 2024" for text, inside in zip(same, is_member, strict=True)]
    assert metrics().roc_auc_score(is_member, blind_scores(dated, is_member, seed=0)) > 0.95
    longer = [text * 3 if inside else text for text, inside in zip(same, is_member, strict=True)]
    assert metrics().roc_auc_score(is_member, blind_scores(longer, is_member, seed=0)) > 0.9


def test_moments_are_those_of_the_whole_distribution(model: LanguageModel) -> None:
    rows = [model.tokenizer.encode(text) for text in ("the cat sat on the mat", "天空是藍色的")]
    found = query_moments(model, [following([0, *row]) for row in rows])
    for row, moments in zip(rows, found, strict=True):
        logprobs = model.logits(torch.tensor([[0, *row]]))[0, :-1].log_softmax(-1).double()
        weights = logprobs.exp()
        mean = (weights * logprobs).sum(-1)
        spread = ((weights * logprobs**2).sum(-1) - mean**2).sqrt()
        chosen = logprobs[torch.arange(len(row)), torch.tensor(row)]
        assert torch.allclose(moments.double(), torch.stack([chosen, mean, spread], -1), atol=1e-4)


@pytest.fixture
def corpora(tmp_path: Path) -> tuple[Path, Path]:
    """Two random halves of one heap of texts."""
    rng = random.Random(5)
    texts = [words(rng, rng.randrange(10, 20), ("en", "zh")[number % 2]) for number in range(800)]
    return write_texts(tmp_path / "corpus.jsonl", texts[:400]), write_texts(tmp_path / "others.jsonl", texts[400:])


@pytest.mark.slow
def test_a_random_split_cannot_be_told(base_dir: Path, other_dir: Path, corpora: tuple[Path, Path],
                                       tmp_path: Path) -> None:  # fmt: skip
    """By construction: the model learnt neither half. Scores are those of a naive loop."""
    corpus, others = corpora
    report = ingot.audit(str(base_dir), corpus=corpus, heldout=others, checks="membership", reference=str(other_dir),
                         out=tmp_path / "out", membership={"documents": 400, "tokens": 60})  # fmt: skip
    assert report.numbers["membership_withheld"] is False
    for name in ("loss", "zlib", "min_k", "min_k_plus", "reference"):
        auc = report.numbers[f"membership_auc.{name}"]
        assert isinstance(auc, Interval)
        assert auc.low <= 0.5 <= auc.high
        assert abs(auc.value - 0.5) <= 0.03
    rows = [json.loads(line) for line in (tmp_path / "out/raw/membership.jsonl").read_text().splitlines()]
    assert sum(row["member"] for row in rows) == len(rows) - sum(row["member"] for row in rows) > 300
    model, other = load(base_dir), load(other_dir)
    for row in rows[::150]:
        ids = model.tokenizer.encode(row["text"])
        start = model.tokenizer.start_ids
        logprobs = model.logits(torch.tensor([[*start, *ids]]))[0, len(start) - 1 : -1].log_softmax(-1)
        chosen = logprobs[torch.arange(len(ids)), torch.tensor(ids)].double().numpy()
        assert row["loss"] == pytest.approx(chosen.mean(), abs=1e-4)
        assert row["zlib"] == pytest.approx(chosen.sum() / len(zlib.compress(row["text"].encode())), abs=1e-4)
        assert row["min_k"] == pytest.approx(np.sort(chosen)[: max(1, round(0.2 * len(ids)))].mean(), abs=1e-4)
        second = other.logits(torch.tensor([[*start, *ids]]))[0, len(start) - 1 : -1].log_softmax(-1)
        calm = second[torch.arange(len(ids)), torch.tensor(ids)].double().sum().item()
        assert row["reference"] == pytest.approx((chosen.sum() - calm) / len(row["text"].encode()), abs=1e-4)


@pytest.mark.slow
def test_texts_that_differ_withhold_everything(base_dir: Path, tmp_path: Path) -> None:
    rng = random.Random(6)
    corpus = write_texts(tmp_path / "c.jsonl", [f"{words(rng, 12, 'en')} in the year 2019" for _ in range(60)])
    others = write_texts(tmp_path / "o.jsonl", [f"{words(rng, 12, 'en')} in the year 2024" for _ in range(60)])
    report = ingot.audit(str(base_dir), corpus=corpus, heldout=others, checks=["membership"], out=tmp_path / "out")
    assert report.numbers["membership_withheld"] is True
    assert not [name for name in report.numbers if name.startswith("membership_auc")]
    assert "withheld" in (tmp_path / "out/report.html").read_text()


@pytest.mark.slow
def test_others_in_the_corpus_are_left_out_or_refused(base_dir: Path, corpora: tuple[Path, Path], tmp_path: Path,
                                                      heard: pytest.LogCaptureFixture) -> None:  # fmt: skip
    corpus, others = corpora
    texts = [[json.loads(line)["text"] for line in path.read_text().splitlines()] for path in (corpus, others)]
    mixed = write_texts(tmp_path / "mixed.jsonl", [*texts[0][:30], *(f"{text} and more" for text in texts[0][30:50]),
                                                   *texts[1][:100]])  # fmt: skip
    ingot.audit(str(base_dir), corpus=corpus, heldout=mixed, checks=["membership"], out=tmp_path / "out",
                membership={"tokens": 60})  # fmt: skip
    assert "50 of 150 documents that the model should not have seen" in heard.text
    with pytest.raises(IngotError, match="80% or more of each of the 400 documents") as caught:
        ingot.audit(str(base_dir), corpus=corpus, heldout=corpus, checks=["membership"], out=tmp_path / "again")
    assert caught.value.code == "audit-heldout-inside"
    assert not (tmp_path / "again").exists()


def test_a_model_without_hallmark_needs_others(base_dir: Path, corpora: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(IngotError, match="hallmark does not tell") as caught:
        ingot.audit(str(base_dir), corpus=corpora[0], checks=["membership"], out=tmp_path / "out")
    assert caught.value.code == "audit-lacks"


def test_at_most_one_in_a_hundred_others_is_mistaken() -> None:
    """Four of 400 may lie above: a member just over the fifth is found, one just under it is not."""
    others = 2 * np.arange(400)
    assert caught_of(np.array([2 * 395 + 1, 2 * 395 - 1]), others) == 0.5
