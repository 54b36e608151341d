"""Prefix language modelling: an even split, nothing asked inside the prefix, and the same for an encoder-decoder."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_samples import bind, pack, split, texts, whole, write_tokenizer

from ingot.data.objectives.catalogue import make_objective
from ingot.data.objectives.options import ObjectiveOptions
from ingot.data.objectives.prefix_lm import split_pairs, split_rows
from ingot.data.pack import Batch, pack_chats, pack_documents
from ingot.text.chat import Rendered
from ingot.text.tokenizer import Tokenizer

END, START, PAD = 5, 7, 6


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return write_tokenizer(tmp_path_factory.mktemp("objectives") / "tokenizer")


def batch_of(documents: list[list[int]]) -> Batch:
    return whole(pack_documents([*documents, [11, 12]], 24, eos=END, pad=PAD, room=lambda n: n + 1))


@pytest.mark.slow
@given(texts, st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_what_is_behind_the_prefix_is_asked(documents: list[list[int]], seed: int) -> None:
    batch = batch_of(documents)
    lesson = split_rows(batch, np.random.default_rng(seed))
    assert np.array_equal(lesson.ids_BT, batch.ids_BT)
    labels, prefixes = (split(array, batch.segments_BT) for array in (lesson.labels_BT, lesson.prefix_BT))
    for place, ids in split(batch.ids_BT, batch.segments_BT).items():
        size = sum(prefixes[place])
        assert prefixes[place] == [True] * size + [False] * (len(ids) - size)
        assert size == 1 if len(ids) == 1 else 1 <= size < len(ids)
        assert labels[place] == [-1] * (size - 1) + ids[size:] + [-1]


@given(texts, st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_an_encoder_decoder_splits_at_the_same_places(documents: list[list[int]], seed: int) -> None:
    batch = batch_of(documents)
    one = split_rows(batch, np.random.default_rng(seed))
    two = split_pairs(batch, np.random.default_rng(seed), end=END, start=START, pad=PAD)
    sources = split(two.source_ids_BS, two.source_segments_BS)
    read, labels = (split(array, two.segments_BT) for array in (two.ids_BT, two.labels_BT))
    prefixes = split(one.prefix_BT, one.segments_BT)
    for place, ids in split(batch.ids_BT, batch.segments_BT).items():
        size = sum(prefixes[place])
        assert sources[place] == [*ids[:size], END]
        assert labels[place] == (ids[size:] or [-1])
        assert read[place] == [START, *ids[size:-1]]
    assert one.num_targets == two.num_targets


@pytest.mark.slow
def test_the_split_is_even() -> None:
    batch = whole(pack_documents([list(range(10, 20))] * 10000, 11, eos=END))
    sizes = Counter(split_rows(batch, np.random.default_rng(0)).prefix_BT.sum(axis=1).tolist())
    assert set(sizes) == set(range(1, 11))
    assert all(abs(count - 1000) < 5 * np.sqrt(1000) for count in sizes.values())


def test_conversations_split_before_the_answer(tokenizer: Tokenizer) -> None:
    chats = [Rendered("", [20, 21, 22, 23, 24], [False, False, True, False, True])]
    options = ObjectiveOptions(split="answer")
    rows = pack_chats(chats, 16)
    lesson = make_objective("prefix-lm", tokenizer, 16, "decoder", options).lesson(whole(rows), 0, 0)
    assert lesson.prefix_BT[0].nonzero()[0].tolist() == [0, 1]
    assert lesson.labels_BT[0, :5].tolist() == [-1, 22, -1, 24, -1]
    pairs = make_objective("prefix-lm", tokenizer, 16, "encoder-decoder", options, 9).lesson(whole(rows), 0, 0)
    assert pairs.source_ids_BS[0, :4].tolist() == [20, 21, tokenizer.eos_id, tokenizer.pad_id]
    assert pairs.ids_BT[0, :4].tolist() == [9, 22, 23, tokenizer.pad_id]
    assert pairs.labels_BT[0, :4].tolist() == [22, -1, 24, -1]


def test_an_encoder_decoder_has_no_start_of_its_own(tokenizer: Tokenizer) -> None:
    pair, one = (bind(tokenizer, "prefix-lm", form) for form in ("encoder-decoder", "decoder"))
    assert (pair.start_ids, one.start_ids) == ((), tokenizer.start_ids)
    rows = pack(pair, [[20] * 40])
    assert rows.ids[0, 0] == 20
