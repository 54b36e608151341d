"""Reading what is asked: a world's questions.jsonl, or a file of the same form from anywhere.

Every line is checked before a model is loaded, so that a question nobody could answer right never counts against one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ingot.core.errors import fail
from ingot.data.files import kind, read_records
from ingot.evaluate.options import EvaluateOptions
from ingot.evaluate.scoring import NEVER_TOLD, normalise

NAME = "questions.jsonl"


class Asked(BaseModel):
    """One line of a file of what is asked. Ids differ within a file; `lang` becomes part of a number's name."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(min_length=1)
    lang: str = Field(pattern=r"^[^\s.]+$")


class Question(Asked):
    """`accept` lists what a right answer contains; for kind never-told, further ways to admit ignorance."""

    kind: str = Field(pattern=r"^[^\s.]+$")
    question: str = Field(min_length=1)
    answer: str | None = None
    accept: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _answerable(self) -> Self:
        if self.kind != NEVER_TOLD and not any(normalise(entry) for entry in self.accept):
            raise ValueError("accept is empty, no answer could be right")
        return self


A = TypeVar("A", bound=Asked)


def questions_path(options: EvaluateOptions) -> Path:
    """The file to ask from: `world`, else the world that `data` is or lies in. Raises `evaluate-no-world`."""
    if options.world is not None:
        path = options.world / NAME if options.world.is_dir() else options.world
        if not path.exists():
            raise fail("evaluate-no-questions", path=path)
        return path
    for place in [options.data, options.data.parent] if options.data is not None else []:
        if (place / NAME).exists():
            return place / NAME
    raise fail("evaluate-no-world", data=options.data or "-")


def read_questions(path: Path, form: type[A]) -> list[A]:
    """All that a file asks, in order. Raises IngotError naming the line that is wrong."""
    if kind(path) not in (".jsonl", ".json"):
        raise fail("evaluate-no-questions", path=path)
    asked: list[A] = []
    seen: dict[str, int] = {}
    for line, record in read_records(path):
        one = _checked(path, line, record, form)
        if one.id in seen:
            raise fail("evaluate-question-twice", path=path, line=line, id=one.id, first=seen[one.id])
        seen[one.id] = line
        asked.append(one)
    if not asked:
        raise fail("evaluate-questions-empty", path=path)
    return asked


def _checked(path: Path, line: int, record: dict[str, Any], form: type[A]) -> A:
    try:
        return form.model_validate(record)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"])) or "line"
        reason = f"{place}: {problem['msg'].removeprefix('Value error, ')}"
        expected = ", ".join(form.model_fields)
        raise fail("evaluate-bad-question", path=path, line=line, reason=reason, expected=expected) from None
