"""Rows against the model that is to read them, before the first step: what would otherwise be an index error in the
middle of a run, or on a GPU a crash that names nothing.
"""

from __future__ import annotations

import numpy as np

from ingot.core.errors import fail
from ingot.data.pack import ROWS, Rows, segment_positions
from ingot.model.config import ModelConfig


def check_rows(rows: Rows, config: ModelConfig) -> None:
    """Raise `id-beyond-vocabulary` naming the row and token, `rows-too-long`, `no-targets`."""
    if rows.length > config.max_length and (longest := _longest(rows)) > config.max_length:
        raise fail("rows-too-long", length=longest, longest=config.max_length)
    if rows.num_targets == 0:
        raise fail("no-targets", count=len(rows))
    for begin in range(0, len(rows), ROWS):
        ids = np.asarray(rows.ids[begin : begin + ROWS])
        wrong = np.argwhere((ids < 0) | (ids >= config.vocab_size))
        if len(wrong):
            row, column = wrong[0].tolist()
            raise fail("id-beyond-vocabulary", row=begin + row, place=column, found=int(ids[row, column]),
                       size=config.vocab_size)  # fmt: skip


def _longest(rows: Rows) -> int:
    """Tokens of the longest document: rows may be longer than a model's window, positions begin anew in each."""
    parts = (np.asarray(rows.segments[begin : begin + ROWS]) for begin in range(0, len(rows), ROWS))
    return 1 + max(int(segment_positions(part)[part >= 0].max(initial=-1)) for part in parts)
