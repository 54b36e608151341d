"""What a task file may compute: jinja expressions and templates over one record, in the immutable sandbox.

An expression (`[sol1, sol2]`) gives a value, a template (`"Q: {{ question }}"`) a text; a name that a record does not
have is an error in both. Four filters are ours, for sets that keep several things in one text: `sub` replaces a
pattern, `match` gives the groups of one, `cut` splits at one, `ones` says where a list of labels holds 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

ERRORS = (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a record can do to an expression that it does not fit."""


def _sub(text: str, pattern: str, replacement: str) -> str:
    return re.sub(pattern, replacement, text)


def _match(text: str, pattern: str) -> list[str]:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"{pattern!r} is not in {text[:60]!r}")
    return list(found.groups())


def _cut(text: str, pattern: str) -> list[str]:
    return [part for part in re.split(pattern, text) if part]


def _ones(labels: list[int]) -> list[int]:
    return [at for at, label in enumerate(labels) if label == 1]


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    made = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    made.filters |= {"sub": _sub, "match": _match, "cut": _cut, "ones": _ones}
    return made


@lru_cache(maxsize=256)
def template(source: str) -> jinja2.Template:
    """Compiled, once for each source. Raises jinja2.TemplateSyntaxError."""
    return _environment().from_string(source)


@lru_cache(maxsize=256)
def expression(source: str) -> Any:
    """A function from variables to a value, compiled once. Raises jinja2.TemplateSyntaxError."""
    return _environment().compile_expression(source, undefined_to_none=False)


def render(source: str, variables: Mapping[str, Any]) -> str:
    """A template's text. Raises one of ERRORS."""
    return template(source).render(variables)


def evaluate(source: str, variables: Mapping[str, Any]) -> Any:
    """An expression's value. Raises one of ERRORS, for a missing name too."""
    value = expression(source)(variables)
    if isinstance(value, jinja2.Undefined):
        value._fail_with_undefined_error()
    return value
