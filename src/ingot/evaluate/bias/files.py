"""Where the published suites lie below --data, and their records, every one checked before a model is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ingot.core.errors import fail

R = TypeVar("R", bound="Record")


class Record(BaseModel):
    """Base of an item: what it does not name is ignored, because the published files hold more."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def locate(data: Path | None, suite: str, names: Iterable[str]) -> list[Path]:
    """The suite's files: `data` itself where it is a file, else those called `names` (patterns) in it or in a folder
    right below it. Raises `bias-no-data`, `no-such-file`, `bias-not-found`."""
    patterns = list(names)
    if data is None:
        raise fail("bias-no-data", suite=suite, names=", ".join(patterns))
    if not data.exists():
        raise fail("no-such-file", path=data)
    if data.is_file():
        return [data]
    for pattern in patterns:
        for depth in ("", "*/", "*/*/"):
            found = sorted(path for path in data.glob(depth + pattern) if path.is_file())
            if found:
                return found
    raise fail("bias-not-found", suite=suite, path=data, names=", ".join(patterns))


def checked(form: type[R], path: Path, line: int, values: Any) -> R:
    """One record. Raises `bias-bad-item` naming the line and what is wrong there."""
    try:
        return form.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"])) or "item"
        reason = f"{place}: {problem['msg'].removeprefix('Value error, ')}"
        raise fail("bias-bad-item", path=path, line=line, reason=reason) from None


def not_empty(items: list[R], path: Path) -> list[R]:
    """Raises `bias-empty`."""
    if not items:
        raise fail("bias-empty", path=path)
    return items
