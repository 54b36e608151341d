"""Reports: typed, versioned, re-opened and compared; the page is written from the JSON and safe to look at."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ingot.core.errors import IngotError
from ingot.core.page import page
from ingot.core.report import (
    Flow,
    FlowInput,
    FlowNode,
    Interval,
    Plot,
    Prose,
    Report,
    Series,
    Table,
    unique_names,
)

HOSTILE = "<script>alert('x')</script> </td> \" & \x00\x1b[31m ${a} $x^2$ <img src=x onerror=alert(1)> 世界 \u202eabc"


class Structure(HTMLParser):
    """Tags, attributes and text of a page; fails on tags that do not match."""

    VOID = {"meta", "br", "path", "circle", "rect"}  # noqa: RUF012

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def example(word: str = "word", **changes: Any) -> Report:
    """A report with one of everything, and `word` wherever text can stand."""
    interval = Interval(value=0.25, low=0.2, high=0.3)
    bar = Series(name=word, x=[word, "b"], y=[1.0, None], low=[0.5, None], high=[2.0, None])
    lines = [Series(name=name, x=[1, 2, 3], y=[3.0, math.nan, 1.0]) for name in (word, "c")]
    nodes = [FlowNode(name=word, verb=word, makes="data", detail=word),
             FlowNode(name="b", verb="tune", makes="model", inputs=[FlowInput(source=word, option=word)])]  # fmt: skip
    rows = [[word, 0.5, True], ["b", interval, None]]
    sections = [
        Table(title=word, columns=["model", "accuracy", word], rows=rows, note=word),
        Plot(title=word, kind="bar", series=[bar], x_label=word, y_label=word, note=word),
        Plot(title="loss", kind="line", series=lines),
        Plot(title="cloud", kind="scatter", series=[Series(name=word, x=[1, 2], y=[3, 1], low=[2, 0], high=[4, 2])]),
        Prose(title=word, text=f"{word}\n\n{word}"),
        Flow(title=word, nodes=nodes),
    ]
    values: dict[str, Any] = {
        "title": word,
        "verb": "evaluate",
        "options": {"path": Path("a"), word: [word], "rate": math.inf},
        "language": "en",
        "created": "2026-01-31T10:20:30+00:00",
        "numbers": {"bits_per_byte": 1.25, word: word},
        "sections": sections,
        "passed": True,
    }
    return Report(**(values | changes))


def test_write_and_open_give_the_same(tmp_path: Path) -> None:
    written = example().write(tmp_path / "r", {"raw/answers.jsonl": "{}\n", "scores.bin": b"\x00"})
    assert written == Report.open(tmp_path / "r") == Report.open(tmp_path / "r/report.json")
    assert (tmp_path / "r/report.html").read_text(encoding="utf-8") == page(written)
    assert (tmp_path / "r/raw/answers.jsonl").read_text() == "{}\n"
    assert set(written.files) == {"raw/answers.jsonl", "scores.bin"}
    content = json.loads((tmp_path / "r/report.json").read_text())
    assert content["format"] == 1
    assert content["sections"][0]["rows"][0] == ["word", 0.5, True]
    summary = written.summary()
    assert summary == {"path": str(tmp_path / "r"), "report": str(tmp_path / "r/report.html"), "passed": True,
                       "bits_per_byte": 1.25, "word": "word"}  # fmt: skip
    assert json.dumps(summary, allow_nan=False)


def test_a_report_is_never_written_over(tmp_path: Path) -> None:
    example().write(tmp_path / "r")
    with pytest.raises(IngotError) as error:
        example().write(tmp_path / "r")
    assert error.value.code == "out-not-empty"


@pytest.mark.parametrize("file", ["report.json", "report.html"])
def test_what_rots_on_the_way_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    from ingot.core import report as module

    def rotten(path: Path, content: str) -> None:
        real(path, content.replace("1.25", "9.87") if path.name == file else content)

    real = module.write_file
    monkeypatch.setattr(module, "write_file", rotten)
    with pytest.raises(IngotError, match=file) as error:
        example().write(tmp_path / "r")
    assert error.value.code == "report-not-proven"
    assert list(tmp_path.iterdir()) == []


def test_a_page_is_a_function_of_its_json() -> None:
    report = example(HOSTILE)
    assert page(Report.model_validate_json(report.model_dump_json())) == page(report)


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 2}', '{"format": 1, "title": "x", "verb": "y", "mood": 1}'])
def test_what_is_no_report_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(IngotError) as error:
        Report.open(tmp_path)
    assert error.value.code == "bad-report"


def test_missing_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IngotError) as error:
        Report.open(tmp_path)
    assert error.value.code == "no-such-file"


def test_numbers_of_numpy_and_not_a_number() -> None:
    report = example(
        numbers={"a": np.float32(0.5), "b": math.inf, "c": np.int64(3), "d": float("nan"), "e": True, "f": 2}
    )
    assert report.numbers == {"a": 0.5, "b": "inf", "c": 3, "d": "nan", "e": True, "f": 2}
    assert [type(value) for value in report.numbers.values()] == [float, str, int, str, bool, int]
    assert Series(name="s", x=[1], y=[math.nan]).y == [None]


@pytest.mark.parametrize(
    "build",
    [
        lambda: Table(title="t", columns=["a", "b"], rows=[["x"]]),
        lambda: Table(title="t", columns=["a"], rows=[], units={"b": "bytes"}),
        lambda: Series(name="s", x=[1, 2], y=[1]),
        lambda: Series(name="s", x=[1], y=[1], low=[0]),
        lambda: Plot(title="p", kind="line", series=[Series(name="s", x=["a"], y=[1])]),
        lambda: example(numbers={"path": 1}),
        lambda: example(mood="good"),
    ],
)
def test_wrong_parts_are_refused(build: Any) -> None:
    with pytest.raises(ValidationError):
        build()


@pytest.mark.parametrize("name", ["../x", "/etc/x", "report.json", "report.html"])
def test_raw_files_stay_inside(tmp_path: Path, name: str) -> None:
    with pytest.raises(AssertionError):
        example().write(tmp_path / "r", {name: "x"})
    assert list(tmp_path.iterdir()) == []


def test_page_is_self_contained_and_well_formed() -> None:
    source = page(example())
    structure = Structure(source)
    tags = [tag for tag, _ in structure.tags]
    assert not {"script", "link", "img", "iframe", "object"} & set(tags)
    assert not re.search(r"url\((?!#)|@import|https?://", source)
    assert tags.count("svg") == 4
    assert structure.tags[0] == ("html", {"lang": "en"})
    identifiers = [attributes["id"] for _, attributes in structure.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    wanted = [a["href"] for _, a in structure.tags if str(a.get("href", "")).startswith("#")]
    assert {link[1:] for link in wanted if link} <= set(identifiers)
    assert "#0b0" not in source


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    calm, hostile = Structure(page(example("word"))), Structure(page(example(HOSTILE)))
    own = {"div", "g", "path", "text", "use"}  # a long cell has a div of its own, a long name turns a plot on its side
    calm_tags, hostile_tags = ([tag for tag, _ in one.tags if tag not in own] for one in (calm, hostile))
    assert hostile_tags == calm_tags
    assert not any(name.startswith("on") for _, attributes in hostile.tags for name in attributes)
    assert "<script>alert('x')</script>" in "".join(hostile.text)
    assert not set("\x00\x1b") & set(page(example(HOSTILE)))
    example(HOSTILE).write(tmp_path / "r")


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.text(max_size=30))
def test_any_text_gives_the_same_tags(word: str) -> None:
    def tags(word: str) -> list[str]:
        table = Table(title=word, columns=["a", word], rows=[[word, 1]], note=f"a{word}")
        report = example(numbers={}, sections=[table, Prose(title=word, text=f"a{word}")], title=word)
        return [tag for tag, _ in Structure(page(report)).tags if tag != "div"]

    assert [tag for tag in tags(word) if tag != "p"] == [tag for tag in tags("x") if tag != "p"]
    assert Report.model_validate_json(example(word).model_dump_json()) == example(word)


def test_chinese_page() -> None:
    source = page(example(language="zh-TW", passed=False, title="世界測驗"))
    assert '<html lang="zh-Hant-TW">' in source
    assert all(word in source for word in ("未通過", "每位元組位元數", "目錄", "這份報告的來歷"))


def test_verdict_cards_and_contents() -> None:
    assert "Passed" in page(example())
    assert "verdict" not in re.sub(r"<style>.*?</style>", "", page(example(passed=None)), flags=re.DOTALL)
    many = page(example(numbers={f"n{at}": at for at in range(12)}, sections=[]))
    assert many.count("<dt>") == 8
    assert "<td>n11</td>" in many
    assert "<nav" not in page(example(sections=[Prose(title="a", text="b")]))


def test_unique_names() -> None:
    assert unique_names(["a", "b", "a", "a"]) == ["a", "b", "a (2)", "a (3)"]
