"""NF4: bytes against a naive loop and bitsandbytes, the layer against a linear layer with the decoded weight."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ingot.adapt.load import load
from ingot.core.errors import IngotError
from ingot.model.held import num_parameters
from ingot.model.layers import Conv1D
from ingot.model.nf4 import LEVELS, NF4, dequantize, levels, pairs, quantize, scale_levels
from ingot.model.nf4_linear import NF4Linear
from tiny import BERT, GPT2, LLAMA, MIXTRAL, PHI3, T5, write_model

CASES = [((96, 704), torch.float32), ((96, 704), torch.bfloat16), ((128, 64), torch.float16), ((5, 64), torch.float32)]


def random_weight(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * 0.02).to(dtype)


def decoded(stored: NF4, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    return dequantize(stored, pairs(), scale_levels(), dtype).view(shape)


def naive_nearest(numbers: Tensor, values: list[float]) -> list[int]:
    """Number by number: scaled by the reciprocal of the largest, then the place of the nearest, the lower of two."""
    inverse = 1.0 / numbers.abs().max()
    middles = [(torch.tensor(a) + torch.tensor(b)) / 2 for a, b in itertools.pairwise(values)]
    return [sum(bool(number * inverse > middle) for middle in middles) for number in numbers]


def test_bytes_are_those_of_a_naive_loop() -> None:
    weight = random_weight((5, 64))
    found = quantize(weight)
    largest = weight.abs().amax(dim=1)
    places = [place for row in weight for place in naive_nearest(row, list(LEVELS))]
    assert found.places.tolist() == [
        first << 4 | second for first, second in zip(places[::2], places[1::2], strict=True)
    ]
    assert torch.equal(found.mean, largest.mean())
    assert found.scales.tolist() == naive_nearest(largest - largest.mean(), scale_levels().tolist())
    assert torch.equal(found.nested, (largest - largest.mean()).abs().max()[None])
    scale = scale_levels()[found.scales.long()] * found.nested + found.mean
    wanted = levels()[torch.tensor(places)].view(5, 64) * scale[:, None]
    assert torch.equal(decoded(found, (5, 64)), wanted)
    assert torch.equal(decoded(found, (5, 64), torch.bfloat16), wanted.bfloat16())


def test_equally_near_goes_to_the_lower_and_zeros_stay_zero() -> None:
    middles = (levels()[:-1] + levels()[1:]) / 2
    block = torch.cat([torch.tensor([1.0]), middles, torch.zeros(48)])
    found = quantize(torch.stack([block, torch.zeros(64)]))
    high, low = found.places >> 4, found.places & 15
    places = torch.stack([high, low], dim=-1).view(2, 64)
    assert places[0, :16].tolist() == [15, *range(15)]
    assert (places[1] == 7).all()
    assert (decoded(found, (2, 64))[1] == 0).all()


def test_cut_into_parts_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """700 blocks, 40 of them at a time in the second run; 188 scales are left for the last nested block."""
    weight = random_weight((700, 64))
    whole = quantize(weight)
    out = decoded(whole, (700, 64))
    for name in ("CHUNK", "CACHED"):
        monkeypatch.setattr(f"ingot.model.nf4.{name}", 40 * 64)
    parts = quantize(weight)
    assert all(torch.equal(a, b) for a, b in zip(vars(whole).values(), vars(parts).values(), strict=True))
    assert torch.equal(decoded(parts, (700, 64)), out)


def peers_scales(found: NF4, largest: Tensor, code: Tensor) -> Tensor:
    """The scales' bytes as bitsandbytes' CPU kernel has them: by a table of 65,536 steps over [-1, 1]."""
    steps = 65536
    table = torch.bucketize(torch.arange(steps) / (steps - 1) * 2 - 1, (code[:-1] + code[1:]) / 2)
    rest = largest - found.mean
    scaled = rest * (1.0 / found.nested.repeat_interleave(256)[: len(rest)])
    return table[((scaled + 1) * 0.5 * (steps - 1) + 0.5).long()].to(torch.uint8)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("shape", "dtype"), CASES)
def test_bytes_and_decoded_numbers_are_those_of_bitsandbytes(shape: tuple[int, int], dtype: torch.dtype) -> None:
    peer = pytest.importorskip("bitsandbytes").functional
    weight = random_weight(shape, dtype)
    weight[0, :64] = 0
    bytes_, state = peer.quantize_4bit(weight, blocksize=64, compress_statistics=True, quant_type="nf4")
    found = quantize(weight)
    assert torch.equal(found.places, bytes_.flatten())
    assert torch.equal(found.mean, state.offset)
    assert torch.equal(found.nested, state.state2.absmax)
    assert torch.equal(scale_levels(), state.state2.code)
    assert torch.equal(levels(), state.code)
    largest = weight.float().view(-1, 64).abs().amax(dim=1)
    reference = torch.ops.bitsandbytes.quantize_blockwise.default._op_dk(
        torch._C.DispatchKey.CompositeExplicitAutograd, largest - found.mean, state.state2.code, 256
    )
    full = len(largest) // 256 * 256  # what is left it divides, where its CUDA kernel multiplies as everywhere
    assert torch.equal(found.scales[:full], reference[0][:full])
    assert torch.equal(peers_scales(found, largest, state.state2.code), state.absmax)
    same = NF4(found.places, state.absmax, found.nested, found.mean)
    for each in (torch.float32, torch.bfloat16):
        state.dtype = each
        assert torch.equal(decoded(same, shape, each), peer.dequantize_4bit(bytes_, state))


def test_most_scales_are_nearest_where_the_peers_table_misses() -> None:
    """Of 4,096 scales the nearest entry is taken for all; a table of 65,536 steps misses it for some."""
    weight = random_weight((4096, 64))
    found, largest = quantize(weight), weight.abs().amax(dim=1)
    near = (scale_levels()[None] * found.nested.repeat_interleave(256)[:, None] + found.mean - largest[:, None]).abs()
    chosen = near.gather(1, found.scales.long()[:, None])[:, 0]
    assert (chosen <= near.amin(dim=1) + 1e-9).all()
    assert (peers_scales(found, largest, scale_levels()) != found.scales).any()


MAKES = [lambda: nn.Linear(96, 64), lambda: nn.Linear(96, 64, bias=False), lambda: Conv1D(96, 64)]


def filled(layer: nn.Linear | Conv1D) -> NF4Linear:
    held = NF4Linear(layer)
    held.fill(layer.weight.detach())
    return held


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make", MAKES)
def test_the_layer_is_a_linear_layer_with_the_decoded_weight(
    make: Callable[[], Any], dtype: torch.dtype, compiled: bool
) -> None:
    torch.manual_seed(0)
    layer = make()
    nn.init.normal_(layer.weight)
    held = filled(layer)
    x = torch.randn(2, 3, 96, requires_grad=True)
    weight, bias = held.weight.to(dtype), None if layer.bias is None else layer.bias.detach().to(dtype)
    F.linear(x.to(dtype), weight, bias).square().sum().backward()
    wanted, x.grad = x.grad, None
    held.requires_grad_(False)
    run = torch.compile(held, fullgraph=True) if compiled else held
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        out = run(x)
    assert torch.equal(out, F.linear(x.to(dtype), weight, bias))
    out.square().sum().backward()
    assert torch.equal(x.grad, wanted)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_of_a_layer_only_bytes_are_kept_for_the_backward_pass(compiled: bool) -> None:
    held = filled(nn.Linear(256, 512, bias=False))
    run = torch.compile(nn.Sequential(nn.SiLU(), held, nn.SiLU()), fullgraph=True) if compiled else held
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    x = torch.randn(1, 256, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = run(x)
    assert max(kept.values()) == 256 * 512 // 2
    out.sum().backward()


def test_a_qwen_shaped_layer_takes_less_than_three_tenths_of_bf16() -> None:
    """Qwen3-8B's feed-forward, an eighth of its rows; the lists of values are counted too."""
    held = filled(nn.Linear(4096, 12288 // 8, bias=False))
    size = sum(buffer.numel() * buffer.element_size() for buffer in held.buffers())
    assert size <= 0.3 * 2 * held.num_weights
    assert size - 2048 - 1024 == 4 + held.num_weights // 2 + held.num_weights // 64 + held.num_weights // 4096


@pytest.mark.parametrize("config", [LLAMA, GPT2, PHI3, MIXTRAL, BERT, T5], ids=lambda config: config["model_type"])
def test_a_directory_opens_with_its_blocks_in_nf4(config: dict[str, Any], tmp_path: Path) -> None:
    path = write_model(tmp_path / "m", config)
    plain, held = load(path), load(path, nf4=True)
    layers = {name: module for name, module in held.network.named_modules() if isinstance(module, NF4Linear)}
    inside = {id(module) for block in plain.network.blocks for module in block.modules()}
    expected = {
        name
        for name, module in plain.network.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and id(module) in inside
        and not name.endswith("block_sparse_moe.gate")
    }
    assert set(layers) == expected
    assert num_parameters(held.network) == num_parameters(plain.network)
    for name, layer in layers.items():
        weight = plain.network.get_parameter(f"{name}.weight")
        weight = weight.t() if isinstance(plain.network.get_submodule(name), Conv1D) else weight
        assert torch.equal(layer.weight, decoded(quantize(weight.contiguous()), tuple(weight.shape)))
    rounded = dict(plain.network.named_parameters())
    for name, layer in layers.items():
        turned = isinstance(plain.network.get_submodule(name), Conv1D)
        rounded[f"{name}.weight"].data = layer.weight.t() if turned else layer.weight
    ids = [[1, 2, 3]]
    source = ids if config is T5 else None
    assert torch.allclose(held.logits(ids, source), plain.logits(ids, source), atol=1e-6)


def test_a_size_that_blocks_do_not_divide_is_refused_by_tensor(tmp_path: Path) -> None:
    odd = write_model(tmp_path / "odd", LLAMA | {"hidden_size": 20, "head_dim": 6, "intermediate_size": 10})
    with pytest.raises(IngotError, match=r"q_proj\.weight.*\[24, 20\].*multiple of 64") as caught:
        load(odd, nf4=True)
    assert caught.value.code == "nf4-size"
