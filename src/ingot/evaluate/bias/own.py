"""Data files that a user may edit: YAML with the line of everything, so that a mistake is named where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ingot.core.errors import IngotError, fail
from ingot.core.language import language
from ingot.core.yaml_lines import Lines, read

Lang = Literal["en", "zh"]
LANGUAGES = ("en", "zh")
F = TypeVar("F", bound=BaseModel)


class Entry(BaseModel):
    """Base of what such a file holds: unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Name(Entry):
    """What a thing is called."""

    en: str
    zh: str


def in_language(names: Mapping[str, str]) -> str:
    """A name in the user's language."""
    return names[language()]


class Place:
    """A file and the lines of its keys."""

    def __init__(self, path: Path, lines: Lines) -> None:
        self.path, self.lines = path, lines

    def fail(self, code: str, *place: str | int, **details: object) -> IngotError:
        """The error with the file and line of a place."""
        return fail(code, path=self.path, line=self.lines.at(*place), **details)


def shipped(name: str) -> Path:
    """The file that comes with ingot."""
    return Path(__file__).with_name(name)


def read_own(form: type[F], path: Path) -> tuple[F, Place]:
    """The file as `form`. Raises `bias-bad-file` with file and line, and what `yaml_lines.read` raises."""
    found, lines = read(path)
    place = Place(path, lines)
    return parse(form, found, place), place


def parse(form: type[F], found: Any, place: Place) -> F:
    """Values as `form`. Raises `bias-language`, `bias-bad-file`."""
    try:
        return form.model_validate(found)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = [part for part in problem["loc"] if part not in ("[key]", "function-after")]
        is_lang = problem["type"] == "literal_error" and ("[key]" in problem["loc"] or "lang" in problem["loc"])
        if is_lang:
            raise place.fail("bias-language-in", *where, lang=problem["input"], known=", ".join(LANGUAGES)) from None
        reason = f"{'.'.join(map(str, where)) or 'file'}: {problem['msg'].removeprefix('Value error, ')}"
        raise place.fail("bias-bad-file", *where, reason=reason) from None
