"""A judge's verdicts over both orders, and its bias: mock judges that are known to be bad must be found out."""

from __future__ import annotations

import ast
import json
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotating import items_of

from ingot.evaluate.judge.asking import Question, Reply, ask, questions_of, read_verdict
from ingot.evaluate.judge.figures import (
    agreed,
    at_equal_length,
    first_share,
    flip_rate,
    judged,
    longer_share,
    majority,
    outcomes_of,
    won,
)
from ingot.evaluate.judge.report import Findings, judge_report, preference, warnings_of
from ingot.evaluate.people.answers import Item
from ingot.evaluate.people.rubric import DEFAULT
from ingot.evaluate.people.strength import FIRST, TIE, fit
from ingot.evaluate.people.votes import Vote

PAIRS = Path(os.environ.get("INGOT_DATA", "-")) / "07_metrics" / "pairwise"
real = pytest.mark.skipif(not PAIRS.exists(), reason="needs INGOT_DATA")
Mock = Callable[[Question, dict[str, Item]], str]


def always_first(question: Question, items: dict[str, Item]) -> str:
    return "A"


def always_longer(question: Question, items: dict[str, Item]) -> str:
    answers = items[question.item].answers
    left, right = len(answers[question.left]), len(answers[question.right])
    return "A" if left > right else "B" if right > left else "tie"


def lengthy_items(count: int = 40, seed: int = 0) -> list[Item]:
    draw = random.Random(seed)
    return [Item(f"i{n}", f"p{n}", {s: "x" * draw.randint(5, 400) for s in ("a", "b", "c")}) for n in range(count)]


def findings(
    items: list[Item], mock: Mock, votes: Sequence[Vote] = (), orders: Any = "both", kin: list[str] | None = None
) -> Findings:
    by_id = {item.id: item for item in items}
    questions = questions_of(items, DEFAULT, orders, "auto", 0)
    rows = ask(questions, lambda texts: [Reply(mock(q, by_id)) for q in questions])
    return Findings("mock", rows, by_id, votes, kin or [], [], 0)


def cast(item: str, left: str, right: str, choice: str, who: str = "p") -> Vote:
    return Vote(f"{who}{item}{left}{right}", who, item, (left, right), choice, 0, 9, "d")


def test_always_first_wins_nothing_and_is_found_out() -> None:
    found = findings(items_of(20), always_first)
    assert all(one.outcome == TIE and one.flipped for one in found.outcomes)
    assert first_share(found.rows).value == flip_rate(found.outcomes).value == 1
    assert [won(found.own, name, 0).value for name in ("alpha-7b", "beta-13b")] == [0.5, 0.5]
    told = " ".join(warnings_of(found))
    assert "goes by the place: 100 %" in told
    report = judge_report(found, {})
    assert report.summary()["flip_rate"] == 1
    assert report.summary()["tie_share"] == 1


def test_always_last_is_found_out_too() -> None:
    assert "only 0 %" in " ".join(warnings_of(findings(items_of(20), lambda *_: "B")))


def test_always_longer_is_found_out() -> None:
    found = findings(lengthy_items(), always_longer)
    assert flip_rate(found.outcomes).value == 0
    assert longer_share(found.own, found.items).value == 1
    assert "may go by length: 100 %" in " ".join(warnings_of(found))


def test_always_longer_is_found_out_against_people() -> None:
    items, draw = lengthy_items(), random.Random(1)
    votes = [cast(item.id, a, b, draw.choice(["left", "right"])) for item in items for a, b in (("a", "b"), ("b", "c"))]
    told = " ".join(warnings_of(findings(items, always_longer, votes)))
    assert "goes by length: 100 %" in told
    assert "more often than people's" in told


def test_a_fair_judge_is_not_accused() -> None:
    """It always finds the better one, by a mark that has nothing to do with length or place."""
    items = lengthy_items()

    def fair(question: Question, _: dict[str, Item]) -> str:
        return "A" if (question.left + question.item) < (question.right + question.item) else "B"

    found = findings(items, fair)
    assert [won(found.own, name, 0).value for name in ("a", "b", "c")] == [1, 0.5, 0]
    assert not any("goes by" in told or "may go" in told for told in warnings_of(found))


def test_equal_length_takes_the_length_out() -> None:
    """By length alone there is nothing left at equal length; a true preference stays what it is."""
    items = [Item(f"i{n}", "p", {"a": "x" * (100 + n % 37), "b": "x" * (90 + (n * 7) % 31)}) for n in range(200)]
    by_length = findings(items, always_longer)
    raw = won(by_length.own, "a", 0).value
    controlled = at_equal_length(by_length.own, by_length.items, "a", "b")
    assert raw is not None
    assert raw > 0.65
    assert controlled.low is not None
    assert controlled.high is not None
    assert controlled.low < 0.5 < controlled.high or abs((controlled.value or 0) - 0.5) < 0.05
    draw = random.Random(2)
    fair = findings(items, lambda q, _: "A" if (draw.random() < 0.5) == (q.left == "a") else "B", orders="one")
    plain, level = won(fair.own, "a", 0).value, at_equal_length(fair.own, fair.items, "a", "b").value
    assert level == pytest.approx(plain, abs=0.1)


def test_the_regression_is_the_likeliest() -> None:
    from scipy.optimize import minimize

    items, draw = lengthy_items(80), random.Random(3)
    own = findings(items, lambda *_: draw.choice(["A", "B", "tie"]), orders="one").own
    units = [unit for unit in own if unit[1:] == ("a", "b")]
    by_id = {item.id: item.answers for item in items}
    apart = np.array([len(by_id[u[0]]["a"]) - len(by_id[u[0]]["b"]) for u in units], float)
    y = np.array([1 - own[u] / 2 for u in units])

    def loss(beta: np.ndarray) -> float:
        logit = beta[0] + beta[1] * np.tanh(apart / apart.std())
        return float((np.log1p(np.exp(logit)) - y * logit).sum() + 0.005 * (beta**2).sum())

    best = minimize(loss, [0.0, 0.0], tol=1e-12).x[0]
    assert at_equal_length(own, {i.id: i for i in items}, "a", "b").value == pytest.approx(
        1 / (1 + np.exp(-best)), abs=1e-5
    )


def test_both_orders_make_one_outcome() -> None:
    rows = [{"item": "i", "left": left, "right": right, "verdict": verdict, "reply": "", "problem": ""}
            for left, right, verdict in (("a", "b", "left"), ("b", "a", "right"), ("a", "c", "left"), ("c", "a", "tie"),
                                         ("b", "c", "right"), ("c", "b", None))]  # fmt: skip
    assert [one.outcome for one in outcomes_of(rows)] == [FIRST, TIE, None]
    assert [one.flipped for one in outcomes_of(rows)] == [False, True, None]
    assert len(judged(outcomes_of(rows))) == 2


def test_one_order_is_drawn_for_every_pair() -> None:
    questions = questions_of(items_of(200), DEFAULT, "one", "en", 0)
    assert len(questions) == 600
    assert 0.4 < sum(q.left < q.right for q in questions) / 600 < 0.6
    assert questions == questions_of(items_of(200), DEFAULT, "one", "en", 0)
    both = questions_of(items_of(2), DEFAULT, "both", "en", 0)
    assert len({(q.item, q.left, q.right) for q in both}) == len(both) == 12


def test_no_question_names_a_system() -> None:
    for question in questions_of(items_of(5), DEFAULT, "both", "auto", 0):
        assert not [name for name in ("alpha", "beta", "gamma", "item-") if name in question.text]


def test_questions_follow_the_language_of_the_prompt() -> None:
    items = [Item("1", "天空為什麼是藍色的？", {"a": "x", "b": "y"}), Item("2", "Why?", {"a": "x", "b": "y"})]
    chinese, english = questions_of(items, DEFAULT, "one", "auto", 0)
    assert "請只回覆一個詞" in chinese.text
    assert "Reply with one word" in english.text
    assert "Reply with one word" in questions_of(items, DEFAULT, "one", "en", 0)[0].text


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("A", "left"), (" b.", "right"), ("Tie", "tie"), ("平手。", "tie"), ("**B**", "right"), ("回答 A", "left"),
        ('{"verdict": "tie"}', "tie"), ('{"verdict": "A"}', "left"), ('{"other": 1}', None), ("{A", None),
        ("Both are long.\nSo B is better", "right"), ("A or B", None), ("A tie", None), ("", None), ("Answer", None),
        ("Apple", None), ("neither", None), ("C", None),
    ],
)  # fmt: skip
def test_what_a_reply_means(reply: str, verdict: str | None) -> None:
    assert read_verdict(reply) == verdict


def test_replies_that_are_no_verdict_are_counted_and_are_no_ties() -> None:
    found = findings(items_of(10), lambda q, _: "As a model, I cannot say" if q.item == "item-3" else "A")
    assert len(found.own) == 27
    report = judge_report(found, {})
    assert report.summary()["parsed_share"] == 0.9
    assert "6 of 60 replies are no verdict" in " ".join(warnings_of(found))


def test_kappa_with_people_is_scikit_learns() -> None:
    from sklearn.metrics import cohen_kappa_score

    items, draw = lengthy_items(), random.Random(4)
    votes = [
        cast(i.id, a, b, draw.choice(["left", "right", "tie"])) for i in items for a, b in (("a", "b"), ("c", "a"))
    ]
    found = findings(items, always_longer, votes)
    people = majority(votes)
    share, kappa = agreed(found.own, people, 0)
    units = sorted(people)
    theirs = cohen_kappa_score([found.own[u] for u in units], [people[u] for u in units])
    assert kappa.value == pytest.approx(theirs, abs=1e-9)
    assert share.value == pytest.approx(np.mean([found.own[u] == people[u] for u in units]))
    assert kappa.low is not None


def test_what_most_people_said() -> None:
    votes = [cast("i", "a", "b", "left", "1"), cast("i", "b", "a", "right", "2"), cast("i", "a", "b", "tie", "3"),
             cast("j", "a", "b", "left", "1"), cast("j", "a", "b", "right", "2"),
             cast("k", "a", "b", "skip", "1")]  # fmt: skip
    assert majority(votes) == {("i", "a", "b"): FIRST, ("j", "a", "b"): TIE}


def test_kin_is_told_with_its_gain_over_people() -> None:
    """The judge lets `a` win always, people half the time: 50 points more."""
    items, draw = lengthy_items(), random.Random(5)
    votes = [cast(i.id, "a", "b", draw.choice(["left", "right"])) for i in items]

    def selfish(question: Question, _: dict[str, Item]) -> str:
        return "A" if question.left == "a" else "B" if question.right == "a" else "tie"

    found = findings(items, selfish, votes, kin=["a"])
    gain = preference(found, "a")
    people = won(majority(votes), "a", 0).value
    assert people is not None
    assert gain.value == pytest.approx(1 - people)
    assert gain.low is not None
    assert gain.low > 0
    assert "judges its own kin: a" in " ".join(warnings_of(found))
    assert "judges its own kin" not in " ".join(warnings_of(findings(items, selfish, votes)))


def llmbar(name: str) -> list[dict[str, Any]]:
    return json.loads((PAIRS / name).read_text())


@real
@pytest.mark.parametrize("name", ["judge_results_Natural_GPT-4_Swap.json", "judge_results_Natural_ChatGPT_Swap.json",
                                  "judge_results_Natural_GPT-4_Vanilla.json"])  # fmt: skip
def test_real_verdicts_of_real_judges(name: str) -> None:
    """GPT-4's and ChatGPT's verdicts on LLMBar in both orders: flips, agreement and kappa as counted by hand."""
    records = llmbar(name)
    items = {
        str(n): Item(str(n), r["input"], {"one": r["output_1"], "two": r["output_2"]}) for n, r in enumerate(records)
    }
    rows, votes, flips, right, total = [], [], 0, 0, 0
    for n, record in enumerate(records):
        found = record["results"] if isinstance(record["results"], list) else ast.literal_eval(record["results"])
        pair = {"1": "one", "2": "two"}
        first, second = (pair.get(str(found[0][f"swap = {swap}"]["winner"])) for swap in (False, True))
        for left, right_name, winner in (("one", "two", first), ("two", "one", second)):
            verdict = None if winner is None else "left" if winner == left else "right"
            rows.append(
                {"item": str(n), "left": left, "right": right_name, "verdict": verdict, "reply": "", "problem": ""}
            )
        votes.append(cast(str(n), "one", "two", "left" if record["label"] == 1 else "right"))
        if first is not None and second is not None:
            total += 1
            flips += first != second
            right += first == second == pair[str(record["label"])]
    found_ = Findings(name, rows, items, votes, [], [], 0)
    assert flip_rate(found_.outcomes).value == pytest.approx(flips / total)
    share, kappa = agreed(found_.own, majority(votes), 0)
    assert share.value == pytest.approx(right / total)
    assert kappa.value is not None
    assert kappa.value > (0.5 if "GPT-4" in name else 0)
    judge_report(found_, {})


@real
def test_length_against_people_on_llmbar() -> None:
    """On LLMBar's adversarial pairs the longer answer is mostly the worse: a judge by length is found out."""
    records = [r for name in ("Adversarial_GPTInst", "Adversarial_Manual") for r in llmbar(f"LLMBar_{name}.json")]
    items = [Item(str(n), r["input"], {"one": r["output_1"], "two": r["output_2"]}) for n, r in enumerate(records)]
    votes = [cast(str(n), "one", "two", "left" if r["label"] == 1 else "right") for n, r in enumerate(records)]
    found = findings(items, always_longer, votes)
    assert "goes by length" in " ".join(warnings_of(found))


@real
def test_strengths_on_faireval() -> None:
    """FairEval's people between two systems: points are the odds of their wins."""
    votes = [
        cast(str(n), "one", "two", {1: "left", 2: "right"}[r["label"]])
        for n, r in enumerate(llmbar("Processed_FairEval.json"))
    ]
    wins = sum(v.choice == "left" for v in votes)
    from ingot.evaluate.people.votes import comparisons

    found = fit(comparisons(votes))
    assert found.difference("one", "two").value == pytest.approx(400 * np.log10(wins / (len(votes) - wins)), abs=1e-6)
