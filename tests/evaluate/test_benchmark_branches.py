"""Scores of choices that branch from shared beginnings: the naive sum, whatever is shared, in any order."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from benching import asked, prepared, raw, rows_of, write_hellaswag, write_mmlu, write_winogrande

from ingot.adapt.load import LanguageModel, load
from ingot.evaluate.benchmarks.branches import Branches, blocks_of
from ingot.evaluate.benchmarks.encode import Encoded, Scored, encode_items
from ingot.evaluate.benchmarks.prompts import Item
from tiny import CONFIGS, LLAMA, write_model


def naive(model: LanguageModel, choice: Scored) -> float:
    """Log-softmax over the whole text, alone."""
    ids = [*choice.context, *choice.tokens]
    logits = model.logits([ids[:-1]])[0].double().log_softmax(-1)
    begin = len(choice.context) - 1
    return sum(float(logits[begin + at, token]) for at, token in enumerate(choice.tokens))


def encoded_of(model: LanguageModel, items: list[Item]) -> list[Encoded]:
    return list(encode_items(model.tokenizer, items, model.max_length, True))


def scores(model: LanguageModel, encoded: list[Encoded]) -> dict[str, list[float]]:
    every = [choice for each in encoded for choice in (*each.choices, *each.alone)]
    branching = max(blocks_of((*each.choices, *each.alone)) for each in encoded)
    scorer = Branches(model, max(len(choice.context) for choice in every), branching)
    return {each.item.id: scorer.score(each.choices, each.shared) for each in encoded}


@pytest.fixture(scope="module")
def wide(tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A window that examples fit in."""
    config = LLAMA | {"max_position_embeddings": 640}
    return load(write_model(tmp_path_factory.mktemp("wide") / "m", config, seed=3, tokenizer=tokenizer_dir))


def data_of(task: str, folder: Path) -> Path:
    return {"mmlu": write_mmlu, "hellaswag": write_hellaswag, "winogrande": write_winogrande}[task](folder)


@pytest.mark.parametrize("task", ["mmlu", "hellaswag", "winogrande"])
@pytest.mark.parametrize("shots", [0, 1])
def test_scores_are_the_naive_sums(task: str, shots: int, wide: LanguageModel, tmp_path: Path) -> None:
    _, items = prepared(data_of(task, tmp_path), task, benchmark={"shots": shots})
    encoded = encoded_of(wide, items)
    assert any(each.shared for each in encoded) == (task == "mmlu")
    found = scores(wide, encoded)
    for each in encoded:
        assert found[each.item.id] == pytest.approx([naive(wide, choice) for choice in each.choices], abs=1e-4)


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_every_family_branches(family: str, tokenizer_dir: Path, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m", CONFIGS[family], tokenizer=tokenizer_dir)
    model = load(path)
    _, items = prepared(write_mmlu(tmp_path / "d", 2), "mmlu", benchmark={"shots": 0})
    for each in encoded_of(model, items):
        found = scores(model, [each])[each.item.id]
        assert found == pytest.approx([naive(model, choice) for choice in each.choices], abs=1e-4)


def test_order_and_company_change_no_bit(wide: LanguageModel, tmp_path: Path) -> None:
    """One item after any others, or alone: the same floats."""
    _, items = prepared(write_mmlu(tmp_path / "d"), "mmlu", benchmark={"shots": 1})
    encoded = encoded_of(wide, items)
    assert all(each.shared for each in encoded)
    forward, mixed = scores(wide, encoded), list(encoded)
    random.Random(3).shuffle(mixed)
    assert scores(wide, mixed) == forward
    assert {each.item.id: scores(wide, [each])[each.item.id] for each in encoded} == forward


def test_a_model_read_in_both_directions_shares_nothing(tokenizer_dir: Path, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m", LLAMA | {"prefix_lm": True}, tokenizer=tokenizer_dir)
    model = load(path)
    choice = Scored((5, 6, 7, 8), (9, 10))
    prefix = model.logits([[5, 6, 7, 8, 9]], prefix=4)[0].log_softmax(-1)
    wanted = float(prefix[3, 9] + prefix[4, 10])
    assert Branches(model, 8, 2).score([choice], (5, 6)) == pytest.approx([wanted], abs=1e-5)


def test_what_is_too_long_loses_its_beginning(model: LanguageModel, tmp_path: Path) -> None:
    """As lm-eval cuts: window + 1 tokens are left, of which the last is not read."""
    _, items = prepared(write_mmlu(tmp_path / "d", 2), "mmlu", benchmark={"shots": 3})
    encoded = encoded_of(model, items)
    assert all(each.cut for each in encoded)
    for each in encoded:
        whole = len(model.tokenizer.encode(each.item.context(0)))
        for choice in each.choices:
            assert len(choice.context) + len(choice.tokens) == model.max_length + 1
        assert each.cut == whole + max(len(choice.tokens) for choice in each.choices) - model.max_length - 1
        assert scores(model, [each])[each.item.id] == pytest.approx([naive(model, c) for c in each.choices], abs=1e-4)


def test_a_token_over_the_join_is_counted_and_all_text_is_scored(model: LanguageModel) -> None:
    """ "th" + "e" is one token of the tokenizer: the continuation is encoded by itself."""
    tokenizer = model.tokenizer
    assert len(tokenizer.encode("the")) < len(tokenizer.encode("th")) + 1
    document: Any = type("Document", (), {"id": "x"})()
    item = Item(document, "", False, ("th",), ("e", "e cat", " dog"), "")
    (found,) = encoded_of(model, [item])
    assert found.merged >= 1
    for choice, text in zip(found.choices, item.continuations, strict=True):
        assert tokenizer.decode(choice.context) + tokenizer.decode(choice.tokens) == "th" + text


def test_trailing_spaces_go_to_what_follows(model: LanguageModel) -> None:
    document: Any = type("Document", (), {"id": "x"})()
    (found,) = encoded_of(model, [Item(document, "", False, ("the cat ",), ("sat", "ran"), "")])
    tokenizer = model.tokenizer
    assert found.choices[0].context == tuple(tokenizer.encode("the cat"))
    assert [tokenizer.decode(choice.tokens) for choice in found.choices] == [" sat", " ran"]


def test_an_empty_context_is_the_start_token(model: LanguageModel) -> None:
    document: Any = type("Document", (), {"id": "x"})()
    (found,) = encoded_of(model, [Item(document, "", False, ("",), ("sat", "ran"), "")])
    start = model.tokenizer.bos_id if model.tokenizer.bos_id is not None else model.tokenizer.eos_id
    assert [choice.context for choice in found.choices] == [(start,)] * 2
    assert found.alone == found.choices


@pytest.mark.slow
def test_slots_and_threads_change_no_byte(base_dir: Path, tmp_path: Path) -> None:
    """Raw rows are the same for any number of slots, sample or not, and predictions for any number of threads."""
    data = write_mmlu(tmp_path / "d")
    one = asked(base_dir, data, "mmlu", tmp_path / "1", benchmark={"shots": 1})
    few = asked(base_dir, data, "mmlu", tmp_path / "2", benchmark={"shots": 1}, limit=4)
    rows = {row["id"]: row for row in rows_of(one, "mmlu-base.jsonl")}
    sampled = rows_of(few, "mmlu-base.jsonl")
    assert len(sampled) == 4
    assert all(row == rows[row["id"]] for row in sampled)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if threads == 1 else 1)
        other = asked(base_dir, data, "mmlu", tmp_path / "3", benchmark={"shots": 1})
    finally:
        torch.set_num_threads(threads)
    for row, own in zip(rows_of(other, "mmlu-base.jsonl"), rows.values(), strict=True):
        assert row["logprobs"] == pytest.approx(own["logprobs"], abs=1e-4)
    assert other.numbers["mmlu.acc"] == one.numbers["mmlu.acc"]
    assert json.loads(raw(one, "benchmarks.json"))["mmlu"]["shots"] == 1
