"""The pages of the verb say what the code says, in both languages: options, fields, error codes."""

from __future__ import annotations

import ast
import string
from pathlib import Path

import pytest

import ingot
from ingot.core.language import catalog, option_help
from ingot.serve.errors import KINDS
from ingot.serve.schema import ChatBody, CompletionBody
from ingot.serve.serve import ServeOptions

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {"en": "serve.md", "zh-TW": "serve.zh-TW.md"}


@pytest.mark.parametrize("language", PAGES)
def test_option_table(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (DOCS / PAGES[language]).read_text(encoding="utf-8")
    monkeypatch.setenv("INGOT_LANG", language)
    for name, field in ServeOptions.model_fields.items():
        flag = "MODEL" if name == "model" else f"--{name.replace('_', '-')}"
        default = "" if field.is_required() or field.default is None else f"`{field.default}`"
        help = option_help("serve", name, field.description or "")
        assert f"| `{flag}` | {default} | {help} |" in page
        assert language == "en" or help != field.description


@pytest.mark.parametrize("page", PAGES.values())
def test_fields_and_error_codes(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    for name in ChatBody.model_fields.keys() | CompletionBody.model_fields.keys():
        assert f"`{name}" in text
    for kind in KINDS.values():
        line = next(
            line for line in text.splitlines() if f"`{kind.code}`" in line and line.startswith(f"| {kind.status}")
        )
        assert line


def test_at_most_fifteen_options() -> None:
    assert len(ServeOptions.model_fields) - 2 <= 15  # two are groups


def test_every_refusal_fills_its_sentence() -> None:
    seen = set()
    for path in sorted((Path(ingot.__file__).parent / "serve").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "refuse":
                code = node.args[0]
                assert isinstance(code, ast.Constant)
                needed = {
                    name.split("!")[0]
                    for _, name, _, _ in string.Formatter().parse(catalog()[code.value]["en"])
                    if name
                }
                assert needed <= {"param", *(keyword.arg for keyword in node.keywords)}, f"{path.name}:{node.lineno}"
                seen.add(code.value)
    assert seen == KINDS.keys()
