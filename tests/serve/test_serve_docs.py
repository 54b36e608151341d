"""The pages of the verb say what the code says, in both languages: options, fields, error codes."""

from __future__ import annotations

import ast
import string
from pathlib import Path

import pytest

import ingot
from ingot.core.language import catalog, option_help
from ingot.core.options import Options
from ingot.infer.scheduler import Counters
from ingot.serve.errors import KINDS
from ingot.serve.limits import LimitOptions
from ingot.serve.messages.schema import CountBody, MessagesBody
from ingot.serve.metrics import GAUGES, Metrics
from ingot.serve.schema import (
    ChatBody,
    CompletionBody,
    DetokenizeBody,
    EmbeddingBody,
    TemplateBody,
    TokenizeBody,
)
from ingot.serve.serve import ServeOptions

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {"en": "serve.md", "zh-TW": "serve.zh-TW.md"}


@pytest.mark.parametrize("page", PAGES.values())
def test_metrics(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    metrics = Metrics()
    metrics.watch({name: lambda: 0.0 for name in GAUGES}, Counters)
    for family in metrics.registry.collect():
        name = family.name.removeprefix("ingot_") + ("_total" if family.type == "counter" else "")
        assert f"`{name}" in text, name


@pytest.mark.parametrize("language", PAGES)
def test_option_table(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (DOCS / PAGES[language]).read_text(encoding="utf-8")
    monkeypatch.setenv("INGOT_LANG", language)
    for name, field in ServeOptions.model_fields.items():
        if name == "limits":
            continue
        flag = "MODEL" if name == "model" else f"--{name.replace('_', '-')}"
        is_group = isinstance(field.default, Options)
        default = "" if is_group or field.is_required() or field.default is None else f"`{field.default}`"
        help = option_help("serve", name, field.description or "")
        assert f"| `{flag}{'.*' if is_group else ''}` | {default} | {help} |" in page
        assert language == "en" or help != field.description
    for name, field in LimitOptions.model_fields.items():
        help = option_help("LimitOptions", name, field.description or "")
        assert f"| `--{name.replace('_', '-')}` | `{field.default}` | {help} |" in page
        assert language == "en" or help != field.description


@pytest.mark.parametrize("page", PAGES.values())
def test_fields_and_error_codes(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    controls = (DOCS / page.replace("serve", "generate")).read_text(encoding="utf-8").replace("-", "_")
    bodies = (
        ChatBody,
        CompletionBody,
        MessagesBody,
        CountBody,
        EmbeddingBody,
        TokenizeBody,
        DetokenizeBody,
        TemplateBody,
    )
    for kind in bodies:
        for name in kind.model_fields:
            assert f"`{name}" in text or f"`__{name}" in controls or f"`{name}" in controls, name
    for error in KINDS.values():
        line = next(
            line for line in text.splitlines() if f"`{error.code}`" in line and line.startswith(f"| {error.status}")
        )
        assert line


def test_at_most_fifteen_options() -> None:
    own = [field for field in ServeOptions.model_fields.values() if not isinstance(field.default, Options)]
    assert len(own) <= 15


def test_every_refusal_fills_its_sentence() -> None:
    seen = set()
    for path in sorted((Path(ingot.__file__).parent / "serve").rglob("*.py")):
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
