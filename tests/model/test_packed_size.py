"""What a packed model holds is known before it is read, to the byte, and one that does not fit is refused by then."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cases import first_fast
from ingot.adapt.load import load
from ingot.compress.quantize_verb import quantize
from ingot.core.errors import IngotError
from ingot.core.model_dir import ModelDir
from ingot.model import packed_load, packed_size
from ingot.model.kernels import library
from ingot.model.packed_linear import PackedLinear
from ingot.model.packed_load import make_plan
from ingot.model.packed_size import Held, held
from ingot.model.packing import Packer
from ingot.model.weights import spec_of, write_tensors
from tiny import CONFIGS, ENCODER_DECODERS, ENCODERS, LLAMA, write_model

FAMILIES = {**CONFIGS, **ENCODERS, **ENCODER_DECODERS}


def planned(path: Path, weights: str) -> Held:
    base = ModelDir.open(path)
    plan = make_plan(base, weights)
    assert plan is not None
    return held(Packer(base, plan))


def really_held(path: Path, weights: str) -> tuple[int, int]:
    """Bytes of codes and scales, and of everything else the model holds."""
    network = load(path, weights=weights).network
    packed = [layer.packed for layer in network.modules() if isinstance(layer, PackedLinear)]
    rest = {tensor.data_ptr(): tensor.nbytes for tensor in network.state_dict().values()}
    return (sum(each.codes.nbytes + each.scales.nbytes for each in packed),
            sum(rest.values()))  # fmt: skip


@first_fast("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("weights", ["int8", "int4"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_packed_model_holds_what_was_planned(name: str, weights: str, dtype: torch.dtype, tmp_path: Path) -> None:
    path = write_model(tmp_path / name, FAMILIES[name])
    state = {each: tensor.to(dtype) for each, tensor in load(path).network.state_dict().items()}
    write_tensors(path / "model.safetensors", spec_of(state), state.items())
    found = planned(path, weights)
    assert (found.packed, found.plain) == really_held(path, weights)
    assert found.mapped == 0  # nothing is so large that it is mapped


@first_fast(("bits", "group"), [(4, 32), (8, None), (4, 64), (8, 48)])
def test_a_directory_of_codes_is_planned_as_it_runs(bits: int, group: int | None, tmp_path: Path) -> None:
    if library.kernels() is None:
        pytest.skip("auto then runs dense")
    config = LLAMA | {"hidden_size": 192, "intermediate_size": 384, "head_dim": 48}
    made = quantize(model=str(write_model(tmp_path / "a", config)), out=tmp_path / "q", bits=bits, group_size=group)
    for weights in ("int4", *(["auto"] if group != 48 else [])):
        found = planned(made.path, weights)
        assert (found.packed, found.plain) == really_held(made.path, weights)


def test_what_is_converted_keeps_the_pages_it_was_read_from(tmp_path: Path) -> None:
    config = CONFIGS["gpt2"] | {"n_positions": 2048, "n_embd": 64, "n_head": 4}
    path = write_model(tmp_path / "a", config)
    state = {each: tensor.bfloat16() for each, tensor in load(path).network.state_dict().items()}
    write_tensors(path / "model.safetensors", spec_of(state), state.items())
    assert planned(path, "int8").mapped == 2048 * 64 * 2  # positions


def test_a_packed_model_that_does_not_fit_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_model(tmp_path / "a", LLAMA)
    monkeypatch.setattr(packed_size, "free_bytes", lambda device: 1e5)
    monkeypatch.setattr(packed_load.packed_files, "read", lambda path: pytest.fail("something was read"))
    with pytest.raises(IngotError, match="int4") as caught:
        load(path, weights="int4")
    assert caught.value.code == "packed-too-large"
    assert "100 kB are free" in str(caught.value)
    monkeypatch.setattr(packed_size, "free_bytes", lambda device: None)
    monkeypatch.undo()
    load(path, weights="int4")
