"""Documents and chats to rows of one length, no document cut unless it is longer than a row.

Packing is best-fit decreasing: of the rows with room enough, the fullest takes the document (Johnson 1973; for language
models, Ding et al. 2024, arXiv 2404.10830). It works on a bounded buffer of documents at a time, so a corpus of any
size streams through, to memory or to files mapped into it, which other processes can open. `segments` says which
document of its row a token belongs to: attention and positions that respect it make a packed row equal to its documents
alone, exactly.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingot.core.errors import fail
from ingot.core.files import naming_a_full_disk, write_file
from ingot.core.model_dir import read_json
from ingot.data.fit import too_long
from ingot.text.chat import Rendered

Ints = NDArray[np.int32]
Bools = NDArray[np.bool_]
Piece = tuple[Ints, Bools, int]
"""The ids of a document or chat, which of them are to be predicted, and its number, counted from 0."""
Group = Sequence[Piece]
"""Pieces that stand in one row, one behind the other."""
Room = Callable[[int], int]
"""Tokens of a row to give a document of n tokens: at least n, and never fewer for a longer one. An objective that adds
tokens to a document (`data/objectives`) asks for the room here, so that no token is ever cut off."""

BUFFER_TOKENS = 1 << 21
"""Tokens packed at a time; at row length 512 this leaves well under 1 % of the rows unfilled."""

ROWS = 4096
"""Rows looked at in one go: they may lie on disk."""


@dataclass(frozen=True)
class Batch:
    """Some rows: ids_BT int32, segments_BT int32 (-1: padding), targets_BT bool, and the rows' numbers."""

    ids_BT: Ints
    segments_BT: Ints
    targets_BT: Bools
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Members:
    """Which documents lie in which row: `numbers[begins[row] : begins[row + 1]]`, in the order of its segments."""

    numbers: NDArray[np.int64]
    begins: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Members:
        begins = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64)
        return cls(np.asarray([number for row in rows for number in row], np.int64), begins)

    @classmethod
    def joined(cls, parts: Sequence[Members]) -> Members:
        """The rows of one part behind those of the other."""
        offsets = np.cumsum([0, *(len(part.numbers) for part in parts)])
        begins = [part.begins[1:] + offset for part, offset in zip(parts, offsets[:-1], strict=True)]
        numbers = [np.zeros(0, np.int64), *(part.numbers for part in parts)]
        return cls(np.concatenate(numbers), np.concatenate([np.zeros(1, np.int64), *begins]))


@dataclass(frozen=True)
class Rows:
    """Packed rows, each N x T. `targets` is True where the token AT the position is to be predicted: never at the
    first token of a segment, never at padding."""

    ids: Ints
    segments: Ints
    targets: Bools
    members: Members | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def documents(self, row: int) -> list[int]:
        """Numbers of the documents in a row, by segment, counted from 0 in the order they were given; [] if unknown."""
        if self.members is None:
            return []
        begin, end = self.members.begins[row : row + 2].tolist()
        return list(self.members.numbers[begin:end].tolist())

    @property
    def length(self) -> int:
        """T, tokens a row."""
        return int(self.ids.shape[1])

    @cached_property
    def num_targets(self) -> int:
        return int(np.count_nonzero(self.targets))

    @cached_property
    def num_tokens(self) -> int:
        """Tokens that are not padding."""
        parts = (self.segments[begin : begin + ROWS] for begin in range(0, len(self), ROWS))
        return sum(int(np.count_nonzero(part >= 0)) for part in parts)

    def batch(self, step: int, size: int, seed: int) -> Batch:
        """The rows of a training step: a pure function of its arguments, so resuming needs no state.

        Steps run through an endless list, in which each N rows are all the rows in an order of their own; a batch may
        hold the end of one such epoch and the beginning of the next.
        """
        places = np.arange(step * size, (step + 1) * size)
        epochs, within = np.divmod(places, len(self))
        rows = np.concatenate([_order(len(self), seed, int(e))[within[epochs == e]] for e in np.unique(epochs)])
        return self.take(rows)

    def take(self, rows: NDArray[np.int64]) -> Batch:
        """Some rows by their numbers."""
        return Batch(np.asarray(self.ids[rows]), np.asarray(self.segments[rows]), np.asarray(self.targets[rows]), rows)


def pack_documents(
    documents: Iterable[Sequence[int]],
    length: int,
    *,
    eos: int | None = None,
    pad: int = 0,
    directory: Path | None = None,
    buffer_tokens: int = BUFFER_TOKENS,
    room: Room = int,
) -> Rows:
    """Pack documents for pre-training: every token but the first of a segment is a target.

    `eos` is put behind each document (None: the documents have it already). A document longer than a row has room for
    becomes several segments. With `directory` the rows are written there and mapped, not held in memory.
    Raises `no-rows` when nothing is to be predicted, `row-too-short` when a row has room for no token at all.
    """
    longest = bisect_right(range(length + 1), length, key=room) - 1
    if longest < 1:
        raise fail("row-too-short", length=length, needed=room(1))
    tail = [] if eos is None else [eos]
    pieces = (_document([*document, *tail], number) for number, document in enumerate(documents))
    cut = (part for piece in pieces for part in _cut(piece, longest))
    return pack_pieces(cut, length, pad, room, directory, buffer_tokens)


def pack_chats(
    chats: Iterable[Rendered],
    length: int,
    *,
    pad: int = 0,
    line_of: Callable[[int], int] = lambda number: number + 1,
    directory: Path | None = None,
    buffer_tokens: int = BUFFER_TOKENS,
    room: Room = int,
) -> Rows:
    """Pack rendered conversations: targets are what their masks say. None is ever cut.

    `line_of` gives the line that errors name, from a conversation's number; `directory` as in `pack_documents`.
    Raises `chat-too-long` (with how many are), `no-target` and `no-rows`.
    """
    return pack_pieces(_chats(chats, length, line_of, room), length, pad, room, directory, buffer_tokens)


def repack(rows: Rows, length: int, *, pad: int = 0, directory: Path | None = None) -> Rows:
    """The documents of rows, none of which is longer than `length`, whole in rows of that length."""
    return pack_pieces(pieces_of(rows), length, pad, int, directory)


def pieces_of(rows: Rows) -> Iterator[Piece]:
    """What was packed, row by row."""
    for row in range(len(rows)):
        ids, segments, targets = (np.asarray(getattr(rows, name)[row]) for name in ("ids", "segments", "targets"))
        for segment, number in enumerate(rows.documents(row)):
            yield ids[segments == segment], targets[segments == segment], number


def pack_groups(
    groups: Iterable[Sequence[tuple[Rendered, int]]], length: int, *, pad: int = 0, directory: Path | None = None
) -> Rows:
    """Pack rendered texts, each with its number, that a loss compares: those of a group lie in one row, one behind the
    other. The caller has seen to it that each group fits into one. Raises `no-rows`."""
    pieces = ([(np.asarray(text.ids, np.int32), np.asarray(text.mask, np.bool_), number) for text, number in group]
              for group in groups)  # fmt: skip
    return _pack(pieces, length, pad, int, directory, BUFFER_TOKENS)


def open_rows(directory: Path) -> Rows:
    """The rows that packing wrote to a directory, mapped read-only."""
    shape = read_json(directory / _SHAPE)
    size = (shape["rows"], shape["length"])
    ids, segments, targets = (np.memmap(directory / f"{name}.bin", dtype, "r", shape=size)
                              for name, dtype in _DTYPES.items())  # fmt: skip
    numbers, begins = (np.memmap(directory / f"{name}.bin", np.int64, "r") for name in _MEMBERS)
    return Rows(ids, segments, targets, Members(numbers, begins))


def _chats(chats: Iterable[Rendered], length: int, line_of: Callable[[int], int], room: Room) -> Iterator[Piece]:
    """Conversations as pieces; once one is too long the others are only counted."""
    long: list[tuple[int, int]] = []
    number = -1
    for number, chat in enumerate(chats):
        if room(len(chat.ids)) > length:
            long.append((room(len(chat.ids)), line_of(number)))
        elif not any(chat.mask[1:]):
            raise fail("no-target", number=line_of(number))
        elif not long:
            yield np.asarray(chat.ids, np.int32), np.asarray(chat.mask, np.bool_), number
    if long:
        raise too_long(long, number + 1, length)


def segment_positions(segments: NDArray[Any]) -> Ints:
    """Positions that start again at 0 with each segment, int32 (B, T); runs of padding count as segments."""
    changed = np.ones(segments.shape, np.bool_)
    changed[:, 1:] = segments[:, 1:] != segments[:, :-1]
    index = np.broadcast_to(np.arange(segments.shape[1], dtype=np.int32), segments.shape)
    start = np.maximum.accumulate(np.where(changed, index, 0), axis=1)
    return (index - start).astype(np.int32)


def _document(ids: Sequence[int], number: int) -> Piece:
    return np.asarray(ids, np.int32), np.ones(len(ids), np.bool_), number


def _cut(piece: Piece, length: int) -> Iterator[Piece]:
    ids, targets, number = piece
    for begin in range(0, len(ids), length):
        yield ids[begin : begin + length], targets[begin : begin + length], number


def pack_pieces(
    pieces: Iterable[Piece],
    length: int,
    pad: int,
    room: Room,
    directory: Path | None = None,
    buffer_tokens: int = BUFFER_TOKENS,
) -> Rows:
    """Pack pieces, each into one row. Raises `no-rows` when nothing is to be predicted."""
    return _pack(((piece,) for piece in pieces), length, pad, room, directory, buffer_tokens)


def _pack(
    groups: Iterator[Group], length: int, pad: int, room: Room, directory: Path | None, buffer_tokens: int
) -> Rows:
    store = _Files(directory, length) if directory else _Memory(length)
    buffer: list[Group] = []
    size = 0
    for group in groups:
        buffer.append(group)
        size += sum(len(ids) for ids, _, _ in group)
        if size >= buffer_tokens:
            store.append(_fill(buffer, length, pad, room))
            buffer, size = [], 0
    if buffer:
        store.append(_fill(buffer, length, pad, room))
    rows = store.rows()
    if rows.num_targets == 0:
        raise fail("no-rows", length=length)
    return rows


def _fill(groups: list[Group], length: int, pad: int = 0, room: Room = int) -> Rows:
    """Lay the pieces out in rows; what room they have been given beyond their tokens is left at the rows' ends."""
    bins = best_fit([sum(room(len(ids)) for ids, _, _ in group) for group in groups], length)
    shape = (len(bins), length)
    ids, segments = np.full(shape, pad, np.int32), np.full(shape, -1, np.int32)
    targets = np.zeros(shape, np.bool_)
    rows = [[piece for member in members for piece in groups[member]] for members in bins]
    for row, pieces in enumerate(rows):
        begin = 0
        for segment, (piece_ids, piece_targets, _) in enumerate(pieces):
            end = begin + len(piece_ids)
            ids[row, begin:end], segments[row, begin:end] = piece_ids, segment
            targets[row, begin + 1 : end] = piece_targets[1:]
            begin = end
    return Rows(ids, segments, targets, Members.of([[number for _, _, number in pieces] for pieces in rows]))


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Bins of item numbers, each bin's lengths summing to at most capacity: longest first, each into the fullest bin
    that has room. `rooms` is a bit set of the amounts of room that some bin has."""
    bins: list[list[int]] = []
    by_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    rooms = 0
    for item in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        fitting = rooms >> lengths[item]
        if fitting:
            room = lengths[item] + (fitting & -fitting).bit_length() - 1
            chosen = by_room[room].pop()
            rooms &= ~(1 << room) if not by_room[room] else -1
        else:
            room, chosen = capacity, len(bins)
            bins.append([])
        bins[chosen].append(item)
        left = room - lengths[item]
        by_room[left].append(chosen)
        rooms |= 1 << left
    return bins


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of rows in an epoch."""
    order: NDArray[np.int64] = np.random.default_rng([seed, epoch]).permutation(count)
    order.setflags(write=False)
    return order


class _Memory:
    """Rows gathered in memory."""

    def __init__(self, length: int) -> None:
        self._parts: list[Rows] = []
        self._length = length

    def append(self, rows: Rows) -> None:
        self._parts.append(rows)

    def rows(self) -> Rows:
        parts = self._parts or [_fill([], self._length)]
        ids, segments, targets = (np.concatenate([getattr(part, name) for part in parts]) for name in _DTYPES)
        return Rows(ids, segments, targets, Members.joined([part.members for part in parts if part.members]))


_DTYPES: dict[str, Any] = {"ids": np.int32, "segments": np.int32, "targets": np.bool_}


_MEMBERS = ("numbers", "begins")
_SHAPE = "rows.json"


class _Files:
    """Rows written to files in a directory, one for each array, and mapped read-only once all are there."""

    def __init__(self, directory: Path, length: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory, self._length = directory, length
        self._rows = self._documents = 0
        for name in (*_DTYPES, *_MEMBERS):
            (directory / f"{name}.bin").write_bytes(b"")
        self._add("begins", np.zeros(1, np.int64))

    def append(self, rows: Rows) -> None:
        assert rows.members is not None
        for name in _DTYPES:
            self._add(name, getattr(rows, name))
        self._add("numbers", rows.members.numbers)
        self._add("begins", rows.members.begins[1:] + self._documents)
        self._rows += len(rows)
        self._documents += len(rows.members.numbers)

    def _add(self, name: str, values: NDArray[Any]) -> None:
        with naming_a_full_disk(self._directory), (self._directory / f"{name}.bin").open("ab") as stream:
            stream.write(np.ascontiguousarray(values).tobytes())

    def rows(self) -> Rows:
        if not self._rows:
            return _fill([], self._length)
        write_file(self._directory / _SHAPE, json.dumps({"rows": self._rows, "length": self._length}))
        return open_rows(self._directory)
