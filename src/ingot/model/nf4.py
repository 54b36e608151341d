"""NF4 with double quantisation (QLoRA, Dettmers et al. 2023, arXiv 2305.14314): the bytes that bitsandbytes stores.

A weight is read row by row in blocks of 64. A block's largest absolute value becomes a scale, each number a place in
a list of 16, two to a byte, the first in the high half. The scales, less their mean, are stored in 8 bits in blocks of
256 by a second list. That is 4.127 bits a number.

bitsandbytes 0.50.2 is not one program. Its CUDA kernels, and its code for any device, take the nearest entry of a list,
the lower of two that are equally near; so does this file. Its CPU kernel for scales looks the entry up in a table of
65,536 steps and misses the nearest one for about one scale in 270; its AVX-512 kernel decodes rows that are no multiple
of 64 wrongly. On CUDA a block of zeros, where it divides by zero, becomes the lowest place of the list (so its source
says; not run); here and in its code for any device it is zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 64
NESTED_BLOCK = 256

LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
"""Quantiles of the normal distribution, scaled to one: each is as likely as the others (the paper's appendix E)."""

LEAST = 1e-38
"""Scales are divided by this at least."""

CHUNK = 1 << 22
"""Numbers that are worked on at a time, so that nothing large lies beside a weight and its bytes."""

CACHED = 1 << 17
"""The same where a CPU decodes: what stays in its cache is decoded nearly three times as fast (LOG.md)."""


@dataclass(frozen=True)
class NF4:
    """A weight's bytes: places (n/2), scales (n/64), the scales' scales (n/64/256, float32) and mean (float32)."""

    places: Tensor
    scales: Tensor
    nested: Tensor
    mean: Tensor


def levels() -> Tensor:
    """The 16 values of a place, float32."""
    return torch.tensor(LEVELS)


def pairs() -> Tensor:
    """The two values of a byte of places, (256, 2)."""
    each = levels()
    return torch.stack((each.repeat_interleave(16), each.repeat(16)), dim=-1)


def scale_levels() -> Tensor:
    """The 256 values of a scale: seven decades, each divided twice as finely as the one below (Dettmers et al. 2022,
    arXiv 2110.02861)."""
    found = [0.0, 1.0]
    for decade in range(7):
        edges = torch.linspace(0.1, 1, 2**decade + 1)
        middles = 10 ** (decade - 6) * ((edges[:-1] + edges[1:]) / 2)
        found += [*middles.tolist(), *(-middles).tolist()]
    return torch.tensor(sorted(found))


def quantize(weight: Tensor) -> NF4:
    """The bytes of a weight whose size is a multiple of 64."""
    assert weight.numel() % BLOCK == 0, weight.shape
    blocks = weight.reshape(-1, BLOCK)
    found = [_places(part) for part in blocks.split(CHUNK // BLOCK)]
    places, largest = (torch.cat(parts) for parts in zip(*found, strict=True))
    mean = largest.mean()
    padded = F.pad(largest - mean, (0, -len(largest) % NESTED_BLOCK)).view(-1, NESTED_BLOCK)
    scales, nested = _nearest(padded, scale_levels().to(weight.device))
    return NF4(places, scales.flatten()[: len(largest)].to(torch.uint8), nested, mean)


def dequantize(stored: NF4, pairs: Tensor, scale_levels: Tensor, dtype: torch.dtype) -> Tensor:
    """The numbers in a row, (n,), computed in float32. `pairs`, `scale_levels`: the lists, on the bytes' device."""
    largest = _largest(stored, scale_levels)
    out = torch.empty(2 * len(stored.places), dtype=dtype, device=stored.places.device)
    size = (CACHED if out.device.type == "cpu" else CHUNK) // BLOCK
    parts = zip(stored.places.view(-1, BLOCK // 2).split(size), largest.split(size), strict=True)
    for (places, scale), target in zip(parts, out.view(-1, BLOCK).split(size), strict=True):
        target.copy_(F.embedding(places.int(), pairs).flatten(1).mul_(scale[:, None]))
    return out


def _largest(stored: NF4, scale_levels: Tensor) -> Tensor:
    """Each block's largest absolute value, as the bytes have it."""
    block = torch.arange(len(stored.scales), device=stored.scales.device) // NESTED_BLOCK
    return F.embedding(stored.scales.int(), scale_levels[:, None])[:, 0] * stored.nested[block] + stored.mean


def _places(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Bytes of places and largest absolute value of each block, (blocks, 64)."""
    found, largest = _nearest(blocks.float(), levels().to(blocks.device))
    first, second = found.to(torch.uint8).view(-1, 2).unbind(-1)
    return first << 4 | second, largest


def _nearest(blocks: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Each number's nearest of `values`, once its block (a row) is scaled to one; and the rows' scales."""
    largest = blocks.abs().amax(dim=1)
    scaled = (blocks * (1.0 / largest.clamp(min=LEAST))[:, None]).clamp(-1, 1)
    return torch.bucketize(scaled, (values[:-1] + values[1:]) / 2, out_int32=True), largest
