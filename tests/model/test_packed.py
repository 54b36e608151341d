"""Packed weights: what was packed comes back, products equal float64's, and a row's result is a row's alone.

The oracle is float64 on the codes of weights and activations; plain torch and both kernels are held against it and
against each other, the kernels bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from cases import first_fast
from ingot.core.errors import IngotError
from ingot.model.kernels import library
from ingot.model.kernels.library import Kernels
from ingot.model.layers import Conv1D
from ingot.model.packed import CHOOSE, PackedWeight, Packing, has_place, quantize_activations, widest_group
from ingot.model.packed_linear import PackedLinear, handed
from ingot.model.rtn import quantize

UNIT = 2.0**-24
"""Half the distance from 1 to the next float32."""

SCHEMES = [(bits, group) for bits in (4, 8) for group in (None, 32, 64, 128)]
SHAPES = [(33, 128), (96, 256), (7, 896), (512, 384)]


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    found = library.kernels()
    if found is None:
        pytest.skip("this machine runs no kernels")
    return found


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def random_codes(rows: int, columns: int, bits: int, group: int | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows * columns + bits)
    half = 1 << (bits - 1)
    codes = torch.randint(-half, half, (rows, columns), generator=generator, dtype=torch.int8)
    scale = torch.randn(rows, columns // (group or columns), generator=generator)
    return codes, (0.01 * scale).to(dtype)


def activations(rows: int, columns: int) -> Tensor:
    generator = torch.Generator().manual_seed(columns)
    return torch.randn(rows, columns, generator=generator) * torch.rand(rows, 1, generator=generator) * 3


def exact(packed: PackedWeight, x: Tensor) -> tuple[Tensor, Tensor]:
    """The product of codes and scales in float64, and the sum of its terms' sizes."""
    q, scale = quantize_activations(nn.functional.pad(x, (0, packed.width - packed.columns)), packed.group)
    read = (q.double() * scale.double()[..., None]).flatten(1)
    codes, own = packed.unpacked()
    weight = (codes.double().view(len(codes), own.shape[1], -1) * own.double()[..., None]).view(codes.shape)
    weight = weight[: packed.rows]
    return read @ weight.t(), read.abs() @ weight.abs().t()


def bound(packed: PackedWeight, size: Tensor) -> Tensor:
    """A rounding for each group, and three for scales: of activations, their product, the row's."""
    return UNIT * (packed.width // packed.group + 3) * size


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("bits", "group"), SCHEMES)
@pytest.mark.parametrize(("rows", "columns"), [*SHAPES[:3], (5, 96), (64, 24)])
def test_what_was_packed_comes_back(rows: int, columns: int, bits: int, group: int | None, dtype: torch.dtype) -> None:
    if columns % (group or columns):
        pytest.skip("the group does not divide the row")
    codes, scale = random_codes(rows, columns, bits, group, dtype)
    packed = PackedWeight.of(codes, scale, bits)
    found, own = packed.unpacked()
    assert torch.equal(found[:rows, :columns], codes)
    assert not found[rows:].any()
    assert not found[:, columns:].any()
    assert torch.equal(own[:rows, : scale.shape[1]].float(), scale.float())
    expected = codes.float().view(*scale.shape, -1) * scale.float()[..., None]
    assert torch.equal(packed.dense(), expected.view(rows, columns))
    assert packed.codes.numel() == packed.codes.shape[0] * 16 * packed.width * bits // 8


@given(st.integers(1, 70), st.integers(1, 200), st.sampled_from([(8, None), (4, 64), (4, 32), (8, 128), (4, None)]))
def test_any_shape_is_quantised_as_by_rounding_to_nearest(
    rows: int, columns: int, kind: tuple[int, int | None]
) -> None:
    """Columns missing to a whole group are zeros: they move neither scale nor codes."""
    bits, group = kind
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(columns))
    packed = PackedWeight.quantized(weight, Packing(bits, group))
    assert packed.shape == (rows, columns)
    full = nn.functional.pad(weight, (0, -columns % (group or 1)))
    found = quantize(full, bits, group, CHOOSE[bits], torch.bfloat16 if group else torch.float32)
    codes, scale = packed.unpacked()
    assert torch.equal(codes[:rows, :columns], found.codes[:, :columns])
    assert torch.equal(scale[:rows, : found.scale.shape[1]].float(), found.scale.float())


def test_groups_that_have_a_place() -> None:
    assert [group for group in range(1, 1025) if has_place(group)] == [32, *range(64, 513, 64)]
    assert has_place(None)
    assert [widest_group(width) for width in (64, 832, 896, 1024, 4864, 4096)] == [64, 64, 128, 128, 128, 128]


@pytest.mark.parametrize("group", [32, 64, 448])
def test_activations_in_codes(group: int, kernels: Kernels) -> None:
    """Torch and the kernels give the same codes and scales, and a group with NaN or infinity a scale of NaN."""
    x = activations(9, 896)
    x[0, 0], x[1, 5], x[2, 899 % 896], x[3] = torch.nan, torch.inf, -torch.inf, 0.0
    x[4] *= 1e-37
    q, scale = quantize_activations(x, group)
    codes, sums = torch.empty(9, 896, dtype=torch.int8), torch.empty(9, 896 // group, dtype=torch.int32)
    own = torch.empty(9, 896 // group)
    addresses = [tensor.data_ptr() for tensor in (codes, own, sums)]
    kernels.library.ingot_quantize(x.data_ptr(), 9, 896, group, *addresses)
    assert torch.equal(scale.nan_to_num(7), own.nan_to_num(7))
    assert scale.isnan().sum() == 3
    assert not scale[3].any()
    assert not scale[4].any()
    finite = ~scale.isnan()
    assert torch.equal(q[finite].to(torch.int8), codes.view(q.shape)[finite])
    assert torch.equal(q[finite].sum(-1).int(), sums[finite])


@first_fast("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("bits", "group"), SCHEMES)
@first_fast(("rows", "columns"), SHAPES)
def test_products(
    rows: int, columns: int, bits: int, group: int | None, dtype: torch.dtype, kernels: Kernels, two_threads: None
) -> None:
    packed = PackedWeight.of(*random_codes(rows, columns, bits, group, dtype), bits)
    x, weight = activations(512, columns), handed(packed, None)
    expected, size = exact(packed, x)
    whole = kernels.linear(weight, x)
    assert ((whole.double() - expected).abs() <= bound(packed, size)).all()
    assert torch.equal(kernels.linear(weight, x, tiles=False), whole)
    for count in range(1, 41):
        assert torch.equal(kernels.linear(weight, x[:count]), whole[:count]), count
    for row in (0, 17, 39, 511):
        assert torch.equal(kernels.linear(weight, x[row : row + 1]), whole[row : row + 1])
    torch.set_num_threads(1)
    assert torch.equal(kernels.linear(weight, x), whole)
    in_torch = packed.product(x[:40])
    assert ((in_torch.double() - expected[:40]).abs() <= 2 * bound(packed, size[:40])).all()


def test_more_rows_than_the_cache_holds(kernels: Kernels) -> None:
    """Activations are then taken in parts, and panels unpacked anew for each."""
    packed = PackedWeight.of(*random_codes(40, 8192, 4, 64, torch.bfloat16), 4)
    x, weight = activations(300, 8192), handed(packed, None)
    assert torch.equal(kernels.linear(weight, x), kernels.linear(weight, x, tiles=False))


@pytest.mark.parametrize("in_torch", [False, True])
def test_nothing_hides_a_nan(in_torch: bool, kernels: Kernels) -> None:
    packed = PackedWeight.of(*random_codes(33, 128, 8, None, torch.float32), 8)
    x = activations(40, 128)
    x[3, 7], x[21, 100] = torch.nan, torch.inf
    found = packed.product(x) if in_torch else kernels.linear(handed(packed, None), x)
    assert found.isnan().all(-1).nonzero().flatten().tolist() == [3, 21]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("packing", [Packing(8, None), Packing(4, 64)])
@pytest.mark.parametrize("columns", [48, 192])
def test_the_layer(columns: int, packing: Packing, transposed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of torch's layer or GPT-2's, with a bias; any shape before the last, and the input's dtype."""
    torch.manual_seed(0)
    layer = Conv1D(columns, 50) if transposed else nn.Linear(columns, 50)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    held = PackedLinear(layer)
    assert not held.is_filled
    weight = layer.weight.detach().t() if transposed else layer.weight.detach()
    held.fill(PackedWeight.quantized(weight.contiguous(), packing))
    x = torch.randn(2, 3, columns)
    found = held(x)
    assert held.weight.shape == (50, columns)
    assert torch.equal(held.get_parameter("weight"), held.weight)
    expected = nn.functional.linear(x, held.weight, layer.bias)
    assert ((found - expected).norm() / expected.norm()) < 0.01
    assert held(x.bfloat16()).dtype == torch.bfloat16
    assert held(x[:, :0]).shape == (2, 0, 50)
    monkeypatch.setenv("INGOT_KERNELS", "off")
    assert torch.allclose(held(x), found, rtol=0, atol=1e-5)


def test_a_moved_bias_is_seen() -> None:
    held = PackedLinear(nn.Linear(64, 8))
    held.fill(PackedWeight.quantized(torch.randn(8, 64), Packing(8, None)))
    x, before = torch.randn(3, 64), held(torch.randn(3, 64))
    before = held(x)
    held.bias = nn.Parameter(held.bias.detach() + 1)
    assert torch.allclose(held(x), before + 1, atol=1e-6)


def test_packed_weights_do_not_train() -> None:
    held = PackedLinear(nn.Linear(64, 8))
    held.fill(PackedWeight.quantized(torch.randn(8, 64), Packing(8, None)))
    with pytest.raises(IngotError, match="for inference"):
        held(torch.randn(3, 64, requires_grad=True))
    with torch.no_grad():
        held(torch.randn(3, 64, requires_grad=True))


@pytest.mark.parametrize("rows", [1, 32, 70])
@pytest.mark.parametrize("columns", [32, 64, 96, 130, 192, 4864])
def test_an_outline_is_the_packed_weight_without_values(rows: int, columns: int) -> None:
    for packing in (Packing(8, None), Packing(4, None), Packing(4, 64), Packing(4, 32), Packing(8, 128)):
        found = PackedWeight.quantized(torch.randn(rows, columns), packing)
        same(PackedWeight.quantized_outline(rows, columns, packing), found)
    for dtype in (torch.float32, torch.bfloat16):
        for bits, scales in ((4, 1), (8, columns // 32)):
            if has_place(columns // scales) or scales == 1:
                codes = torch.zeros(rows, columns, dtype=torch.int8)
                found = PackedWeight.of(codes, torch.ones(rows, scales, dtype=dtype), bits)
                same(PackedWeight.outline(rows, columns, bits, scales, dtype), found)


def same(outline: PackedWeight, found: PackedWeight) -> None:
    assert (outline.shape, outline.bits, outline.group) == (found.shape, found.bits, found.group)
    for mine, theirs in ((outline.codes, found.codes), (outline.scales, found.scales)):
        assert (mine.shape, mine.dtype, mine.nbytes) == (theirs.shape, theirs.dtype, theirs.nbytes)
