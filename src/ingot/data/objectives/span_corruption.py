"""Span corruption (Raffel et al. 2020, arXiv 1910.10683): spans are cut out of the text and predicted one by one.

    text    Thank you for inviting me to your party last week
    source  Thank you <X> me to your party <Y> week
    target  <X> for inviting <Y> last <Z>

Which tokens are cut follows T5's own `random_spans_noise_mask`: an exact number of them, in an exact number of spans of
random length, never the first token. An encoder-decoder reads the source and predicts the target, each with an end
behind it; a decoder reads both as one segment whose prefix is the source. A document of fewer than two tokens has
nothing to cut and asks nothing. `restore` puts a document together again.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ingot.data.objectives.lesson import Lesson
from ingot.data.objectives.objective import Objective, Setting
from ingot.data.objectives.ragged import Ragged, join, lay
from ingot.data.objectives.segments import Segments
from ingot.data.objectives.special import end_id, sentinel_ids
from ingot.data.pack import Batch, Bools, Ints


def span_corruption(setting: Setting) -> Objective:
    """The objective for an encoder-decoder or a decoder."""
    setting.require("span-corruption", "encoder-decoder", "decoder")
    noise, span, length = setting.options.noise, setting.options.span, setting.length
    sentinels = np.asarray(sentinel_ids(setting.tokenizer, sizes(length, noise, span)[1]), np.int32)
    make = partial(corrupt_rows, sentinels=sentinels, end=end_id(setting.tokenizer), pad=setting.pad,
                   noise=noise, span=span)  # fmt: skip
    if setting.form == "decoder":
        return setting.bind("span-corruption", make, lambda n: n + 2 * sizes(n, noise, span)[1] + 1, both_ways=True)
    width = target_width(length, noise, span)
    make = partial(make, start=setting.start, width=width)
    return setting.bind("span-corruption", make, lambda n: _pair_room(n, length, width, noise, span))


def target_width(length: int, noise: float, span: float) -> int:
    """How wide the rows of targets are: what one document as long as a row asks for, up to a multiple of 8."""
    return math.ceil((sum(sizes(length, noise, span)) + 1) / 8) * 8


def _pair_room(n: int, length: int, width: int, noise: float, span: float) -> int:
    """A document costs the larger of its shares of the source's row and of the target's."""
    tokens, spans = sizes(n, noise, span)
    return max(n - tokens + spans + 1, n, math.ceil((tokens + spans + 1) * length / width))


def corrupt_rows(
    batch: Batch,
    generator: np.random.Generator,
    *,
    sentinels: Ints,
    end: int,
    pad: int = 0,
    noise: float = 0.15,
    span: float = 3.0,
    start: int | None = None,
    width: int | None = None,
) -> Lesson:
    """Corrupt every segment. With `start` and `width` the lesson is an encoder-decoder's, the targets behind `start` in
    rows of `width`; without, it is a decoder's."""
    segments = Segments.of(batch.segments_BT)
    text, asked = _contents(batch, segments, end)
    cut = noise_masks(text.lengths, noise, span, generator)
    source, target = replace_runs(text, cut, sentinels), replace_runs(text, ~cut, sentinels)
    flags = replace_runs(asked, ~cut, np.ones_like(sentinels))
    ends = Ragged.one(end, len(segments))
    target, flags = join(target, ends), join(flags, Ragged.one(1, len(segments)))
    flags = flags.like((flags.values == 1) & flags.spread(text.lengths > 1))
    if start is None or width is None:
        return _one_text(batch, segments, source, target, flags, pad)
    ids = np.where(target.firsts(), start, np.roll(target.values, 1))
    labels = np.where(flags.values, target.values, -1)
    shape = (len(batch.rows), width)
    source_ids_BS, source_segments_BS = lay(join(source, ends), segments, batch.ids_BT.shape, pad)
    ids_BT, segments_BT = lay(target.like(ids), segments, shape, pad)
    labels_BT, _ = lay(target.like(labels), segments, shape, -1)
    return Lesson(ids_BT, segments_BT, labels_BT, batch.rows, None, source_ids_BS, source_segments_BS)


def _contents(batch: Batch, segments: Segments, end: int) -> tuple[Ragged, Ragged]:
    """The ids of each segment without its end, and whether they are targets (0 or 1)."""
    ended = batch.ids_BT[segments.rows, segments.ends - 1] == end
    empty = Ragged(np.empty(0, np.int32), segments.lengths - ended)
    columns = np.arange(empty.lengths.sum()) + empty.spread(segments.begins - empty.begins)
    places = empty.spread(segments.rows), columns
    return empty.like(batch.ids_BT[places]), empty.like(batch.targets_BT[places].astype(np.int32))


def _one_text(batch: Batch, segments: Segments, source: Ragged, target: Ragged, flags: Ragged, pad: int) -> Lesson:
    """Source and target as one segment of a decoder, the source its prefix."""
    text = join(source, target)
    asked = join(source.like(np.zeros(len(source.values), np.bool_)), flags)
    prefix = join(source.like(np.ones(len(source.values), np.bool_)), flags.like(np.zeros_like(flags.values)))
    labels = np.roll(np.where(asked.values, text.values, -1), -1)
    ids_BT, segments_BT = lay(text, segments, batch.ids_BT.shape, pad)
    labels_BT, _ = lay(text.like(labels), segments, batch.ids_BT.shape, -1)
    prefix_BT, _ = lay(prefix, segments, batch.ids_BT.shape, 0)
    return Lesson(ids_BT, segments_BT, labels_BT, batch.rows, prefix_BT.astype(np.bool_))


def corrupt(ids: Ints, cut: Bools, sentinels: Ints) -> tuple[Ints, Ints]:
    """Source and target of one text: each span cut becomes a sentinel in the source, each span kept one in the target.
    The first token is kept, so a sentinel stands for the same cut on both sides."""
    assert not cut[0]
    text = Ragged.of([ids])
    return replace_runs(text, cut, sentinels).values, replace_runs(text, ~cut, sentinels).values


def replace_runs(texts: Ragged, runs: Bools, sentinels: Ints) -> Ragged:
    """Texts with every run of `runs` replaced by one sentinel, the first run of each text by the first sentinel."""
    begins = runs & (texts.firsts() | ~np.append(False, runs[:-1]))
    count = np.cumsum(begins)
    before = np.append(0, count)[texts.begins]
    replaced = texts.values.astype(np.int32)
    replaced[begins] = sentinels[(count - texts.spread(before))[begins] - 1]
    return texts.like(replaced).kept(begins | ~runs)


def sizes(n: int, noise: float, span: float) -> tuple[int, int]:
    """How many of n tokens are cut, and how many sentinels stand for them: T5's numbers, with at most one span for each
    token kept. Of fewer than two tokens none is cut; the one sentinel of the target is then not asked for."""
    if n < 2:
        return 0, 1
    tokens = min(max(round(n * noise), 1), n - 1)
    return tokens, min(max(round(tokens / span), 1), n - tokens)


def noise_masks(lengths: NDArray[np.int64], noise: float, span: float, generator: np.random.Generator) -> Bools:
    """Which tokens of texts of these lengths are cut, all texts in one array: in each, spans kept and cut take turns,
    beginning with one that is kept. A text of fewer than two tokens keeps them."""
    long = lengths[lengths > 1]
    tokens, spans = np.asarray([sizes(n, noise, span) for n in long.tolist()], np.int64).reshape(-1, 2).T
    kept, cut = _random_lengths(long - tokens, spans, generator), _random_lengths(tokens, spans, generator)
    masks = np.zeros(lengths.sum(), np.bool_)
    turns = np.arange(2 * len(kept)) % 2 == 1
    masks[np.repeat(lengths > 1, lengths)] = np.repeat(turns, np.stack([kept, cut], axis=1).reshape(-1))
    return masks


def _random_lengths(
    items: NDArray[np.int64], parts: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Lengths >= 1 of `parts[s]` parts of `items[s]` >= 1 items, all ways alike, for each s in turn: of the gaps
    between items those with the smallest random numbers become borders."""
    gaps = Ragged(np.empty(0), items - 1)
    draws, groups = generator.random(gaps.lengths.sum()), gaps.spread(np.arange(len(items)))
    ranks = np.arange(len(draws)) - gaps.spread(gaps.begins)
    border = np.zeros(len(draws), np.bool_)
    border[np.lexsort((draws, groups))] = ranks < gaps.spread(parts - 1)
    begins = np.zeros(items.sum(), np.bool_)
    begins[np.cumsum(items) - items] = True
    begins[np.flatnonzero(border) + groups[border] + 1] = True
    return np.diff(np.append(np.flatnonzero(begins), len(begins)))


def restore(source: Ints, target: Ints, sentinels: Ints) -> Ints:
    """The text of a source and target, both without their ends."""
    known = set(sentinels.tolist())
    spans: dict[int, list[int]] = {}
    current: list[int] = []
    for id in target.tolist():
        if id in known:
            current = spans[id] = []
        else:
            current.append(id)
    parts = [spans[id] if id in known else [id] for id in source.tolist()]
    return np.asarray([id for part in parts for id in part], np.int32)
