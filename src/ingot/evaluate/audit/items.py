"""The items of benchmark files, with their ids and their texts by part: a question may stand in a corpus without its
choices, and the choices without the question.

Records of .jsonl, .json (an array, or an object that holds one) and .parquet have an id where a field says so; rows of
.csv and lines of .txt and .md are named by their line.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingot.core.errors import IngotError, fail
from ingot.data.clean.benchmark import benchmark_files, csv_rows, strings_in
from ingot.data.files import check_object, kind, read_lines, read_records
from ingot.evaluate.audit.units import Units, split

ID_FIELDS = ("id", "task_id", "item_id", "question_id", "qid", "uid")
WHOLE = "whole"
LABEL = 0.1
"""A field with so few different values, as a share of the items, is a label and no part of what is asked."""

LEAST_PART = 1 / 3
"""A part smaller than this share of its item (one choice, the subject) is looked at only with the rest."""


@dataclass(frozen=True)
class Item:
    """One thing asked. `parts`: the texts that are looked for, by field, and under WHOLE all of them together."""

    id: str
    file: str
    line: int
    parts: dict[str, Units]


def read_items(paths: list[Path]) -> list[Item]:
    """All items of benchmark files or folders. Raises `unknown-benchmark-type`, `empty-benchmark`, `audit-id-twice`,
    and what reading a file raises, naming it."""
    items: list[Item] = []
    for file in benchmark_files(paths):
        found = list(_items(file))
        if not found:
            raise fail("empty-benchmark", path=file)
        items += found
    return items


def _items(file: Path) -> Iterator[Item]:
    seen: dict[str, int] = {}
    records = list(_records(file))
    labels = _labels([fields for _, fields, _ in records])
    for line, fields, named in records:
        if named is not None and seen.setdefault(named, line) != line:
            raise fail("audit-id-twice", path=file, line=line, id=named, first=seen[named])
        asked = {name: text for name, text in fields.items() if name not in labels}
        yield Item(f"{file.name}:{line}" if named is None else named, file.name, line, _parts(asked))


def _labels(records: list[dict[str, str]]) -> set[str]:
    """Fields that say the same of many items: a subject, a language, the letter of the right choice."""
    values: dict[str, set[str]] = defaultdict(set)
    for fields in records:
        for name, text in fields.items():
            values[name].add(text)
    return {name for name, found in values.items() if len(found) <= LABEL * len(records)}


def _parts(fields: dict[str, str]) -> dict[str, Units]:
    """Each field that is a good part of the whole, and the whole."""
    whole = split("\n".join(fields.values()))
    parts = {name: split(text) for name, text in fields.items()}
    kept = {name: units for name, units in parts.items() if LEAST_PART * len(whole) <= len(units) < len(whole)}
    return {WHOLE: whole, **kept}


def _records(file: Path) -> Iterator[tuple[int, dict[str, str], str | None]]:
    """Line, texts by field, and the id if there is one."""
    if kind(file) in {".txt", ".md"}:
        for number, text in enumerate(read_lines(file), start=1):
            if text.strip():
                yield number, {"text": text}, None
    elif kind(file) == ".csv":
        for line, cells in csv_rows(file):
            yield line, {str(number): cell for number, cell in enumerate(cells, start=1)}, None
    else:
        for line, record in _objects(file):
            named = next((record[name] for name in ID_FIELDS if isinstance(record.get(name), str | int)), None)
            texts = {name: "\n".join(strings_in(value)) for name, value in record.items() if name not in ID_FIELDS}
            yield line, texts, None if named is None else str(named)


def _objects(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Records; of a .json that is an object, those of its longest list."""
    if kind(file) != ".json":
        yield from read_records(file)
        return
    try:
        yield from read_records(file)
    except IngotError as error:
        if error.code != "bad-record" or "expected an array" not in str(error.details.get("reason")):
            raise
        import json

        lists = [value for value in json.loads("".join(read_lines(file))).values() if isinstance(value, list)]
        if not lists:
            raise
        records = max(lists, key=len)
        yield from ((number, check_object(file, number, record)) for number, record in enumerate(records, start=1))
