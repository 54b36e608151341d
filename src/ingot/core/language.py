"""The language ingot speaks to its user: English or Traditional Chinese (Taiwan), from INGOT_LANG or the locale.

Sentences are data in `messages/*.yaml`: `code: {en: ..., zh: ...}` with `{fields}` in str.format style. They are
read on first use only, so a run that never speaks pays nothing.
"""

from __future__ import annotations

import functools
import os
from importlib import resources
from typing import Any

LANGUAGES = ("en", "zh")


def read_yaml(source: str) -> Any:
    """Plain data from YAML text, through libyaml's parser where there is one (ten times faster)."""
    import yaml

    return yaml.load(source, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  (a safe loader)


def language() -> str:
    """'zh' when INGOT_LANG (or, without it, the locale) asks for Chinese, else 'en'."""
    for variable in ("INGOT_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(variable)
        if value:
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"


@functools.cache
def catalog() -> dict[str, dict[str, str]]:
    """Every sentence: code -> language -> template."""
    sentences: dict[str, dict[str, str]] = {}
    for file in sorted(resources.files("ingot.core.messages").iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".yaml"):
            entries = read_yaml(file.read_text(encoding="utf-8")) or {}
            assert not sentences.keys() & entries.keys(), (
                f"a sentence stands twice: {sentences.keys() & entries.keys()}"
            )
            sentences.update(entries)
    return sentences


def text(code: str, /, **details: object) -> str:
    """The sentence `code` in the user's language, its fields filled."""
    return sentence(code, language(), **details)


def sentence(code: str, /, language: str, **details: object) -> str:
    """The sentence `code` in a given language ("en" or "zh"), its fields filled."""
    return catalog()[code][language].format(**details)


@functools.cache
def _help() -> dict[str, dict[str, str]]:
    """Chinese help: verb or class of a group -> option -> text; `summary` is the verb's line, in both languages."""
    file = resources.files("ingot.core").joinpath("help.yaml")
    found: dict[str, dict[str, str]] = read_yaml(file.read_text(encoding="utf-8"))
    return found


def verb_help(verb: str) -> str:
    """One line on what a verb does, in the user's language."""
    return _help()[verb]["summary-zh" if language() == "zh" else "summary"]


def option_help(place: str, option: str, english: str) -> str:
    """What an option of a verb or of a group does: the options class holds the English, help.yaml the Chinese."""
    return _help()[place].get(option, english) if language() == "zh" else english
