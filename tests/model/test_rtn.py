"""Round to nearest against a naive loop; the scale search never loses to absmax and wins on real-looking weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.model.quantized import dequantize
from ingot.model.rtn import QUANTIZERS, absmax, mse, quantize


def squared_error(weight: torch.Tensor, method: str, bits: int, group: int | None) -> float:
    found = quantize(weight, bits, group, QUANTIZERS[method])
    return float((dequantize(found.codes, found.scale).double() - weight.double()).square().sum())


@pytest.mark.parametrize("bits", [4, 8])
def test_absmax_equals_a_loop(bits: int) -> None:
    weight = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))
    found = quantize(weight, bits, 4, absmax)
    top = 2 ** (bits - 1) - 1
    for row in range(3):
        for group in range(3):
            values = weight[row, 4 * group : 4 * group + 4].tolist()
            scale = torch.tensor(max(map(abs, values))) / top
            assert found.scale[row, group] == scale
            for place, value in enumerate(values):
                assert found.codes[row, 4 * group + place] == round(float(torch.tensor(value) / scale))


@given(st.integers(0, 2**31), st.sampled_from([4, 8]), st.sampled_from([None, 2, 8]), st.floats(1e-6, 1e6))
@settings(max_examples=40, deadline=None)
def test_mse_never_loses_to_absmax_and_codes_fit(seed: int, bits: int, group: int | None, size: float) -> None:
    weight = torch.randn(4, 16, generator=torch.Generator().manual_seed(seed)) ** 3 * size
    assert squared_error(weight, "mse", bits, group) <= squared_error(weight, "absmax", bits, group) * (1 + 1e-5)
    codes = quantize(weight, bits, group, mse).codes
    assert -(2 ** (bits - 1)) <= int(codes.min()) <= int(codes.max()) <= 2 ** (bits - 1) - 1


@pytest.mark.parametrize(("bits", "gain"), [(4, 0.8), (8, 0.9)])
def test_mse_beats_absmax_on_gaussian_weights(bits: int, gain: float) -> None:
    weight = torch.randn(32, 64, generator=torch.Generator().manual_seed(1))
    assert squared_error(weight, "mse", bits, 32) < gain * squared_error(weight, "absmax", bits, 32)


def test_mse_is_the_best_of_a_fine_grid() -> None:
    """No scale of 4000, of either sign, is better by more than a percent."""
    weight = torch.randn(1, 32, generator=torch.Generator().manual_seed(2))
    found = squared_error(weight, "mse", 4, 32)
    best = min(
        float((weight - (weight / scale).round().clamp(-8, 7) * scale).square().sum())
        for scale in [sign * number / 1000 for number in range(1, 2000) for sign in (1, -1)]
    )
    assert found <= 1.01 * best


def test_codes_are_nearest_for_the_scale_that_is_stored() -> None:
    weight = torch.randn(4, 32, generator=torch.Generator().manual_seed(3)).to(torch.bfloat16)
    found = quantize(weight, 4, 8)
    assert found.scale.dtype == torch.bfloat16
    scale = found.scale.float().repeat_interleave(8, 1)
    assert torch.equal(found.codes.float(), (weight.float() / scale).round().clamp(-8, 7))


@pytest.mark.parametrize("method", sorted(QUANTIZERS))
def test_zeros_stay_zeros(method: str) -> None:
    weight = torch.zeros(2, 8)
    weight[1, 4:] = 1.5
    found = quantize(weight, 4, 4, QUANTIZERS[method])
    assert found.scale.isfinite().all()
    assert torch.allclose(dequantize(found.codes, found.scale), weight, atol=1e-6)


def test_long_tensors_are_worked_on_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(10, 16, generator=torch.Generator().manual_seed(4))
    whole = quantize(weight, 4, 8)
    monkeypatch.setattr("ingot.model.rtn.ROWS_AT_ONCE", 48)
    parts = quantize(weight, 4, 8)
    assert torch.equal(whole.codes, parts.codes)
    assert torch.equal(whole.scale, parts.scale)
