"""Weights of 4 or 8 bits as the kernels read them (`ingot.model.kernels`), and their product in plain torch.

A weight is code * scale, one scale a row or a group of columns. Activations become int8 on the way, each group of
columns with a scale of its own: for weights with groups the same groups, else as wide ones as divide the row, up to
`WIDEST`. Sums inside a group are exact integers, here and in the kernels; groups are added in float32, in order. The
kernels join that product and sum in one rounding and torch does not: results differ by at most one float32 rounding a
group, 2^-24 of the sum of the terms' sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ingot.core.language import text
from ingot.model.rtn import Choose, absmax, mse, quantize

BLOCK, PANEL, TILE = 16, 32, 64
"""Rows that lie together, rows and columns that shapes are padded to."""

WIDEST = 128
"""Columns of activations that share a scale at most, for weights scaled by rows. Of 4096 columns, 8 of which are 20
times as large as the rest, products are off by 1.9 % with 128, 3.4 % with 512, 6.2 % with one scale; many rows would be
1.3 times as fast with 512."""

LARGEST = 512
"""Columns of weights that share a scale at most: sums of a group then stay below 2^24, exact in float32."""

SMALLEST = 1e-30
"""A group of activations whose largest is below counts as zero: 127 over it must stay finite."""

CHOOSE: dict[int, Choose] = {4: partial(mse, num_scales=3), 8: absmax}
"""How scales are chosen for weights that come dense: while somebody waits. Of what `mse` takes off the squared error of
4 bits, three scales leave 4 % undone in a quarter of the time; at 8 bits there is little to take off."""

ROWS_AT_ONCE = 1 << 12
"""Rows that plain torch decodes together: bounds its memory."""


@dataclass(frozen=True)
class Packing:
    """How weights that come dense are packed: bits, and columns that share a scale; None: the row."""

    bits: int
    group: int | None

    def __str__(self) -> str:
        return text("weights-in-groups", bits=self.bits, group=self.group) if self.group else f"int{self.bits}"


@dataclass(frozen=True)
class PackedWeight:
    """codes uint8 (blocks, vectors, 64); scales (padded rows,) float32, or (blocks, groups, 16) bfloat16 or float32.

    `rows` and `columns` are the weight's own, `group` the columns of activations that share a scale.
    """

    codes: Tensor
    scales: Tensor
    rows: int
    columns: int
    bits: int
    group: int

    @classmethod
    def of(cls, codes: Tensor, scale: Tensor, bits: int) -> PackedWeight:
        """From codes int8 (rows, columns) and scales (rows, groups), a group being one that has a place."""
        (rows, columns), by_row = codes.shape, scale.shape[1] == 1
        width = padded(columns, TILE)
        group = widest_group(width) if by_row else columns // scale.shape[1]
        assert has_place(group), group
        full = _widened(codes, width - columns, -rows % PANEL)
        scale = F.pad(scale.to(scale_dtype(scale.dtype, by_row)), (0, 0, 0, -rows % PANEL))
        if by_row:
            return cls(_blocks(full, bits), scale.flatten(), rows, columns, bits, group)
        scale = F.pad(scale, (0, width // group - scale.shape[1]))
        return cls(_blocks(full, bits), _by_block(scale), rows, columns, bits, group)

    @classmethod
    def quantized(cls, weight: Tensor, packing: Packing) -> PackedWeight:
        """From a dense weight (rows, columns), rounded to nearest. Columns that are missing to whole groups count as
        zeros."""
        (rows, columns), bits, group = weight.shape, packing.bits, packing.group
        full = _widened(weight, 0 if group is None else -columns % group)
        dtype = torch.float32 if group is None else torch.bfloat16
        found = quantize(full, bits, group, CHOOSE[bits], dtype)
        packed = cls.of(found.codes, found.scale, bits)
        return cls(packed.codes, packed.scales, rows, columns, bits, packed.group)

    @classmethod
    def outline(cls, rows: int, columns: int, bits: int, num_scales: int, stored: torch.dtype) -> PackedWeight:
        """What `of` gives for codes of this shape and so many scales a row, without values and without computing."""
        by_row, width, blocks = num_scales == 1, padded(columns, TILE), padded(rows, PANEL) // BLOCK
        group = widest_group(width) if by_row else columns // num_scales
        shape = (blocks * BLOCK,) if by_row else (blocks, width // group, BLOCK)
        codes = torch.empty(blocks, width * bits // 32, 64, dtype=torch.uint8, device="meta")
        scales = torch.empty(shape, dtype=scale_dtype(stored, by_row), device="meta")
        return cls(codes, scales, rows, columns, bits, group)

    @classmethod
    def quantized_outline(cls, rows: int, columns: int, packing: Packing) -> PackedWeight:
        """The same of `quantized`."""
        whole = padded(columns, packing.group or 1)
        scales = whole // packing.group if packing.group else 1
        found = cls.outline(rows, whole, packing.bits, scales, torch.bfloat16 if packing.group else torch.float32)
        return cls(found.codes, found.scales, rows, columns, packing.bits, found.group)

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.columns

    @property
    def by_row(self) -> bool:
        return self.scales.dim() == 1

    @property
    def width(self) -> int:
        """Columns, padded."""
        return self.codes.shape[1] * 4 * 8 // self.bits

    def unpacked(self, first: int = 0, last: int | None = None) -> tuple[Tensor, Tensor]:
        """Codes int8 (rows, padded columns) and scales (rows, groups) of the blocks from `first` to before `last`."""
        codes = self.codes[first:last]
        blocks = len(codes)
        if self.bits == 4:
            codes = torch.stack((codes & 15, codes >> 4), 2).view(torch.int8) - 8
        full = codes.view(torch.int8).view(blocks, -1, BLOCK, 4).transpose(1, 2).reshape(blocks * BLOCK, -1)
        if self.by_row:
            return full, self.scales.view(-1, BLOCK)[first:last].reshape(-1, 1)
        return full, self.scales[first:last].transpose(1, 2).flatten(0, 1)

    def dense(self) -> Tensor:
        """code * scale in float32, (rows, columns): what was packed."""
        codes, scale = self.unpacked()
        groups = codes.view(len(codes), scale.shape[1], -1)
        return (groups * scale[..., None].float()).view(codes.shape)[: self.rows, : self.columns]

    def product(self, x_MK: Tensor) -> Tensor:
        """x W^T, (M, rows), in plain torch, for float32."""
        q_MGK, scale_MG = quantize_activations(F.pad(x_MK, (0, self.width - self.columns)), self.group)
        step = ROWS_AT_ONCE // BLOCK
        parts = [self._part(q_MGK, scale_MG, first, first + step) for first in range(0, len(self.codes), step)]
        return torch.cat(parts, 1)[:, : self.rows]

    def _part(self, q_MGK: Tensor, scale_MG: Tensor, first: int, last: int) -> Tensor:
        codes, scale = self.unpacked(first, last)
        codes_NGK, scale = codes.view(len(codes), -1, self.group).float(), scale.float()
        total_MN = q_MGK.new_zeros(len(q_MGK), len(codes))
        for group in range(q_MGK.shape[1]):
            # integers below 2^24: float32 adds them exactly, in whatever order
            sum_MN = q_MGK[:, group] @ codes_NGK[:, group].t()
            factor = scale_MG[:, group, None] if self.by_row else scale_MG[:, group, None] * scale[:, group]
            total_MN += sum_MN * factor
        return total_MN * scale[:, 0] if self.by_row else total_MN


def quantize_activations(x_MK: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Codes, as float32 (M, groups, group), and scales (M, groups); NaN for a group that holds NaN or infinity."""
    x_MGK = x_MK.unflatten(1, (-1, group))
    most_MG = x_MGK.abs().amax(-1)
    large = most_MG.isfinite() & (most_MG >= SMALLEST)
    # one division, as in the kernels: a number over a tensor is the tensor's reciprocal times the number
    inverse = torch.where(large, torch.full_like(most_MG, 127.0) / most_MG, 0.0)
    scale = torch.where(large, most_MG / 127.0, torch.where(most_MG.isfinite(), 0.0, torch.nan))
    return (x_MGK * inverse[..., None]).round().nan_to_num(), scale


def has_place(group: int | None) -> bool:
    """Whether the layout takes scales by such groups of columns; None: by rows."""
    return group is None or group == TILE // 2 or (group % TILE == 0 and group <= LARGEST)


def widest_group(width: int) -> int:
    """For a weight scaled by rows: the most columns of activations, in whole tiles, that divide its padded width."""
    return next(size for size in range(min(width, WIDEST), 0, -TILE) if width % size == 0 and size % TILE == 0)


def padded(extent: int, unit: int) -> int:
    return extent + -extent % unit


def scale_dtype(stored: torch.dtype, by_row: bool) -> torch.dtype:
    """What scales are held in, exactly: bfloat16 only where they come in it and there are many."""
    return torch.bfloat16 if stored == torch.bfloat16 and not by_row else torch.float32


def _widened(matrix: Tensor, columns: int, rows: int = 0) -> Tensor:
    """With zeros behind; as it is where there are none, because padding by nothing copies."""
    return F.pad(matrix, (0, columns, 0, rows)) if columns or rows else matrix


def _blocks(codes: Tensor, bits: int) -> Tensor:
    """Codes (padded rows, padded columns) in the order of the kernels: (blocks, vectors, 64) bytes."""
    vectors = codes.view(-1, BLOCK, codes.shape[1] // 4, 4).transpose(1, 2).contiguous()
    if bits == 8:
        return vectors.view(len(vectors), -1, 64).view(torch.uint8)
    pairs = (vectors + 8).view(torch.uint8).view(len(vectors), -1, 2, 64)
    return pairs[:, :, 0] | pairs[:, :, 1] << 4


def _by_block(scale: Tensor) -> Tensor:
    """Scales (padded rows, groups) as (blocks, groups, 16)."""
    return scale.view(-1, BLOCK, scale.shape[1]).transpose(1, 2).contiguous()
