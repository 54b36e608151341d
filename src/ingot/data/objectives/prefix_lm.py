"""Prefix language modelling (Raffel et al. 2020, arXiv 1910.10683; Wang et al. 2022, arXiv 2204.05832).

The beginning of each document is read in both directions, the rest is predicted from it token by token. In a decoder
both are one segment with a prefix; in an encoder-decoder the encoder reads the beginning. Where the prefix ends is
drawn evenly from all places that leave a token on either side, or, for conversations, is where the answer begins.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from ingot.data.objectives.lesson import Lesson
from ingot.data.objectives.next_token import shifted
from ingot.data.objectives.objective import Objective, Setting
from ingot.data.objectives.ragged import Ragged, lay
from ingot.data.objectives.segments import Segments
from ingot.data.objectives.special import end_id
from ingot.data.pack import Batch, segment_positions

Lengths = NDArray[np.int64]


def prefix_lm(setting: Setting) -> Objective:
    """The objective for a decoder or an encoder-decoder."""
    setting.require("prefix-lm", "decoder", "encoder-decoder")
    answer = setting.options.split == "answer"
    if setting.form == "decoder":
        return setting.bind("prefix-lm", partial(split_rows, answer=answer), both_ways=True)
    make = partial(split_pairs, answer=answer, end=end_id(setting.tokenizer), start=setting.start, pad=setting.pad)
    return setting.bind("prefix-lm", make, lambda n: n + 1)


def split_rows(batch: Batch, generator: np.random.Generator, *, answer: bool = False) -> Lesson:
    """For a decoder: the rows as they are, with a prefix in each segment; what is behind it is predicted."""
    segments = Segments.of(batch.segments_BT)
    ends_BT = np.zeros(batch.ids_BT.shape, np.int64)
    prefixes = prefix_lengths(batch, segments, generator, answer=answer).tolist()
    for (row, _, place), prefix in zip(segments.places(), prefixes, strict=True):
        ends_BT[row, place] = prefix
    positions_BT = segment_positions(batch.segments_BT)
    labels_BT = np.where(positions_BT >= ends_BT - 1, shifted(batch), np.int32(-1))
    return Lesson(batch.ids_BT, batch.segments_BT, labels_BT, batch.rows, positions_BT < ends_BT)


def split_pairs(
    batch: Batch, generator: np.random.Generator, *, end: int, start: int, pad: int, answer: bool = False
) -> Lesson:
    """For an encoder-decoder: the source is the prefix and `end`; the target is the rest, read behind `start`."""
    segments = Segments.of(batch.segments_BT)
    prefixes = prefix_lengths(batch, segments, generator, answer=answer).tolist()
    sources, read, labels = [], [], []
    for (row, _, place), prefix in zip(segments.places(), prefixes, strict=True):
        ids, asked = batch.ids_BT[row, place], batch.targets_BT[row, place]
        sources.append(np.append(ids[:prefix], end))
        read.append(np.append(start, ids[prefix:-1]))
        labels.append(np.where(asked, ids, -1)[prefix:] if prefix < len(ids) else np.asarray([-1]))
    shape = batch.ids_BT.shape
    source_ids_BS, source_segments_BS = lay(Ragged.of(sources), segments, shape, pad)
    ids_BT, segments_BT = lay(Ragged.of(read), segments, shape, pad)
    labels_BT, _ = lay(Ragged.of(labels), segments, shape, -1)
    return Lesson(ids_BT, segments_BT, labels_BT, batch.rows, None, source_ids_BS, source_segments_BS)


def prefix_lengths(
    batch: Batch, segments: Segments, generator: np.random.Generator, *, answer: bool = False
) -> Lengths:
    """Tokens of each segment's prefix: evenly 1..n-1 (1 of 1, which asks nothing), or those before the first target
    (all of them where there is none)."""
    if not answer:
        return generator.integers(1, np.maximum(segments.lengths, 2))
    lengths = []
    for row, _, place in segments.places():
        (asked,) = np.nonzero(batch.targets_BT[row, place])
        lengths.append(int(asked[0]) if len(asked) else place.stop - place.start)
    return np.asarray(lengths, np.int64)
