"""Answers packed in rows, and which of them are the better and the worse ones.

A pair lies in one row, the better answer directly before the worse one, each behind its own copy of the prompt and in a
segment of its own: neither sees the other, and no micro-batch or process parts them. Of labelled answers any may lie
beside any.

Letters: N rows, S segments of the fullest row, P answers of one side.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ingot.core.files import write_file
from ingot.core.model_dir import read_json
from ingot.data.pack import Rows, open_rows, pack_groups
from ingot.text.chat import Rendered

SIDES, WIDTH = "sides.bin", "sides.json"
CHOSEN, REJECTED, NOTHING = 1, 0, -1

Answer = tuple[Rendered, bool]
"""Prompt with answer, and whether it is the better one, or a good one."""


@dataclass(frozen=True)
class Sheet:
    """`sides_NS`: int8, for each segment of each row CHOSEN, REJECTED, or NOTHING where there is none."""

    rows: Rows
    sides_NS: NDArray[np.int8]

    @property
    def width(self) -> int:
        """S."""
        return int(self.sides_NS.shape[1])

    def part(self, count: int) -> Sheet:
        """The first rows."""
        rows = Rows(self.rows.ids[:count], self.rows.segments[:count], self.rows.targets[:count])
        return Sheet(rows, self.sides_NS[:count])

    def places(self, rows_B: NDArray[np.int64], side: int) -> NDArray[np.int64]:
        """Places of one side's answers in (B, S), flat; of pairs, the n-th of both sides belong together."""
        return np.flatnonzero(np.asarray(self.sides_NS[rows_B]) == side)

    def tokens(self, rows_B: NDArray[np.int64]) -> NDArray[np.int64]:
        """Targets of each answer, (B, S)."""
        batch = self.rows.take(rows_B)
        found = np.zeros((len(rows_B), self.width), np.int64)
        row, column = np.nonzero(batch.targets_BT)
        np.add.at(found, (row, batch.segments_BT[row, column]), 1)
        return found


def write_sheet(groups: Sequence[Sequence[Answer]], length: int, pad: int, directory: Path) -> Sheet:
    """Pack groups of answers (pairs, or single ones) to files of a directory; answers are numbered as they come."""
    answers = [answer for group in groups for answer in group]
    numbers = iter(range(len(answers)))
    numbered = [[(text, next(numbers)) for text, _ in group] for group in groups]
    rows = pack_groups(numbered, length, pad=pad, directory=directory)
    assert rows.members is not None
    counts = np.diff(rows.members.begins)
    sides_NS = np.full((len(rows), int(counts.max())), NOTHING, np.int8)
    row_of = np.repeat(np.arange(len(rows)), counts)
    good = np.asarray([is_good for _, is_good in answers], np.int8)
    sides_NS[row_of, np.arange(len(answers)) - rows.members.begins[row_of]] = good[rows.members.numbers]
    write_file(directory / SIDES, sides_NS.tobytes())
    write_file(directory / WIDTH, json.dumps({"width": sides_NS.shape[1]}))
    return open_sheet(directory)


def open_sheet(directory: Path) -> Sheet:
    """What `write_sheet` wrote, mapped read-only."""
    rows = open_rows(directory)
    shape = (len(rows), read_json(directory / WIDTH)["width"])
    return Sheet(rows, np.memmap(directory / SIDES, np.int8, "r", shape=shape))
