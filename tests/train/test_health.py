"""Steps that go wrong: found before weights change, their documents named, undone, skipped, and recorded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ingot.core.errors import IngotError
from ingot.data.objectives.lesson import Lesson
from ingot.data.pack import Batch, Rows, pack_documents
from ingot.model.decoder import Decoder
from ingot.train import loop
from ingot.train.checkpoint import Place
from ingot.train.criterion import Loss
from ingot.train.cross_entropy import PartLoss
from ingot.train.health.gradients import Gradients, extremes
from ingot.train.health.watch import ENOUGH, Watch
from ingot.train.loop import Run, plain_lesson
from ingot.train.loss import Inputs, prediction_loss
from ingot.train.metrics import read_metrics
from ingot.train.plan import Plan
from ingot.train.schedules import learning_rate
from ingot.train.settings import LoopOptions
from tiny import GPT2, LLAMA, make_decoder

pytestmark = pytest.mark.slow

STEPS = 120
BAD = 61


def make_rows() -> Rows:
    """Documents with a pattern that can be learnt: each token is the one before it plus one."""
    random = np.random.default_rng(0)
    starts = random.integers(4, 250, size=240)
    return pack_documents([list(range(start, start + 20)) for start in starts], 42, eos=0, pad=1)


def make_run(place: Path, recover: str = "on", loss: Loss = prediction_loss, config: dict[str, Any] = LLAMA) -> Run:
    place.mkdir(parents=True, exist_ok=True)
    options = LoopOptions(compile="off", precision="fp32", recover=recover)
    plan = Plan(STEPS, None, 4, 1e-2, 0, torch.float32, options)
    torch.manual_seed(5)
    return Run(make_decoder(config), make_rows(), plan, Place(place), loss=loss, name_of=lambda n: f"text.jsonl:{n}")


@torch.no_grad()
def validation_loss(decoder: Decoder) -> float:
    documents = [list(range(start, start + 20)) for start in range(5, 250, 7)]
    rows = pack_documents(documents, 42, eos=0, pad=1)
    batch = rows.batch(0, len(rows), 0)
    return float(prediction_loss(decoder, Inputs.of(plain_lesson(batch, 0, 0), torch.device("cpu")))) / rows.num_targets


def nan_at(step: int) -> Loss:
    """A loss that is NaN for the batch of one step, however often it is computed."""
    bad = make_rows().batch(step, 4, 0)

    def loss(decoder: Decoder, inputs: Inputs, part_loss: PartLoss) -> torch.Tensor:
        found = prediction_loss(decoder, inputs, part_loss)
        is_bad = np.array_equal(inputs.ids_BT.numpy(), bad.ids_BT)
        return found * math.nan if is_bad else found

    return loss


def test_a_nan_batch_is_skipped_and_named(tmp_path: Path) -> None:
    clean = make_run(tmp_path / "clean")
    clean.go(resumed=False)
    run = make_run(tmp_path / "nan", loss=nan_at(BAD))
    result = run.go(resumed=False)
    (event,) = result.events
    assert (event["event"], event["reason"], event["step"]) == ("skipped", "loss-not-finite", BAD)
    batch = run.rows.batch(BAD, 4, 0)
    assert event["documents"] == [f"text.jsonl:{n}" for row in batch.rows for n in run.rows.documents(row)]
    assert event in read_metrics(run.place.metrics)
    steps = [line["step"] for line in read_metrics(run.place.metrics) if "event" not in line]
    assert steps == [step for step in range(1, STEPS + 1) if step != BAD + 1]
    assert validation_loss(run.network) == pytest.approx(validation_loss(clean.network), rel=0.02)


def test_nothing_changes_in_a_step_that_is_skipped(tmp_path: Path) -> None:
    run = make_run(tmp_path, loss=nan_at(0), config=GPT2 | {"resid_pdrop": 0.3})
    weights = {name: tensor.clone() for name, tensor in run.network.state_dict().items()}
    random = torch.get_rng_state()
    run.network.train()
    assert run._one_step() is None
    assert run.step == 0
    assert run._one_step() is None
    assert run.step == 1
    assert torch.equal(torch.get_rng_state(), random)
    assert not list(run.optimizers.state())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in run.network.state_dict().items())


def wrong_rate(monkeypatch: pytest.MonkeyPatch, at: int, factor: float = 100.0) -> None:
    """The learning rate of one step is far too high."""

    def rate(peak: float, progress: float, options: LoopOptions) -> float:
        return learning_rate(peak, progress, options) * (factor if round(progress * STEPS) == at else 1.0)

    monkeypatch.setattr(loop, "learning_rate", rate)


@pytest.mark.slow
@pytest.mark.parametrize("at", [BAD, STEPS - 1], ids=["in the middle", "in the last step"])
def test_a_step_that_breaks_the_weights_is_rolled_back(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = make_run(tmp_path / "clean")
    clean.go(resumed=False)
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    wrong_rate(monkeypatch, at, factor=100.0 if at == BAD else 2000.0)  # the last step's own rate is a twentieth
    run = make_run(tmp_path / "wrong")
    result = run.go(resumed=False)
    (event,) = result.events
    assert (event["event"], event["step"], event["to"]) == ("rolled-back", at, at)
    assert event["documents"]
    assert result.steps == STEPS
    assert validation_loss(run.network) == pytest.approx(validation_loss(clean.network), rel=0.02)


@pytest.mark.slow
def test_rolled_back_to_an_older_checkpoint_replays_the_steps_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the checkpoint of step 0 exists: everything is done again, without the step that did the damage."""
    wrong_rate(monkeypatch, BAD)
    run = make_run(tmp_path)
    (event,) = run.go(resumed=False).events
    assert (event["step"], event["to"]) == (BAD, 0)
    steps = [line["step"] for line in read_metrics(run.place.metrics) if "event" not in line]
    assert steps == [step for step in range(1, STEPS + 1) if step != BAD + 1]


@pytest.mark.slow
def test_a_run_that_recovered_resumes_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = GPT2 | {"resid_pdrop": 0.1}
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    whole = make_run(tmp_path / "whole", loss=nan_at(20), config=config)
    whole.go(resumed=False)
    stopped = make_run(tmp_path / "stopped", loss=nan_at(20), config=config)
    one_step = Run._one_step

    def interrupted(run: Run) -> dict[str, Any] | None:
        if run.step == 25:
            raise KeyboardInterrupt
        return one_step(run)

    monkeypatch.setattr(Run, "_one_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stopped.go(resumed=False)
    monkeypatch.setattr(Run, "_one_step", one_step)
    resumed = make_run(tmp_path / "stopped", loss=nan_at(20), config=config)
    result = resumed.go(resumed=True)
    assert len(result.events) == 1
    for name, tensor in resumed.network.state_dict().items():
        assert torch.equal(tensor, whole.network.state_dict()[name]), name


def test_without_recovery_the_run_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(IngotError, match=r"at step 61 the loss became nan.*text.jsonl:\d+") as caught:
        make_run(tmp_path / "a", recover="off", loss=nan_at(BAD)).go(resumed=False)
    assert caught.value.code == "loss-not-finite"
    wrong_rate(monkeypatch, BAD)
    with pytest.raises(IngotError) as caught:
        make_run(tmp_path / "b", recover="off").go(resumed=False)
    assert caught.value.code == "step-went-wrong"
    assert caught.value.details["step"] == BAD + 1


def test_a_run_that_cannot_work_is_given_up(tmp_path: Path) -> None:
    def loss(decoder: Decoder, inputs: Inputs, part_loss: PartLoss) -> torch.Tensor:
        return prediction_loss(decoder, inputs, part_loss) * math.nan

    with pytest.raises(IngotError) as caught:
        make_run(tmp_path, loss=loss).go(resumed=False)
    assert caught.value.code == "training-unstable"


@pytest.mark.slow
def test_rolling_back_again_to_the_same_place_halves_the_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong_rate(monkeypatch, BAD)
    run = make_run(tmp_path)
    other = learning_rate

    def twice(peak: float, progress: float, options: LoopOptions) -> float:
        return other(peak, progress, options) * (100.0 if round(progress * STEPS) in (BAD, BAD + 9) else 1.0)

    monkeypatch.setattr(loop, "learning_rate", twice)
    first, second = run.go(resumed=False).events
    assert (first["rate_share"], second["rate_share"]) == (1.0, 0.5)
    last = [line for line in read_metrics(run.place.metrics) if "event" not in line][-1]
    assert last["lr"] == pytest.approx(0.5 * learning_rate(1e-2, (STEPS - 1) / STEPS, run.plan.options))


@pytest.mark.slow
def test_data_that_changes_for_good_is_learnt_not_skipped(tmp_path: Path) -> None:
    """From one step on every batch is of another kind: three are skipped, then it is accepted."""

    def teach(batch: Batch, seed: int, step: int) -> Lesson:
        lesson = plain_lesson(batch, seed, step)
        if step < BAD:
            return lesson
        shuffled = np.random.default_rng(step).integers(260, 320, lesson.labels_BT.shape).astype(np.int32)
        return Lesson(lesson.ids_BT, lesson.segments_BT, np.where(lesson.labels_BT < 0, -1, shuffled), lesson.rows)

    run = make_run(tmp_path)
    run.teach = teach
    result = run.go(resumed=False)
    assert [event["step"] for event in result.events] == [BAD, BAD + 1, BAD + 2]
    assert {event["reason"] for event in result.events} == {"loss-spike"}


def test_the_watch_sees_jumps_and_no_ordinary_noise() -> None:
    random = np.random.default_rng(0)
    watch = Watch()
    for step in range(400):
        loss = 2 + 6 * math.exp(-step / 50) + 0.2 * random.standard_normal()
        norm = math.exp(0.5 * random.standard_normal())
        assert watch.judge(loss, norm) is None, step
        watch.accept(loss, norm)
    assert watch.judge(6.0, 1.0) == "loss-spike"
    assert watch.judge(2.0, 1e4) == "gradient-spike"
    assert watch.judge(math.nan, 1.0) == "loss-not-finite"
    assert watch.judge(2.0, math.inf) == "gradient-not-finite"
    assert watch.judge(0.0, 0.0) is None
    fresh = Watch()
    for _ in range(ENOUGH - 1):
        fresh.accept(1.0, 1.0)
    assert fresh.judge(50.0, 1e6) is None


def test_norms_and_clipping_are_torchs() -> None:
    ours, theirs = make_decoder(LLAMA), make_decoder(LLAMA)
    for decoder in (ours, theirs):
        for number, parameter in enumerate(decoder.parameters()):
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    block = torch.stack([p.grad.norm() for p in ours.blocks[1].parameters()]).norm()
    total, layers = Gradients.of(ours).clip(0.5)
    expected = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
    assert total == pytest.approx(float(expected), rel=1e-6)
    assert layers["1"] == pytest.approx(float(block), rel=1e-6)
    assert layers.keys() == {"embedding", "0", "1", "rest"}
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-5)


def test_vanishing_and_exploding_layers_are_named() -> None:
    healthy = {"embedding": 1.0, "0": 1.0, "1": 0.8, "2": 1.3, "3": 0.9}
    assert extremes([healthy] * 3).vanishing == extremes([healthy] * 3).exploding == {}
    found = extremes([healthy | {"0": 1e-4, "3": 500.0}] * 3 + [healthy])
    assert list(found.vanishing) == ["0"]
    assert list(found.exploding) == ["3"]


def test_a_layer_cut_off_from_the_loss_is_found(tmp_path: Path) -> None:
    run = make_run(tmp_path, config=LLAMA | {"num_hidden_layers": 4})
    for parameter in run.network.blocks[2].parameters():
        parameter.register_hook(lambda gradient: gradient * 1e-4)
    line = run._one_step()
    assert line is not None
    assert list(extremes([line["layers"]]).vanishing) == ["2"]
