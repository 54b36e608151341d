"""Models on 4 and 8 bits: every family against its dense twin, directories of codes, adapters, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cases import first_fast
from ingot.adapt.load import LanguageModel, load
from ingot.compress.quantize_verb import quantize
from ingot.core.errors import IngotError
from ingot.infer.generate import generate
from ingot.model.decoder import Decoder
from ingot.model.held import HeldLinear, num_parameters
from ingot.model.kernels import library
from ingot.model.packed_linear import PackedLinear
from ingot.model.quantized import read_codes
from tiny import CONFIGS, ENCODER_DECODERS, ENCODERS, GPT2, LLAMA, QWEN2, write_model, write_tokenizer

FAMILIES = {**CONFIGS, **ENCODERS, **ENCODER_DECODERS}

TOLERANCE = 0.05
"""What int8 activations may cost a tiny model, as a share of its logits' norm."""

ROUNDING = 0.02
"""What another rounding of a layer's output may cost where it turns a code of the next layer's input."""

WILD = {"mixtral": 0.3, "t5-gated": 0.1}
"""Where small errors grow: a token between two experts may go to the other, and T5 does not scale its scores."""


def logits(model: LanguageModel, name: str) -> Tensor:
    ids = torch.randint(5, 300, (2, 9), generator=torch.Generator().manual_seed(3))
    return model.logits(ids, source=ids if name in ENCODER_DECODERS else None)


def dense_twin(model: LanguageModel, path: Path) -> LanguageModel:
    """The same model with every packed weight decoded, run dense."""
    twin = load(path)
    for name, layer in model.network.named_modules():
        if isinstance(layer, HeldLinear):
            own: Any = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
            own.weight.data = layer.weight
            if layer.bias is not None:
                own.bias.data = layer.bias.data
            parent, _, child = name.rpartition(".")
            setattr(twin.network.get_submodule(parent), child, own)
    if isinstance(model.network, Decoder) and model.config.tie_embeddings:
        head: Any = twin.network.lm_head
        twin.network.head = lambda hidden: twin.network.cap(head(hidden))  # type: ignore[assignment, union-attr]
    return twin


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@first_fast("weights", ["int8", "int4"])
@pytest.mark.parametrize("name", FAMILIES)
def test_families(name: str, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_model(tmp_path / name, FAMILIES[name])
    model, dense = load(path, weights=weights), load(path)
    found, twin = logits(model, name), dense_twin(model, path)
    assert distance(found, logits(twin, name)) < WILD.get(name, TOLERANCE)
    assert num_parameters(model.network) >= num_parameters(dense.network)
    packed = [each for each in model.network.modules() if isinstance(each, PackedLinear)]
    routers = [each for each in model.network.modules() if hasattr(each, "experts")]
    linear = [each for each in dense.network.modules() if isinstance(each, nn.Linear)]
    assert len(packed) >= len(linear) - len(routers) - 2  # heads of encoders stay
    again = load(path, weights=weights)
    assert torch.equal(logits(again, name), found)
    monkeypatch.setenv("INGOT_KERNELS", "off")
    assert distance(logits(load(path, weights=weights), name), found) < WILD.get(name, ROUNDING)


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma2"])
def test_the_head_runs_on_what_was_packed(name: str, tmp_path: Path) -> None:
    decoder = load(write_model(tmp_path / "a", FAMILIES[name]), weights="int4").decoder
    hidden = torch.randn(3, 32)
    assert torch.equal(decoder.head(hidden), decoder.cap(decoder.lm_head(hidden)))
    assert not torch.equal(decoder.head(hidden), decoder.cap(hidden @ decoder.lm_head.weight.t()))


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_a_tied_embedding_stays_as_it_is_stored(weights: str, tmp_path: Path) -> None:
    from ingot.model.weights import spec_of, write_tensors

    path = write_model(tmp_path / "a", QWEN2)
    state = {name: tensor.bfloat16() for name, tensor in load(path).network.state_dict().items()}
    write_tensors(path / "model.safetensors", spec_of(state), state.items())
    model = load(path, weights=weights)
    assert model.weights.endswith("head int8")
    table = model.network.embedding.weight
    assert table.dtype == torch.bfloat16
    assert torch.equal(table, state["model.embed_tokens.weight"])
    assert model.network.embedding(torch.tensor([3])).dtype == model.decoder.dtype == torch.float32
    assert model.decoder.lm_head.packed.bits == 8
    assert logits(model, "").dtype == torch.float32
    assert load(path, dtype=torch.bfloat16, weights=weights).decoder.dtype == torch.bfloat16


@first_fast(("bits", "group"), [(4, 32), (8, None), (8, 32), (4, 64)])
def test_stored_codes_run_as_they_are(bits: int, group: int | None, tmp_path: Path) -> None:
    if library.kernels() is None:
        pytest.skip("auto then runs dense")
    path = write_model(tmp_path / "a", LLAMA | {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16})
    made = quantize(model=str(path), out=tmp_path / "q", bits=bits, group_size=group)
    model, name = load(made.path, weights="auto"), "model.layers.1.mlp.down_proj"
    codes = read_codes(made, f"{name}.weight")
    assert codes is not None
    layer = model.network.get_submodule(name)
    assert isinstance(layer, PackedLinear)
    assert torch.equal(layer.packed.unpacked()[0][:64, :128], codes.codes)
    assert torch.equal(layer.weight, load(made.path).network.get_submodule(name).weight)
    assert layer.packed.bits == bits
    assert model.weights.startswith(f"int{bits}")
    assert distance(logits(model, ""), logits(load(made.path), "")) < TOLERANCE
    same = load(made.path, weights=f"int{bits}")
    assert torch.equal(logits(same, ""), logits(model, ""))
    other = load(made.path, weights="int8" if bits == 4 else "int4")
    assert other.network.get_submodule(name).packed.bits == 12 - bits  # type: ignore[union-attr]


@pytest.mark.slow
def test_auto_is_dense_without_codes_or_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_model(tmp_path / "a", LLAMA)
    assert load(path, weights="auto").weights == load(path).weights == "dense"
    made = quantize(model=str(path), out=tmp_path / "q", bits=8)
    monkeypatch.setenv("INGOT_KERNELS", "off")
    assert load(made.path, weights="auto").weights == "dense"
    assert load(made.path, weights="int8").weights.startswith("int8")


@pytest.mark.slow
def test_codes_in_odd_groups_stay_dense(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_model(tmp_path / "a", LLAMA)
    made = quantize(model=str(path), out=tmp_path / "q", bits=4, group_size=16)
    assert load(made.path, weights="auto").weights == "dense"
    assert "14 layers run dense" in caplog.text
    assert "not of 16" in caplog.text
    model = load(made.path, weights="int4")
    assert distance(logits(model, ""), logits(load(made.path), "")) < 0.5


@pytest.mark.slow
def test_int4_packs_what_is_ignored_too(tmp_path: Path) -> None:
    """A directory that keeps some layers dense: auto leaves them so, int4 does not."""
    path = write_model(tmp_path / "a", LLAMA)
    made = quantize(model=str(path), out=tmp_path / "q", bits=4, group_size=32, ignore=["re:.*o_proj"])
    if library.kernels() is not None:
        assert (
            type(load(made.path, weights="auto").network.get_submodule("model.layers.0.self_attn.o_proj")) is nn.Linear
        )
    held = load(made.path, weights="int4").network.get_submodule("model.layers.0.self_attn.o_proj")
    assert isinstance(held, PackedLinear)


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_refusals(weights: str, tmp_path: Path) -> None:
    path = write_model(tmp_path / "a", LLAMA)
    for arguments in ({"place": "meta"}, {"nf4": True}):
        with pytest.raises(IngotError, match="runs on CPU only"):
            load(path, weights=weights, **arguments)  # type: ignore[arg-type]
    with pytest.raises(IngotError, match="auto, dense, int8, int4"):
        load(path, weights="int5")
    made = quantize(model=str(path), out=tmp_path / "nf4", bits=4, method="nf4")
    with pytest.raises(IngotError, match="holds NF4"):
        load(made.path, weights=weights)
    assert load(made.path, weights="auto").weights == "dense"


@pytest.mark.parametrize("config", [LLAMA, QWEN2, GPT2])
def test_bad_directories_are_named(config: dict[str, Any], tmp_path: Path) -> None:
    from ingot.model.weights import spec_of, write_tensors

    path = write_model(tmp_path / "a", config)
    whole = dict(load(path).network.state_dict())
    layer = next(name for name in whole if name.endswith(("down_proj.weight", "mlp.c_proj.weight")))
    broken = {
        "layer": whole | {layer: whole[layer].index_fill(0, torch.tensor([1]), torch.nan)},
        "shape": whole | {layer: whole[layer][:, :-1].clone()},
        "missing": {name: tensor for name, tensor in whole.items() if name != layer},
        "extra": whole | {"spare": torch.ones(1)},
    }
    for state in broken.values():
        write_tensors(path / "model.safetensors", spec_of(state), state.items())
        with pytest.raises(IngotError) as dense:
            load(path)
        with pytest.raises(IngotError) as packed:
            load(path, weights="int8")
        assert packed.value.code == dense.value.code
        assert str(packed.value) == str(dense.value)


def test_the_verb_says_what_it_runs_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ingot")
    tokenizer = write_tokenizer(tmp_path / "t")
    path = write_model(tmp_path / "a", LLAMA, tokenizer=tokenizer)
    arguments: dict[str, Any] = {"prompt": "the cat", "max_tokens": 8, "temperature": 0}
    found = [generate(model=str(path), weights=weights, **arguments).texts for weights in ("int8", "int8", "dense")]
    assert found[0] == found[1]
    kernels = library.kernels()
    assert f"weights: int8, head int8; {kernels.name if kernels else 'torch'}" in caplog.text
    assert caplog.text.count("the next start finds them packed") == 1
