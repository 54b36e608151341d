"""The verbs on adapters: show, add, unmerge, extract."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cases import first_fast

sys.path.insert(0, str(Path(__file__).parents[1] / "adapt"))

from adapting import write
from compressing import rewrite, state, write_lora
from peft_pairs import IDS, peer_logits, transformers_model

import ingot
from ingot.adapt.load import load
from ingot.adapt.lora import LoRA
from ingot.adapt.targets import Targets
from ingot.compress.adapters.low_rank import Update, nearest_of_rank, read_low_rank
from ingot.core.errors import IngotError
from ingot.core.model_dir import ModelDir
from tiny import BERT, GPT2, LLAMA, QWEN2, T5, write_model


def code_of(act: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(IngotError) as caught:
        act(*args, **options)
    return caught.value.code


def test_show_tells_ranks_norms_and_the_base(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", LLAMA)
    chosen = LoRA(4, 8.0, 0.0, Targets(("q_proj", "embed_tokens"), save=("norm",)), by_rank={"q_proj": 2})
    shown = ingot.adapters_show(write(tmp_path / "a", base, chosen=chosen)).summary()
    layers = {layer["name"]: layer for layer in shown["layers"]}
    layer = layers["model.layers.1.self_attn.q_proj"]
    assert (layer["rank"], layer["scale"], layers["model.embed_tokens"]["rank"]) == (2, 4.0, 4)
    update = next(u for u in updates(tmp_path / "a", base) if u.layer == layer["name"])
    assert layer["norm"] == pytest.approx(float(update.delta().norm()))
    assert layers["model.norm.weight"]["rank"] is None
    assert shown["parameters"] == sum(
        torch.Size(entry.shape).numel() for entry in ModelDir.open(tmp_path / "a").tensors.values()
    )
    assert shown["base"] == str(base)
    assert shown["base_weights"]


def updates(adapter: Path, base: Path) -> list[Update]:
    """By the wrapped layers themselves."""
    from ingot.adapt.lora import LoRALayer
    from ingot.adapt.wrapped import plain_name, wrapped

    return [
        Update(plain_name(name), layer.lora_A.weight, layer.lora_B.weight, layer.scale)
        for name, layer in wrapped(load(f"{base}+{adapter}").network)
        if isinstance(layer, LoRALayer)
    ]


@pytest.mark.parametrize("kind", ["lora", "ia3", "prompt", "prefix", "dora"])
def test_every_kind_is_shown(kind: str, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", LLAMA)
    assert ingot.adapters_show(write(tmp_path / "a", base, kind)).summary()["method"] == kind
    assert code_of(ingot.adapters_show, base) == "not-an-adapter"


@pytest.mark.parametrize("config", [LLAMA, GPT2, BERT, T5], ids=["llama", "gpt2", "bert", "t5"])
@pytest.mark.parametrize("method", ["cat", "svd"])
def test_the_sum_of_adapters_acts_as_both(method: str, config: dict[str, Any], tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", config)
    a, b = write(tmp_path / "a", base, "lora", 1), write(tmp_path / "b", base, "rslora", 2)
    options = {"rank": 8} if method == "svd" else {}
    ingot.adapters_add(str(a), str(b), out=tmp_path / "sum", method=method, **options)
    source = IDS if config is T5 else None
    both, one = load(f"{base}+{a}+{b}").logits(IDS, source), load(f"{base}+{tmp_path / 'sum'}").logits(IDS, source)
    assert (both - one).abs().max() <= 1e-4
    assert (both - load(base).logits(IDS, source)).abs().max() > 1e-2


@pytest.mark.peers
@pytest.mark.parametrize("method", ["cat", "svd", "linear"])
@pytest.mark.parametrize("config", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_additions_are_those_of_peft(method: str, config: dict[str, Any], tmp_path: Path) -> None:
    from peft import PeftModel

    base = write_model(tmp_path / "base", config)
    a, b = write(tmp_path / "a", base, "lora", 1), write(tmp_path / "b", base, "lora", 2)
    ingot.adapters_add(str(a), str(b), out=tmp_path / "sum", method=method, weights=[0.7, -0.4])
    peer = PeftModel.from_pretrained(transformers_model(base), a, "a")
    peer.load_adapter(b, "b")
    peer.add_weighted_adapter(["a", "b"], [0.7, -0.4], "sum", combination_type=method)
    peer.set_adapter("sum")
    assert (load(f"{base}+{tmp_path / 'sum'}").logits(IDS) - peer_logits(peer.eval())).abs().max() <= 1e-4


@pytest.mark.peers
def test_factors_are_added_as_in_peft(tmp_path: Path) -> None:
    from peft import PeftModel

    base = write_model(tmp_path / "base", LLAMA)
    a, b = write(tmp_path / "a", base, "ia3", 1), write(tmp_path / "b", base, "ia3", 2)
    ingot.adapters_add(str(a), str(b), out=tmp_path / "sum", method="linear", weights="0.5,0.5")
    peer = PeftModel.from_pretrained(transformers_model(base), a, "a")
    peer.load_adapter(b, "b")
    peer.add_weighted_adapter(["a", "b"], [0.5, 0.5], "sum")
    peer.set_adapter("sum")
    assert (load(f"{base}+{tmp_path / 'sum'}").logits(IDS) - peer_logits(peer.eval())).abs().max() <= 1e-5


def test_sums_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    base, other = write_model(tmp_path / "base", LLAMA), write_model(tmp_path / "other", LLAMA, seed=3)
    a, b, c = write(tmp_path / "a", base), write(tmp_path / "b", other), write(tmp_path / "c", base, "dora")
    small = write(tmp_path / "d", base, chosen=LoRA(2, 4.0, 0.0, Targets("all-linear")))
    saved = write(tmp_path / "e", base, chosen=LoRA(4, 4.0, 0.0, Targets(("q_proj",), save=("norm",))))
    prompt, factors = write(tmp_path / "f", base, "prompt"), write(tmp_path / "g", base, "ia3")

    def add(*adapters: Path, **options: Any) -> str:
        return code_of(ingot.adapters_add, *map(str, adapters), out=tmp_path / "sum", **options)

    assert add(a, b) == "adapters-bases"
    assert add(a, c) == add(a, saved) == add(prompt, a) == "adapters-low-rank"
    assert add(a, small, method="linear") == "adapters-ranks"
    assert add(factors, factors) == add(factors, a, method="linear") == "adapters-factors"
    assert add(a, small, weights=[1]) == "merge-weights-count"
    assert add(a, small, method="cat", rank=3) == "options-conflict"
    assert add(a, small, method="ct") == "unknown-addition"
    assert add(a, base) == "not-an-adapter"
    assert not (tmp_path / "sum").exists()


@pytest.mark.parametrize("kind", ["lora", "ia3"])
@pytest.mark.parametrize("config", [LLAMA, GPT2, QWEN2, BERT, T5], ids=["llama", "gpt2", "qwen2", "bert", "t5"])
def test_unmerged_is_the_base_again(config: dict[str, Any], kind: str, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", config)
    adapter = write(tmp_path / "a", base, kind)
    ingot.merge(f"{base}+{adapter}", out=tmp_path / "m", tokens=128)
    assert code_of(load, f"{tmp_path / 'm'}+{adapter}") == "adapter-of-another-base"
    numbers = ingot.adapters_unmerge(f"{tmp_path / 'm'}+{adapter}", out=tmp_path / "u", base=base).summary()
    assert numbers["weight_difference"] <= 1e-6
    found, wanted = state(tmp_path / "u"), state(base)
    assert found.keys() == wanted.keys()
    assert max(float((found[name] - wanted[name]).abs().max()) for name in wanted) == numbers["weight_difference"]


def test_two_adapters_are_taken_out_in_turn(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", LLAMA)
    pair = f"{write(tmp_path / 'a', base, 'lora', 1)}+{write(tmp_path / 'b', base, 'ia3', 2)}"
    ingot.merge(f"{base}+{pair}", out=tmp_path / "m", tokens=128)
    numbers = ingot.adapters_unmerge(f"{tmp_path / 'm'}+{pair}", out=tmp_path / "u", base=base).summary()
    assert numbers["weight_difference"] <= 1e-5


@pytest.mark.slow
def test_what_the_adapter_does_not_know_cannot_be_unmerged(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", LLAMA)
    saved = LoRA(4, 4.0, 0.0, Targets(("q_proj",), save=("norm",)))
    adapters = [write(tmp_path / "d", base, "dora"), write(tmp_path / "s", base, chosen=saved)]
    for adapter in adapters:
        ingot.merge(f"{base}+{adapter}", out=tmp_path / f"m-{adapter.name}", tokens=128)
        merged = f"{tmp_path / f'm-{adapter.name}'}+{adapter}"
        assert code_of(ingot.adapters_unmerge, merged, out=tmp_path / "u") == "adapter-cannot-unmerge"
    assert code_of(ingot.adapters_unmerge, str(base), out=tmp_path / "u") == "unmerge-no-adapter"
    assert not (tmp_path / "u").exists()


@first_fast("config", [LLAMA, GPT2, BERT], ids=["llama", "gpt2", "bert"])
def test_what_a_merge_put_in_is_extracted(config: dict[str, Any], tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", config)
    adapter = write(tmp_path / "a", base, "lora")
    ingot.merge(f"{base}+{adapter}", out=tmp_path / "m", tokens=128)
    numbers = ingot.adapters_extract(str(tmp_path / "m"), base=base, out=tmp_path / "x", rank=4).summary()
    assert numbers["worst_energy"] > 0.99999
    found = load(f"{base}+{tmp_path / 'x'}").logits(IDS)
    assert (found - load(tmp_path / "m").logits(IDS)).abs().max() <= 1e-3
    assert numbers["logit_difference"] <= 1e-4
    fewer = ingot.adapters_extract(str(tmp_path / "m"), base=base, out=tmp_path / "y", rank=2).summary()
    assert 0.2 < fewer["worst_energy"] < 0.99
    assert fewer["logit_difference"] > 0.01


def test_energy_decides_the_rank(tmp_path: Path) -> None:
    base, tuned = write_model(tmp_path / "base", LLAMA), write_model(tmp_path / "tuned", LLAMA, seed=1)
    numbers = ingot.adapters_extract(str(tuned), base=base, out=tmp_path / "x", rank=64, energy=0.9).summary()
    assert all(0.9 <= energy < 1 for energy in numbers["layer_energies"].values())
    layers = ingot.adapters_show(tmp_path / "x").summary()["layers"]
    ranks = {layer["name"]: layer["rank"] for layer in layers if layer["rank"]}
    assert len(set(ranks.values())) > 1
    assert max(ranks.values()) < 32
    assert sorted(numbers["kept_whole"])[:2] == ["lm_head", "model.embed_tokens"]
    whole = ingot.adapters_extract(str(tuned), base=base, out=tmp_path / "y", rank=32).summary()
    assert whole["logit_difference"] <= 1e-4


def test_a_tied_embedding_that_changed_is_extracted_with_its_head(tmp_path: Path) -> None:
    base, tuned = write_model(tmp_path / "base", QWEN2), write_model(tmp_path / "tuned", QWEN2, seed=1)
    biases = {name: tensor for name, tensor in state(base).items() if name.endswith("bias")}
    rewrite(tuned, **{name.replace(".", "__"): tensor for name, tensor in biases.items()})
    numbers = ingot.adapters_extract(str(tuned), base=base, out=tmp_path / "x", rank=32).summary()
    assert numbers["logit_difference"] <= 1e-4
    assert numbers["left_out"] == []
    other = write_model(tmp_path / "other", QWEN2, seed=1)
    numbers = ingot.adapters_extract(str(other), base=base, out=tmp_path / "y", rank=4).summary()
    assert sorted(numbers["left_out"]) == sorted(biases)


def test_models_that_are_alike_or_not_of_a_kind_are_refused(tmp_path: Path) -> None:
    base, other = write_model(tmp_path / "base", LLAMA), write_model(tmp_path / "gpt2", GPT2)
    assert code_of(ingot.adapters_extract, str(base), base=base, out=tmp_path / "x") == "extract-nothing"
    assert code_of(ingot.adapters_extract, str(other), base=base, out=tmp_path / "x") == "merge-config"


def test_the_nearest_matrix_of_a_rank() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(20, 4, generator=generator) @ torch.randn(4, 30, generator=generator)
    down, up, energy = nearest_of_rank(matrix, 4)
    assert torch.allclose(up @ down, matrix.double())
    assert energy == pytest.approx(1)
    assert nearest_of_rank(matrix, 9, energy=1 - 1e-9).down_RI.shape[0] == 4


def test_a_file_that_holds_more_is_not_a_plain_update(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", LLAMA)
    settings, found = read_low_rank(ModelDir.open(write_lora(tmp_path / "a", base)))
    assert (settings.rank, len(found)) == (4, 4)
