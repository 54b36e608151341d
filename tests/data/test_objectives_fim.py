"""Fill in the middle: every document comes back, in both orders, from text to text, and nothing is cut off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_samples import MARKERS, bind, long_documents, pack, split, texts, whole, write_tokenizer

from ingot.core.errors import IngotError
from ingot.data.objectives.catalogue import make_objective
from ingot.data.objectives.fill_in_middle import rearrange, rearrange_rows, restore
from ingot.data.objectives.options import ObjectiveOptions
from ingot.data.objectives.special import FILL_IN_MIDDLE, FimIds, fim_ids
from ingot.data.pack import pack_documents
from ingot.text.tokenizer import Tokenizer

PRE, SUF, MID, END, BOS = 1000, 1001, 1002, 5, 4
IDS = FimIds(PRE, SUF, MID)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return write_tokenizer(tmp_path_factory.mktemp("objectives") / "tokenizer")


def test_both_orders_are_the_papers() -> None:
    ids = np.asarray([BOS, 11, 12, 21, 22, 23, 31, END], np.int32)
    asked = np.asarray([False, True, True, True, False, True, True, True])
    psm, psm_asked = rearrange(ids, asked, (1, 3, 6, 7), IDS, END, spm=False)
    spm, spm_asked = rearrange(ids, asked, (1, 3, 6, 7), IDS, END, spm=True)
    assert psm.tolist() == [BOS, PRE, 11, 12, SUF, 31, MID, 21, 22, 23, END]
    assert spm.tolist() == [BOS, PRE, SUF, 31, MID, 11, 12, 21, 22, 23, END]
    for found, flags in ((psm, psm_asked), (spm, spm_asked)):
        assert restore(found, IDS).tolist() == ids.tolist()
        assert set(found[~flags].tolist()) == {BOS, 22}


@pytest.mark.slow
@given(texts, st.integers(0, 99), st.floats(0, 1), st.floats(0, 1), st.sampled_from([(), (BOS,), (END,)]))
@settings(max_examples=100, deadline=None)
def test_every_document_comes_back(
    documents: list[list[int]], seed: int, rate: float, spm: float, start: tuple[int, ...]
) -> None:
    framed = [[*start, *document] for document in [*documents, [11, 12]]]
    batch = whole(pack_documents(framed, 24, eos=END, room=lambda n: n + 4))
    lesson = rearrange_rows(
        batch, np.random.default_rng(seed), markers=IDS, end=END, start=start, rate=rate, spm_rate=spm
    )
    found = split(lesson.ids_BT, lesson.segments_BT)
    for place, ids in split(batch.ids_BT, batch.segments_BT).items():
        restored = restore(np.asarray(found[place]), IDS).tolist()
        assert restored in ((ids,) if ids[-1] == END and len(ids) > 1 else (ids, [*ids, END]))
        assert sum(id in IDS for id in found[place]) in (0, 3)


@given(st.lists(st.text(max_size=60), min_size=1, max_size=8), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_byte_for_byte(tokenizer: Tokenizer, documents: list[str], seed: int) -> None:
    documents = [*documents, "天空是藍色的 <|fim_middle|> and more"]
    objective = make_objective("fill-in-middle", tokenizer, 600, options=ObjectiveOptions(fim_rate=1.0))
    rows = pack(objective, tokenizer.encode_batch(documents), 600)
    lesson = objective.lesson(whole(rows), seed, 0)
    restored = [tokenizer.decode(restore(np.asarray(ids), fim_ids(tokenizer)).tolist())
                for ids in split(lesson.ids_BT, lesson.segments_BT).values()]  # fmt: skip
    assert sorted(restored) == sorted(documents)
    whole_documents = split(lesson.ids_BT, lesson.segments_BT).values()
    assert all(sum(id in fim_ids(tokenizer) for id in ids) == 3 for ids in whole_documents)


@pytest.mark.slow
def test_rates_and_cuts_are_drawn_evenly(tokenizer: Tokenizer) -> None:
    objective = bind(tokenizer, "fill-in-middle", "decoder")
    document = list(range(20, 30))
    lesson = objective.lesson(whole(pack(objective, [document] * 20000)), 0, 0)
    segments = list(split(lesson.ids_BT, lesson.segments_BT).values())
    markers = fim_ids(tokenizer)
    moved = [ids for ids in segments if markers.prefix in ids]
    spm = sum(ids[2] == markers.suffix and ids[1] == markers.prefix for ids in moved)
    assert abs(len(moved) / 20000 - 0.5) < 5 * 0.5 / np.sqrt(20000)
    empty_prefix = 1 - (10 / 11) ** 2  # PSM with nothing before its middle looks the same
    share = 0.5 + 0.5 * empty_prefix
    assert abs(spm / len(moved) - share) < 5 * np.sqrt(share * (1 - share) / len(moved))
    psm = [ids.index(markers.suffix) - 2 for ids in moved if ids[2] != markers.suffix]
    expected = [(2 * (10 - k) + 1) / 121 for k in range(1, 11)]  # the smaller of two even draws from 0..10
    for k, share in enumerate(expected, 1):
        share /= (10 / 11) ** 2
        assert abs(psm.count(k) / len(psm) - share) < 5 * np.sqrt(share / len(psm))


def test_all_of_it_is_learnt_as_next_tokens(tokenizer: Tokenizer) -> None:
    objective = bind(tokenizer, "fill-in-middle", "decoder", fim_rate=1.0)
    lesson = objective.lesson(whole(pack(objective, long_documents(0))), 0, 0)
    labels = split(lesson.labels_BT, lesson.segments_BT)
    for place, ids in split(lesson.ids_BT, lesson.segments_BT).items():
        assert labels[place] == [*ids[1:], -1]


def test_pieces_of_long_documents_end_their_middles(tokenizer: Tokenizer) -> None:
    objective = bind(tokenizer, "fill-in-middle", "decoder", 32, fim_rate=1.0)
    document = list(range(20, 220))
    lesson = objective.lesson(whole(pack(objective, [document], 32)), 0, 0)
    pieces = [restore(np.asarray(ids), fim_ids(tokenizer)) for ids in split(lesson.ids_BT, lesson.segments_BT).values()]
    assert all(piece[-1] == objective.end_id for piece in pieces)
    found = sorted(id for piece in pieces for id in piece.tolist() if id != objective.end_id)
    assert found == document


def test_text_that_holds_markers_stays_as_it_is() -> None:
    batch = whole(pack_documents([[20, MID, 21], [22, 23, 24]], 16, eos=END, room=lambda n: n + 4))
    lesson = rearrange_rows(batch, np.random.default_rng(0), markers=IDS, end=END, rate=1.0)
    found = list(split(lesson.ids_BT, lesson.segments_BT).values())
    assert [20, MID, 21, END] in found
    assert sum(PRE in ids for ids in found) == 1


@pytest.mark.parametrize("names", FILL_IN_MIDDLE)
def test_markers_of_other_families_are_found(tmp_path: Path, names: tuple[str, str, str]) -> None:
    tokenizer = write_tokenizer(tmp_path / "tokenizer", names)
    assert [tokenizer.token(id) for id in fim_ids(tokenizer)] == list(names)


def test_half_a_set_is_not_a_set(tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path / "tokenizer", (*MARKERS[:2], "<fim_middle>"))
    with pytest.raises(IngotError) as caught:
        fim_ids(tokenizer)
    assert caught.value.details["missing"] == MARKERS[2]
