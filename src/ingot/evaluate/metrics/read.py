"""Texts to score: a .txt with one a line, or a .jsonl with one a record, each of bounded size and surely text.

A line is read up to the bound and no further, so that a file without newlines costs no memory. Blank lines count: line
n of one file belongs to line n of the other.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ingot.core.errors import fail
from ingot.data.files import check_text, kind

KINDS = (".txt", ".md", ".jsonl")


def read_texts(path: Path, field: str, longest: int) -> list[str]:
    """All texts of a file. Raises `no-such-file`, `score-file-kind`, `score-long-line`, `not-utf8`, `score-not-text`,
    `bad-record`, `score-empty-file`."""
    if not path.is_file():
        raise fail("no-such-file", path=path)
    if kind(path) not in KINDS:
        raise fail("score-file-kind", path=path, known=", ".join(KINDS))
    with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as stream:
        lines = _lines(path, stream, longest)
        texts = list(_records(path, lines, field)) if kind(path) == ".jsonl" else list(lines)
    if not texts:
        raise fail("score-empty-file", path=path)
    return texts


def _lines(path: Path, stream: BinaryIO | gzip.GzipFile, longest: int) -> Iterator[str]:
    """Lines without their ending; at most `longest` bytes of one are held."""
    number = position = 0
    while line := stream.readline(longest + 3):
        number += 1
        body = line.rstrip(b"\r\n")
        if len(body) > longest:
            raise fail("score-long-line", path=path, line=number, limit=f"{longest:,}")
        try:
            text = body.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            byte, value = position + error.start, f"0x{body[error.start]:02x}"
            raise fail("not-utf8", path=path, line=number, byte=byte, value=value) from None
        position += len(line)
        yield text


def _records(path: Path, lines: Iterator[str], field: str) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise fail("bad-record", path=path, line=number, reason=f"not JSON: {error}") from None
        if isinstance(record, dict) and field not in record:
            known = ", ".join(map(str, record)) or "nothing"
            raise fail("score-no-field", path=path, line=number, field=field, found=known)
        found = record[field] if isinstance(record, dict) else record
        yield check_text(path, number, as_text(found, str(path), number))


def as_text(found: object, where: str, number: int) -> str:
    """A string, or the error that says what stands there instead: null, NaN, a number, bytes."""
    if not isinstance(found, str):
        raise fail("score-not-text", path=where, line=number, found=f"{type(found).__name__} {found!r:.60}")
    return found


def check_lengths(hypotheses: Sequence[str], others: Sequence[tuple[Path, Sequence[str]]], own: Path) -> None:
    """Raises `score-lengths` with both counts."""
    for path, texts in others:
        if len(texts) != len(hypotheses):
            raise fail("score-lengths", path=own, found=len(hypotheses), other=path, count=len(texts))
