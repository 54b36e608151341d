"""Every option of the loop and of `pretrain` acts or is refused; bad rows are refused before the first step."""

from __future__ import annotations

import errno
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import ingot
from ingot.core.errors import IngotError
from ingot.data.pack import Rows, pack_documents
from ingot.train import loop
from ingot.train.checkpoint import Place
from ingot.train.criterion import Loss
from ingot.train.cross_entropy import PartLoss
from ingot.train.loop import Run
from ingot.train.loss import Inputs, prediction_loss
from ingot.train.machine import has_compiler
from ingot.train.optimizers.groups import freeze
from ingot.train.plan import Plan, Result
from ingot.train.pretrain import PretrainOptions
from ingot.train.settings import LoopOptions
from tiny import LLAMA, make_decoder, write_tokenizer

pytestmark = pytest.mark.slow

BASE: dict[str, Any] = {"compile": "off", "precision": "fp32"}
CHANGES: dict[str, dict[str, Any]] = {
    "optimizer": {"optimizer": "muon"},
    "weight_decay": {"weight_decay": 2.0},
    "beta1": {"beta1": 0.5},
    "beta2": {"beta2": 0.5},
    "clip": {"clip": 0.01},
    "schedule": {"schedule": "linear"},
    "warmup": {"warmup": 0.5},
    "decay": {"schedule": "wsd", "decay": 0.9},
    "final": {"final": 0.9},
    "freeze": {"freeze": "model.norm.*"},
    "precision": {"precision": "bf16"},
}
"""Options that change what is learnt."""

OTHERS = {"micro_batches", "checkpointing", "offload", "recover", "compile", "parallel"}
"""Options that change how it is computed; each has a test of its own, here, in test_offload.py or in those of several
processes."""


def make_rows() -> Rows:
    random = np.random.default_rng(0)
    return pack_documents([random.integers(4, 320, size=12).tolist() for _ in range(40)], 26, eos=0, pad=1)


def train(place: Path, loss: Loss = prediction_loss, **options: Any) -> tuple[dict[str, Tensor], Result]:
    place.mkdir(parents=True, exist_ok=True)
    chosen = LoopOptions.of(**BASE | options)
    network = make_decoder(LLAMA)
    freeze(network, chosen.freeze)
    precision = torch.bfloat16 if chosen.precision == "bf16" else torch.float32
    run = Run(network, make_rows(), Plan(6, None, 4, 1e-2, 0, precision, chosen), Place(place), loss=loss)
    return dict(run.network.state_dict()), run.go(resumed=False)


def test_every_option_is_walked() -> None:
    assert set(CHANGES) | OTHERS == set(LoopOptions.model_fields)


@pytest.mark.parametrize("name", CHANGES)
def test_each_option_changes_what_is_learnt(name: str, tmp_path: Path) -> None:
    without = {key: value for key, value in CHANGES[name].items() if key != name}
    plain, _ = train(tmp_path / "plain", **without)
    changed, _ = train(tmp_path / "changed", **CHANGES[name])
    assert any(not torch.equal(tensor, changed[key]) for key, tensor in plain.items())


def test_micro_batches_split_the_batch(tmp_path: Path) -> None:
    sizes: list[int] = []

    def loss(network: Any, inputs: Inputs, part_loss: PartLoss) -> Tensor:
        sizes.append(len(inputs.ids_BT))
        return prediction_loss(network, inputs, part_loss)

    train(tmp_path / "a", loss=loss, micro_batches=4)
    assert set(sizes) == {1}
    train(tmp_path / "b", loss=loss)
    assert max(sizes) == 4


@pytest.mark.parametrize("config", [LLAMA], ids=["llama"])
def test_checkpointing_computes_layers_again_and_changes_nothing(config: dict[str, Any], tmp_path: Path) -> None:
    def passes(checkpointing: Any) -> tuple[int, dict[str, Tensor]]:
        network = make_decoder(config)
        calls: list[int] = []
        network.blocks[0].self_attn.register_forward_hook(lambda *_: calls.append(1))  # type: ignore[union-attr]
        chosen = LoopOptions(**BASE, checkpointing=checkpointing)
        place = tmp_path / checkpointing
        place.mkdir()
        Run(network, make_rows(), Plan(6, None, 4, 1e-2, 0, torch.float32, chosen), Place(place)).go(resumed=False)
        assert "forward" not in vars(network.blocks[0])
        return len(calls), dict(network.state_dict())

    plain, expected = passes("off")
    again, found = passes("on")
    assert again == plain + 6
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_recover_decides_what_a_nan_does(tmp_path: Path) -> None:
    calls: list[int] = []

    def loss(network: Any, inputs: Inputs, part_loss: PartLoss) -> Tensor:
        calls.append(1)
        return prediction_loss(network, inputs, part_loss) * (math.nan if len(calls) == 3 else 1.0)

    _, result = train(tmp_path / "on", loss=loss)
    assert len(result.events) == 1
    calls.clear()
    with pytest.raises(IngotError):
        train(tmp_path / "off", loss=loss, recover="off")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # dynamo looks at every input
@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
def test_compile_compiles(tmp_path: Path) -> None:
    plain, _ = train(tmp_path / "a")
    compiled, result = train(tmp_path / "b", compile="on")
    assert result.compiled
    assert all(torch.allclose(tensor, compiled[name], atol=1e-4) for name, tensor in plain.items())
    torch._dynamo.reset()


@pytest.mark.parametrize(("options", "word"), [
    ({"decay": 0.5}, "wsd"), ({"schedule": "constant", "final": 0.5}, "constant"),
    ({"schedule": "wsd", "decay": 0.9, "warmup": 0.2}, "longer than the run"), ({"optimizer": "sgd"}, "adamw"),
    ({"freeze": "no.such"}, "no.such"), ({"momentum": 0.9}, "momentum"), ({"clip": -1}, "clip"),
    ({"warmup": 1.0}, "warmup"), ({"beta1": 1.0}, "beta1"), ({"micro_batches": 0}, "micro_batches"),
])  # fmt: skip
def test_what_cannot_act_is_refused(options: dict[str, Any], word: str, tmp_path: Path) -> None:
    with pytest.raises(IngotError, match=word):
        train(tmp_path, **options)


def run_on(rows: Rows, place: Path) -> None:
    place.mkdir(exist_ok=True)
    plan = Plan(2, None, 2, 1e-3, 0, torch.float32, LoopOptions(**BASE))
    Run(make_decoder(LLAMA), rows, plan, Place(place)).go(resumed=False)


def test_bad_rows_are_refused_by_place(tmp_path: Path) -> None:
    rows = make_rows()
    ids = rows.ids.copy()
    ids[3, 5] = 320
    with pytest.raises(IngotError, match="row 3 holds token 320 at place 5"):
        run_on(Rows(ids, rows.segments, rows.targets), tmp_path)
    ids[3, 5] = -2
    with pytest.raises(IngotError, match="token -2"):
        run_on(Rows(ids, rows.segments, rows.targets), tmp_path)
    with pytest.raises(IngotError, match="nothing to learn"):
        run_on(Rows(rows.ids, rows.segments, np.zeros_like(rows.targets)), tmp_path)
    with pytest.raises(IngotError, match="130 tokens are longer than the model's 128"):
        run_on(pack_documents([list(range(4, 133))] * 3, 130, eos=0, pad=1), tmp_path)
    run_on(pack_documents([list(range(4, 100))] * 3, 130, eos=0, pad=1), tmp_path)  # positions begin anew in each


def test_a_full_disk_is_said_and_the_last_checkpoint_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    written = []

    def write(path: Path, *args: Any) -> None:
        written.append(path)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, *args)

    from ingot.train import checkpoint

    real = checkpoint.write_tensors
    monkeypatch.setattr(checkpoint, "write_tensors", write)
    with pytest.raises(IngotError) as caught:
        train(tmp_path)
    assert caught.value.code == "disk-full"
    place = Place(tmp_path)
    assert place.newest_step() == 1
    assert not list(tmp_path.glob(".*.partial"))


VERB_CHANGES: dict[str, dict[str, Any]] = {
    "epochs": {"epochs": 2.0, "max_steps": None},
    "max_steps": {"max_steps": 3},
    "max_minutes": {"max_minutes": 1e-4, "max_steps": 10_000},
    "batch_tokens": {"batch_tokens": 64},
    "lr": {"lr": 1e-4},
    "seed": {"seed": 9},
    "loop": {"loop": BASE | {"clip": 0.01}},
    "depth": {"depth": 2},
    "family": {"family": "gpt2"},
    "length": {"length": 40},
    "objective": {"objective": "prefix-lm"},
    "objectives": {"objective": "prefix-lm", "objectives": {"split": "answer"}},
    "corpus": {"corpus": {"heldout": 0.3, "allow_unknown_licence": True}},
}
ELSEWHERE = {"data", "tokenizer", "out", "resume", "launch"}
"""Options with tests of their own."""


def test_every_option_of_pretrain_is_walked() -> None:
    assert set(VERB_CHANGES) | ELSEWHERE == set(PretrainOptions.model_fields)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("walk")
    lines = [f"the cat number {n} sat on the mat and the dog ran." for n in range(60)]
    (path / "corpus.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    write_tokenizer(path / "tok")
    return path


def pretrain(folder: Path, out: Path, **options: Any) -> str:
    """Digest of the weights."""
    common = {"depth": 1, "length": 32, "batch_tokens": 128, "max_steps": 4, "loop": BASE, "lr": 1e-2}
    common |= {"corpus": {"allow_unknown_licence": True}} | options
    made = ingot.pretrain(folder / "corpus.jsonl", tokenizer=folder / "tok", out=out, **common)
    return made.files["model.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("name", VERB_CHANGES)
def test_each_option_of_pretrain_changes_the_model(name: str, folder: Path, tmp_path: Path) -> None:
    without = {key: value for key, value in VERB_CHANGES[name].items() if key != name}
    if name == "max_minutes":
        without = {}
    if name == "objectives":
        with pytest.raises(IngotError):  # split by answers needs conversations: all of a text is asked for
            pretrain(folder, tmp_path / "changed", **VERB_CHANGES[name] | {"objectives": {"noise": 0.3}})
        return
    assert pretrain(folder, tmp_path / "a", **without) != pretrain(folder, tmp_path / "b", **VERB_CHANGES[name])
