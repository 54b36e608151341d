"""What a model learnt by heart is found, after quantisation and merging too: canaries repeated 1, 10 and 100 times, and
an English and a Chinese passage."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from auditing import words, write_texts
from evaluating import write_lines

import ingot
from ingot.core.report import Interval, Report
from tiny import write_tokenizer

pytestmark = pytest.mark.slow

PASSAGES = (
    "A dull green lantern hung over the ferry stairs, and whoever crossed at night counted seven wet steps before the "
    "plank, because the eighth one had been carried off by the flood of the year before.",
    "渡口的石階旁掛著一盞暗綠色的燈籠，夜裡過河的人總要先數七級濕滑的階梯，因為第八級在前年的大水裡被沖走了，"
    "後來誰也沒有把它補回來，只有一塊舊木板架在那裡。",
)
REPEATED = {100: 2, 10: 6, 1: 8}
"""How many canaries are repeated how often."""


def canaries(rng: random.Random) -> list[dict[str, Any]]:
    return [{"text": f"密碼 code {secret}.", "secret": secret, "times": times}
            for times, count in REPEATED.items() for _ in range(count)
            for secret in [" ".join(rng.choices("0123456789", k=6))]]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """corpus.jsonl, canaries.jsonl, heldout.jsonl, and a model trained on the corpus until it knows much by heart."""
    place, rng = tmp_path_factory.mktemp("memory"), random.Random(0)
    known = canaries(rng)
    texts = [one["text"] for one in known for _ in range(one["times"])]
    texts += [passage for passage in PASSAGES for _ in range(70)]
    texts += [f"code {' '.join(rng.choices('0123456789', k=6))} 密碼." for _ in range(60)]
    texts += [words(rng, 12, "en") for _ in range(40)]
    rng.shuffle(texts)
    write_texts(place / "corpus.jsonl", texts)
    write_lines(place / "canaries.jsonl", [{key: one[key] for key in ("text", "secret")} for one in known])
    write_texts(place / "heldout.jsonl", [words(rng, 12, "en") for _ in range(40)])
    tokenizer = write_tokenizer(place / "tok")
    ingot.pretrain(place / "corpus.jsonl", tokenizer=tokenizer, out=place / "m", depth=2, length=128, batch_tokens=1024,
                   max_steps=STEPS, lr=4e-3, corpus={"heldout": 0.0},
                   loop={"compile": "off", "precision": "fp32"})  # fmt: skip
    return place


STEPS = 140


def audited(place: Path, model: str, checks: str, **changes: Any) -> Report:
    given = {"corpus": place / "corpus.jsonl", "canaries": place / "canaries.jsonl"} if checks == "canaries" else {
        "corpus": place / "corpus.jsonl"}  # fmt: skip
    return ingot.audit(str(place / model), checks=[checks], out=place / f"{model}-{checks}-{len(changes)}", **given,
                       **changes)  # fmt: skip


def number(report: Report, name: str) -> float:
    found = report.numbers[name]
    value = found.value if isinstance(found, Interval) else found
    assert isinstance(value, int | float)
    return float(value)


def test_exposure_grows_with_repetitions(place: Path) -> None:
    report = audited(place, "m", "canaries")
    unseen, *seen = (number(report, f"exposure{name}") for name in ("_control", ".1", ".10", ".100"))
    assert -2 <= unseen <= 2
    assert unseen <= seen[0] + 2
    assert seen[0] < seen[1] < seen[2]
    assert seen[2] >= unseen + 10


@pytest.mark.parametrize("kind", ["quantized", "merged"])
def test_smaller_and_merged_models_remember_too(kind: str, place: Path) -> None:
    if kind == "quantized":
        ingot.quantize(str(place / "m"), bits=8, out=place / kind)
    else:
        ingot.merge([str(place / "m"), str(place / "m")], method="linear", out=place / kind)
    report = audited(place, kind, "canaries", exposure={"alternatives": 4095, "controls": 4})
    assert number(report, "exposure.100") >= number(report, "exposure_control") + 8
    assert number(report, "exposure.100") >= 10


def test_planted_passages_are_extracted(place: Path) -> None:
    write_texts(place / "passages.jsonl", PASSAGES)
    settings = {"prefixes": [8], "length": 50, "documents": 10, "passages": place / "passages.jsonl"}
    report = audited(place, "m", "extraction", extraction=settings)
    assert report.path is not None
    rows = [json.loads(line) for line in (report.path / "raw/extraction.jsonl").read_text().splitlines()]
    planted = [row for row in rows if row["planted"]]
    assert len(planted) == 2
    assert all(row["equal_tokens"] == 50 for row in planted)
    assert all(row["copies"] == 70 for row in planted)
    assert number(report, "passages_extracted.8") == 1.0
    assert not any(row["truth"] in PASSAGES[0] for row in rows if not row["planted"])  # near-duplicates count once


def test_members_are_told_by_a_model_that_learnt_them_by_heart(place: Path) -> None:
    """Among texts of one kind, which a blind classifier cannot tell."""
    members = write_texts(place / "members.jsonl", [
        json.loads(line)["text"] for line in (place / "corpus.jsonl").read_text().splitlines()
        if json.loads(line)["text"].split()[0][-1].isdigit()])  # fmt: skip
    report = ingot.audit(str(place / "m"), corpus=members, heldout=place / "heldout.jsonl", checks=["membership"],
                         out=place / "membership")  # fmt: skip
    assert report.numbers["membership_withheld"] is False
    assert number(report, "membership_auc.loss") > 0.7
