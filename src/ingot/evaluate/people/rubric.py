"""What people are asked, as a YAML file: one question for comparisons, criteria with scales for ratings.

    question: {en: "Which answer is more useful?", zh-TW: "哪一個回答比較有用？"}
    criteria:
      - name: correct
        question: {en: "Is it correct?", zh-TW: "內容正確嗎？"}
        scale: [1, 5]
        ends: {en: ["wrong", "correct"], zh-TW: ["錯誤", "正確"]}

A plain string stands for both languages. Without a file the questions below are asked.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from ingot.core.errors import fail
from ingot.core.language import read_yaml

LONGEST_SCALE = 10


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Words(_Part):
    """A text in both languages."""

    en: str = Field(min_length=1)
    zh: str = Field(min_length=1, validation_alias="zh-TW")

    def of(self, language: str) -> str:
        return self.zh if language == "zh" else self.en


def _both(found: object) -> object:
    return {"en": found, "zh-TW": found} if isinstance(found, str) else found


class Ends(_Part):
    """What the least and the greatest value mean."""

    en: tuple[str, str]
    zh: tuple[str, str] = Field(validation_alias="zh-TW")

    def of(self, language: str) -> tuple[str, str]:
        return self.zh if language == "zh" else self.en


Asked = Annotated[Words, BeforeValidator(_both)]


class Criterion(_Part):
    """One thing to rate, on whole numbers from the first of `scale` to the last."""

    name: str = Field(pattern=r"^\w[\w-]*$", max_length=40)
    question: Asked
    scale: tuple[int, int] = (1, 5)
    ends: Ends | None = None

    @field_validator("scale")
    @classmethod
    def _rising(cls, found: tuple[int, int]) -> tuple[int, int]:
        if not 1 <= found[1] - found[0] < LONGEST_SCALE:
            raise ValueError(
                f"expected two whole numbers, the second larger by 1 to {LONGEST_SCALE - 1}, such as [1, 5]"
            )
        return found

    @property
    def values(self) -> range:
        return range(self.scale[0], self.scale[1] + 1)


class Rubric(_Part):
    """What is asked."""

    question: Asked
    criteria: list[Criterion] = Field(min_length=1, max_length=9)

    @field_validator("criteria")
    @classmethod
    def _different(cls, found: list[Criterion]) -> list[Criterion]:
        names = [criterion.name for criterion in found]
        if len(set(names)) < len(names):
            raise ValueError("two criteria have the same name")
        return found

    def digest(self, mode: Literal["pairwise", "rubric"]) -> str:
        """Of what a vote depends on in a mode."""
        asked = (
            self.question.model_dump_json() if mode == "pairwise" else str([c.model_dump_json() for c in self.criteria])
        )
        return hashlib.sha256(f"{mode}\0{asked}".encode()).hexdigest()


def _criterion(name: str, en: str, zh: str, ends: tuple[str, str], ends_zh: tuple[str, str]) -> Criterion:
    return Criterion(name=name, question=Words(en=en, zh=zh), ends=Ends(en=ends, zh=ends_zh))


DEFAULT = Rubric(
    question=Words(en="Which answer is better?", zh="哪一個回答比較好？"),
    criteria=[
        _criterion("correct", "Is what it says correct?", "內容正確嗎？", ("wrong", "correct"), ("錯誤", "正確")),
        _criterion(
            "helpful", "Does it do what was asked?", "有回應到問題嗎？", ("not at all", "fully"), ("完全沒有", "完全有")
        ),
        _criterion("fluent", "Does it read well?", "文字通順嗎？", ("hard to read", "reads well"), ("難讀", "通順")),
    ],
)


def read_rubric(path: Path | None) -> Rubric:
    """The rubric of a file, or the one above. Raises `no-such-file`, `people-bad-rubric`."""
    if path is None:
        return DEFAULT
    from yaml import YAMLError

    try:
        found: Any = read_yaml(path.read_text(encoding="utf-8"))
        return Rubric.model_validate({"question": DEFAULT.question, "criteria": DEFAULT.criteria} | (found or {}))
    except FileNotFoundError:
        raise fail("no-such-file", path=path) from None
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"])) or "-"
        raise fail("people-bad-rubric", path=path, place=place, reason=problem["msg"]) from None
    except (YAMLError, UnicodeDecodeError, TypeError) as error:
        raise fail("people-bad-rubric", path=path, place="-", reason=str(error).splitlines()[0]) from None
