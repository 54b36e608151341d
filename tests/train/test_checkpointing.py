"""Checkpointing that the plan chooses: by what a rehearsal of the very run says, and what is free."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tiny
from ingot.adapt.active import Active
from ingot.adapt.methods import put_on
from ingot.core.errors import IngotError
from ingot.data.pack import Rows, pack_documents
from ingot.model import available
from ingot.model.available import free_bytes
from ingot.model.config import ModelConfig
from ingot.model.network import make_network
from ingot.model.nf4_linear import hold_in_nf4
from ingot.train.checkpoint import Place
from ingot.train.criterion import Criterion
from ingot.train.distributed.sharing import Sharing
from ingot.train.distributed.world import World
from ingot.train.loop import Run
from ingot.train.loss import prediction_loss
from ingot.train.memory import running
from ingot.train.memory.rehearsal import Scene, lesson, rehearse
from ingot.train.memory.running import SPARE, Beginning, choose_checkpointing, copied
from ingot.train.memory.setting import Setting
from ingot.train.plan import Plan
from ingot.train.settings import LoopOptions

DEEP = tiny.LLAMA | {"num_hidden_layers": 7}
FAMILIES = {"llama": DEEP, "gemma3": tiny.CONFIGS["gemma3"], "bert": tiny.BERT, "bart": tiny.ENCODER_DECODERS["bart"],
            "modernbert": tiny.ENCODERS["modernbert"], "mixtral": tiny.CONFIGS["mixtral"]}  # fmt: skip


def beginning(config: dict[str, Any], method: Any = "full", **options: Any) -> tuple[Beginning, Setting]:
    """A run about to begin on the rows that the plan imagines, and what the plan is told of it."""
    setting = Setting(ModelConfig.read(config, Path("c")), 32, 4, method)
    network = make_network(setting.config)
    if method == "qlora":
        dense = dict(network.named_parameters())
        for name, layer in hold_in_nf4(network, "c").items():
            layer.fill(dense[name].detach())
    if setting.adapter is not None:
        put_on(network, setting.adapter, "tuned", Active())
    chosen = LoopOptions.of(compile="off", precision="fp32", **options)
    plan = Plan(6, None, 4, 1e-2, 0, torch.float32, chosen)
    return Beginning(network.train(), plan, Criterion(), lesson(setting, network)), setting


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_copy_of_the_run_takes_what_the_plan_says(name: str) -> None:
    begun, setting = beginning(FAMILIES[name])
    scene = Scene(lambda wanted: copied(begun.network, wanted.config), lambda *_: begun.lesson, begun._loss)
    assert rehearse(setting, scene).peak == pytest.approx(rehearse(setting).peak, rel=1e-3)
    assert len(begun.network.blocks) > 0  # nothing was cut from the network itself
    assert all(type(parameter.data) is Tensor for parameter in begun.network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "dora", "qlora", "ia3", "prefix", "prompt"])
def test_a_copy_has_the_runs_adapter(method: str) -> None:
    begun, setting = beginning(DEEP, method)
    scene = Scene(lambda wanted: copied(begun.network, wanted.config), lambda *_: begun.lesson, begun._loss)
    assert rehearse(setting, scene).peak == pytest.approx(rehearse(setting).peak, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora", "qlora", "prompt"])
@pytest.mark.parametrize("length", [32, 1024])
def test_the_bound_is_above_what_is_needed(method: Any, length: int) -> None:
    """For a small vocabulary, so that the logits' share of the bound hides nothing."""
    config = DEEP | {"max_position_embeddings": 2048}
    begun, setting = beginning(config, method)
    begun = replace(begun, lesson=lesson(replace(setting, length=length), begun.network))
    logits = 2 * 4 * 4 * (1 << 24)
    assert begun.bound() - logits > begun.needs(begun.setting).total


def chosen_with(free: float | None, monkeypatch: pytest.MonkeyPatch, begun: Beginning) -> bool:
    monkeypatch.setattr(running, "free_bytes", lambda device: free)
    monkeypatch.setattr(Beginning, "bound", lambda self: float("inf"))
    return choose_checkpointing(begun)


def said(caplog: pytest.LogCaptureFixture) -> str:
    """What was said since the last time."""
    found = caplog.text
    caplog.clear()
    return found


@pytest.mark.slow
def test_it_is_chosen_where_it_makes_the_run_fit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ingot")
    begun, _ = beginning(DEEP)
    without = begun.needs(begun.setting).total
    with_it = begun.needs(replace(begun.setting, checkpointing=True)).total
    assert with_it < without
    assert chosen_with(None, monkeypatch, begun) is False
    assert chosen_with(SPARE * without, monkeypatch, begun) is False
    assert said(caplog) == ""
    assert chosen_with(SPARE * without - 1, monkeypatch, begun) is True
    assert "checkpointing" in said(caplog)
    assert chosen_with(SPARE * with_it, monkeypatch, begun) is True
    assert "would fit" not in said(caplog)


@pytest.mark.slow
def test_what_would_fit_is_named_where_it_does_not_suffice(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun, _ = beginning(DEEP)
    smallest = replace(begun.setting, checkpointing=True, micro_batches=4)
    free = SPARE * begun.needs(smallest).total
    assert free < SPARE * begun.needs(replace(begun.setting, checkpointing=True)).total
    assert chosen_with(free, monkeypatch, begun) is True
    assert "--loop.micro-batches 4 --loop.checkpointing on" in said(caplog)
    assert chosen_with(1.0, monkeypatch, begun) is True
    assert "What would fit: -" in said(caplog)


@pytest.mark.slow
def test_a_run_that_cannot_be_rehearsed_goes_on_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def loss(network: Any, inputs: Any, part_loss: Any) -> Tensor:
        total = prediction_loss(network, inputs, part_loss)
        return total * float(total.detach() > 0)

    begun, _ = beginning(DEEP)
    assert chosen_with(1.0, monkeypatch, replace(begun, criterion=Criterion(loss))) is False
    assert "cannot foresee" in said(caplog)


def make_rows() -> Rows:
    random = np.random.default_rng(0)
    return pack_documents([random.integers(4, 320, size=12).tolist() for _ in range(40)], 26, eos=0, pad=1)


def run(place: Path, steps: int = 6, **options: Any) -> Run:
    place.mkdir(parents=True, exist_ok=True)
    chosen = LoopOptions.of(compile="off", precision="fp32", **options)
    return Run(tiny.make_decoder(tiny.LLAMA), make_rows(), Plan(steps, None, 4, 1e-2, 0, torch.float32, chosen),
               Place(place))  # fmt: skip


def state_of(done: Run) -> dict[str, Tensor]:
    return dict(done.network.state_dict())


@pytest.mark.slow
def test_a_resumed_run_keeps_the_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is free by then; and the weights are those of a run that never stopped, to the last bit."""
    monkeypatch.setattr("ingot.train.loop.choose_checkpointing", lambda begun: True)
    whole = run(tmp_path / "whole")
    assert whole.go(False).checkpointing is True
    monkeypatch.setattr("ingot.train.loop.SAVE_SECONDS", -1.0)
    stopped = run(tmp_path / "stopped")
    monkeypatch.setattr(stopped, "progress", lambda: float(stopped.step >= 3) or stopped.step / 6)
    stopped.go(False)
    monkeypatch.setattr("ingot.train.loop.choose_checkpointing", lambda begun: pytest.fail("chosen anew"))
    resumed = run(tmp_path / "stopped")
    assert resumed.go(True).checkpointing is True
    assert resumed.step == 6
    found = state_of(resumed)
    assert all(torch.equal(tensor, found[name]) for name, tensor in state_of(whole).items())


@pytest.mark.slow
@pytest.mark.parametrize(("word", "expected"), [("on", True), ("off", False)])
def test_what_was_asked_for_is_not_measured(
    word: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingot.train.loop.choose_checkpointing", lambda begun: pytest.fail("measured"))
    assert run(tmp_path, checkpointing=word).go(False).checkpointing is expected


def test_several_processes_choose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingot.train.loop.choose_checkpointing", lambda begun: pytest.fail("measured"))
    one = run(tmp_path)
    one.sharing = Sharing(World(rank=0, size=2))
    one._choose_checkpointing()
    assert one.checkpointing is False


@pytest.mark.parametrize("found", [True, False])
@pytest.mark.parametrize("name", ["checkpointing", "recover", "compile"])
def test_truth_values_are_read_as_the_words_yaml_took_them_for(name: str, found: bool) -> None:
    assert getattr(LoopOptions.of(**{name: found}), name) == ("on" if found else "off")


def test_other_words_are_refused_with_those_there_are() -> None:
    with pytest.raises(IngotError, match="auto"):
        LoopOptions.of(checkpointing="yes")


GROUP = "9:memory:/outer/inner\n0::/outer/inner\n"


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8 GB to be had."""
    monkeypatch.setattr(available, "PROC", tmp_path / "proc")
    monkeypatch.setattr(available, "GROUPS", tmp_path / "groups")
    write(tmp_path / "proc", meminfo="MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n")
    write(tmp_path / "proc" / "self", cgroup=GROUP)
    return tmp_path / "groups"


CPU = torch.device("cpu")


def test_what_the_machine_has(system: Path) -> None:
    assert free_bytes(CPU) == 8000000 * 1024


def test_a_limit_of_a_group_around_counts_and_unused_files_are_free(system: Path) -> None:
    write(system / "outer", memory__max="5000000", memory__current="3000000", memory__stat="inactive_file 400000\n")
    write(system / "outer" / "inner", memory__max="max\n", memory__current="1000")
    assert free_bytes(CPU) == 2400000


def test_the_older_files_of_groups(system: Path) -> None:
    write(system / "memory" / "outer" / "inner", memory__limit_in_bytes="700000", memory__usage_in_bytes="500000",
          memory__stat="total_inactive_file 100000\n")  # fmt: skip
    assert free_bytes(CPU) == 300000


def test_nobody_knows_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available, "PROC", tmp_path)
    assert free_bytes(CPU) is None
