"""Tuning on a base in NF4: only the adapter changes, it says how its base was held, merging says what that costs."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import ingot
from cases import first_fast
from ingot.adapt.files import write_adapter
from ingot.adapt.load import LanguageModel, load
from ingot.adapt.lora import low_rank
from ingot.adapt.methods import put_on
from ingot.compress.compare import compare, make_probe
from ingot.core.errors import IngotError
from ingot.core.model_dir import Draft, ModelDir
from ingot.model.network import Network
from ingot.model.nf4_linear import NF4Linear, is_in_nf4
from ingot.train import tuned as tuned_module
from ingot.train.loop import Run
from ingot.train.tune import TuneOptions
from ingot.train.write import prove
from tiny import BERT, GPT2, LLAMA, T5, write_model, write_tokenizer

LOOP = {"compile": "off", "precision": "fp32"}
TUNE: dict[str, Any] = {"method": "qlora", "rank": 4, "batch_tokens": 128, "max_steps": 4, "loop": LOOP, "lr": 0.05}
CHAT = {"messages": [{"role": "user", "content": "who?"}, {"role": "assistant", "content": "the cat"}]}
SMALL: dict[str, Any] = {"tokens": 128}
IDS = [[1, 2, 3, 4, 5]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer, conversations, and models of three kinds."""
    path = tmp_path_factory.mktemp("qlora")
    write_tokenizer(path / "tok")
    for name, config in (("llama", LLAMA), ("gpt2", GPT2)):
        write_model(path / name, config, tokenizer=path / "tok")
    (path / "chats.jsonl").write_text((json.dumps(CHAT) + "\n") * 8)
    return path


def tuned(folder: Path, base: str, out: Path, **options: Any) -> ModelDir:
    return ingot.tune(str(folder / base), data=folder / "chats.jsonl", out=out, **(TUNE | options))


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("ingot"), "propagate", True)
    caplog.set_level(logging.INFO, logger="ingot")
    return caplog


def logits(model: LanguageModel) -> Tensor:
    return model.logits(IDS)


@first_fast("base", ["llama", "gpt2"])
def test_the_adapter_is_of_its_base_in_four_bits(
    folder: Path, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[Network] = []

    def proven(draft: Draft, network: Network, *rest: Any) -> None:
        held.append(network)
        prove(draft, network, *rest)

    monkeypatch.setattr(tuned_module, "prove", proven)
    adapter = tuned(folder, base, tmp_path / "a")
    (network,) = held
    fresh = load(folder / base, nf4=True)
    assert adapter.hallmark
    assert adapter.hallmark.step.numbers["base_held_in"] == "nf4"
    layers = [(name, layer) for name, layer in fresh.network.named_modules() if isinstance(layer, NF4Linear)]
    assert len(layers) == {"llama": 14, "gpt2": 8}[base]
    for name, layer in layers:
        trained = network.get_submodule(f"{name}.base_layer")
        assert all(torch.equal(a, b) for a, b in zip(layer.buffers(), trained.buffers(), strict=True))
    again = load(f"{folder / base}+{adapter.path}", nf4=True)
    expected = network.head(network(torch.tensor(IDS)))
    assert torch.equal(logits(again), expected)
    plain = load(f"{folder / base}+{adapter.path}")
    assert not is_in_nf4(plain.network)
    assert not torch.equal(logits(plain), expected)
    assert not torch.equal(logits(again), logits(fresh))
    parameters = adapter.hallmark.step.numbers["parameters"] - adapter.hallmark.step.numbers["trained_parameters"]
    assert parameters == sum(parameter.numel() for parameter in load(folder / base).network.parameters())


@pytest.mark.slow
def test_the_proof_compares_with_the_base_in_four_bits(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuned_module, "is_in_nf4", lambda network: False)
    with pytest.raises(IngotError, match="model in memory") as caught:
        tuned(folder, "llama", tmp_path / "a")
    assert caught.value.code == "not-proven"
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
def test_merging_says_into_what_and_how_far_it_is_from_what_was_trained(
    folder: Path, tmp_path: Path, heard: pytest.LogCaptureFixture
) -> None:
    adapter, other = (tuned(folder, "llama", tmp_path / name, method=name).path for name in ("qlora", "lora"))
    reference = f"{folder / 'llama'}+{adapter}"
    merged = ingot.merge(reference, out=tmp_path / "m", **SMALL)
    numbers = merged.summary()["trained_in_nf4"]
    assert (numbers["adapters"], numbers["goes_into"]) == (["qlora"], "F32")
    assert "qlora was trained on llama in NF4" in heard.text
    probe = make_probe(load(reference), None, SMALL["tokens"], 0)
    assert {key: numbers[key] for key in ("kl", "top1_agreement", "compared_tokens")} == {
        key: value
        for key, value in compare(load(reference, nf4=True), load(tmp_path / "m"), probe).items()
        if key in ("kl", "top1_agreement", "compared_tokens")
    }
    assert numbers["kl"] > 1e-6 > merged.summary()["kl"]
    both = ingot.merge(reference, f"{folder / 'llama'}+{other}", out=tmp_path / "both", **SMALL).summary()
    assert [parent.get("trained_in_nf4", {}).get("adapters") for parent in both["parents"]] == [["qlora"], None]
    assert "trained_in_nf4" not in ingot.merge(f"{folder / 'llama'}+{other}", out=tmp_path / "l", **SMALL).summary()


@pytest.mark.parametrize("config", [BERT, T5], ids=["bert", "t5"])
def test_of_what_does_not_go_on_with_a_text_logits_are_compared(
    folder: Path, tmp_path: Path, config: dict[str, Any]
) -> None:
    base = write_model(tmp_path / "base", config)
    model = load(base, nf4=True)
    put_on(model.network, low_rank(4), "a", model.active)
    options = TuneOptions(model=str(base), data=folder / "chats.jsonl", out=tmp_path / "a")
    with ModelDir.create(options.out, "tune", options) as draft:
        write_adapter(draft, model.network, "a", low_rank(4), model.model_dir)
        draft.prove("nothing", "nothing", 0.0)
    numbers = ingot.merge(f"{base}+{tmp_path / 'a'}", out=tmp_path / "m").summary()
    assert numbers["logit_difference"] == 0
    assert 0 < numbers["trained_in_nf4"]["logit_difference"] < 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loop": LOOP | {"offload": "layers"}}, "offload layers moves no layers in 4 bits"),
        ({"loop": LOOP | {"parallel": "fsdp"}}, "parallel fsdp cuts no layers in 4 bits"),
        ({"loop": LOOP | {"parallel": "tp"}}, "parallel tp cuts no layers in 4 bits"),
        ({"prompt": {"tokens": 3}}, "prompt.* acts only with method prefix and prompt, not qlora"),
    ],
)
def test_options_that_would_not_act_are_refused(
    folder: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(IngotError, match=words.replace(".", r"\.").replace("*", r"\*")):
        tuned(folder, "llama", tmp_path / "a", **changes)


def test_bases_that_cannot_be_held_are_refused(folder: Path, tmp_path: Path) -> None:
    for name, code, words in (
        ("model.layers.0.mlp", "nf4-save", "model.layers.0.mlp is held in NF4"),
        ("q_proj", "nf4-save", "q_proj is held in NF4"),
    ):
        with pytest.raises(IngotError, match=words) as caught:
            tuned(folder, "llama", tmp_path / "a", lora={"save": name, "targets": "o_proj"})
        assert caught.value.code == code
    ingot.quantize(str(folder / "llama"), out=tmp_path / "q", **SMALL)
    with pytest.raises(IngotError, match="q is already quantised") as caught:
        ingot.tune(str(tmp_path / "q"), data=folder / "chats.jsonl", out=tmp_path / "a", **TUNE)
    assert caught.value.code == "already-quantized"
    odd = LLAMA | {"hidden_size": 20, "head_dim": 6, "intermediate_size": 10}
    write_model(tmp_path / "odd", odd, tokenizer=folder / "tok")
    with pytest.raises(IngotError, match="multiple of 64") as caught:
        ingot.tune(str(tmp_path / "odd"), data=folder / "chats.jsonl", out=tmp_path / "a", **TUNE)
    assert caught.value.code == "nf4-size"
    assert not (tmp_path / "a").exists()
    assert not list(tmp_path.glob(".a*"))


@pytest.mark.slow
def test_an_adapter_below_is_on_the_four_bits_too(folder: Path, tmp_path: Path) -> None:
    below = tuned(folder, "llama", tmp_path / "below", method="lora").path
    reference = f"{folder / 'llama'}+{below}"
    above = ingot.tune(reference, data=folder / "chats.jsonl", out=tmp_path / "above", **TUNE)
    assert above.hallmark
    assert len(above.hallmark.step.numbers["base_adapters"]) == 1
    assert above.hallmark.step.numbers["base_held_in"] == "nf4"
    assert torch.isfinite(logits(load(f"{reference}+{above.path}"))).all()


@pytest.mark.slow
def test_saved_embeddings_train_and_head_targets_are_wrapped(folder: Path, tmp_path: Path) -> None:
    """What is not in 4 bits can be trained whole."""
    adapter = tuned(folder, "llama", tmp_path / "a", lora={"save": "embed_tokens", "targets": "q_proj,lm_head"})
    names = set(adapter.tensors)
    assert "base_model.model.model.embed_tokens.weight" in names
    assert "base_model.model.lm_head.lora_A.weight" in names


@pytest.mark.slow
def test_stopped_and_resumed_it_is_the_uninterrupted_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tuned(folder, "llama", tmp_path / "whole", max_steps=6)
    monkeypatch.setattr("ingot.train.loop.SAVE_SECONDS", 0.0)
    step = Run._one_step

    def stop(run: Any) -> Any:
        if run.step == 4:
            raise KeyboardInterrupt
        return step(run)

    monkeypatch.setattr("ingot.train.loop.Run._one_step", stop)
    with pytest.raises(KeyboardInterrupt):
        tuned(folder, "llama", tmp_path / "cut", max_steps=6)
    monkeypatch.setattr("ingot.train.loop.Run._one_step", step)
    cut = tuned(folder, "llama", tmp_path / "cut", max_steps=6, resume=True)
    weights = [(model.path / "adapter_model.safetensors").read_bytes() for model in (whole, cut)]
    assert weights[0] == weights[1]
