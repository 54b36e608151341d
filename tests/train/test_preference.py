"""What a batch of preferences is worth: packed as alone, in parts as whole, against a reference that is the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from preferring import labelled, logprob, make_base, records, rendered, write

from cases import first_fast
from ingot.adapt.load import LanguageModel, load
from ingot.core.errors import IngotError
from ingot.data.objectives.lesson import Lesson
from ingot.train.checkpoint import Place
from ingot.train.cross_entropy import plain_loss
from ingot.train.distributed.sharing import ALONE
from ingot.train.distributed.world import World
from ingot.train.loop import plain_lesson
from ingot.train.loss import Inputs
from ingot.train.plan import Plan
from ingot.train.preference import reading
from ingot.train.preference.criterion import Preference, Wish, divergence
from ingot.train.preference.fall import RECENT, FallWatch, change
from ingot.train.preference.heldout import standing
from ingot.train.preference.losses import LOSSES, Side, defaults_of
from ingot.train.preference.options import PairOptions
from ingot.train.preference.reading import Preferences, read_preferences
from ingot.train.preference.reference import check_reference, reference_of
from ingot.train.preference.score import Scorer
from ingot.train.preference.sheet import CHOSEN, REJECTED
from ingot.train.settings import LoopOptions
from tiny import GPT2, LLAMA, QWEN2

CONFIGS = {"llama": LLAMA, "gpt2": GPT2, "qwen2": QWEN2}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("preference"))


@pytest.fixture
def model(base: Path) -> LanguageModel:
    return load(base)


def packed(model: LanguageModel, folder: Path, loss: Any = "dpo", lines: Any = None, **options: Any) -> Preferences:
    folder.mkdir()
    data = write(folder / "data.jsonl", records() if lines is None else lines)
    place = Place(folder / "place")
    read_preferences(data, loss, model, 128, 0, PairOptions(**{"heldout": 0} | options), place.fresh("rows-0"))
    return Preferences.open(place.path / "rows-0")


def scorer(model: LanguageModel, rows: int = 3, micro_batches: int = 1) -> Scorer:
    options = LoopOptions(micro_batches=micro_batches)
    return Scorer(model.network, Plan(1, None, rows, 1e-3, 0, torch.float32, options), ALONE, model.active)


def changed(model: LanguageModel) -> None:
    """Another model than the reference."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter += 0.03 * torch.randn(parameter.shape, generator=generator)
    model.network.requires_grad_(True)


def whole(preferences: Preferences) -> Lesson:
    return plain_lesson(preferences.sheet.rows.take(np.arange(len(preferences.sheet.rows))), 0, 0)


@pytest.mark.parametrize("family", CONFIGS)
def test_packed_log_probabilities_are_those_of_answers_alone(family: str, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    model = load(make_base(tmp_path / "m", CONFIGS[family]))
    preferences = packed(model, tmp_path / "p")
    found = scorer(model).score(preferences.sheet, "x")
    sheet, rows = preferences.sheet, np.arange(len(preferences.sheet.rows))
    assert sheet.width > 2, "several pairs lie in a row"
    texts = rendered(tmp_path / "p" / "data.jsonl", model.tokenizer)
    expected = sorted(tuple(logprob(model.network, text).item() for text in pair) for pair in texts)
    pairs = zip(*(found.flatten()[sheet.places(rows, side)] for side in (CHOSEN, REJECTED)), strict=True)
    assert np.allclose(sorted(pairs), expected, rtol=5e-7, atol=0)
    tokens = sheet.tokens(rows).flatten()
    sizes = zip(*(tokens[sheet.places(rows, side)] for side in (CHOSEN, REJECTED)), strict=True)
    assert sorted(sizes) == sorted(tuple(sum(text.mask) for text in pair) for pair in texts)


@first_fast("loss", [name for name in LOSSES if name != "kto"])
def test_a_packed_batch_is_its_pairs_one_at_a_time(loss: Any, model: LanguageModel, tmp_path: Path) -> None:
    preferences = packed(model, tmp_path / "p")
    texts = rendered(tmp_path / "p" / "data.jsonl", model.tokenizer)
    with torch.no_grad():
        before = [[logprob(model.network, text) for text in pair] for pair in texts]
    kept = scorer(model).score(preferences.sheet, "x")
    changed(model)
    wish = Wish(loss, defaults_of(loss))
    criterion = Preference(wish, preferences.sheet, kept if wish.asks_reference else None, None, lambda numbers: None)
    lesson = whole(preferences)
    total = criterion(model.network, Inputs.of(lesson, torch.device("cpu")), plain_loss)
    assert criterion.count(lesson) == len(texts)
    total.backward()
    found = {name: p.grad.clone() for name, p in model.network.named_parameters() if p.grad is not None}
    model.network.zero_grad()
    losses, margins = [], []
    for pair, reference in zip(texts, before, strict=True):
        sides = [Side(logprob(model.network, text)[None], torch.tensor([sum(text.mask)]), old[None])
                 for text, old in zip(pair, reference, strict=True)]  # fmt: skip
        losses.append(wish.loss(*sides))
        margins.append(float((wish.reward(sides[0]) - wish.reward(sides[1])).detach()))
    expected = torch.cat(losses).sum()
    expected.backward()
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, parameter in model.network.named_parameters():
        if parameter.grad is not None:
            assert (found[name] - parameter.grad).norm() <= 1e-5 * parameter.grad.norm() + 1e-7, name
    numbers = criterion.numbers(World())
    assert numbers["margin"] == pytest.approx(np.mean(margins), rel=1e-4, abs=1e-5)
    assert numbers["accuracy"] == pytest.approx(np.mean(np.asarray(margins) > 0))


def test_kto_takes_its_point_from_the_whole_batch_of_strangers(model: LanguageModel, tmp_path: Path) -> None:
    preferences = packed(model, tmp_path / "p", "kto", labelled())
    strangers = preferences.mismatched
    assert strangers is not None
    kept = scorer(model).score(strangers, "x")
    answers = scorer(model).score(preferences.sheet, "x")
    changed(model)
    ratios = (scorer(model).score(strangers, "x") - kept).flatten()[strangers.places(np.arange(len(kept)), CHOSEN)]
    plans = [scorer(model, len(kept), micro_batches).plan for micro_batches in (1, 3)]
    found = [divergence(strangers, kept, model.network, plan, ALONE)(0) for plan in plans]
    assert found[0] == pytest.approx(max(0.0, ratios.mean()), abs=1e-4)
    assert found[1] == pytest.approx(float(found[0]), abs=1e-5)
    small = divergence(strangers, kept - 100, model.network, scorer(model, 1).plan, ALONE)
    rows = [strangers.rows.batch(step, 1, 0).rows[0] for step in range(3)]
    assert len(set(rows)) == 3, "each step draws others"
    shifts = (scorer(model).score(strangers, "x") - kept) * (np.asarray(strangers.sides_NS) >= 0)
    means = shifts.sum(1) / (np.asarray(strangers.sides_NS) >= 0).sum(1)
    found_by_step = [float(small(step)) for step in range(3)]
    assert found_by_step == pytest.approx([100 + means[row] for row in rows], rel=1e-4)
    shifted = divergence(strangers, kept - 100, model.network, plans[0], ALONE)
    assert float(shifted(0)) == pytest.approx(100 + ratios.mean(), rel=1e-5)
    wish = Wish("kto", defaults_of("kto"))
    criterion = Preference(wish, preferences.sheet, answers, shifted, lambda numbers: None)
    criterion.begin(0)
    lesson = whole(preferences)
    loss = criterion(model.network, Inputs.of(lesson, torch.device("cpu")), plain_loss).item()
    assert criterion.count(lesson) == len(labelled())
    now = scorer(model).score(preferences.sheet, "x") - answers
    rows, point = np.arange(len(now)), 100 + ratios.mean()
    good, bad = (now.flatten()[preferences.sheet.places(rows, side)] for side in (CHOSEN, REJECTED))
    assert (len(good), len(bad)) == (16, 8)
    value = 1 / (1 + np.exp(-0.1 * (good - point))), 1 / (1 + np.exp(-0.1 * (point - bad)))
    assert loss == pytest.approx(24 - value[0].sum() - value[1].sum(), rel=1e-4)


def test_strangers_answer_another_prompt(model: LanguageModel, tmp_path: Path) -> None:
    preferences = packed(model, tmp_path / "p", "kto", labelled())
    strangers = preferences.mismatched
    assert strangers is not None

    def said(sheet: Any) -> set[tuple[str, str]]:
        found = set()
        for row, segments in zip(sheet.rows.ids, sheet.rows.segments, strict=True):
            for segment in range(segments.max() + 1):
                text = model.tokenizer.decode(row[segments == segment].tolist(), skip_special=False)
                prompt, _, answer = text.partition("assistant\n")
                found.add((prompt, answer))
        return found

    known, mixed = said(preferences.sheet), said(strangers)
    assert len(mixed) == 24
    assert {prompt for prompt, _ in mixed} == {prompt for prompt, _ in known}
    assert {answer for _, answer in mixed} <= {answer for _, answer in known}
    owner = {answer: {p for p, a in known if a == answer} for _, answer in known}
    assert all(prompt not in owner[answer] or len(owner[answer]) > 1 for prompt, answer in mixed)


def test_the_reference_is_kept_and_bound_to_rows_and_model(
    model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("ingot.train.preference.reference.say", lambda code, **details: told.append(code))
    preferences, place = packed(model, tmp_path / "p"), Place(tmp_path / "p" / "place")
    live = scorer(model).score(preferences.sheet, "x")
    reference = reference_of(place, preferences, scorer(model), None, ["a"])
    assert np.array_equal(reference.sheet_NS, live)
    assert isinstance(reference.sheet_NS, np.memmap)
    assert check_reference(reference, preferences, scorer(model, rows=2), None) < 1e-4
    changed(model)
    again = reference_of(place, preferences, scorer(model), None, ["a"])
    assert np.array_equal(again.sheet_NS, live)
    assert told == ["reference-made", "reference-reused"]
    with pytest.raises(IngotError, match="nats a token") as caught:
        check_reference(again, preferences, scorer(model), None)
    assert caught.value.code == "reference-differs"
    other = reference_of(place, preferences, scorer(model), None, ["b"])
    assert not np.allclose(other.sheet_NS, live, atol=1e-2)
    assert check_reference(other, preferences, scorer(model), None) < 1e-4


def test_swapped_labels_turn_the_margin_round(model: LanguageModel, tmp_path: Path) -> None:
    turned = [{**one, "chosen": one["rejected"], "rejected": one["chosen"]} for one in records()]
    preferences, swapped = packed(model, tmp_path / "a"), packed(model, tmp_path / "b", lines=turned)
    before = [scorer(model).score(one.sheet, "x") for one in (preferences, swapped)]
    changed(model)
    wish = Wish("dpo", defaults_of("dpo"))
    found = [standing(wish, one.sheet, scorer(model).score(one.sheet, "x"), old)
             for one, old in zip((preferences, swapped), before, strict=True)]  # fmt: skip
    assert abs(found[0]["margin"]) > 1e-2
    assert found[1]["margin"] == pytest.approx(-found[0]["margin"], rel=1e-3)
    assert found[1]["accuracy"] == pytest.approx(1 - found[0]["accuracy"], abs=1e-5)


def test_what_one_pair_says_changes_no_other(model: LanguageModel, tmp_path: Path) -> None:
    preferences = packed(model, tmp_path / "p")
    sheet = preferences.sheet
    before = scorer(model).score(sheet, "x")
    ids = np.array(sheet.rows.ids)
    first = np.asarray(sheet.rows.segments) == 0
    ids[first] = (ids[first] + 7) % 300
    after = scorer(model).score(replace(sheet, rows=replace(sheet.rows, ids=ids)), "x")
    assert (np.abs(after[:, 0] - before[:, 0]) > 1e-3).all()
    assert np.array_equal(after[:, 1:], before[:, 1:])


def test_held_out_prompts_are_in_no_row_and_keep_their_answers_together(model: LanguageModel, tmp_path: Path) -> None:
    lines = [one | {"chosen": f"{one['chosen']} {again}"} for one in records(40) for again in range(2)]
    preferences = packed(model, tmp_path / "p", lines=lines, heldout=0.3)
    assert preferences.heldout is not None

    def prompts(sheet: Any) -> set[str]:
        text = [model.tokenizer.decode(row.tolist(), skip_special=False) for row in sheet.rows.ids]
        return {part.split("<|im_end|>")[0] for row in text for part in row.split("user\n")[1:]}

    train, heldout = prompts(preferences.sheet), prompts(preferences.heldout)
    assert train | heldout == {one["prompt"] for one in lines}
    assert not train & heldout
    assert 4 <= len(heldout) <= 20


def test_a_pair_is_never_parted(model: LanguageModel, tmp_path: Path) -> None:
    sheet = packed(model, tmp_path / "p").sheet
    for sides in np.asarray(sheet.sides_NS):
        there = sides[sides >= 0]
        assert there.tolist() == [CHOSEN, REJECTED] * (len(there) // 2)


def test_rows_are_as_long_as_leaves_little_over() -> None:
    from ingot.text.chat import Rendered

    def groups(*sizes: int) -> list[Any]:
        return [[(Rendered("", [0] * size, [True] * size), True)] for size in sizes]

    assert reading.row_length(groups(50, 50, 50)) == 50
    assert reading.row_length(groups(*[50, 25] * 10)) == 50
    assert reading.row_length(groups(*[50, 30] * 30)) == 100


def test_a_far_fall_of_the_better_answers_is_warned_of_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("ingot.train.preference.fall.warn", lambda code, **details: told.append(code))
    against = [{"chosen_change": -value / 10, "chosen_per_token": -5.0} for value in range(20)]
    alone = [{"chosen_per_token": -5.0 - value / 10} for value in range(20)]
    assert change(against[: RECENT - 1]) is None
    assert change(against) == pytest.approx(-1.55)
    assert change(alone) == pytest.approx(-1.2)
    watch = FallWatch(tmp_path / "none")
    for line in against[:9]:
        watch.see(line)
    assert told == []
    for line in against[9:]:
        watch.see(line)
    assert told == ["prefer-fall"]
