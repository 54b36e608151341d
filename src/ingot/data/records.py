"""Records of a file turned into something, one by one; what is wrong with any of them is gathered and told together.

A file with mistakes is refused as a whole, naming the first and how many there are, or on request read without them,
which is said. So nothing that was given is left out without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ingot.core.errors import IngotError, fail
from ingot.core.language import text
from ingot.core.progress import warn
from ingot.data.files import kind, read_records
from ingot.data.manifest import Manifest, licence_of

T = TypeVar("T")
Convert = Callable[[Path, int, dict[str, Any], str | None], T]
"""convert(file, line, record, licence of the file); raises an IngotError that names the place."""
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

    Raises what `stream` raises of files.
    """
    found: list[T] = []
    problems: list[Problem] = []
    for one in _each(Path(path), convert):
        if isinstance(one, Problem):
            problems.append(one)
        else:
            found.append(one)
    return found, problems


def stream(path: str | Path, convert: Convert[T], *, skip_bad: bool = False) -> Iterator[T]:
    """What the records become, one after the other. With the first wrong one it ends: the others are counted and all
    refused. With `skip_bad` they are left out, which is said at the end.

    Raises `no-such-data`, `unknown-chat-type`, `no-chat-files`, `bad-file`, `not-utf8`, `bad-record`, `empty-chats`
    where there is no record at all, and what is wrong with the first wrong one.
    """
    problems: list[Problem] = []
    empty = True
    for one in _each(Path(path), convert):
        if isinstance(one, Problem):
            problems.append(one)
        elif skip_bad or not problems:
            empty = False
            yield one
    if problems and (empty or not skip_bad):
        raise first_of(problems)
    if problems:
        warn("bad-skipped", path=path, count=f"{len(problems):,}", first=str(problems[0].error),
             places=places([problem.line for problem in problems]))  # fmt: skip


def _each(path: Path, convert: Convert[T]) -> Iterator[T | Problem]:
    empty = True
    for file, licence in chat_files(path):
        for line, record in read_records(file):
            empty = False
            try:
                yield convert(file, line, record, licence)
            except IngotError as error:
                yield Problem(file, line, error)
    if empty:
        raise fail("empty-chats", path=path)


def count_records(path: Path) -> int:
    """How many records there are to look at."""
    return sum(1 for file, _ in chat_files(path) for _ in read_records(file))


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


def chat_files(path: Path) -> list[tuple[Path, str | None]]:
    """The file, or the `chat` files of a directory's manifest, each with the licence its manifest gives.

    Raises `no-such-data`, `unknown-chat-type`, `no-chat-files`.
    """
    if not path.exists():
        raise fail("no-such-data", path=path)
    if path.is_dir():
        manifest = Manifest.read(path)
        files = [(path / entry.file, entry.licence) for entry in manifest.files("chat")] if manifest else []
        if not files:
            raise fail("no-chat-files", path=path)
        return files
    if kind(path) not in TYPES:
        raise fail("unknown-chat-type", path=path)
    return [(path, licence_of(path))]
