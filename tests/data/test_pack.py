"""Packing: nothing lost, nothing cut that fits, targets exact, the order a pure function of step, size and seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.core.errors import IngotError
from ingot.data.pack import Rows, best_fit, pack_chats, pack_documents, repack, segment_positions
from ingot.text.chat import Rendered

EOS = 9999
documents = st.lists(st.lists(st.integers(0, 500), max_size=20), min_size=1, max_size=30)


def segments_of(rows: Rows) -> list[tuple[list[int], list[bool]]]:
    """The ids and targets of every segment, found by a plain loop."""
    found = []
    for ids, segments, targets in zip(rows.ids, rows.segments, rows.targets, strict=True):
        for segment in range(segments.max() + 1):
            (where,) = np.nonzero(segments == segment)
            assert where.size
            assert (np.diff(where) == 1).all()
            found.append((ids[where].tolist(), targets[where].tolist()))
        padding = segments == -1
        assert not targets[padding].any()
        assert (np.diff(padding.astype(int)) >= 0).all()
    return found


@given(documents, st.integers(2, 12), st.integers(1, 60))
def test_every_token_appears_once_and_only_long_documents_are_cut(
    given: list[list[int]], length: int, buffer: int
) -> None:
    if all(not document for document in given):
        given = [[1]]
    rows = pack_documents(iter(given), length, eos=EOS, pad=-7, buffer_tokens=buffer)
    found = segments_of(rows)
    whole = [[*document, EOS] for document in given]
    expected = [document[at : at + length] for document in whole for at in range(0, len(document), length)]
    assert Counter(tuple(ids) for ids, _ in found) == Counter(map(tuple, expected))
    assert all(targets == [False, *[True] * (len(ids) - 1)] for ids, targets in found)
    assert (rows.ids[rows.segments == -1] == -7).all()
    assert rows.num_targets == sum(len(part) - 1 for part in expected)
    assert rows.num_tokens == sum(map(len, expected))
    assert (rows.ids.dtype, rows.segments.dtype, rows.targets.dtype) == (np.int32, np.int32, np.bool_)


@given(documents, st.integers(2, 12))
def test_rows_in_files_equal_rows_in_memory(
    tmp_path_factory: pytest.TempPathFactory, given: list[list[int]], length: int
) -> None:
    given = [*given, [1, 2]]
    directory = tmp_path_factory.mktemp("rows")
    memory = pack_documents(given, length, eos=EOS, buffer_tokens=30)
    files = pack_documents(given, length, eos=EOS, buffer_tokens=30, directory=directory)
    assert isinstance(files.ids, np.memmap)
    for name in ("ids", "segments", "targets"):
        assert np.array_equal(getattr(files, name), getattr(memory, name))
    assert np.array_equal(files.batch(1, 2, 3).ids_BT, memory.batch(1, 2, 3).ids_BT)


@given(st.lists(st.integers(0, 30), max_size=60), st.integers(30, 40))
def test_best_fit_takes_the_fullest_bin_with_room(lengths: list[int], capacity: int) -> None:
    bins: list[list[int]] = []
    for item in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        rooms = [capacity - sum(lengths[other] for other in members) for members in bins]
        fitting = [room for room in rooms if room >= lengths[item]]
        if fitting:
            candidates = [number for number, room in enumerate(rooms) if room == min(fitting)]
            bins[candidates[0]].append(item)
        else:
            bins.append([item])
    found = best_fit(lengths, capacity)
    assert sorted(item for members in found for item in members) == list(range(len(lengths)))
    fills = [sorted(sum(lengths[item] for item in members) for members in some) for some in (found, bins)]
    assert fills[0] == fills[1]


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 5))
@settings(max_examples=50)
def test_every_row_comes_once_in_each_epoch(count: int, size: int, seed: int) -> None:
    ids = np.arange(count, dtype=np.int32)[:, None].repeat(3, axis=1)
    rows = Rows(ids, np.zeros((count, 3), np.int32), np.ones((count, 3), np.bool_))
    steps = -(-3 * count // size)
    batches = [rows.batch(step, size, seed) for step in range(steps)]
    order = np.concatenate([batch.rows for batch in batches])[: 3 * count]
    for epoch in range(3):
        assert sorted(order[epoch * count : (epoch + 1) * count]) == list(range(count))
    assert all(batch.ids_BT.shape == (size, 3) for batch in batches)
    assert all((batch.ids_BT[:, 0] == batch.rows).all() for batch in batches)
    again = rows.batch(steps - 1, size, seed)
    assert np.array_equal(again.rows, batches[-1].rows)


def test_seeds_and_epochs_give_other_orders() -> None:
    rows = pack_documents([[number, number] for number in range(64)], 3, eos=EOS)
    orders = [rows.batch(step, 64, seed).rows.tolist() for step, seed in ((0, 0), (1, 0), (0, 1))]
    assert len({tuple(order) for order in orders}) == 3
    assert [sorted(order) for order in orders] == [list(range(64))] * 3


@given(st.lists(st.lists(st.integers(1, 4), max_size=5).map(tuple), min_size=1, max_size=5))
def test_positions_begin_again_with_each_segment(rows: list[tuple[int, ...]]) -> None:
    width = 21
    segments = np.full((len(rows), width), -1, np.int32)
    expected = np.zeros((len(rows), width), np.int32)
    for row, sizes in enumerate(rows):
        at = 0
        for number, size in enumerate([*sizes, width - sum(sizes)]):
            segments[row, at : at + size] = number if number < len(sizes) else -1
            expected[row, at : at + size] = range(size)
            at += size
    found = segment_positions(segments)
    assert found.dtype == np.int32
    assert np.array_equal(found, expected)


def test_chats_keep_their_masks() -> None:
    chats = [
        Rendered("", [1, 2, 3, 4], [False, False, True, True]),
        Rendered("", [5, 6, 7], [True, True, False]),
        Rendered("", [8, 9], [False, True]),
    ]
    rows = pack_chats(chats, 6, pad=0)
    found = sorted(segments_of(rows))
    assert found == [
        ([1, 2, 3, 4], [False, False, True, True]),
        ([5, 6, 7], [False, True, False]),
        ([8, 9], [False, True]),
    ]
    assert len(rows) == 2


def test_chats_that_do_not_fit_or_teach_nothing_are_refused() -> None:
    fine = Rendered("", [1, 2], [False, True])
    with pytest.raises(IngotError, match="41") as caught:
        pack_chats([fine, Rendered("", [1] * 9, [True] * 9)], 8, line_of=[7, 41].__getitem__)
    assert (caught.value.code, caught.value.details["found"]) == ("chat-too-long", 9)
    with pytest.raises(IngotError, match=r"2 of 4 .*: 2, 4; the longest, on line 4, has 12"):
        pack_chats(iter([fine, Rendered("", [1] * 9, [True] * 9), fine, Rendered("", [1] * 12, [True] * 12)]), 8)
    for mask in ([False, False], [True, False]):
        with pytest.raises(IngotError) as caught:
            pack_chats([fine, Rendered("", [1, 2], mask)], 8)
        assert (caught.value.code, caught.value.details["number"]) == ("no-target", 2)


@pytest.mark.parametrize("given", [[], [[]], [[], []]])
def test_nothing_to_predict_is_refused(given: list[list[int]], tmp_path: Path) -> None:
    for directory in (None, tmp_path):
        with pytest.raises(IngotError) as caught:
            pack_documents(given, 8, eos=EOS, directory=directory)
        assert caught.value.code == "no-rows"


def test_best_fit_wastes_little() -> None:
    lengths = np.random.default_rng(0).lognormal(4, 1, 3000).astype(int).clip(1, 512)
    rows = pack_documents([[1] * int(n) for n in lengths], 512)
    assert rows.num_tokens / rows.ids.size > 0.99


@pytest.mark.parametrize("on_disk", [False, True])
def test_every_row_knows_its_documents(on_disk: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    documents = [[number + 10] * int(random.integers(2, 30)) for number in range(200)]
    rows = pack_documents(documents, 16, directory=tmp_path if on_disk else None, buffer_tokens=300)
    for row in range(len(rows)):
        for segment, number in enumerate(rows.documents(row)):
            assert set(rows.ids[row][rows.segments[row] == segment]) == {number + 10}
        assert len(rows.documents(row)) == rows.segments[row].max() + 1


def test_conversations_of_usual_lengths_leave_little_padding() -> None:
    """Lengths spread as those of public chat data are: half below 166 tokens, a tenth above 823."""
    lengths = np.random.default_rng(0).lognormal(np.log(166), 1.25, size=5000).astype(int).clip(8, 2048)
    for window in (2048, 4096):
        rows = len(best_fit(lengths.tolist(), window))
        assert 1 - lengths.sum() / (rows * window) < 0.005


@pytest.mark.parametrize("on_disk", [False, True])
def test_shorter_rows_hold_the_same_documents(on_disk: bool, tmp_path: Path) -> None:
    sizes = [3 + n % 7 for n in range(60)]
    chats = [
        Rendered("", list(range(10 * n, 10 * n + size)), [bool(k % 3) for k in range(size)])
        for n, size in enumerate(sizes)
    ]
    wide = pack_chats(chats, 64)
    narrow = repack(wide, 16, directory=tmp_path if on_disk else None)
    assert narrow.length == 16

    def documents(rows: Rows) -> dict[int, tuple[list[int], list[bool]]]:
        found = {}
        for row in range(len(rows)):
            for segment, number in enumerate(rows.documents(row)):
                where = rows.segments[row] == segment
                assert number not in found
                found[number] = rows.ids[row][where].tolist(), rows.targets[row][where].tolist()
        return found

    assert documents(narrow) == documents(wide)
    assert len(documents(wide)) == 60
    assert (narrow.num_tokens, narrow.num_targets) == (wide.num_tokens, wide.num_targets)
