"""Slices of weights: every process reads its own, and together they are the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import ingot
from ingot.adapt.load import load
from ingot.core.errors import IngotError
from ingot.core.model_dir import ModelDir
from ingot.model.place.layout import Layout
from ingot.model.ranks import network as module
from ingot.model.ranks.group import Message
from ingot.model.ranks.network import check_split, load_slices
from ingot.model.split import Cut, Share
from ingot.model.weights import spec_of, write_tensors
from tiny import BERT, CONFIGS, GPT2, LLAMA, write_model, write_tokenizer

CPU = torch.device("cpu")
KNOWN = ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "gpt2"]
BIASED = LLAMA | {"attention_bias": True, "mlp_bias": True, "vocab_size": 321}


def slices(path: Path, size: int) -> list[dict[str, torch.Tensor]]:
    layout = Layout.of(ModelDir.open(path))
    found = check_split(layout, size)
    return [dict(load_slices(layout, found, rank, torch.float32, CPU).named_parameters()) for rank in range(size)]


@pytest.mark.parametrize("config", [*(CONFIGS[family] for family in KNOWN), BIASED])
def test_slices_make_the_whole(config: dict[str, Any], tmp_path: Path) -> None:
    path = write_model(tmp_path / "m", config)
    network = load(path).network
    found = check_split(Layout.of(ModelDir.open(path)), 2)
    parts = slices(path, 2)
    for name, whole in network.named_parameters():
        here = [part[name] for part in parts]
        share = found.get(name)
        if share is None:
            assert all(torch.equal(part, whole) for part in here)
        elif share.cut is None:
            assert torch.equal(here[0] + here[1], whole)
            assert not here[1].any()
        else:
            each = [part.chunk(share.fused, share.cut.dim) for part in here]
            joined = [torch.cat([part[number] for part in each], share.cut.dim) for number in range(share.fused)]
            assert torch.equal(torch.cat(joined, share.cut.dim), whole)
            assert max(part.numel() for part in here) < 0.52 * whole.numel()
    norms_and_positions = {name for name, _ in network.named_parameters() if name not in found}
    assert all("norm" in name or ".ln_" in name or "wpe" in name for name in norms_and_positions)


def test_slices_of_queries_keys_and_values_in_one() -> None:
    share = Share(Cut(1, 2), fused=3)
    assert share.ranges(12, 1) == [(2, 4), (6, 8), (10, 12)]
    assert share.of(torch.arange(12)[None], 1).tolist() == [[2, 3, 6, 7, 10, 11]]


def test_only_slices_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weight that is cut goes through the reader of whole tensors."""
    path = write_model(tmp_path / "m", LLAMA)
    read = list[str]()
    real = module.read_dense_tensor
    monkeypatch.setattr(module, "read_dense_tensor", lambda base, name: (read.append(name), real(base, name))[1])
    slices(path, 2)
    assert set(read) == {name for name, _ in load(path).network.named_parameters() if "norm" in name}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_slices_of_any_type(dtype: torch.dtype, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m", GPT2)
    state = {name: tensor.to(dtype) for name, tensor in load(path).network.state_dict().items()}
    write_tensors(path / "model.safetensors", spec_of(state), state.items())
    name = "transformer.h.1.attn.c_proj.weight"
    joined = torch.cat([part[name] for part in slices(path, 2)])
    assert torch.equal(joined, load(path).network.state_dict()[name])


@pytest.mark.slow
def test_slices_of_quantised_weights(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m", LLAMA, tokenizer=write_tokenizer(tmp_path / "t"))
    ingot.quantize(str(path), out=tmp_path / "q", bits=4)
    name = "model.layers.0.mlp.down_proj.weight"
    joined = torch.cat([part[name] for part in slices(tmp_path / "q", 2)], 1)
    assert torch.equal(joined, load(tmp_path / "q").network.state_dict()[name])


@pytest.mark.parametrize("family", sorted(set(CONFIGS) - set(KNOWN)))
def test_others_are_refused_by_name(family: str, tmp_path: Path) -> None:
    layout = Layout.of(ModelDir.open(write_model(tmp_path / "m", CONFIGS[family])))
    with pytest.raises(IngotError, match=CONFIGS[family]["model_type"]) as caught:
        check_split(layout, 2)
    assert caught.value.code == "ranks-unsupported"


def test_what_is_uneven_is_refused(tmp_path: Path) -> None:
    layout = Layout.of(ModelDir.open(write_model(tmp_path / "m", LLAMA)))
    with pytest.raises(IngotError, match="2 key-value heads") as caught:
        check_split(layout, 4)
    assert caught.value.code == "ranks-uneven"


def test_refusals_before_a_process_is_started(tmp_path: Path) -> None:
    with pytest.raises(IngotError) as caught:
        load(write_model(tmp_path / "b", BERT), "2xcpu")
    assert caught.value.code == "not-a-decoder"
    path = write_model(tmp_path / "m")
    for place, code in {"1xcpu": "bad-place", "0xcpu": "bad-place", "2xmps": "bad-place", "9xcuda": "place-no-card",
                        "4xcpu": "ranks-uneven"}.items():  # fmt: skip
        with pytest.raises(IngotError) as caught:
            load(path, place)
        assert caught.value.code == code, place


def test_messages_arrive_as_they_were_sent() -> None:
    tensors = (torch.arange(6).view(2, 3), None, torch.tensor([True, False]), torch.tensor(7))
    message = Message(3, (5, -1, 1 << 40), tensors)
    kind, numbers, shapes = Message.shapes(message.head())
    assert (kind, numbers) == (3, (5, -1, 1 << 40))
    assert shapes == [(2, 3), None, (2,), ()]
    assert message.body().tolist() == [0, 1, 2, 3, 4, 5, 1, 0, 7]
