"""Every command that the pages show parses into its verb's options, and their figures are those of the result file."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from ingot.cli import run_verb, split_verb
from ingot.core.options import Verb
from ingot.core.verbs import VERBS, find_verb

ROOT = Path(__file__).parents[1]
READMES = ["README.md", "README.zh-TW.md"]
PAGES = [*READMES, *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md"))]


def commands(page: str) -> list[str]:
    """Lines of code blocks that call ingot."""
    blocks = re.findall(
        r"^```(?:bash|console|)\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    lines = [line.removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith("ingot ")]


def parse(command: str) -> None:
    words = [word for word in shlex.split(command, comments=True)[1:] if word not in {">", "&"}]
    if words in ([], ["--help"]) or words[0].isupper() or "--help" in words:
        return
    name, rest = split_verb(words)
    verb = find_verb(name)
    taken: list[Any] = []
    run_verb(name, Verb(lambda options: taken.append(options), verb.options), rest)
    assert isinstance(taken[0], verb.options)


@pytest.mark.parametrize("page", PAGES)
def test_commands_parse(page: str) -> None:
    for command in commands(page):
        parse(command)


@pytest.mark.parametrize("page", READMES)
def test_every_verb_is_shown(page: str) -> None:
    shown = {split_verb(shlex.split(command, comments=True)[1:])[0] for command in commands(page)}
    assert shown >= set(VERBS)


def test_both_readmes_show_the_same_commands() -> None:
    english, chinese = (
        [re.sub(r'"[^"]*"|=\S*|#.*', "", command).split() for command in commands(page)] for page in READMES
    )
    assert english == chinese


@pytest.mark.parametrize("name", ["quickstart", "objectives", "tune-defaults"])
def test_figures_are_those_of_the_result_file(name: str) -> None:
    import sys

    sys.path.insert(0, str(ROOT / "benchmarks"))
    from figures import FIGURES, RESULTS, language_of, newest

    if not list(RESULTS.glob(f"{name}-*.json")):
        pytest.skip(f"{name} has no result file yet")
    for page in FIGURES[name].pages:
        block = FIGURES[name].block(newest(name), language_of(page))
        assert f"<!-- figures: {name} -->\n{block}<!-- end -->" in (ROOT / page).read_text(encoding="utf-8")
