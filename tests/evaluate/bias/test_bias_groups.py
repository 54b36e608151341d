"""Groups and statements: gaps written out again, labels the other way round, garbage, tone, files that are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from biasing import options

from ingot.adapt.load import LanguageModel
from ingot.core.errors import IngotError
from ingot.evaluate.bias import counterfactual, own, stance, tone
from ingot.evaluate.bias.axes import filled, read_setting
from ingot.evaluate.bias.lists import read_lists
from ingot.infer.likelihood import token_logprobs

# ---- counterfactual groups


def attribute_rows(
    value: Any, groups: tuple[str, ...] = ("a", "b", "c"), templates: int = 8, terms: int = 2
) -> list[dict[str, Any]]:
    names = {"axis": {"en": "axis", "zh": "軸"}, "group": {"en": "g", "zh": "群"}}
    return [
        {
            "kind": "attribute",
            "lang": "en",
            "template": str(t),
            "texts": [f"{g} {t}"],
            "axis": "x",
            "group": g,
            "term": n,
            "endings": [" good", " bad"],
            "names": names,
            "nats": [value(g, t, n), 0.0],
        }
        for g in groups
        for n in range(terms)
        for t in range(templates)
    ]


def test_a_groups_gap_is_its_mean_minus_the_mean_of_the_others() -> None:
    table = np.random.default_rng(0).normal(size=(3, 8, 2))
    rows = attribute_rows(lambda g, t, n: float(table["abc".index(g), t, n]))
    gaps = counterfactual.axis_gaps(rows, "x")
    for at, group in enumerate("abc"):
        others = [other for other in range(3) if other != at]
        expected = [np.mean(table[at, t]) - np.mean([np.mean(table[other, t]) for other in others]) for t in range(8)]
        assert gaps[group] == pytest.approx(expected, abs=1e-12)


def test_two_groups_are_one_question_and_more_are_each_compared() -> None:
    even = attribute_rows(lambda g, t, n: 0.0, groups=("a", "b"))
    assert [one.key for one in counterfactual._attributes(even, "en", 0)] == ["counterfactual.x.a.en"]
    assert len(list(counterfactual._attributes(attribute_rows(lambda g, t, n: 0.0), "en", 0))) == 3


def test_likelihoods_of_endings_are_those_of_the_whole(model: LanguageModel) -> None:
    asked = [one for one in counterfactual.prepare(options()) if one.axis == "age" and one.template in ("0", "work/0")]
    chosen = [*asked[:4], *[one for one in counterfactual.prepare(options()) if one.kind == "sentence"][:2]]
    rows = counterfactual.measure(model, chosen, options(max_tokens=4))
    row, one = rows[0], chosen[0]
    encode = model.tokenizer.encode
    context, whole = encode(one.texts[0]), encode(one.texts[0] + one.endings[0])
    assert row["nats"][0] == pytest.approx(float(token_logprobs(model, whole)[len(context) - 1 :].sum()), abs=1e-4)


def test_templates_put_terms_in_as_they_stand() -> None:
    assert filled("{Person} sat. I saw {person}", "a man") == "A man sat. I saw a man"
    assert filled("{person}來了", "一位女性") == "一位女性來了"


def test_shipped_files_are_right_and_have_sources() -> None:
    setting = read_setting(None, None)
    assert set(setting.axes) == {"gender", "age", "origin", "county", "party", "status"}
    assert {"benshengren", "waishengren", "indigenous", "new-residents", "hakka"} == set(setting.axes["origin"].groups)
    assert all(axis.source and axis.reason and set(axis.languages) == {"en", "zh"} for axis in setting.axes.values())
    assert all(test.source for test in read_lists(None).tests)
    statements = stance.read_statements(None)
    assert {one.axis for one in statements if one.kind == "pair"} == {"us", "status", "party"}
    sizes = [(len(a), len(b)) for one in statements if one.kind == "pair" for a, b in [one.statements]]
    assert abs(np.mean([a - b for a, b in sizes])) < 1.5  # evenly worded: no side is longer on average


def sources(**changes: Any) -> dict[str, Any]:
    group = {"name": {"en": "g", "zh": "群"}, "terms": {"en": ["a cat", "one cat"]}}
    other = {"name": {"en": "h", "zh": "群"}, "terms": {"en": ["a dog", "one dog"]}}
    return {
        "pets": {
            "name": {"en": "pets", "zh": "寵物"},
            "reason": "r",
            "source": "s",
            "groups": {"cats": group, "dogs": other},
        }
        | changes
    }


def write_yaml(path: Path, found: Any) -> Path:
    path.write_text(yaml.safe_dump(found, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def broken_axes(change: str) -> dict[str, Any]:
    found = sources()
    groups = found["pets"]["groups"]
    match change:
        case "bias-one-group":
            del groups["dogs"]
        case "bias-one-term":
            groups["dogs"]["terms"]["en"].pop()
        case "bias-unequal-terms":
            groups["dogs"]["terms"]["en"].append("this dog")
        case "bias-language-in":
            groups["dogs"]["terms"]["ja"] = ["犬", "いぬ"]
        case "bias-twice":
            groups["dogs"]["terms"]["en"][0] = "a cat"
        case "bias-bad-file":
            del found["pets"]["source"]
    return found


@pytest.mark.parametrize(
    "code", ["bias-one-group", "bias-one-term", "bias-unequal-terms", "bias-language-in", "bias-twice", "bias-bad-file"]
)
def test_bad_axes_are_refused_by_name_and_line(tmp_path: Path, code: str) -> None:
    path = write_yaml(tmp_path / "axes.yaml", broken_axes(code))
    with pytest.raises(IngotError, match=r"axes\.yaml, line \d+") as error:
        read_setting(path, None)
    assert error.value.code == code


def test_own_axes_are_asked_instead(tmp_path: Path) -> None:
    path = write_yaml(tmp_path / "axes.yaml", sources())
    asked = counterfactual.prepare(options(own={"axes": path}))
    assert {one.axis for one in asked if one.kind == "attribute"} == {"pets"}
    assert {one.lang for one in asked} == {"en"}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("A person sat", "bias-missing-slot"),
        ("{person} and {person}", "bias-missing-slot"),
        ("{people} sat", "bias-missing-slot"),
    ],
)
def test_a_missing_slot_is_named(tmp_path: Path, text: str, code: str) -> None:
    attribute = {"text": "{Person} was", "good": " good", "bad": " bad"}
    found = {"en": {"attributes": [attribute, attribute | {"text": text}], "prompts": ["{Person}"]}}
    path = write_yaml(tmp_path / "templates.yaml", found)
    with pytest.raises(IngotError, match=r"templates\.yaml, line \d+") as error:
        read_setting(None, path)
    assert error.value.code == code


def test_a_language_without_templates_is_named(tmp_path: Path) -> None:
    attribute = {"text": "{Person} was", "good": " good", "bad": " bad"}
    path = write_yaml(
        tmp_path / "templates.yaml", {"en": {"attributes": [dict(attribute), dict(attribute)], "prompts": ["{Person}"]}}
    )
    with pytest.raises(IngotError) as error:
        read_setting(None, path)
    assert error.value.code == "bias-no-templates"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"x": ["rose"]}, "bias-bad-file"),
        ({"x": ["a", "b", "c"]}, "bias-unequal-lists"),
        ({"a": ["a", "a"]}, "bias-word-twice"),
        ({"lang": "ja"}, "bias-language-in"),
        ({"lang": "zh"}, "bias-missing-slot"),
    ],
)
def test_bad_word_lists_are_refused(tmp_path: Path, change: dict[str, Any], code: str) -> None:
    test = {
        "id": "t",
        "lang": "en",
        "name": {"en": "t", "zh": "t"},
        "source": "s",
        "x": ["a", "b"],
        "y": ["c", "d"],
        "a": ["e", "f"],
        "b": ["g", "h"],
    } | change
    path = write_yaml(tmp_path / "lists.yaml", {"sentences": {"en": "This is {word}."}, "tests": [test]})
    with pytest.raises(IngotError, match=r"lists\.yaml, line \d+") as error:
        read_lists(path)
    assert error.value.code == code


# ---- stance


def stance_rows(seed: int = 0, controls: float = 3.0, reply: str = "I agree") -> list[dict[str, Any]]:
    generator = np.random.default_rng(seed)
    base = {"lang": "en", "ask": {}, "name": {"en": "n", "zh": "名"}}
    text = "this is a view that many people hold for good reasons"

    def written(first: str, second: str) -> list[dict[str, Any]]:
        return [{"reply": one, "finish_reason": "stop", "tokens": 3} for one in (first, second)]

    pairs = [
        base
        | {
            "kind": "pair",
            "axis": "us",
            "id": str(n),
            "sides": ["left", "right"],
            "statements": [f"l{n}", f"r{n}"],
            "nats": generator.normal(size=(2, 2)).tolist(),
            "answers": written(reply, "I disagree" if n % 2 else reply),
            "texts": written(text + " however" * (n % 3), "I can't help with that" if n % 4 == 0 else text),
        }
        for n in range(14)
    ]
    truths = [
        base
        | {
            "kind": "control",
            "axis": "en",
            "id": str(n),
            "sides": ["true", "false"],
            "statements": ["t", "f"],
            "nats": [[controls, 0.0], [0.0, controls]],
            "answers": [],
            "texts": [],
        }
        for n in range(12)
    ]
    return pairs + truths


def the_other_way_round(row: dict[str, Any]) -> dict[str, Any]:
    return row | {
        key: row[key][::-1] for key in ("sides", "statements", "nats", "answers", "texts") if row["kind"] == "pair"
    }


def test_the_other_way_round_is_the_other_sign() -> None:
    rows = stance_rows()
    found = stance.score(rows, 0).findings
    turned = stance.score([the_other_way_round(row) for row in rows], 0).findings
    assert [one.key.rpartition(".")[2] for one in found] == ["lean", "said", "refusals", "longer", "hedging"]
    for one, other in zip(found, turned, strict=True):
        assert one.estimate.value == -(other.estimate.value or 0.0) != 0
        assert one.p == other.p


def test_figures_of_one_pair() -> None:
    row = stance_rows()[1]
    (a, b), (c, d) = row["nats"]
    found = stance.figures(row)
    assert found["lean"] == (a - b) - (c - d)
    assert found["said"] == 1.0  # agrees with the first, disagrees with the second
    assert found["refusals"] == 0.0
    assert stance.figures(stance_rows()[0])["refusals"] == -1.0
    assert found["hedging"] == pytest.approx(100 / 12)


def test_a_model_that_cannot_tell_truths_has_no_lean() -> None:
    found = {one.key: one for one in stance.score(stance_rows(controls=0.0), 0).findings}
    assert "plain truths" in found["stance.us.lean"].withheld
    assert not found["stance.us.said"].withheld


def test_answers_that_say_nothing_have_no_figure() -> None:
    found = {one.key: one for one in stance.score(stance_rows(reply="blue blue"), 0).findings}
    assert "below 90 %" in found["stance.us.said"].withheld


@pytest.mark.parametrize(
    "code", ["bias-sides", "bias-unknown-axis", "bias-few-controls", "bias-missing-slot", "bias-language-in"]
)
def test_bad_statements_are_refused(tmp_path: Path, code: str) -> None:
    found = yaml.safe_load(own.shipped("stance.yaml").read_text(encoding="utf-8"))
    match code:
        case "bias-sides":
            del found["pairs"][3]["left"]
        case "bias-unknown-axis":
            found["pairs"][3]["axis"] = "moon"
        case "bias-few-controls":
            found["controls"]["en"] = found["controls"]["en"][:3]
        case "bias-missing-slot":
            found["ask"]["zh"]["question"] = "你同意嗎？"
        case "bias-language-in":
            found["axes"]["us"]["lang"] = "fr"
    path = write_yaml(tmp_path / "statements.yaml", found)
    with pytest.raises(IngotError, match=r"statements\.yaml, line \d+") as error:
        stance.read_statements(path)
    assert error.value.code == code


# ---- tone


@pytest.mark.parametrize(
    ("reply", "lang", "side"),
    [
        ("I agree.", "en", "agree"),
        ("Strongly disagree", "en", "disagree"),
        ("I do not agree with it.", "en", "disagree"),
        ("As an AI, I cannot say.", "en", "refused"),
        ("agree and disagree", "en", None),
        ("the cat", "en", None),
        ("同意。", "zh", "agree"),
        ("我不同意這個說法", "zh", "disagree"),
        ("抱歉，我無法回答", "zh", "refused"),
        ("貓", "zh", None),
        ("agreement", "en", None),
    ],
)
def test_what_an_answer_says(reply: str, lang: str, side: str | None) -> None:
    assert tone.side(reply, lang) == side


def test_tone_counts_words() -> None:
    assert tone.tone("a good and kind man is not bad", "en") == pytest.approx(100 / 8)
    assert tone.tone("他很好，但是很壞很壞", "zh") == pytest.approx(-100 / 9)
    assert tone.tone("", "en") == 0
    assert tone.hedges("perhaps it might", "en") == pytest.approx(200 / 3)


@pytest.mark.parametrize(
    ("reply", "lang", "is_text"),
    [
        ("The man went home and slept.", "en", True),
        ("cat cat cat cat cat cat cat cat cat", "en", False),
        ("x", "en", False),
        ("天空是藍色的", "zh", True),
        ("the sky is blue", "zh", False),
        ("天\ufffd\ufffd空藍", "zh", False),
        ("", "en", False),
    ],
)
def test_what_is_text(reply: str, lang: str, is_text: bool) -> None:
    assert tone.is_readable(reply, lang) == is_text
