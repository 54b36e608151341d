"""The catalogue of sentences: every code used stands in both languages with the same fields, and none is left over."""

from __future__ import annotations

import ast
import functools
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

import ingot
from ingot.core.errors import IngotError, fail, nearest
from ingot.core.language import catalog, language, sentence, text

SOURCES = sorted(Path(ingot.__file__).parent.rglob("*.py"))
SPEAKERS = {"fail": 1, "say": 1, "warn": 1, "text": 1, "sentence": 2}
"""Functions whose first argument is a code, and how many positional arguments they have."""


def fields(template: str) -> set[str]:
    return {
        name.split("!")[0].split(".")[0] for _, name, _, _ in string.Formatter().parse(template) if name is not None
    }


@functools.cache
def nodes() -> list[tuple[str, ast.Call | ast.Constant | ast.JoinedStr]]:
    """Every call and every string of all sources, which are read once: (where, node)."""
    return [
        (f"{path.name}:{node.lineno}", node)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call | ast.Constant | ast.JoinedStr)
    ]


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call of a speaker whose code is a literal: (where, call)."""
    for where, node in nodes():
        known = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SPEAKERS
        if known and node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
            yield where, node


def test_both_languages_have_the_same_fields() -> None:
    wrong = {code: entry for code, entry in catalog().items()
             if set(entry) != {"en", "zh"} or fields(entry["en"]) != fields(entry["zh"])}  # fmt: skip
    assert wrong == {}


def test_every_code_used_is_in_the_catalogue() -> None:
    missing = {f"{where}: {call.args[0].value}" for where, call in calls() if call.args[0].value not in catalog()}
    assert missing == set()


def test_every_field_of_a_sentence_is_given() -> None:
    wrong = []
    for where, call in calls():
        code, given = call.args[0].value, {keyword.arg for keyword in call.keywords}
        template = catalog().get(code, {"en": ""})["en"]
        if None not in given and (lacking := fields(template) - given):
            wrong.append(f"{where}: {code} lacks {sorted(lacking)}")
    assert wrong == []


def test_no_sentence_is_left_over() -> None:
    """A code is used when it stands as a string somewhere, or begins with the constant part of an f-string."""
    whole, beginnings = set[str](), set[str]()
    for _, node in nodes():
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            whole.add(node.value)
        if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
            beginnings.add(str(node.values[0].value))
    begun = tuple(beginning for beginning in beginnings if beginning.endswith("-"))
    assert [code for code in catalog() if code not in whole and not code.startswith(begun)] == []


def test_chinese_sentences_are_chinese() -> None:
    """Where words stand beside the fields, some of them are Han; names alone need not be."""
    words = {code: re.sub(r"\{[^}]*\}|ingot|alpha", "", entry["zh"]) for code, entry in catalog().items()}
    latin = [code for code, rest in words.items() if re.search("[A-Za-z]", rest) and not re.search("[一-鿿]", rest)]
    assert latin == []


def test_words_of_the_mainland_are_not_used() -> None:
    foreign = ["文件夾", "默認", "加載", "內存", "數據", "信息", "軟件", "程序", "運行", "保存", "服務器", "视", "网"]
    found = {f"{code}: {word}" for code, entry in catalog().items() for word in foreign if word in entry["zh"]}
    assert found == set()


def test_fail_speaks_the_users_language(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGOT_LANG", "zh-TW")
    error = fail("no-such-directory", path="模型")
    assert isinstance(error, IngotError)
    assert isinstance(error, ValueError)
    assert str(error) == "找不到目錄 模型"
    assert (error.code, error.details) == ("no-such-directory", {"path": "模型"})
    monkeypatch.setenv("INGOT_LANG", "en")
    assert str(fail("no-such-directory", path="x")) == "there is no directory x"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({"INGOT_LANG": "zh-TW"}, "zh"),
     ({"INGOT_LANG": "en", "LANG": "zh_TW.UTF-8"}, "en"), ({"LANG": "zh_TW.UTF-8"}, "zh"),
     ({"LC_ALL": "C", "LANG": "zh_TW.UTF-8"}, "en"), ({}, "en")],
)  # fmt: skip
def test_language_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    for name in ("INGOT_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert language() == expected


def test_sentence_in_a_given_language() -> None:
    assert sentence("report-passed", "zh") == "通過"
    assert text("report-passed") == "Passed"


def test_nearest() -> None:
    assert nearest("peeple", ["people", "seed"]) == "people"
    assert nearest("qqq", ["people", "seed"]) == "people, seed"
