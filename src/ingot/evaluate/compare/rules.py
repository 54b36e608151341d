"""The rules of a gate: what each figure of a report must be shown to be, read from a YAML file and checked by line.

level: 5%           # how often a rule may be wrong
min_power: 95%      # how surely a test must see what its rule names
cannot_tell: fail   # or pass: what happens where a test cannot
items: same         # or common: leave out what only one report has
rules:
  told: {not_worse_by: 5%}           # points, for a share
  bits_per_byte: {no_drop: 1%}       # of the baseline's, for anything else
  told.zh: {at_least: 80%}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from ingot.core import yaml_lines
from ingot.core.errors import IngotError, fail, nearest
from ingot.core.options import Options, option, required

KINDS = {
    "not_worse_by": "shown to be no more than this worse than the baseline",
    "better_by": "shown to be more than this better than the baseline; 0 for any gain",
    "no_drop": "no drop is seen, by a test that would see one of this size",
    "at_least": "shown to be above this, whatever the baseline",
    "at_most": "shown to be below this, whatever the baseline",
}
"""What a rule may claim."""

PAIRED = ("not_worse_by", "better_by", "no_drop")


@dataclass(frozen=True)
class Rule:
    """One claim. `size` is above zero for margins (or zero, for better_by); `is_percent`: it was given in percent."""

    metric: str
    kind: str
    size: float
    is_percent: bool
    line: int

    @property
    def source(self) -> str:
        shown = f"{100 * self.size:g}%" if self.is_percent else f"{self.size:g}"
        return f"{self.metric} {self.kind} {shown}"


class RulesFile(Options):
    """What the file holds, before its rules are looked into."""

    level: float = option(0.05, "how often a rule may be wrong", gt=0, lt=0.5)
    min_power: float = option(0.95, "how surely a test must see what its rule names", ge=0.5, lt=1)
    cannot_tell: Literal["fail", "pass"] = option("fail", "what a rule does whose test cannot tell")
    items: Literal["same", "common"] = option(
        "same", "items of one report only: same refuses them, common leaves them out"
    )
    rules: dict[str, dict[str, Any]] = required("figure -> what it must be shown to be", min_length=1)

    @field_validator("level", "min_power", mode="before")
    @classmethod
    def _percent(cls, found: object) -> object:
        number = amount(found)
        return found if number is None else number[0]


@dataclass(frozen=True)
class Rules:
    """A file that was read and checked."""

    file: RulesFile
    path: Path
    rules: list[Rule]


def read_rules(path: Path) -> Rules:
    """Raises IngotError naming the file, the line and what is wrong."""
    content, lines = yaml_lines.read(path)
    if not isinstance(content, Mapping):
        raise fail("gating-not-rules", path=path)
    try:
        file = RulesFile.of(**{str(key): value for key, value in content.items()})
    except IngotError as error:
        line = lines.at(*str(error.details.get("name", "")).split("."))
        located = fail("gating-place", path=path, line=line, reason=str(error))
        located.code = error.code
        raise located from None
    rules = [
        _rule(path, lines.at("rules", metric, str(kind)), metric, str(kind), size)
        for metric, claims in file.rules.items() for kind, size in _claims(path, lines, metric, claims)
    ]  # fmt: skip
    return Rules(file, path, rules)


def _claims(path: Path, lines: yaml_lines.Lines, metric: str, claims: dict[str, Any]) -> list[tuple[str, Any]]:
    if not claims:
        raise fail("gating-empty", path=path, line=lines.at("rules", metric), metric=metric, kinds=", ".join(KINDS))
    return [*claims.items()]


def _rule(path: Path, line: int, metric: str, kind: str, size: object) -> Rule:
    if kind not in KINDS:
        raise fail("gating-unknown-kind", path=path, line=line, kind=kind, nearest=nearest(kind, KINDS))
    number = amount(size)
    if number is None:
        raise fail("gating-not-a-number", path=path, line=line, kind=kind, found=repr(size))
    value, is_percent = number
    if kind in PAIRED and (value < 0 or (value == 0 and kind != "better_by")):
        raise fail("gating-wrong-sign", path=path, line=line, kind=kind, found=size)
    return Rule(metric, kind, value, is_percent, line)


def amount(found: object) -> tuple[float, bool] | None:
    """ "5%" or 0.05 as a number, and whether it was in percent; None for anything else."""
    is_percent = isinstance(found, str) and found.strip().endswith("%")
    word = found.strip().removesuffix("%") if isinstance(found, str) else found
    if isinstance(word, bool) or not isinstance(word, str | int | float):
        return None
    try:
        number = float(word)
    except ValueError:
        return None
    return (number / 100 if is_percent else number, is_percent) if abs(number) < float("inf") else None
