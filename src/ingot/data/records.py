"""Records of a file turned into something, one by one; what is wrong with any of them is gathered and told together.

A file with mistakes is refused as a whole, naming the first and how many there are, or on request read without them,
which is said. So nothing that was given is left out without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ingot.core.errors import IngotError, fail
from ingot.core.language import text
from ingot.core.progress import warn
from ingot.data.files import kind, read_records
from ingot.data.manifest import Manifest

T = TypeVar("T")
Convert = Callable[[Path, int, dict[str, Any]], T]
"""convert(file, line, record); raises an IngotError that names the place."""
TYPES = {".jsonl", ".json", ".parquet"}
SHOWN = 5
"""Places that a sentence names."""


class Problem(NamedTuple):
    """A record that cannot be used: where it is, and why not."""

    path: Path
    line: int
    error: IngotError

    @property
    def reason(self) -> str:
        """Why, without the place where that is said apart."""
        where = place(self.path, self.line)
        whole = str(self.error).removeprefix(f"{self.path}, {where}: ").removeprefix(f"{self.path} {where}：")
        return str(self.error.details.get("reason", whole))


def scan(path: str | Path, convert: Convert[T]) -> tuple[list[T], list[Problem]]:
    """What the records of a file (or the `chat` files of a directory's manifest) become, and those that are wrong.

    Raises `no-such-data`, `unknown-chat-type`, `no-chat-files`, `bad-file`, `not-utf8`, `bad-record` and, where there
    is no record at all, `empty-chats`.
    """
    found: list[T] = []
    problems: list[Problem] = []
    for file in files_of(Path(path)):
        for line, record in read_records(file):
            try:
                found.append(convert(file, line, record))
            except IngotError as error:
                problems.append(Problem(file, line, error))
    if not found and not problems:
        raise fail("empty-chats", path=path)
    return found, problems


def read_all(path: str | Path, convert: Convert[T], *, skip_bad: bool = False) -> list[T]:
    """`scan` without the wrong ones: they are refused, or with `skip_bad` said and left out.

    Raises what is wrong with the first of them, with the number of the others; `all-bad` when nothing else is there.
    """
    found, problems = scan(path, convert)
    if problems and not (skip_bad and found):
        raise first_of(problems)
    if problems:
        warn("bad-skipped", path=path, count=f"{len(problems):,}", first=str(problems[0].error),
             places=places([problem.line for problem in problems]))  # fmt: skip
    return found


def first_of(problems: Sequence[Problem]) -> IngotError:
    """The first problem as the error to raise, with how many more there are."""
    error, others = problems[0].error, problems[1:]
    if not others or "more" not in error.details:
        return error
    more = text("more-problems", count=f"{len(others):,}", places=places([problem.line for problem in others]))
    return fail(error.code, **{**error.details, "more": more})


def place(path: Path, line: int) -> str:
    """Where a record stands, in the user's words: a line of a .jsonl, a record of any other file."""
    return text("place-line" if kind(path) == ".jsonl" else "place-record", number=line)


def places(lines: Sequence[int]) -> str:
    """The first lines of some, "..." behind them where there are more."""
    return ", ".join(map(str, lines[:SHOWN])) + (", ..." if len(lines) > SHOWN else "")


def files_of(path: Path) -> list[Path]:
    """The file, or the `chat` files of a directory's manifest.

    Raises `no-such-data`, `unknown-chat-type`, `no-chat-files`.
    """
    if not path.exists():
        raise fail("no-such-data", path=path)
    if path.is_dir():
        manifest = Manifest.read(path)
        files = [path / entry.file for entry in manifest.files("chat")] if manifest else []
        if not files:
            raise fail("no-chat-files", path=path)
        return files
    if kind(path) not in TYPES:
        raise fail("unknown-chat-type", path=path)
    return [path]
