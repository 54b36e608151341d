"""Memory plans: a rehearsal without memory counts what a real step allocates, and proposals fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import ingot
import tiny
from ingot.adapt.load import load
from ingot.core.errors import IngotError
from ingot.core.format import parse_bytes
from ingot.core.report import Report
from ingot.infer.engine import Engine
from ingot.infer.fused import FusedRunner
from ingot.infer.memory import Memory
from ingot.infer.sampling import Sampling
from ingot.model.config import ModelConfig
from ingot.model.kernels.library import kernels
from ingot.model.network import make_network
from ingot.model.packed_load import make_plan
from ingot.model.packed_size import held
from ingot.model.packing import Packer
from ingot.train.loss import Inputs, prediction_loss
from ingot.train.memory import rehearsal
from ingot.train.memory.inference import Use, _steps
from ingot.train.memory.packed import _step, fused_room, imagined, shapes_of
from ingot.train.memory.predict import Needs, first_start, inference, off_the_device
from ingot.train.memory.propose import propose
from ingot.train.memory.rehearsal import Storages, lesson, rehearse
from ingot.train.memory.setting import FLOAT, STATES, Setting
from ingot.train.optimizers import OPTIMIZERS, Optimizers
from ingot.train.rematerialise import rematerialised
from ingot.train.settings import LoopOptions

pytestmark = pytest.mark.slow


def setting(config: dict[str, Any], **how: Any) -> Setting:
    return Setting(ModelConfig.read(config, Path("config.json")), how.pop("length", 32), how.pop("rows", 4), **how)


def real_peak(wanted: Setting) -> float:
    """The same step on real tensors, counted the same way."""
    with Storages() as storages:
        network = rehearsal._network(wanted)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.fill_(0.01)
        inputs = Inputs.of(lesson(wanted, network), torch.device("cpu"))
        with rematerialised(network, wanted.checkpointing):
            for _ in range(min(2, wanted.micro_batches)):
                (prediction_loss(network, inputs) / inputs.num_targets).backward()
        return storages.peak


@pytest.mark.parametrize("how", [{}, {"checkpointing": True}, {"method": "lora"}, {"micro_batches": 4}], ids=str)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_rehearsal_is_the_real_step(name: str, how: dict[str, Any]) -> None:
    wanted = setting(tiny.CONFIGS[name], **how)
    assert rehearse(wanted).peak == pytest.approx(real_peak(wanted), rel=0.02)


def test_a_line_through_two_depths_is_the_third() -> None:
    wanted = setting(tiny.QWEN3 | {"num_hidden_layers": 7})
    assert rehearse(wanted) == rehearsal._whole(wanted, rehearsal.PLANNED)


@pytest.mark.parametrize("name", ["mixtral", "bert", "t5"])
def test_other_kinds_of_networks_are_rehearsed(name: str) -> None:
    config = (tiny.CONFIGS | tiny.ENCODERS | tiny.ENCODER_DECODERS)[name]
    small, large = rehearse(setting(config, rows=2)), rehearse(setting(config, rows=8))
    assert small.weights == large.weights
    assert small.peak < large.peak


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_states_are_as_large_as_the_optimisers(name: str) -> None:
    network = tiny.make_decoder(tiny.LLAMA | {"hidden_size": 64, "intermediate_size": 96}).train()
    optimizers = Optimizers(network, LoopOptions(optimizer=name))  # type: ignore[arg-type]
    network.head(network(torch.zeros(1, 8, dtype=torch.long))).sum().backward()
    optimizers.step(1e-3)
    groups = optimizers.groups
    planned = sum(STATES[name](p.shape, group.kind) for group in groups for p in group.parameters.values())
    assert set(STATES) == set(OPTIMIZERS)
    assert planned == pytest.approx(optimizers.bytes, rel=0.001)


def test_less_is_less() -> None:
    whole = rehearse(setting(tiny.LLAMA, rows=8))
    assert rehearse(setting(tiny.LLAMA, rows=8, micro_batches=8)).peak < whole.peak
    assert rehearse(setting(tiny.LLAMA, rows=8, optimizer="adamw8")).states < whole.states
    assert rehearse(setting(tiny.LLAMA, rows=8, method="lora")).gradients < whole.gradients


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_is_offloaded_is_not_counted(device: str) -> None:
    """A CPU's files take none of its memory; on a card layers and states visit."""
    config = ModelConfig.read(tiny.LLAMA | {"num_hidden_layers": 8, "vocab_size": 64}, Path("c"))
    found = {offload: off_the_device(one, rehearse(one))
             for offload in ("none", "optimizer", "layers")
             for one in [Setting(config, 16, 4, offload=offload, device=device)]}  # fmt: skip
    whole, states, layers = found["none"], found["optimizer"], found["layers"]
    block = sum(p.numel() * FLOAT for p in make_network(config).blocks[0].parameters())
    assert states.weights == whole.weights
    assert layers.weights == pytest.approx(whole.weights - 8 * block, rel=1e-6)
    assert layers.gradients == whole.gradients - (8 * block if device == "cuda" else 0)
    assert states.states == layers.states == 0.0
    assert states.transient == (whole.states if device == "cuda" else 0.0)
    assert layers.transient == (whole.states - whole.layer_states if device == "cuda" else 0.0)
    assert layers.peak < states.peak == whole.peak
    assert layers.peak > layers.weights + layers.gradients


def use(config: dict[str, Any], slots: int = 3, length: int = 100, **how: Any) -> Use:
    """How a model of this config writes; `weights`: packed as if it were stored in float32."""
    read, weights = ModelConfig.read(config, Path("c")), how.pop("weights", "dense")
    base = imagined(config, "c", shapes_of(read))
    plan = make_plan(base, weights)
    return Use(read, slots, length, packer=Packer(base, plan) if plan else None, **how)


def test_the_cache_is_its_formula() -> None:
    needs = inference(use(tiny.LLAMA, device="cuda"), 0.0)
    blocks = 3 * 8 + 1  # the window, which the cache does not outgrow, and what is nobody's
    assert needs.states == 2 * 2 * 16 * blocks * 2 * 8 * 4
    assert inference(use(tiny.LLAMA, device="cuda", kv=torch.bfloat16), 0.0).states == needs.states / 2
    assert inference(use(tiny.LLAMA, device="cuda", kv=torch.int8), 0.0).states == needs.states * 12 / 32
    assert inference(use(tiny.LLAMA, device="cuda", most_blocks=9), 0.0).states == needs.states * 9 / blocks
    assert inference(use(tiny.BERT, length=64, device="cuda"), 0.0).states == 0


@pytest.mark.parametrize("weights", ["int8", "int4"])
@pytest.mark.parametrize("name", ["llama", "gemma2", "phi3", "gpt2", "mixtral", "bert", "t5"])
def test_packed_models_of_every_kind_are_planned(name: str, weights: str) -> None:
    config = (tiny.CONFIGS | tiny.ENCODERS | tiny.ENCODER_DECODERS)[name]
    packed, dense = (inference(use(config, 2, 32, weights=each), 0.0) for each in (weights, "dense"))
    wanted = use(config, 2, 32, weights=weights)
    assert wanted.packer is not None
    assert packed.weights == held(wanted.packer).total < dense.weights
    assert first_start(wanted, packed) >= packed.total


@pytest.mark.parametrize("kv", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("slots", [1, 3, 9])
def test_the_fused_step_works_in_what_was_planned(kv: str, slots: int, tmp_path: Path) -> None:
    """The room that was planned without weights is the room that the real decoder has when all is written."""
    if kernels() is None:
        pytest.skip("needs the kernels")
    planned = use(tiny.LLAMA, slots, 100, weights="int8")
    assert planned.packer is not None
    model = load(tiny.write_model(tmp_path / "a", tiny.LLAMA), weights="int8")
    engine = Engine(model, slots, memory=Memory(kv=kv))  # type: ignore[arg-type]
    for number in range(slots):
        engine.submit([5 + number, *[3] * 99], Sampling(max_tokens=2, ignore_eos=True))
    while engine.has_work:
        engine.step()
    assert isinstance(engine.runner, FusedRunner)
    step, _kept = _step([1], [0], 2)
    assert fused_room(planned.packer, _steps(planned)) == engine.runner._decoder.room(step)


def test_only_what_runs_in_one_call_has_such_room() -> None:
    gpt2, narrow = tiny.CONFIGS["gpt2"], tiny.LLAMA | {"intermediate_size": 40}
    for config in (gpt2, narrow, tiny.BERT):
        packer = use(config, weights="int8", length=32).packer
        assert packer is not None
        assert fused_room(packer, [([1], [0])]) is None


def test_proposals_fit() -> None:
    def needs(wanted: Setting) -> Needs:
        return Needs(0, 0, 0, 0, 0, 100.0 * wanted.micro_rows * wanted.length)

    wanted = setting(tiny.LLAMA, rows=8)
    found = propose(wanted, 100 * 32 * 1, needs)
    assert len(found) == 3
    assert all(one.total <= 3200 and candidate.micro_rows == 1 for candidate, one in found)
    assert propose(wanted, 1.0, needs) == []


@pytest.mark.parametrize(("size", "expected"), [("8GiB", 8 * 2**30), ("512 MB", 512 * 10**6), ("1.5g", 15 * 10**8)])
def test_sizes(size: str, expected: int) -> None:
    assert parse_bytes(size) == expected


@pytest.mark.parametrize(
    ("options", "code"),
    [({"depth": 2, "preset": "gpt2"}, "plan-memory-depth"), ({"depth": 2, "memory": "lots"}, "bad-size"),
     ({"preset": "gpt2", "length": 2048}, "plan-memory-length"), ({}, "plan-name-one"),
     ({"preset": "t5-small", "method": "prompt"}, "plan-memory-front"),
     ({"depth": 2, "length": 16, "method": "prompt", "prompt": {"tokens": 20}}, "prompt-too-wide"),
     ({"depth": 2, "prompt": {"tokens": 20}}, "options-conflict"),
     ({"depth": 2, "method": "prompt", "prompt": {"text": "You are"}}, "options-conflict"),
     ({"depth": 2, "method": "lora", "lora": {"alpha": 8}}, "options-conflict"),
     ({"depth": 2, "run": {"weights": "int8"}}, "weights-elsewhere"),
     ({"depth": 2, "run": {"inference_only": True}, "cache": {"gib": 1e-9}}, "cache-without-room"),
     ({"depth": 2, "run": {"inference_only": True}, "cache": {"gib": 2e-4}}, "cache-too-small")],
)  # fmt: skip
def test_what_cannot_be_planned_is_refused(options: dict[str, Any], code: str) -> None:
    with pytest.raises(IngotError) as caught:
        ingot.plan_memory(**{"device": "cuda", **options})
    assert caught.value.code == code


def test_the_verb_says_what_fits(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "depth": 2, "batch_tokens": 256, "length": 32, "device": "cuda", "loop": {"checkpointing": "off"}
    }  # fmt: skip
    plain = ingot.plan_memory(**options)
    total = plain.numbers["training_bytes"]
    assert isinstance(total, int)
    assert ingot.plan_memory(**options, memory=f"{total}").passed
    short = ingot.plan_memory(**options, memory=f"{total - 1}", out=tmp_path / "plan")
    assert short.passed is False
    assert short.numbers["settings_that_fit"] == 3
    assert Report.open(tmp_path / "plan").numbers == short.numbers


def test_inference_is_judged_too() -> None:
    options: dict[str, Any] = {"depth": 4, "length": 64, "slots": 64, "run": {"inference_only": True}}
    plain = ingot.plan_memory(**options)
    assert "training_bytes" not in plain.numbers
    total = plain.numbers["inference_bytes"]
    assert isinstance(total, int)
    assert ingot.plan_memory(**options, memory=f"{2 * total}").passed
    cache = 64 * 4 * 16 * 4 * 2 * 128 * 4
    short = ingot.plan_memory(**options, memory=f"{total - cache // 4}")
    assert short.passed is False
    assert short.numbers["ways_to_write_that_fit"] == 3
    assert ingot.plan_memory(**options, cache={"kv": "int8"}).numbers["inference_bytes"] < total - cache // 2


@pytest.mark.slow
@pytest.mark.parametrize("how", [{}, {"micro_batches": 4}], ids=str)
def test_a_process_takes_what_was_planned(how: dict[str, Any]) -> None:
    """The real loop in a process of its own, as benchmarks/memory.py measures it."""
    import subprocess
    import sys

    from ingot.train.memory.predict import process_bytes, training

    folder = Path(__file__).parents[2] / "benchmarks"
    case = f"memory_cases.case('qwen3', 6, 4096, 8, 256, **{how!r})"
    script = f"import sys; sys.path.insert(0, {str(folder)!r})\nimport memory, memory_cases, tempfile, pathlib\n"
    run = f"with tempfile.TemporaryDirectory() as f: memory.train({case}, pathlib.Path(f))\n"
    run += "from ingot.train.memory.resident import peak_bytes; print(peak_bytes())"
    found = subprocess.run([sys.executable, "-c", script + run], check=True, capture_output=True, text=True)
    sys.path.insert(0, str(folder))
    import memory
    import memory_cases

    wanted = replace(memory.setting_of(memory_cases.case("qwen3", 6, 4096, 8, 256)), **how)
    planned = training(wanted, process_bytes("cpu")).total
    assert planned == pytest.approx(float(found.stdout.split()[-1]), rel=0.15)
