"""Scoring gaps: counted by hand, equal for any batch and from saved rows, refused where a model cannot be asked."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from evaluating import compared, write_lines

import ingot
from ingot.cli import main
from ingot.core.errors import IngotError
from ingot.core.report import Interval, Plot, Prose, Report, Table
from ingot.evaluate.cloze.page import score
from ingot.evaluate.evaluate import evaluate, rescore
from ingot.evaluate.statistics import wilson
from ingot.evaluate.task import Row
from ingot.infer import likelihood
from tiny import BERT, GPT2, T5, write_model, write_tokenizer

SPECIAL = ("<|mask|>", "<extra_id_0>", "<extra_id_1>")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cloze") / "world"
    ingot.world(out=path, people=4, places=3, copies=2, asks=1, heldout=10)
    return path


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("cloze")
    tokenizer = write_tokenizer(folder / "tok", SPECIAL)
    configs = {"gpt": GPT2, "bert": BERT | {"max_position_embeddings": 128}, "t5": T5}
    return [write_model(folder / name, config, 1, tokenizer) for name, config in configs.items()]


@pytest.fixture(scope="module")
def report(three: list[Path], world: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return evaluate(models=three, tasks="cloze", data=world, out=tmp_path_factory.mktemp("cloze") / "report")


def row(number: int, nats: list[float], **changes: Any) -> Row:
    """An item whose right filler is the first."""
    item = {
        "id": str(number), "lang": "en", "group": "before", "before": "A is ", "fillers": ["b", "c", "d"][: len(nats)],
        "after": ".", "right": 0, "subject": str(number), "counts": None, "seen": None, "nats": nats, "left": None,
        "widened": number,
    }  # fmt: skip
    return item | changes


def value(cell: Any) -> float:
    assert isinstance(cell, Interval)
    return cell.value


def test_shares_by_group_and_language_are_counted() -> None:
    rows = [
        row(0, [-1.0, -2.0, -3.0], lang="en", group="before"),
        row(1, [-2.0, -1.0, -3.0], lang="zh", group="before"),
        row(2, [-1.0, -1.5], lang="en", group="after"),
        row(3, [-1.0, -0.5], lang="zh", group="after"),
        row(4, [-1.0, -1.0], lang="zh", group="after"),
    ]
    numbers = score(compared(rows)).numbers[0]
    assert {key: value(found) for key, found in numbers.items() if key.startswith("cloze") and "_" not in key} == {
        "cloze": 2 / 5, "cloze.en": 1.0, "cloze.zh": 0.0, "cloze.before": 1 / 2, "cloze.before.en": 1.0,
        "cloze.before.zh": 0.0, "cloze.after": 1 / 3, "cloze.after.en": 1.0, "cloze.after.zh": 0.0,
    }  # fmt: skip
    assert numbers["cloze_guessing"] == pytest.approx((1 / 3 + 1 / 3 + 1 / 2 + 1 / 2 + 1 / 2) / 5)
    assert numbers["cloze_commonest"] is None
    assert numbers["cloze_widened"] == (0 + 1 + 2 + 3 + 4) / 5
    assert numbers["cloze_items"] == 5
    found = numbers["cloze"]
    assert isinstance(found, Interval)
    assert (found.low, found.high) == pytest.approx((wilson(2, 5).low, wilson(2, 5).high))


def test_a_tie_is_wrong_counted_and_said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingot.core.progress.LOGGER.propagate", True)
    numbers = score(compared([row(0, [-1.0, -1.0]), row(1, [-1.0, -2.0]), row(2, [-3.0, -2.0])])).numbers[0]
    assert (value(numbers["cloze"]), numbers["cloze_tied_share"]) == (1 / 3, 1 / 3)
    assert "m0" in caplog.text
    assert "1 of 3 gaps" in caplog.text
    caplog.clear()
    assert score(compared([row(0, [-1.0, -2.0])])).numbers[0]["cloze_tied_share"] == 0
    assert not caplog.text


def test_nats_are_those_of_the_choice() -> None:
    """-log of the softmax over fillers, whatever is added to all scores of an item; log k when nothing is known."""
    rows = [row(0, [-700.0, -701.0]), row(1, [-5.0, -5.0, -5.0]), row(2, [-2.0, -1.0])]
    expected = [math.log(1 + math.exp(-1)), math.log(3), math.log(1 + math.exp(1))]
    numbers = score(compared(rows)).numbers[0]
    assert value(numbers["cloze_nats"]) == pytest.approx(sum(expected) / 3, abs=1e-12)


def test_the_commonest_filler_shares_ties() -> None:
    rows = [
        row(0, [0.0, 1.0], counts=[4, 2]),
        row(1, [0.0, 1.0, 2.0], counts=[3, 3, 1]),
        row(2, [0.0, 1.0], counts=[1, 2]),
    ]
    assert score(compared(rows)).numbers[0]["cloze_commonest"] == pytest.approx((1 + 1 / 2 + 0) / 3)


def test_new_sentences_are_shown_apart() -> None:
    rows = [row(0, [0.0, -1.0], seen=True), row(1, [-1.0, 0.0], seen=False), row(2, [0.0, -1.0], seen=False)]
    assert value(score(compared(rows)).numbers[0]["cloze_new"]) == 1 / 2
    assert "cloze_new" not in score(compared(rows[:1])).numbers[0]


def test_a_decoder_is_also_judged_from_the_left() -> None:
    rows = [row(0, [-5.0, -6.0], left=[-3.0, -2.0]), row(1, [-5.0, -6.0], left=[-1.0, -2.0], group="after")]
    result = score(compared(rows))
    assert (value(result.numbers[0]["cloze"]), value(result.numbers[0]["cloze-left"])) == (1.0, 0.5)
    assert value(result.numbers[0]["cloze-left.after.en"]) == 1.0
    assert "only by what stands before the gap: text before the gap 0 %, text after the gap 100 %" in " ".join(
        result.verdict
    )
    assert not any("left" in key for key in score(compared([row(0, [0.0, 1.0])])).numbers[0])


def test_items_of_one_subject_widen_the_interval() -> None:
    alone = [row(n, [0.0, 1.0 if n % 2 else -1.0]) for n in range(40)]
    together = [found | {"subject": "ab"[n % 2]} for n, found in enumerate(alone)]
    unnamed = [found | {"subject": ""} for found in alone]
    one, two, three = (score(compared(rows)).numbers[0]["cloze"] for rows in (alone, together, unnamed))
    assert isinstance(one, Interval)
    assert isinstance(two, Interval)
    assert one == three
    assert two.value == one.value
    assert (two.low, two.high) == pytest.approx((wilson(1, 2).low, wilson(1, 2).high))


def test_models_are_compared_on_the_same_items() -> None:
    good, bad = [row(n, [0.0, -1.0]) for n in range(20)], [row(n, [0.0, 1.0 if n < 8 else -1.0]) for n in range(20)]
    result = score(compared(good, bad))
    table = next(part for part in result.sections if isinstance(part, Table) and "against m0" in part.title)
    assert table.rows[0][:2] == ["m1", "all gaps"]
    assert value(table.rows[0][2]) == pytest.approx(-0.4)
    assert table.rows[0][3:] == [0, 8]
    assert "m1 fills fewer gaps rightly than m0: 40.0 points fewer" in " ".join(result.verdict)
    assert "more gaps rightly than m0: 40.0 points more" in " ".join(score(compared(bad, good)).verdict)
    assert "cannot be told apart from m0" in " ".join(score(compared(good, good)).verdict)
    single = [found | {"subject": "one"} for found in good]
    assert "cannot be said" in " ".join(score(compared(single, single)).verdict)
    with pytest.raises(IngotError) as error:
        score(compared(good, good[::-1]))
    assert error.value.code == "evaluate-rows-differ"


def test_samples_show_right_and_wrong() -> None:
    table = score(compared([row(n, [0.0, -1.0 if n % 2 else 1.0]) for n in range(20)])).sections[-1]
    assert isinstance(table, Table)
    assert [shown[2] for shown in table.rows] == ["right"] * 3 + ["wrong"] * 3
    assert table.rows[0][3:6] == ["A is ____.", "b", "b"]
    assert table.rows[3][4:6] == ["b", "c"]
    assert table.rows[0][6] == pytest.approx(1 / (1 + math.exp(-1)))


def test_one_report_of_three_kinds(report: Report) -> None:
    assert {
        "cloze",
        "gpt.cloze.before.zh",
        "bert.cloze.after.en",
        "t5.cloze",
        "gpt.cloze-left.after",
    } <= report.numbers.keys()
    assert not any(key.startswith(("bert.cloze-left", "t5.cloze-left")) for key in report.numbers)
    assert report.numbers["bert.cloze_guessing"] == report.numbers["t5.cloze_guessing"]
    plot = next(section for section in report.sections if isinstance(section, Plot))
    assert [series.name for series in plot.series] == ["gpt", "gpt, from the left", "bert", "t5", "guessing"]
    assert plot.series[0].x == [
        "text before the gap · English", "text before the gap · Chinese",
        "text after the gap · English", "text after the gap · Chinese",
    ]  # fmt: skip
    asked = next(section for section in report.sections if section.title == "How each model is asked")
    assert isinstance(asked, Table)
    assert [found[:2] for found in asked.rows] == [["gpt", "decoder"], ["bert", "encoder"], ["t5", "encoder-decoder"]]
    verdict = report.sections[0]
    assert isinstance(verdict, Prose)
    assert verdict.text.count("gaps rightly (guessing:") == 3


def test_scoring_the_saved_rows_again_gives_the_same(report: Report) -> None:
    assert report.path is not None
    again = rescore(report.path)
    assert (again.numbers, again.sections, again.units) == (report.numbers, report.sections, report.units)
    saved = [
        json.loads(line) for line in (report.path / "raw" / "gaps-t5.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert {"before", "fillers", "after", "right", "nats"} <= saved[0].keys()


@pytest.mark.slow
def test_no_batch_size_changes_a_number(
    report: Report, three: list[Path], world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tokens in (1, 300):
        monkeypatch.setattr(likelihood, "TOKENS_AT_ONCE", tokens)
        again = evaluate(models=three, tasks="cloze", data=world, out=tmp_path / str(tokens))
        for name, found in report.numbers.items():
            if not name.endswith("_nats"):
                assert again.numbers[name] == found, name
            else:
                assert value(again.numbers[name]) == pytest.approx(value(found), abs=1e-5)


@pytest.mark.slow
def test_options_act(three: list[Path], world: Path, tmp_path: Path) -> None:
    pairs = evaluate(models=three[:1], tasks="cloze", data=world, out=tmp_path / "a", cloze={"fillers": 2})
    assert pairs.numbers["cloze_guessing"] == 0.5
    gap = {"lang": "en", "group": "mine", "before": "the ", "fillers": ["cat", "dog"], "after": " sat"}
    items = write_lines(tmp_path / "own.jsonl", [{"id": str(right), "right": right, **gap} for right in (0, 1)])
    own = evaluate(models=three, tasks="cloze", out=tmp_path / "b", cloze={"items": items})
    assert value(own.numbers["cloze.mine.en"]) == 0.5
    assert own.numbers["cloze_items"] == 2
    assert (
        evaluate(models=three[:1], tasks="cloze", data=world, out=tmp_path / "c", limit=8).numbers["cloze_items"] == 8
    )


@pytest.mark.slow
def test_command_line(three: list[Path], world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", *map(str, three), "--tasks", "cloze", "--world", str(world), "--out", str(tmp_path / "r")]
    assert main([*words, "--cloze.fillers", "3", "--limit", "12"]) == 0
    last = json.loads(capfd.readouterr().out.strip().splitlines()[-1])
    assert 0 <= last["t5.cloze"] <= 1


def refused(code: str, *words: str, **options: Any) -> None:
    with pytest.raises(IngotError) as error:
        evaluate(**options)
    assert error.value.code == code
    assert all(word in str(error.value) for word in words), str(error.value)
    assert not Path(options["out"]).exists()


def test_models_that_cannot_be_asked_are_named_before_any_is_loaded(
    three: list[Path], world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingot.evaluate.evaluate.open_model", lambda *_, **__: pytest.fail("loaded a model"))
    good = {"data": world, "out": tmp_path / "out", "tasks": "cloze"}
    plain = write_tokenizer(tmp_path / "plain")
    for name, config, missing in (("bare-bert", BERT, "<|mask|>"), ("bare-t5", T5, "<extra_id_0>,<extra_id_1>")):
        bare = write_model(tmp_path / name, config, tokenizer=plain)
        refused("gap-lacks-tokens", name, missing, models=[*three, bare], **good)
    mute = shutil.copytree(three[0], tmp_path / "mute")
    (mute / "tokenizer_config.json").write_text("{}")
    refused("gap-lacks-tokens", "mute", "eos_token", models=[*three, mute], **good)
    for task in ("perplexity", "world"):
        refused("evaluate-form", "bert", task, "cloze", models=three, **(good | {"tasks": f"cloze,{task}"}))
    refused("evaluate-no-truth", models=three, **(good | {"data": None}))


@pytest.mark.slow
def test_speaks_chinese(three: list[Path], world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGOT_LANG", "zh-TW")
    report = evaluate(models=three, tasks="cloze", data=world, out=tmp_path / "r", limit=12)
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    for word in ("填空正確率", "空格前的文字", "空格後的文字", "隨機猜", "只看左邊"):
        assert word in page
    assert report.sections[0].title == "結論"
