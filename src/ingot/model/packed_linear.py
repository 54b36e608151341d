"""A frozen linear layer with a packed weight (`ingot.model.packed`), for inference on CPU: by the compiled kernels
where there are any, else in plain torch.

With the kernels its output for a row does not depend on the rows beside it. A bias is added in float32; the output has
the input's dtype.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ingot.core.errors import fail
from ingot.model.held import HeldLinear
from ingot.model.kernels import library
from ingot.model.layers import Conv1D
from ingot.model.packed import PANEL, PackedWeight


class PackedLinear(HeldLinear):
    """A linear layer of 4 or 8 bits."""

    def __init__(self, layer: nn.Linear | Conv1D) -> None:
        super().__init__(layer)
        self.packed, self._handed = cast(PackedWeight, None), (0, library.Linear())
        self.bias_padded: Tensor | None = None

    def fill(self, weight: PackedWeight) -> None:
        assert weight.shape == (self.out_features, self.in_features), (weight.shape, self.out_features)
        self.packed = weight

    @property
    def is_filled(self) -> bool:
        return self.packed is not None

    @property
    def weight(self) -> Tensor:
        return self.packed.dense()

    @property
    def place(self) -> Tensor:
        return self.packed.scales

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad and torch.is_grad_enabled():
            raise fail("packed-no-gradient")
        x_MK = x.reshape(-1, self.in_features).float()
        found = library.kernels()
        y_MN = self._in_torch(x_MK) if found is None else self._by(found, x_MK)
        return y_MN.view(*x.shape[:-1], self.out_features).to(x.dtype)

    def _in_torch(self, x_MK: Tensor) -> Tensor:
        y_MN = self.packed.product(x_MK)
        return y_MN if self.bias is None else y_MN + self.bias.float()

    def _by(self, found: library.Kernels, x_MK: Tensor) -> Tensor:
        missing = self.packed.width - self.in_features
        return found.linear(self._linear(), F.pad(x_MK, (0, missing)) if missing else x_MK.contiguous())

    def _linear(self) -> library.Linear:
        """The weight as the kernels take it; made anew where the bias has moved."""
        at = 0 if self.bias is None else self.bias.data_ptr()
        if self._handed[1].codes != self.packed.codes.data_ptr() or self._handed[0] != at:
            if self.bias is not None:
                self.bias_padded = F.pad(self.bias.detach().float(), (0, -self.out_features % PANEL))
            self._handed = at, handed(self.packed, self.bias_padded)
        return self._handed[1]


def handed(packed: PackedWeight, bias: Tensor | None) -> library.Linear:
    """A weight as the kernels take it; `bias`: float32, padded like the rows. Both must outlive it."""
    grouped = library.GROUP_BF16 if packed.scales.dtype == torch.bfloat16 else library.GROUP_FLOAT32
    return library.Linear(
        packed.codes.data_ptr(),
        packed.scales.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        packed.rows,
        packed.width,
        packed.bits,
        packed.group,
        library.ROW if packed.by_row else grouped,
    )
