"""A mixture of objectives (Tay et al. 2022, "UL2", arXiv 2205.05131): each row of a batch draws which one it follows.

Shares are chances by row, so they hold over a run, not in each batch. The paper's mode tokens are not added: what a
row looks like (sentinels, markers) says which objective it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingot.data.objectives.lesson import Lesson
from ingot.data.objectives.objective import Objective
from ingot.data.pack import Batch

FILLS = {"ids_BT": None, "segments_BT": -1, "labels_BT": -1, "prefix_BT": 0, "source_ids_BS": None,
         "source_segments_BS": -1}  # fmt: skip
"""What stands in each array where a row's objective has nothing; None: the padding token."""


def mixture(parts: Sequence[Objective], shares: Sequence[float], pad: int) -> Objective:
    """Objectives of one kind of model, each with its share; room is what the neediest of them needs."""
    chances = np.asarray(shares) / np.sum(shares)
    make = partial(mix_rows, parts=parts, chances=chances, pad=pad)
    both_ways = any(part.both_ways for part in parts)
    room = lambda n: max(part.room(n) for part in parts)  # noqa: E731
    return replace(parts[0], name="mixture", make=make, room=room, both_ways=both_ways)


def mix_rows(
    batch: Batch, generator: np.random.Generator, *, parts: Sequence[Objective], chances: NDArray[np.float64], pad: int
) -> Lesson:
    """The lesson of a batch whose rows follow different objectives."""
    drawn = generator.choice(len(parts), size=len(batch.rows), p=chances)
    places = [np.flatnonzero(drawn == number) for number in range(len(parts))]
    lessons = [part.make(_rows(batch, place), generator) for part, place in zip(parts, places, strict=True)]
    joined = {name: _join([getattr(lesson, name) for lesson in lessons], places, pad if fill is None else fill)
              for name, fill in FILLS.items()}  # fmt: skip
    return Lesson(rows=batch.rows, **joined)


def _rows(batch: Batch, rows: NDArray[np.int64]) -> Batch:
    return Batch(batch.ids_BT[rows], batch.segments_BT[rows], batch.targets_BT[rows], batch.rows[rows])


def _join(values: Sequence[NDArray[Any] | None], places: Sequence[NDArray[np.int64]], fill: int) -> Any:
    """One array of all lessons, as wide as the widest; None where none has it. Causal rows have no prefix; places
    beyond a narrower lesson's rows are padding, which segments of -1 say."""
    arrays = [(array, place) for array, place in zip(values, places, strict=True) if array is not None]
    if not arrays:
        return None
    shape = (sum(len(place) for place in places), max(array.shape[1] for array, _ in arrays))
    joined = np.full(shape, fill, arrays[0][0].dtype)
    for array, place in arrays:
        joined[place, : array.shape[1]] = array
    return joined
