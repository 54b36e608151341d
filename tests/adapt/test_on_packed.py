"""Adapters on a base whose layers are packed: they wrap and call it, and do there what they do on a dense one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adapting import write

from ingot.adapt.load import load
from ingot.adapt.lora import LoRA
from ingot.adapt.targets import Targets
from ingot.adapt.wrapped import wrapped
from ingot.model.held import HeldLinear
from ingot.model.layers import Embedding
from ingot.model.packed_linear import PackedLinear
from tiny import LLAMA, QWEN2, write_model

IDS = torch.randint(5, 300, (2, 9), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("method", ["lora", "rslora", "dora", "ia3", "prefix", "prompt"])
def test_adapters_act_as_on_a_dense_base(method: str, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", QWEN2)
    adapter = write(tmp_path / "a", base, method)
    dense, packed = load(f"{base}+{adapter}"), load(f"{base}+{adapter}", weights="int8")
    assert packed.weights == "int8, head int8"
    for _, wrapper in wrapped(packed.network):
        assert isinstance(wrapper.origin, PackedLinear | Embedding)
    expected, found = dense.logits(IDS), packed.logits(IDS)
    moved = (expected - load(base).logits(IDS)).norm()
    assert (found - expected).norm() < 0.1 * moved
    assert (found - expected).norm() < 0.05 * expected.norm()
    with packed.active.rows(["a", "a"]):
        mixed = packed.logits(IDS)
    assert torch.equal(mixed, found)


def test_merged_weights_are_those_of_the_codes(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", LLAMA)
    adapter = write(tmp_path / "a", base)
    packed, bare = load(f"{base}+{adapter}", weights="int8"), load(base, weights="int8")
    for name, wrapper in wrapped(packed.network):
        own = bare.network.get_submodule(name)
        assert isinstance(own, HeldLinear)
        assert torch.equal(wrapper.inner("weight", torch.float32), own.weight)
        assert (wrapper.merged("weight", torch.float32) - own.weight).abs().max() > 1e-3


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_a_head_parted_from_its_embedding_is_dense(target: str, tmp_path: Path) -> None:
    """The adapter's head reads the weight that was stored, and so does everything it is compared with."""
    base = write_model(tmp_path / "base", QWEN2)
    chosen = LoRA(4, 8.0, 0.0, Targets((target,)))
    adapter = write(tmp_path / "a", base, chosen=chosen)
    dense, packed = load(f"{base}+{adapter}"), load(f"{base}+{adapter}", weights="int8")
    assert packed.weights == "int8"
    expected = dense.logits(IDS)
    assert (packed.logits(IDS) - expected).norm() < 0.05 * expected.norm()


def test_an_untied_head_may_be_wrapped(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", LLAMA)
    adapter = write(tmp_path / "a", base, chosen=LoRA(4, 8.0, 0.0, Targets(("lm_head",))))
    expected = load(f"{base}+{adapter}").logits(IDS)
    assert (load(f"{base}+{adapter}", weights="int8").logits(IDS) - expected).norm() < 0.05 * expected.norm()
