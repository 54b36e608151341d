"""Answers on disk while they come, so that a killed evaluation goes on where it stopped.

They lie beside the report, in `.NAME.answers/`, one file for each model and task: a first line that says what was asked
of whom (its key), then a row a line. The same command again finds them; where weights, tokenizer, task, seed or
ingot's own code differ, so does the key, and nothing old is taken. The folder goes when the report is written.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ingot.core.errors import fail
from ingot.evaluate.task import Row


def folder_beside(out: Path) -> Path:
    out = out.resolve()
    return out.parent / f".{out.name}.answers"


class Journal:
    """The rows of one model and task, by their `id`. A line that was not written whole is cut off."""

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        line = json.dumps(dict(key), sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(line.encode()).hexdigest()
        self.path = folder / f"{digest[:24]}.jsonl"
        self.rows: dict[str, Row] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._stream = self.path.open("ab+", buffering=0)
        self._lock()
        self._recover(line)

    def _lock(self) -> None:
        """Raises `evaluate-running` where another run writes the same rows."""
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._stream.close()
            raise fail("evaluate-running", path=self.path) from None

    def _recover(self, head: str) -> None:
        """Take what was saved, as far as it is whole."""
        self._stream.seek(0)
        content = self._stream.read()
        lines = content[: content.rfind(b"\n") + 1].splitlines(keepends=True)
        if not lines or lines[0].decode().rstrip("\n") != head:
            self._stream.truncate(0)
            self._stream.write(f"{head}\n".encode())
            return
        self._stream.truncate(sum(map(len, lines)))
        self.rows = {row["id"]: row for row in map(json.loads, lines[1:])}

    def add(self, row: Row) -> None:
        """Save a row at once: what was handed to the system survives the process."""
        self._stream.write((json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode())
        self.rows[row["id"]] = row

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()


def forget(out: Path) -> None:
    """Remove what was saved for a report that is written."""
    shutil.rmtree(folder_beside(out), ignore_errors=True)
