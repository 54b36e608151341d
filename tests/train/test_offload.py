"""Offloaded tensors: the same numbers, elsewhere."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ingot.adapt.active import Active
from ingot.adapt.lora import LoRA
from ingot.adapt.methods import put_on
from ingot.adapt.targets import Targets
from ingot.core.errors import IngotError
from ingot.data.pack import Rows, pack_documents
from ingot.train.checkpoint import Place
from ingot.train.distributed.world import World
from ingot.train.loop import Run
from ingot.train.loss import Inputs, prediction_loss
from ingot.train.memory.rehearsal import lesson
from ingot.train.memory.setting import Setting
from ingot.train.offload import Elsewhere, move, visiting
from ingot.train.optimizers import Optimizers
from ingot.train.plan import Plan
from ingot.train.rematerialise import plainly, rematerialised
from ingot.train.settings import LoopOptions
from tiny import BART, BERT, GPT2, LLAMA, T5, make_random_network

CPU = torch.device("cpu")
STEPS = 3


def make_rows() -> Rows:
    random = np.random.default_rng(3)
    return pack_documents([random.integers(4, 320, size=20).tolist() for _ in range(24)], 24, eos=0, pad=1)


def train(
    folder: Path, offload: str, method: str = "full", steps: int = STEPS, resume: bool = False, **how: Any
) -> Run:
    """A short run; its weights and states are what is compared."""
    network = make_random_network(LLAMA | {"attention_dropout": 0.1})
    network.requires_grad_(True)
    torch.manual_seed(0)
    if method == "lora":
        put_on(network, LoRA(4, 8.0, 0.1, Targets("all-linear")), "tuned", Active())
    options = LoopOptions(offload=offload, compile="off", precision="fp32", **how)
    place = Place.beside(folder / f"{offload}-{method}")
    resumed = place.begin({}, resume)
    move(network, options, CPU, place.path, World())
    run = Run(network, make_rows(), Plan(steps, None, 4, 1e-2, 0, torch.float32, options), place)
    run.go(resumed)
    return run


def tensors(run: Run) -> dict[str, Tensor]:
    return dict(run.network.state_dict()) | dict(run.optimizers.state())


def assert_same(run: Run, other: Run) -> None:
    found, expected = tensors(run), tensors(other)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("optimizer", ["adamw", "adamw8", "muon"])
@pytest.mark.parametrize("offload", ["optimizer", "layers"])
def test_offloading_changes_no_bit(offload: str, optimizer: str, tmp_path: Path) -> None:
    assert_same(train(tmp_path, offload, optimizer=optimizer), train(tmp_path, "none", optimizer=optimizer))


def test_offloading_a_frozen_base_changes_no_bit(tmp_path: Path) -> None:
    assert_same(train(tmp_path, "layers", "lora"), train(tmp_path, "none", "lora"))


def test_states_in_many_parts_are_those_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingot.train.optimizers.PART_NUMBERS", 1)
    run = train(tmp_path, "optimizer")
    assert len(run.optimizers._parts) == sum(p.requires_grad for p in run.network.parameters())
    assert_same(run, train(tmp_path, "none"))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's list of mappings")
def test_what_is_offloaded_lies_in_files_that_have_no_name(tmp_path: Path) -> None:
    run = train(tmp_path, "layers")
    mapped = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line]
    ranges = [tuple(int(part, 16) for part in line[0].split("-")) for line in mapped]
    assert all(line[-1] == "(deleted)" for line in mapped)

    def lies_in_a_file(tensor: Tensor) -> bool:
        return any(begin <= tensor.data_ptr() < end for begin, end in ranges)

    at_home = [p for block in run.network.blocks for p in block.parameters()]
    large = [value for _, value in run.optimizers.state() if value.numel() >= 1024]
    assert all(map(lies_in_a_file, [*at_home, *large]))
    assert len(large) > 10
    assert not lies_in_a_file(run.network.embedding.weight)
    assert {path.name for path in run.place.path.iterdir()} == {"metrics.jsonl", "run.json", f"step-{STEPS:09d}"}


@pytest.mark.slow
def test_a_run_goes_on_offloaded_or_not(tmp_path: Path) -> None:
    for before, after in (("none", "optimizer"), ("layers", "none")):
        folder = tmp_path / before
        folder.mkdir()
        train(folder, before, steps=2)
        Place.beside(folder / f"{before}-full").path.rename(Place.beside(folder / f"{after}-full").path)
        whole = tmp_path / f"{before}-whole"
        whole.mkdir()
        assert_same(train(folder, after, steps=4, resume=True), _in_two_halves(whole))


def _in_two_halves(folder: Path) -> Run:
    """The same run stopped and resumed without offloading: its schedule was drawn for two steps, then for four."""
    train(folder, "none", steps=2)
    return train(folder, "none", steps=4, resume=True)


def test_a_full_disk_is_an_error_not_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        Elsewhere(CPU, tmp_path).keep(torch.ones(2048))
    assert not list(tmp_path.iterdir())


def test_several_processes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IngotError) as error:
        move(make_random_network(LLAMA), LoopOptions(offload="layers"), CPU, tmp_path, World(0, 2))
    assert error.value.code == "offload-parallel"


def gradients(
    config: dict[str, Any], device: torch.device, offload: str, bring: Any, folder: Path
) -> dict[str, Tensor]:
    """Of a lesson whose layers are called with copies of their weights, or as they are."""
    network = make_random_network(config).requires_grad_(True).train()
    move(network, LoopOptions(offload=offload), device, folder, World())
    with rematerialised(network, bring is not None, plainly if bring is None else visiting(bring)):
        made = lesson(Setting(network.config, 16, 4), network)
        prediction_loss(network, Inputs.of(made, device)).backward()
    return {name: p.grad.cpu() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("config", [LLAMA, GPT2, BERT, T5, BART], ids=lambda config: config["model_type"])
def test_layers_called_with_copies_give_their_gradients(config: dict[str, Any], tmp_path: Path) -> None:
    config = config | {"dropout": 0.0}
    found = [gradients(config, CPU, "none", bring, tmp_path) for bring in (None, torch.clone)]
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(gradient, found[1][name]) for name, gradient in found[0].items())


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@cuda
@pytest.mark.parametrize("config", [LLAMA, T5], ids=["llama", "t5"])
def test_layers_that_visit_the_card_give_its_gradients(config: dict[str, Any], tmp_path: Path) -> None:
    card = torch.device("cuda")
    bring = partial(Tensor.to, device=card, non_blocking=True)
    plain = gradients(config, card, "none", None, tmp_path)
    found = gradients(config, card, "layers", bring, tmp_path)
    assert found.keys() == plain.keys()
    for name, gradient in plain.items():
        assert (gradient - found[name]).norm() <= 1e-5 * gradient.norm(), name


@cuda
@pytest.mark.parametrize("optimizer", ["adamw", "adamw8", "muon"])
def test_states_that_visit_the_card_change_no_bit(optimizer: str, tmp_path: Path) -> None:
    card, found = torch.device("cuda"), []
    for elsewhere in (None, Elsewhere(card, tmp_path)):
        network = make_random_network(LLAMA).requires_grad_(True).to(card)
        optimizers = Optimizers(network, LoopOptions(optimizer=optimizer), elsewhere)
        for step in range(STEPS):
            generator = torch.Generator(card).manual_seed(step)
            for parameter in network.parameters():
                parameter.grad = torch.randn(parameter.shape, device=card, generator=generator)
            optimizers.step(1e-2)
        assert elsewhere is None or all(v.device == CPU for _, v in optimizers.state() if v.numel() >= 1024)
        found.append({name: value.cpu() for name, value in network.state_dict().items()})
    assert all(torch.equal(found[0][name], value) for name, value in found[1].items())
