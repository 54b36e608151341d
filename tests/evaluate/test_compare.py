"""The verb compare: its tests are the oracles', its verdicts follow them, and what differs is not subtracted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparing import answers, documents, said, write_report

from ingot.cli import main
from ingot.core.errors import IngotError
from ingot.core.report import Interval, Plot, Prose, Report, Table
from ingot.evaluate.compare.contestants import open_contestants
from ingot.evaluate.compare.pair import Pair, pair
from ingot.evaluate.compare.verb import compare
from ingot.evaluate.statistics import exact_mcnemar, paired_shares


def draws(seed: int, count: int, share: float) -> list[bool]:
    return [bool(one) for one in np.random.default_rng(seed).random(count) < share]


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """A baseline that answers 90 %, and one that answers much less but predicts text better."""
    nats = np.random.default_rng(0).normal(50, 5, 60)
    first = {"answers": answers(draws(1, 200, 0.9)), "documents": documents(list(nats))}
    second = {"answers": answers(draws(2, 200, 0.6)), "documents": documents(list(nats * 0.97))}
    return write_report(tmp_path / "a", chat=first), write_report(tmp_path / "b", small=second)


def test_the_tests_are_those_of_the_statistics(two: tuple[Path, Path]) -> None:
    report = compare([*two])
    right, wrong = np.array(draws(2, 200, 0.6)), np.array(draws(1, 200, 0.9))
    shares = paired_shares(right, wrong)
    found = report.numbers["small.told.difference"]
    assert isinstance(found, Interval)
    assert (found.value, found.low, found.high) == (
        shares.difference.value, shares.difference.low, shares.difference.high,
    )  # fmt: skip
    p_told, p_text = exact_mcnemar(shares.only_first, shares.only_second), 1 / 10_000
    assert report.numbers["small.told.p"] == pytest.approx(
        min(p_told, p_text) * 2 if p_told < p_text else p_told, rel=1e-9
    )
    assert report.numbers["small.bits_per_byte.p"] == pytest.approx(p_text)
    assert report.numbers["small.told.verdict"] == "worse"
    assert report.numbers["small.bits_per_byte.verdict"] == "better"  # lower is better


def test_the_report_says_it_in_words_tables_and_pictures(two: tuple[Path, Path], tmp_path: Path) -> None:
    report = compare([*two], out=tmp_path / "out", samples=2)
    assert Report.open(tmp_path / "out").sections == report.sections
    verdict = report.sections[0]
    assert isinstance(verdict, Prose)
    assert "told: small is worse than chat" in verdict.text
    assert "bits per byte: small is better than chat" in verdict.text
    assert sum(isinstance(section, Plot) for section in report.sections) == 2
    changed = report.sections[-2]
    assert isinstance(changed, Table)
    assert [row[2] for row in changed.rows if row[1] == "told"] == ["worse", "worse", "better", "better"]
    assert ["no", "yes"] in [row[-2:] for row in changed.rows]


def test_equal_models_differ_in_nothing(tmp_path: Path) -> None:
    rows = {"answers": answers(draws(1, 100, 0.8)), "documents": documents([50.0] * 20)}
    report = compare([write_report(tmp_path / "a", x=rows, y=rows)])
    assert report.numbers["y.told.verdict"] == report.numbers["y.bits_per_byte.verdict"] == "alike"
    verdict = report.sections[0]
    assert isinstance(verdict, Prose)
    assert "identical on every item" in verdict.text  # no noise was seen, so no detectable difference is claimed
    assert "would be seen" in verdict.text  # of shares it is known


@pytest.mark.slow
def test_false_alarms_keep_to_the_level(tmp_path: Path) -> None:
    """Of 60 pairs of equally good models with two figures each, hardly any has a difference."""
    alarms = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        rows = [{"answers": answers(list(generator.random(60) < 0.7)),
                 "documents": documents(list(generator.normal(50, 5, 12)))} for _ in range(2)]  # fmt: skip
        report = compare([write_report(tmp_path / str(seed), x=rows[0], y=rows[1])])
        alarms += any(report.numbers[f"y.{name}.verdict"] != "alike" for name in ("told", "bits_per_byte"))
    assert alarms <= 7  # 5 % of 60 is 3; more than 7 in one of 100 such tests


def test_only_common_items_are_compared_and_the_rest_is_counted(tmp_path: Path) -> None:
    long = write_report(tmp_path / "a", x={"answers": answers([True] * 30)})
    short = write_report(tmp_path / "b", y={"answers": answers([True] * 20)[5:]})
    found = pair(open_contestants(short)[0].metrics["told"], open_contestants(long)[0].metrics["told"])
    assert isinstance(found, Pair)
    assert (found.count, found.left_out) == (15, (0, 15))
    assert "15 items are in both; 0 of y and 15 of x are left out" in said(compare([long, short]))


def reason(tmp_path: Path, first: dict[str, Any], second: dict[str, Any], metric: str, **changes: Any) -> str:
    one = write_report(tmp_path / "a", x=first)
    two = write_report(tmp_path / "b", **({"y": second} | changes))
    found = pair(open_contestants(two)[0].metrics.get(metric), open_contestants(one)[0].metrics.get(metric))
    assert isinstance(found, str)
    return found


def test_what_differs_is_not_compared(tmp_path: Path) -> None:
    texts = {"documents": documents([50.0] * 12)}
    assert "tokenizer differs" in reason(tmp_path / "1", texts, texts, "nats_per_token", tokenizer="u")
    other = [row | {"question": "what else?"} for row in answers([True] * 9)]
    assert "asks one thing" in reason(tmp_path / "2", {"answers": answers([True] * 9)}, {"answers": other}, "told")
    apart = {"answers": answers([True] * 9, prefix="z")}
    assert "no item in common (9 and 9" in reason(tmp_path / "3", {"answers": answers([True] * 9)}, apart, "told")
    infinite = {"documents": documents([50.0] * 11 + [float("inf")])}
    infinite["documents"][-1]["nats"] = "inf"
    assert "infinite" in reason(tmp_path / "4", texts, infinite, "bits_per_byte")
    longer = {"documents": documents([50.0] * 12, tokens=26)}
    assert "counted differently" in reason(tmp_path / "5", texts, longer, "nats_per_token")
    assert "only one of the two" in reason(tmp_path / "6", texts, {"answers": answers([True])}, "bits_per_byte")


def test_the_same_text_pairs_wherever_its_file_lies(tmp_path: Path) -> None:
    moved = [row | {"document": f"there/{n}"} for n, row in enumerate(documents([51.0] * 12))]
    one = write_report(tmp_path / "a", x={"documents": documents([50.0] * 12)})
    two = write_report(tmp_path / "b", y={"documents": moved})
    assert compare([one, two]).numbers["y.bits_per_byte.verdict"] == "worse"


def test_a_window_is_a_condition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"documents": documents([50.0] * 12)}
    one = write_report(tmp_path / "a", x=rows)
    monkeypatch.setitem(__import__("comparing").OPTIONS, "window", 32)
    two = write_report(tmp_path / "b", y=rows)
    with pytest.raises(IngotError, match=r"window differs \(32 and 64\)") as error:
        compare([one, two])
    assert error.value.code == "compared-nothing"


def test_names_and_baselines(tmp_path: Path) -> None:
    rows = {"answers": answers([True] * 9)}
    one, two = write_report(tmp_path / "a", chat=rows), write_report(tmp_path / "b", chat=rows)
    assert compare([one, two]).title == "b/chat against a/chat"
    assert compare([one, two], baseline="b/chat").title == "a/chat against b/chat"
    with pytest.raises(IngotError, match="b/chat") as error:
        compare([one, two], baseline="b/chta")
    assert error.value.code == "compared-unknown-baseline"


@pytest.mark.parametrize(
    "code", ["compared-alone", "report-other-verb", "altered", "evaluate-rows-old", "no-such-file"]
)
def test_what_is_no_comparison_is_refused(tmp_path: Path, code: str) -> None:
    report = write_report(tmp_path / "a", x={"answers": answers([True] * 9)})
    given = [report]
    if code == "report-other-verb":
        Report(title="t", verb="pretrain").write(tmp_path / "b")
        given.append(tmp_path / "b")
    if code == "altered":
        file = report / "raw/answers-x.jsonl"
        file.write_text(file.read_text().replace('"reply": "yes"', '"reply": "no"', 1))
        code = "report-altered"
    if code == "evaluate-rows-old":
        old = [{key: value for key, value in row.items() if key != "digest"} for row in documents([50.0] * 3)]
        given.append(write_report(tmp_path / "b", y={"documents": old}))
    if code == "no-such-file":
        given.append(tmp_path / "nowhere")
    with pytest.raises(IngotError) as error:
        compare(given)
    assert error.value.code == code


def test_from_the_command_line_and_in_chinese(
    two: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["compare", *map(str, two)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["small.told.verdict"] == "worse"
    monkeypatch.setenv("INGOT_LANG", "zh")
    assert "small 比 chat 差" in said(compare([*two]))


def test_the_options_act(two: tuple[Path, Path]) -> None:
    assert compare([*two], level=1e-9).numbers["small.bits_per_byte.verdict"] == "alike"
    assert compare([*two], seed=1).numbers != compare([*two]).numbers
