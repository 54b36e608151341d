"""From files to the documents of a task: which layout lies there, its records, and what is wrong with any of them.

A record that nobody could answer rightly (no such choice, an empty question, too few choices, an id that was seen) is
left out of the denominator and listed with its file and line; above `most` of them nothing is asked at all.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ingot.core.errors import fail
from ingot.core.files import file_digest, tree_digest
from ingot.core.language import text
from ingot.data.files import Record, check_object, kind, read_lines, read_records
from ingot.evaluate.benchmarks.spec import Layout, Spec
from ingot.evaluate.benchmarks.templates import ERRORS, evaluate

KNOWN = ("id", "group", "cluster", "gold", "question")
"""Keys of a document that mean something here; the others are for the prompt alone."""


@dataclass(frozen=True, eq=False)
class Document:
    """One record as the task sees it; compared by identity. gold: indices of the right choices, empty where an answer
    is written; fields: all that the layout took."""

    id: str
    group: str
    cluster: str
    choices: tuple[str, ...]
    gold: tuple[int, ...]
    fields: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Problem:
    """A record that is left out."""

    file: str
    line: int
    id: str
    reason: str


@dataclass(frozen=True)
class Found:
    """What lies on the disk for a task. digest, shots_digest: of the files that were read, by name; copy: which known
    copy the asked ones are."""

    layout: Layout
    folder: Path
    digest: str
    shots_digest: str | None
    copy: str | None
    asked: list[Document]
    shots: list[Document]
    problems: list[Problem]

    @property
    def described(self) -> dict[str, Any]:
        """For the report."""
        digests = {"digest": self.digest, "shots_digest": self.shots_digest, "copy": self.copy}
        problems = [asdict(problem) for problem in self.problems]
        return {"folder": str(self.folder), "layout": self.layout.name, **digests, "problems": problems}


def find(spec: Spec, data: Path | None, most: float, num_shots: int) -> Found:
    """Read what lies in `data`. Raises `bench-no-data`, `bench-no-shots`, `bench-too-many-bad`."""
    layout, folder, files = _lying(spec, data)
    asked, problems = _documents(spec, layout, folder, files)
    total = len(asked) + len(problems)
    if not asked or len(problems) > most * total:
        first = problems[0] if problems else Problem(str(folder), 0, "", "no records")
        raise fail(
            "bench-too-many-bad", task=spec.name, bad=len(problems), total=total, most=f"{100 * most:g}",
            file=first.file, line=first.line, reason=first.reason,
        )  # fmt: skip
    shots: list[Document] = []
    shots_digest = None
    if num_shots and spec.shots.source == "shots":
        found = _glob(folder, layout.shots) if layout.shots else []
        if not found:
            raise fail("bench-no-shots", task=spec.name, path=folder / (layout.shots or "-"), count=num_shots)
        shots, bad = _documents(spec, layout, folder, found)
        problems += bad
        shots_digest = _digest(folder, found)
    digest = _digest(folder, files)
    return Found(layout, folder, digest, shots_digest, layout.known.get(digest), asked, shots or asked, problems)


def _digest(folder: Path, files: Sequence[Path]) -> str:
    return tree_digest({file.relative_to(folder).as_posix(): file_digest(file) for file in files})


def _lying(spec: Spec, data: Path | None) -> tuple[Layout, Path, list[Path]]:
    """The first layout whose files are there. Raises `bench-no-data`, which says how to place them."""
    for layout in spec.layouts:
        if data is None:
            break
        if data.is_file() and data.match(layout.asked):
            return layout, data.parent, [data]
        for folder in [*(data / name for name in (spec.folder, *layout.folders)), data]:
            files = _glob(folder, layout.asked)
            if files:
                return layout, folder, files
    wanted = "; ".join(_described(spec, layout) for layout in spec.layouts)
    digests = ", ".join(f"{digest[:16]} ({name})" for layout in spec.layouts for digest, name in layout.known.items())
    raise fail(
        "bench-no-data", task=spec.name, path=data or "-", layouts=wanted, licence=spec.licence, source=spec.source,
        place=spec.placing, digests=digests or text("bench-none-known"),
    )  # fmt: skip


def _described(spec: Spec, layout: Layout) -> str:
    """Where the files of a layout are looked for: "mmlu/test/*_test.csv (examples: mmlu/dev/*_dev.csv)"."""
    folder = layout.folders[0] if layout.folders else spec.folder
    return f"{folder}/{layout.asked}" + (f" (examples: {folder}/{layout.shots})" if layout.shots else "")


def _glob(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if path.is_file()) if folder.is_dir() else []


def _documents(spec: Spec, layout: Layout, folder: Path, files: Sequence[Path]) -> tuple[list[Document], list[Problem]]:
    """The documents of some files, and the records that are none."""
    found: list[Document] = []
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    for path in files:
        place = path.relative_to(folder).as_posix()
        for line, record in records(path, layout):
            made = _document(spec, layout, path, place, line, record)
            if isinstance(made, Document) and made.id in seen:
                made = Problem(place, line, made.id, f"the id is that of {seen[made.id]}")
            if isinstance(made, Problem):
                problems.append(made)
            else:
                seen[made.id] = f"{place}:{line}"
                found.append(made)
    return found, problems


def _document(
    spec: Spec, layout: Layout, path: Path, place: str, line: int, record: dict[str, Any]
) -> Document | Problem:
    """One record, or what is wrong with it."""
    file = {"stem": path.name.split(".")[0], "name": path.name, "folder": path.parent.name}
    around = {**record, "record": record, "file": file, "line": line}
    taken: dict[str, Any] = {"id": f"{place}:{line}", "group": "", "cluster": None}
    try:
        taken |= {key: evaluate(source, around) for key, source in layout.document.items()}
        choices = tuple(map(str, evaluate(spec.choices, taken))) if spec.output == "choice" else ()
        _check(spec, taken, choices)
        gold = tuple(_index(each, choices) for each in _several(taken.get("gold"))) if choices else ()
    except ERRORS as error:
        return Problem(place, line, str(taken["id"]), str(error))
    cluster = taken["group"] if taken["cluster"] is None else taken["cluster"]
    return Document(str(taken["id"]), str(taken["group"]), str(cluster), choices, gold, taken)


def _check(spec: Spec, taken: dict[str, Any], choices: Sequence[str]) -> None:
    """Raises ValueError for what nobody could answer rightly."""
    if "question" in taken and not str(taken["question"]).strip():
        raise ValueError("the question is empty")
    if spec.output != "choice":
        return
    if len(choices) < 2 or (spec.num_choices is not None and len(choices) != spec.num_choices):
        raise ValueError(f"{len(choices)} choices, expected {spec.num_choices or 'two or more'}")
    if not all(choices):
        raise ValueError("a choice is empty")


def _several(value: Any) -> list[Any]:
    """Raises ValueError where no choice is right."""
    found = list(value) if isinstance(value, list | tuple) else [value]
    if not found:
        raise ValueError("no choice is the right one")
    return found


def _index(value: Any, choices: Sequence[str]) -> int:
    """A right choice as a number from 0: as such, by its text, or by its letter. Raises ValueError."""
    if isinstance(value, bool) or value is None:
        raise ValueError(f"the right answer is {value!r}, expected one of {len(choices)} choices")
    word = str(value).strip()
    if word in choices:
        return choices.index(word)
    letter = ord(word.upper()) - ord("A") if len(word) == 1 and word.isascii() and word.isalpha() else -1
    at = int(word) if word.isascii() and word.isdigit() else letter
    if not 0 <= at < len(choices):
        raise ValueError(f"the right answer is {value!r}, and there are {len(choices)} choices")
    return at


def records(path: Path, layout: Layout) -> Iterator[Record]:
    """The records of a file, with their lines."""
    if kind(path) == ".csv":
        yield from _csv(path, layout.columns)
    elif kind(path) == ".json" and layout.records is not None:
        yield from _inside(path, layout.records)
    elif kind(path) in (".json", ".jsonl", ".parquet"):
        yield from read_records(path)
    else:
        raise fail("bench-not-readable", path=path)


def _csv(path: Path, columns: Sequence[str] | None) -> Iterator[Record]:
    """Rows by the names of their columns: those of the first row, or `columns` where the file has no head."""
    reader = csv.reader(read_lines(path), strict=True)
    try:
        names = list(columns) if columns else next(reader, [])
        for row in reader:
            if row and len(row) != len(names):
                raise fail("bench-bad-row", path=path, line=reader.line_num, found=len(row), expected=len(names))
            if row:
                yield reader.line_num, dict(zip(names, row, strict=True))
    except csv.Error as error:
        raise fail("bad-record", path=path, line=reader.line_num, reason=str(error)) from None


def _inside(path: Path, key: str) -> Iterator[Record]:
    """Records of a JSON object: the list under `key`, or with "*" all its values, `key` being theirs."""
    try:
        whole = json.loads("".join(read_lines(path)))
    except ValueError as error:
        raise fail("bad-record", path=path, line=1, reason=f"not JSON: {error}") from None
    whole = check_object(path, 1, whole)
    if key == "*":
        entries: Any = [{**check_object(path, 1, value), "key": name} for name, value in whole.items()]
    else:
        entries = whole.get(key)
    if not isinstance(entries, list):
        raise fail("bad-record", path=path, line=1, reason=f"expected a list under {key!r}")
    yield from ((number, check_object(path, number, entry)) for number, entry in enumerate(entries, start=1))
