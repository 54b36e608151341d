"""The verb gate: what it lets pass, stops and cannot tell; its power as simulated; and rules that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparing import answers, documents, said, write_report

from ingot.cli import main
from ingot.core.errors import IngotError
from ingot.core.report import Plot, Report
from ingot.evaluate.compare.contestants import open_contestants
from ingot.evaluate.compare.gate import gate
from ingot.evaluate.compare.judge import Ruling, judge
from ingot.evaluate.compare.rules import read_rules


def rights(count: int, wrong: int, seed: int = 0) -> list[bool]:
    """`wrong` of `count` answers are wrong, at drawn places."""
    found = np.ones(count, np.bool_)
    found[np.random.default_rng(seed).permutation(count)[:wrong]] = False
    return [bool(one) for one in found]


def ruled(tmp_path: Path, rules: str, first: dict[str, Any], second: dict[str, Any]) -> list[Ruling]:
    """The rulings on `first` against `second`."""
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "rules.yaml").write_text(rules)
    model = open_contestants(write_report(tmp_path / "new", new=first))[0]
    base = open_contestants(write_report(tmp_path / "old", old=second))[0]
    return judge(read_rules(tmp_path / "rules.yaml"), model, base, 0)


def verdicts(tmp_path: Path, rules: str, first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    return [one.verdict for one in ruled(tmp_path, rules, first, second)]


def test_a_share_passes_fails_and_cannot_be_told(tmp_path: Path) -> None:
    rules = "rules: {told: {not_worse_by: 5%, no_drop: 5%}}"
    good = {"answers": answers(rights(600, 60))}
    worse = {"answers": answers([one and place >= 90 for place, one in enumerate(rights(600, 60))])}
    few, same = {"answers": answers(rights(20, 2))}, {"answers": answers(rights(20, 2))}
    assert verdicts(tmp_path / "1", rules, good, good) == ["passed", "passed"]
    assert verdicts(tmp_path / "2", rules, worse, good) == ["failed", "failed"]
    assert verdicts(tmp_path / "3", rules, few, same) == ["cannot-tell", "cannot-tell"]  # though identical


def test_power_and_needed_items_are_stated(tmp_path: Path) -> None:
    few = {"answers": answers(rights(40, 4))}
    claim, alarm = ruled(tmp_path, "rules: {told: {not_worse_by: 5%, no_drop: 5%}}", few, few)
    for one in (claim, alarm):
        assert one.power is not None
        assert one.power < 0.95
        assert one.needed is not None
        more = {"answers": answers(rights(one.needed, 4))}
        again = ruled(tmp_path / str(one.rule.kind), f"rules: {{told: {{{one.rule.kind}: 5%}}}}", more, more)[0]
        assert again.verdict == "passed"


def test_figures_that_are_no_shares_have_margins_of_the_baselines_or_in_their_unit(tmp_path: Path) -> None:
    nats = np.random.default_rng(1).normal(50, 5, 40)
    base = {"documents": documents(list(nats))}
    worse = {"documents": documents(list(nats * 1.01))}
    rules = """rules:
  bits_per_byte: {not_worse_by: 2%, no_drop: 2%}
  bits_per_character: {not_worse_by: 0.001, better_by: 0}
"""
    assert verdicts(tmp_path / "1", rules, worse, base) == ["passed", "failed", "failed", "failed"]
    assert verdicts(tmp_path / "2", rules, base, worse) == ["passed", "passed", "passed", "passed"]
    margin = ruled(tmp_path / "3", rules, worse, base)[0].margin
    assert margin == pytest.approx(0.02 * nats.sum() / 4000 / np.log(2))


def test_bounds_are_shown_not_read_off(tmp_path: Path) -> None:
    rules = "rules: {told: {at_least: 80%, at_most: 99%}, bits_per_byte: {at_most: 0.8}}"
    many = {"answers": answers(rights(400, 40)), "documents": documents([50.0, 52.0] * 20)}
    few = {"answers": answers(rights(10, 1)), "documents": documents([50.0, 60.0])}
    bad = {"answers": answers(rights(400, 200)), "documents": documents([70.0, 72.0] * 20)}
    assert verdicts(tmp_path / "1", rules, many, many) == ["passed", "passed", "passed"]
    assert verdicts(tmp_path / "2", rules, few, few) == ["cannot-tell", "cannot-tell", "cannot-tell"]
    assert verdicts(tmp_path / "3", rules, bad, many) == ["failed", "passed", "failed"]


def test_bounds_agree_with_scipy(tmp_path: Path) -> None:
    from scipy.stats import binomtest, ttest_1samp

    nats = np.random.default_rng(2).normal(50, 5, 30)
    rows = {"answers": answers(rights(50, 8)), "documents": documents(list(nats))}
    share, bits = ruled(tmp_path, "rules: {told: {at_least: 75%}, bits_per_byte: {at_most: 0.75}}", rows, rows)
    assert share.p == pytest.approx(binomtest(42, 50, 0.75, "greater").pvalue, rel=1e-12)
    assert bits.p == pytest.approx(ttest_1samp(nats / 100 / np.log(2), 0.75, alternative="less").pvalue, rel=1e-9)


def test_a_loss_is_not_better_where_less_is_better(tmp_path: Path) -> None:
    """`never-told.made-up` is a share of which less is better."""

    def made_up(count: int) -> dict[str, Any]:
        rows = answers([True] * 300)
        for place, row in enumerate(rows):
            row |= {"kind": "never-told", "accept": ["unknown"], "reply": "Tarn" if place < count else "unknown"}
        return {"answers": rows}

    rules = "rules: {never-told.made-up: {no_drop: 10%}, never-told.abstained: {no_drop: 10%}}"
    assert verdicts(tmp_path / "1", rules, made_up(120), made_up(30)) == ["failed", "failed"]
    assert verdicts(tmp_path / "2", rules, made_up(30), made_up(120)) == ["passed", "passed"]


def test_alarms_share_their_level(tmp_path: Path) -> None:
    """Holm over all no_drop rules: p of one alone would sound the alarm."""
    base = answers([True] * 400) + answers([True] * 400, prefix="z", lang="zh")
    worse = answers([place >= 5 for place in range(400)]) + answers([True] * 400, prefix="z", lang="zh")
    new, old = {"answers": worse}, {"answers": base}
    alone = ruled(tmp_path / "1", "rules: {told.en: {no_drop: 5%}}", new, old)
    both = ruled(tmp_path / "2", "rules: {told.en: {no_drop: 5%}, told.zh: {no_drop: 5%}}", new, old)
    assert alone[0].p == both[0].p == pytest.approx(1 / 32)
    assert (alone[0].adjusted, both[0].adjusted) == (pytest.approx(1 / 32), pytest.approx(2 / 32))
    assert (alone[0].verdict, both[0].verdict) == ("failed", "passed")


def test_the_policy_decides_what_cannot_be_told(tmp_path: Path) -> None:
    rows = {"answers": answers(rights(20, 2))}
    new, old = write_report(tmp_path / "new", x=rows), write_report(tmp_path / "old", x=rows)
    for policy, passed in (("fail", False), ("pass", True)):
        (tmp_path / "rules.yaml").write_text(f"cannot_tell: {policy}\nrules: {{told: {{not_worse_by: 5%}}}}")
        report = gate(new, against=old, rules=tmp_path / "rules.yaml", out=tmp_path / policy)
        assert report.passed is passed
        assert report.numbers["told.not_worse_by.verdict"] == "cannot-tell"
        assert "items are needed" in said(report)
    assert any(isinstance(section, Plot) for section in report.sections)


def test_missing_items_are_not_overlooked(tmp_path: Path) -> None:
    """A model that was not asked the hard questions does not pass by that."""
    base, easy = answers(rights(400, 40)), [row for row in answers(rights(400, 40)) if row["reply"] == "yes"]
    rules = "{}rules: {{told: {{not_worse_by: 5%}}}}"
    found = ruled(tmp_path / "1", rules.format(""), {"answers": easy}, {"answers": base})[0]
    assert found.verdict == "not-comparable"
    assert "40 only in the baseline's" in found.reason
    assert verdicts(tmp_path / "2", rules.format("items: common\n"), {"answers": easy}, {"answers": base}) == ["passed"]


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = {"answers": answers(rights(400, 40))}, {"answers": answers(rights(400, 120))}
    both = write_report(tmp_path / "both", chat=good, small=bad)
    (tmp_path / "rules.yaml").write_text("rules: {told: {not_worse_by: 5%}}")
    words = ["gate", str(both), "--against", str(both), "--rules", str(tmp_path / "rules.yaml")]
    assert main([*words, "--model", "small"]) == 1
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["passed"] is False
    assert summary["told.not_worse_by.verdict"] == "failed"
    assert main([*words, "--model", "chat", "--baseline", "small"]) == 0


def test_a_recipe_stops_at_a_gate(tmp_path: Path) -> None:
    """The verb is a step like any other: what did not pass stops the run."""
    from ingot.core.recipe import run

    good, bad = {"answers": answers(rights(400, 40))}, {"answers": answers(rights(400, 120))}
    both = write_report(tmp_path / "both", chat=good, small=bad)
    (tmp_path / "rules.yaml").write_text("rules: {told: {not_worse_by: 5%}}")
    step = f"verb: gate, report: {both}, against: {both}, rules: {tmp_path / 'rules.yaml'}, model: small"
    (tmp_path / "recipe.yaml").write_text(f"title: t\nsteps:\n  gate: {{{step}}}\n")
    outcome = run(tmp_path / "recipe.yaml", out=tmp_path / "out")
    assert not outcome.passed
    assert Report.open(tmp_path / "out/gate").passed is False


BAD = {
    "gating-unknown-metric": ("rules: {tould: {no_drop: 5%}}", "told"),
    "gating-unknown-kind": ("rules: {told: {no_dorp: 5%}}", "no_drop"),
    "gating-wrong-sign": ("level: 5%\nrules: {told: {not_worse_by: -5%}}", "line 2"),
    "gating-not-a-number": ("rules: {told: {no_drop: much}}", "'much'"),
    "gating-percent": ("rules: {bits_per_byte: {at_most: 80%}}", "no share"),
    "gating-empty": ("rules: {told: {}}", "not_worse_by"),
    "gating-not-rules": ("- told", "mapping"),
    "unknown-option": ("levle: 5%\nrules: {told: {no_drop: 5%}}", "level"),
    "bad-option": ("\nlevel: 70%\nrules: {told: {no_drop: 5%}}", "line 2"),
}


@pytest.mark.parametrize("code", BAD)
def test_bad_rules_are_refused_by_name_and_line(tmp_path: Path, code: str) -> None:
    rules, shown = BAD[code]
    rows = {"answers": answers([True] * 9), "documents": documents([50.0] * 9)}
    with pytest.raises(IngotError, match=shown) as error:
        ruled(tmp_path, rules, rows, rows)
    assert error.value.code == code


def test_models_are_named_or_refused(tmp_path: Path) -> None:
    rows = {"answers": answers([True] * 9)}
    both, other = write_report(tmp_path / "a", x=rows, y=rows), write_report(tmp_path / "b", x=rows)
    (tmp_path / "rules.yaml").write_text("rules: {told: {no_drop: 5%}}")
    for code, given in {
        "compare-which-model": {"report": both, "against": other},
        "compare-unknown-model": {"report": both, "against": other, "model": "z"},
        "gating-itself": {"report": both, "against": both, "model": "x"},
        "report-other-verb": {"report": Report(title="t", verb="gate").write(tmp_path / "g").path, "against": both},
    }.items():
        with pytest.raises(IngotError) as error:
            gate(**given, rules=tmp_path / "rules.yaml")
        assert error.value.code == code.replace("compare-", "compared-")


@pytest.mark.slow
def test_a_drop_of_five_points_is_caught_and_equals_pass() -> None:
    """With as many items as the gate asks for: caught >= 95 %, false alarms <= 5 %, for both kinds of rule."""
    import sys

    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    from gate import simulate

    for kind in ("no_drop", "not_worse_by"):
        found = simulate(kind, share=0.8, apart=0.12, drop=0.05, tries=400, seed=1)
        assert found["caught"] >= 0.95 - 0.022  # two standard errors of 400 tries
        assert found["false_alarms"] <= 0.05 + 0.022
