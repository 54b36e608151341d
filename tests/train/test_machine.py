"""What is measured of the machine decides as it says."""

from __future__ import annotations

import pytest
import torch

from ingot.train import machine


@pytest.mark.parametrize(("gain", "expected"), [(2.9, torch.float32), (3.1, torch.bfloat16)])
def test_bf16_is_taken_where_a_step_gains_by_it(
    gain: float, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {torch.float32: gain, torch.bfloat16: 1.0}
    monkeypatch.setattr(machine, "_seconds", lambda width, dtype: seconds[dtype])
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert machine.choose_precision("auto", 128, cpu) == expected
    assert machine.choose_precision("auto", 128, cuda) == torch.bfloat16
    assert machine.choose_precision("fp32", 128, cuda) == torch.float32
    assert machine.choose_precision("bf16", 128, cpu) == torch.bfloat16
