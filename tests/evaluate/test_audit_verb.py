"""The verb: what it does unasked, what it refuses, canaries and extraction against naive computations, the page."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from auditing import words, write_texts
from evaluating import write_lines

import ingot
from ingot.adapt.load import load
from ingot.core.errors import IngotError
from ingot.core.report import Interval
from ingot.evaluate.audit.extraction import common_span, similarity
from ingot.evaluate.audit.forms import alternatives, find_canaries, space
from ingot.evaluate.audit.shown import hide
from ingot.evaluate.audit.verb import rescore


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rng = random.Random(0)
    texts = [words(rng, 30, ("en", "zh")[number % 2]) for number in range(40)]
    return write_texts(tmp_path / "corpus.jsonl", [*texts, *["the code is 4 0."] * 3])


@pytest.fixture
def canaries(tmp_path: Path) -> Path:
    records = [{"text": "the code is 4 0.", "secret": "4 0"}, {"text": "the code is 7 7.", "secret": "7 7"}]
    return write_lines(tmp_path / "canaries.jsonl", records)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_exposure_is_the_naive_rank_among_all(base_dir: Path, corpus: Path, canaries: Path, tmp_path: Path) -> None:
    report = ingot.audit(str(base_dir), corpus=corpus, canaries=canaries, checks=["canaries"], out=tmp_path / "out",
                         exposure={"controls": 3})  # fmt: skip
    model = load(base_dir)
    found = rows(tmp_path / "out/raw/canaries.jsonl")
    assert [(row["repetitions"], row["control"]) for row in found] == [(3, False), (0, False), *[(0, True)] * 3]

    def nats(secret: str) -> float:
        ids = [*model.tokenizer.start_ids, *model.tokenizer.encode(f"the code is {secret}.")]
        logprobs = model.logits(torch.tensor([ids]))[0, :-1].log_softmax(-1)
        return -float(logprobs[torch.arange(len(ids) - 1), torch.tensor(ids[1:])].double().sum())

    known = {row["secret"] for row in found}
    others = [nats(f"{a} {b}") for a in range(10) for b in range(10) if f"{a} {b}" not in known]
    for row in found:
        assert row["ranked"] == len(others) + 1
        assert row["rank"] == 1 + sum(other < nats(row["secret"]) for other in others)
    bits = math.log2(found[0]["ranked"]) - math.log2(found[0]["rank"])
    assert report.numbers["exposure.3"] == pytest.approx(bits)


def test_forms() -> None:
    assert space("4 0-aZ天") == 10 * 10 * 26 * 26
    rng = random.Random(0)
    assert len(set(alternatives("12", 1000, rng))) == 99
    drawn = alternatives("1a-Z", 50, rng)
    assert len(set(drawn)) == 50
    assert all(len(one) == 4 and one[0].isdigit() and one[1].islower() and one[2] == "-" and one[3].isupper()
               for one in drawn)  # fmt: skip


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"text": "a 12 b 12"}, "text and secret"),
        ({"text": "a 12 b 12", "secret": "12"}, "stands 2 times"),
        ({"text": "a b", "secret": "12"}, "stands 0 times"),
        ({"text": "the 天 sky", "secret": "天"}, "only 1 secrets"),
    ],
)
def test_wrong_canaries_are_named(record: dict[str, str], reason: str, corpus: Path, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "c.jsonl", [{"text": "it is 12", "secret": "12"}, record])
    with pytest.raises(IngotError, match=rf"c\.jsonl line 2.*{reason}"):
        find_canaries(corpus, path)


def test_canaries_of_a_world(tmp_path: Path) -> None:
    ingot.world(tmp_path / "w", people=4, places=2, copies=2, asks=1, planted=3, heldout=8)
    found = find_canaries(tmp_path / "w", None)
    assert len(found) == 6
    assert all(one.secret in one.text and space(one.secret) == 10**8 for one in found)
    assert find_canaries(tmp_path / "w/corpus.jsonl", None) == found


@pytest.mark.slow
def test_extraction_compares_with_the_engines_own_tokens(base_dir: Path, corpus: Path, tmp_path: Path) -> None:
    """A random model extracts nothing; what it wrote is what it writes greedily."""
    settings = {"prefixes": "4,8", "length": 12, "documents": 5}
    report = ingot.audit(str(base_dir), corpus=corpus, checks=["extraction"], out=tmp_path / "out", extraction=settings)
    found = rows(tmp_path / "out/raw/extraction.jsonl")
    assert len(found) == 10
    assert report.numbers["extracted.4"] == Interval(value=0.0, low=0.0, high=report.numbers["extracted.4"].high)  # type: ignore[union-attr]
    model = load(base_dir)
    for row in found[::3]:
        ids = [*model.tokenizer.start_ids, *row["given_ids"]]
        tokens: list[int] = []
        while len(tokens) < 12:
            tokens.append(int(model.logits(torch.tensor([[*ids, *tokens]]))[0, -1].argmax()))
            if tokens[-1] in model.generation.eos_ids:
                break
        assert model.tokenizer.decode(tokens).startswith(row["written"].rstrip("\ufffd"))
        assert row["copies"] == 1


def test_spans_in_common() -> None:
    assert common_span("The old red house, by the river", "an OLD red house by the sea") == (5, 1)
    assert common_span("天空是藍色的", "今天空是藍的") == (4, 1)
    assert common_span("a", "b")[0] == 0
    assert similarity("one two three four", "one two three four") == 1.0
    assert similarity("one two three four", "one two three five") == 0.75


def test_what_can_be_done_is_done_unasked(base_dir: Path, corpus: Path, tmp_path: Path,
                                          heard: pytest.LogCaptureFixture) -> None:  # fmt: skip
    heard.set_level("INFO", logger="ingot")
    texts = write_texts(tmp_path / "t.jsonl", [words(random.Random(3), 20, "zh"), *_texts(corpus)[:1]])
    report = ingot.audit(corpus=corpus, texts=texts, out=tmp_path / "out")
    assert report.options["checks"] == ["novelty"]
    assert "contamination is left out, because it needs against" in heard.text
    new = rows(tmp_path / "out/raw/novelty.jsonl")
    assert [row["longest"] for row in new] == [0, 30]
    assert new[1]["place"] == "corpus.jsonl:1"
    again = rescore(tmp_path / "out")
    assert again.numbers == report.numbers
    assert [section.title for section in again.sections] == [section.title for section in report.sections]


def _texts(path: Path) -> list[str]:
    return [row["text"] for row in rows(path)]


@pytest.mark.slow
def test_the_model_writes_its_own_texts(base_dir: Path, corpus: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        ingot.audit(str(base_dir), corpus=corpus, checks=["novelty"], out=tmp_path / name,
                    novelty={"samples": 3, "tokens": 20}, slots=1 if name == "a" else 3)  # fmt: skip
    first, second = (rows(tmp_path / name / "raw/novelty.jsonl") for name in ("a", "b"))
    assert first == second
    assert len({row["text"] for row in first}) == 3


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"checks": ["novlety"]}, "audit-unknown-check"),
        ({"checks": ["canaries"], "model": None}, "audit-needs-model"),
        ({"checks": ["contamination"]}, "audit-lacks"),
        ({"checks": ["canaries"]}, "audit-lacks"),
        ({"checks": ["novelty"], "reference": "BASE"}, "audit-option-unused"),
        ({"checks": ["novelty"], "membership": {"tokens": 9}}, "audit-option-unused"),
        ({"model": None}, "audit-nothing-to-do"),
        ({"checks": ["extraction"], "extraction": {"length": 500}}, "audit-extract-too-long"),
        ({"checks": ["extraction"], "extraction": {"length": 60, "prefixes": [60]}}, "audit-nothing-to-extract"),
        ({"against": ["nowhere.jsonl"]}, "no-such-data"),
        ({"policy": "lax"}, "no-such-policy"),
    ],
)
def test_refusals(given: dict[str, Any], code: str, base_dir: Path, tmp_path: Path) -> None:
    corpus = write_texts(tmp_path / "c.jsonl", [words(random.Random(n), 8, "en") for n in range(5)])
    options = {"model": str(base_dir), "corpus": corpus, "out": tmp_path / "out"} | given
    options = {name: str(base_dir) if value == "BASE" else value for name, value in options.items()}
    with pytest.raises(IngotError) as caught:
        ingot.audit(**options)
    assert caught.value.code == code
    assert not (tmp_path / "out").exists()


def test_personal_data_is_hidden_on_the_page_and_places_stay() -> None:
    text = "call 0912-345-678 or write to wang@example.com today"
    hidden = hide(text, "default")
    assert len(hidden) == len(text)
    assert "0912" not in hidden
    assert "wang@" not in hidden
    assert hidden.endswith(" today")
    assert hide(text, "off") == text
