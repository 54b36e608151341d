"""What is learnt, shown: in colour, between marks where there is none, and on the page; whoever wrote the text."""

from __future__ import annotations

import io
import re
import sys
from html.parser import HTMLParser

import pytest

from ingot.core import samples
from ingot.core.console import CLOSE, OPEN, histogram, paint, visible
from ingot.core.report import Piece, Sample, Samples, Written

PIECES = [Piece(text="q"), Piece(text="<e>", special=True), Piece(text="\na", learnt=True),
          Piece(text="<e>", learnt=True, special=True), Piece(text=" z")]  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def painted(monkeypatch: pytest.MonkeyPatch, pieces: list[Piece], **environment: str) -> str:
    """What a terminal with colours gets."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"TERM": "xterm-256color"} | environment).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", Terminal())
    return paint(pieces)


def test_a_pipe_gets_marks_around_what_is_learnt() -> None:
    assert paint(PIECES) == f"q<e>{OPEN}\na<e>{CLOSE} z"


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_without_colours_gets_marks(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert painted(monkeypatch, PIECES, **environment) == f"q<e>{OPEN}\na<e>{CLOSE} z"


def test_a_terminal_gets_colours_and_the_same_text(monkeypatch: pytest.MonkeyPatch) -> None:
    found = painted(monkeypatch, PIECES)
    assert OPEN not in found
    assert re.sub(r"\x1b\[[0-9;]*m", "", found) == "q<e>\na<e> z"
    assert "".join(re.findall(r"\x1b\[[0-9;]*30;42m(.*?)\x1b\[0m", found, re.DOTALL)).replace("\n", "") == "a<e>"


def test_nobodys_text_commands_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = "\x1b[31mred\x07\x9b1m[bold]x[/bold] :smile: http://x"
    assert painted(monkeypatch, [Piece(text=hostile)]) == visible(hostile)
    found = painted(monkeypatch, [Piece(text=hostile, learnt=True)])
    assert re.findall(r"\x1b\[[^m]*m", found) == ["\x1b[30;42m", "\x1b[0m"]
    assert not set(found) & {"\x07", "\x9b"}


def test_a_long_line_stays_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert painted(monkeypatch, [Piece(text="word " * 100)]) == "word " * 100


def test_bars_are_as_long_as_their_counts() -> None:
    assert histogram([("0", 0), ("10", 20), ("2", 1)]).splitlines() == [" 0 0", f"10 {'█' * 40} 20", " 2 ██ 1"]


class Reader(HTMLParser):
    """The text inside <mark>, all text, and the tags."""

    def __init__(self) -> None:
        super().__init__()
        self.depth, self.marked, self.everything, self.tags = 0, "", "", set[str]()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        self.depth += tag == "mark"

    def handle_endtag(self, tag: str) -> None:
        self.depth -= tag == "mark"

    def handle_data(self, data: str) -> None:
        self.everything += data
        self.marked += data if self.depth else ""


def test_the_page_marks_what_is_learnt_and_escapes_everything() -> None:
    hostile = '</mark></div><script>alert("1")</script><img src=x onerror=y>\x1b&amp;'
    pieces = [Piece(text=hostile), Piece(text=hostile, learnt=True), Piece(text="<e>", learnt=True, special=True)]
    written = Written(title=hostile, pieces=pieces, tokens=[Piece(text=hostile, learnt=True)], num_tokens=1)
    section = Samples(title="t", samples=[Sample(title=hostile, texts=[written])], names=("a", "b", "c", "d"))
    reader = Reader()
    reader.feed(samples.html_of(section))
    assert reader.tags == {"p", "mark", "span", "article", "h3", "h4", "div", "details", "summary"}
    shown = hostile.replace("\x1b", "␛")
    assert reader.marked == f"a{shown}<e>"
    assert reader.everything.count(shown) == 5


def test_halves_stand_beside_each_other() -> None:
    texts = [Written(title=name, pieces=[], half=name != "p") for name in "pcr"]
    section = Samples(title="t", samples=[Sample(title="s", texts=texts)], names=("a", "b", "c", "d"))
    assert re.search(r'<h4>p</h4>.*<div class="halves">.*<h4>c</h4>.*<h4>r</h4>', samples.html_of(section))
