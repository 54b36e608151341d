"""The loop: sums over targets, packing, resuming bit for bit, and what it refuses."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cases import first_fast
from ingot.core.errors import IngotError
from ingot.data.pack import Rows, pack_documents
from ingot.model.decoder import Decoder
from ingot.train import loop
from ingot.train import plan as plans
from ingot.train.checkpoint import Place
from ingot.train.distributed.world import World
from ingot.train.loop import Run, plain_lesson
from ingot.train.loss import Inputs, prediction_loss
from ingot.train.plan import Plan, precision_of
from ingot.train.random_state import random_state
from ingot.train.schedules import SCHEDULES, learning_rate
from ingot.train.settings import LoopOptions, TrainingOptions
from tiny import GPT2, LLAMA, make_decoder

PLAIN = LoopOptions(compile="off", precision="fp32")


def make_rows(length: int = 24) -> Rows:
    random = np.random.default_rng(0)
    documents = [random.integers(4, 320, size=random.integers(3, 20)).tolist() for _ in range(60)]
    return pack_documents(documents, length, eos=0, pad=1)


def make_plan(steps: int = 12, options: LoopOptions = PLAIN, lr: float = 3e-3) -> Plan:
    return Plan(steps, None, 4, lr, 0, torch.float32, options)


def train(decoder: Decoder, place: Place, plan: Plan | None = None) -> list[float]:
    place.path.mkdir(parents=True, exist_ok=True)
    Run(decoder, make_rows(), plan or make_plan(), place).go(resumed=place.newest() is not None)
    return [json.loads(line)["loss"] for line in place.metrics.read_text().splitlines()]


@torch.no_grad()
def test_packed_loss_is_the_sum_over_documents_alone() -> None:
    decoder = make_decoder(LLAMA)
    rows = make_rows()
    lesson = plain_lesson(rows.batch(0, len(rows), 0), 0, 0)
    packed = prediction_loss(decoder, Inputs.of(lesson, torch.device("cpu")))
    total = 0.0
    for ids, segments in zip(rows.ids, rows.segments, strict=True):
        for segment in range(segments.max() + 1):
            alone = torch.from_numpy(ids[segments == segment]).long()[None]
            logprobs = decoder.head(decoder(alone))[0, :-1].log_softmax(-1)
            total -= float(logprobs.gather(1, alone[0, 1:, None]).sum())
    assert float(packed) == pytest.approx(total, rel=1e-5)


def test_micro_batches_add_up_to_one_batch(tmp_path: Path) -> None:
    """Rows hold unequal numbers of targets, so a mean of means would differ."""
    gradients = []
    for parts in (1, 3):
        decoder = make_decoder(LLAMA).train()
        options = LoopOptions(compile="off", precision="fp32", micro_batches=parts)
        run = Run(decoder, make_rows(), make_plan(options=options), Place(tmp_path))
        lesson = run._lesson(0)
        assert len({int((row >= 0).sum()) for row in lesson.labels_BT}) > 1
        run._accumulate(lesson)
        gradients.append([parameter.grad.clone() for parameter in run.gradients.parameters])
    for whole, parted in zip(*gradients, strict=True):
        assert (whole - parted).norm() <= 1e-6 * max(1.0, float(whole.norm()))


@first_fast("stop", [1, 5, 11])
def test_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout on, data shuffled, stopped behind an arbitrary step that came after the last checkpoint."""
    config = GPT2 | {"resid_pdrop": 0.2, "embd_pdrop": 0.2, "attn_pdrop": 0.2}
    torch.manual_seed(7)
    whole = make_decoder(config)
    expected = train(whole, Place(tmp_path / "whole"))

    torch.manual_seed(7)
    place = Place(tmp_path / "stopped")
    done = Run._one_step
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)

    def one_step(run: Run) -> dict[str, object]:
        if run.step == stop:
            raise KeyboardInterrupt
        return done(run)

    monkeypatch.setattr(Run, "_one_step", one_step)
    with pytest.raises(KeyboardInterrupt):
        train(make_decoder(config), place)
    monkeypatch.setattr(Run, "_one_step", done)
    torch.manual_seed(99)
    resumed = make_decoder(config, seed=3)
    assert train(resumed, place) == expected
    for name, tensor in resumed.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name]), name


def test_a_resumed_run_keeps_the_precision_it_was_found_fastest_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured anew, the machine may prefer another."""
    options = TrainingOptions(out=tmp_path / "out")
    monkeypatch.setattr(plans, "choose_precision", lambda *_: torch.float32)
    place, done = Place(tmp_path / "stopped"), Run._one_step
    assert precision_of(options, 64, place, World()) == torch.float32
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)

    def one_step(run: Run) -> dict[str, object]:
        if run.step == 5:
            raise KeyboardInterrupt
        return done(run)

    monkeypatch.setattr(Run, "_one_step", one_step)
    with pytest.raises(KeyboardInterrupt):
        train(make_decoder(LLAMA), place, replace(make_plan(), precision=torch.bfloat16))
    assert precision_of(options, 64, place, World()) == torch.bfloat16


def test_a_kill_while_saving_leaves_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path)
    decoder = make_decoder(LLAMA)
    run = Run(decoder, make_rows(), make_plan(), place)
    run._one_step()
    run._save(random_state(run.device))
    kept = place.newest()
    run._one_step()

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ingot.train.checkpoint.write_tensors", killed)
    with pytest.raises(KeyboardInterrupt):
        run._save(random_state(run.device))
    assert place.newest() == kept
    assert place.load(decoder, run.optimizers)[0]["step"] == 1


def test_training_learns(tmp_path: Path) -> None:
    losses = train(make_decoder(LLAMA), Place(tmp_path), make_plan(steps=60, lr=1e-2))
    assert losses[-1] < 0.6 * losses[0]


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    decoder = make_decoder(LLAMA)
    with torch.no_grad():
        decoder.model.norm.weight[0] = float("nan")
    with pytest.raises(IngotError, match="loss became nan"):
        train(decoder, Place(tmp_path))


def test_another_run_is_not_continued(tmp_path: Path) -> None:
    place = Place(tmp_path)
    assert place.begin({"lr": 1.0, "seed": 0}, resume=False) is False
    with pytest.raises(IngotError, match="--resume"):
        place.begin({"lr": 1.0, "seed": 0}, resume=False)
    with pytest.raises(IngotError, match=r"lr = 1\.0, now it is 2\.0"):
        place.begin({"lr": 2.0, "seed": 0}, resume=True)


def test_cosine_schedule() -> None:
    options = LoopOptions(warmup=0.1, final=0.05)
    rates = [learning_rate(1.0, step / 1000, options) for step in range(1001)]
    assert max(rates) == pytest.approx(1.0, abs=1e-4)
    assert rates.index(max(rates)) == 100
    assert rates[-1] == pytest.approx(0.05)
    assert all(before >= after for before, after in itertools.pairwise(rates[100:]))


@pytest.mark.parametrize(("schedule", "halfway", "at_90", "end"), [
    ("cosine", 0.55, 0.122, 0.1), ("linear", 0.55, 0.19, 0.1), ("wsd", 1.0, 0.55, 0.1), ("constant", 1.0, 1.0, 1.0),
])  # fmt: skip
def test_schedules(schedule: str, halfway: float, at_90: float, end: float) -> None:
    changed = {} if schedule == "constant" else {"final": 0.1}
    options = LoopOptions(schedule=schedule, warmup=0.0, **changed)
    rates = [learning_rate(2.0, progress, options) for progress in (0.0, 0.5, 0.9, 1.0)]
    assert rates == pytest.approx([2.0, 2 * halfway, 2 * at_90, 2 * end], abs=1e-3)
    assert schedule in SCHEDULES
