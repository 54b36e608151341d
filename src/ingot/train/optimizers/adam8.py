"""AdamW with 8-bit moments (Dettmers et al. 2022, "8-bit optimizers via block-wise quantization", arXiv 2110.02861).

Each row of a matrix is cut into equal blocks of at most 256 numbers; a block keeps its largest magnitude and one byte a
number, an index into a map dense near zero. Kept are the first moment and the ROOT of the second: with the second
itself, numbers under a ten-millionth of their block's largest would become 0 and their update a division by epsilon;
the root squares that range, and no number that is not 0 is stored as 0. 2.03 bytes a parameter instead of 8, where rows
are long. Vectors, and tensors under 4096 numbers, keep float32 moments.

Blocks lie within rows so that a matrix cut by rows over several processes is coded as a whole one is. Where it is cut
by columns, the processes agree on the largest magnitude of a block before any codes its part: the same to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from ingot.train.distributed.slices import cut_of, local, rank_in, slice_like

BLOCK = 256
SMALLEST = 4096
CHUNK = 1 << 20
"""Numbers worked on at a time: what is held in float32 beside the bytes."""


def dynamic_map(signed: bool) -> Tensor:
    """The dynamic map's 256 values, ascending: 7 decades, each cut twice as finely as the one below (section 1.3)."""
    values = [0.0, 1.0]
    for decade in range(7):
        edges = torch.linspace(0.1, 1.0, (1 if signed else 2) * 2**decade + 1, dtype=torch.float64)
        means = ((edges[:-1] + edges[1:]) / 2 * 10.0 ** (decade - 6)).tolist()
        values += means + ([-mean for mean in means] if signed else [])
    return torch.tensor(sorted(values), dtype=torch.float32)


@dataclass(frozen=True)
class Codec:
    """A map and, for each of the 65,536 half-precision numbers, its nearest code: a look-up instead of a search."""

    values: Tensor
    codes: Tensor

    @classmethod
    def of(cls, signed: bool, device: torch.device) -> Codec:
        values = dynamic_map(signed)
        halves = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.float16).float()
        codes = torch.bucketize(halves.nan_to_num(0.0), (values[1:] + values[:-1]) / 2)
        zero = int((values == 0).nonzero())
        codes = torch.where((codes == zero) & (halves > 0), zero + 1, codes)
        if signed:
            codes = torch.where((codes == zero) & (halves < 0), zero - 1, codes)
        return cls(values.to(device), codes.to(torch.uint8).to(device))

    @cached_property
    def zero(self) -> int:
        """The code of 0."""
        return int((self.values == 0).nonzero())

    def encode(self, x: Tensor, scale: Tensor) -> Tensor:
        """Bytes of blocks (..., W), given the largest magnitude of each (..., 1)."""
        unit = x / scale.clamp(min=torch.finfo(torch.float32).tiny)
        floor = torch.finfo(torch.float16).smallest_normal / 1024  # half's smallest number: nothing but 0 becomes 0
        unit = torch.where(unit == 0, unit, unit.sign() * unit.abs().clamp(min=floor))
        index = unit.half().view(torch.int16).int() & 0xFFFF
        return self.codes[index]

    def decode(self, codes: Tensor, scale: Tensor) -> Tensor:
        return self.values[codes.int()] * scale


def largest(x: Tensor) -> Tensor:
    """The largest magnitude of each block, (..., W) to (..., 1)."""
    return x.abs().amax(-1, keepdim=True)


def row_blocks(size: int) -> tuple[int, int]:
    """How many numbers a block has in a row of so many, and how many blocks there are; the last may be short."""
    width = -(-size // -(-size // BLOCK))
    return width, -(-size // width)


def is_coded(shape: Sequence[int]) -> bool:
    """Whether the moments of a parameter of this shape are kept in bytes."""
    return len(shape) > 1 and math.prod(shape) >= SMALLEST


@dataclass(frozen=True)
class Layout:
    """How the columns of a matrix that lie here fall into the blocks of its rows.

    `blocks` of `width` numbers, of which the first begins `lead` numbers before the columns do; it is number `first` of
    `total` in the row. `is_shared`: other processes hold other columns, and parts of the same blocks.
    """

    columns: int
    width: int
    blocks: int
    lead: int
    first: int
    total: int
    is_shared: bool

    @classmethod
    def of(cls, parameter: Tensor) -> Layout:
        size, cut = parameter.shape[-1], cut_of(parameter)
        width, total = row_blocks(size)
        is_shared = cut is not None and cut.dim == parameter.dim() - 1
        begin, end = cut.bounds(size, rank_in(parameter)) if cut is not None and is_shared else (0, size)
        first = begin // width
        blocks = -(-end // width) - first
        return cls(end - begin, width, blocks, begin - first * width, first, total, is_shared)

    @property
    def touched(self) -> slice:
        """The blocks of a row that this process has a part of."""
        return slice(self.first, self.first + self.blocks)

    def parts(self, rows: int) -> Iterator[slice]:
        """Rows that are worked on at a time."""
        step = max(1, CHUNK // max(1, self.columns))
        return (slice(begin, begin + step) for begin in range(0, rows, step))

    def blocked(self, codes_RC: Tensor, zero: int) -> Tensor:
        """(R, columns) as (R, blocks, width), what is not here filled up with the code of 0."""
        tail = self.blocks * self.width - self.lead - self.columns
        padded = F.pad(codes_RC, (self.lead, tail), value=zero) if self.lead or tail else codes_RC
        return padded.view(len(codes_RC), self.blocks, self.width)

    def flat(self, blocks_RBW: Tensor) -> Tensor:
        """The columns that lie here again, sharing memory with the blocks."""
        return blocks_RBW.view(len(blocks_RBW), -1)[:, self.lead : self.lead + self.columns]


class AdamW8(Optimizer):
    """AdamW whose moments are kept in bytes; the arithmetic is float32."""

    def __init__(self, groups: list[dict[str, Any]], betas: tuple[float, float], eps: float = 1e-8) -> None:
        super().__init__(groups, {"lr": 0.0, "weight_decay": 0.0, "betas": betas, "eps": eps})
        device = groups[0]["params"][0].device
        self._codecs = {"first": Codec.of(True, device), "root": Codec.of(False, device)}

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state.update(self._empty(parameter))
        state["step"] += 1
        assert parameter.grad is not None
        update = _Update(group, float(state["step"]))
        weights, gradients = local(parameter), local(parameter.grad)
        if "exp_avg" in state:
            first, root = local(state["exp_avg"]), local(state["exp_avg_root"])
            update.moments(gradients, first, root)
            update.weights(weights, first, root)
            return
        own = {key: local(value).flatten(0, -2) for key, value in state.items() if value.dim()}
        rows = _Rows(Layout.of(parameter), weights.flatten(0, -2), gradients.flatten(0, -2), own, self._codecs)
        rows.update(update)

    def _empty(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """A parameter's state before its first step."""
        step = {"step": torch.zeros(())}
        if not is_coded(parameter.shape):
            return step | {"exp_avg": torch.zeros_like(parameter), "exp_avg_root": torch.zeros_like(parameter)}
        layout, here = Layout.of(parameter), local(parameter)
        for key, codec in self._codecs.items():
            step[key] = slice_like(torch.full_like(here, codec.zero, dtype=torch.uint8), parameter.shape[-1], parameter)
            scales = here.new_zeros((*here.shape[:-1], layout.total))
            step[f"{key}_scale"] = scales if layout.is_shared else slice_like(scales, layout.total, parameter)
        return step


@dataclass(frozen=True)
class _Rows:
    """The rows of a matrix that lie here: weights and gradients (R, columns), and the state of each moment: codes
    (R, columns) and scales (R, blocks of the whole row)."""

    layout: Layout
    weights: Tensor
    gradients: Tensor
    state: dict[str, Tensor]
    codecs: dict[str, Codec]

    def update(self, update: _Update) -> None:
        """One step, in place, some rows at a time."""
        agreed = self._agree(update) if self.layout.is_shared else None
        for part in self.layout.parts(len(self.weights)):
            moments = self._moments(part, update)
            update.weights(self.weights[part], *(self.layout.flat(moment) for moment in moments.values()))
            for key, moment in moments.items():
                scale = largest(moment) if agreed is None else agreed[key][part, self.layout.touched, None]
                self.state[key][part] = self.layout.flat(self.codecs[key].encode(moment, scale))
                self.state[f"{key}_scale"][part, self.layout.touched] = scale.squeeze(-1)
        for key, scales in (agreed or {}).items():
            self.state[f"{key}_scale"].copy_(scales)

    def _moments(self, part: slice, update: _Update) -> dict[str, Tensor]:
        """The new moments of some rows, in blocks."""
        found = {}
        for key, codec in self.codecs.items():
            codes = self.layout.blocked(self.state[key][part], codec.zero)
            found[key] = codec.decode(codes, self.state[f"{key}_scale"][part, self.layout.touched, None])
        update.moments(self.gradients[part], *(self.layout.flat(moment) for moment in found.values()))
        return found

    def _agree(self, update: _Update) -> dict[str, Tensor]:
        """The scales that the new moments will have, by all processes."""
        found = {key: torch.zeros_like(self.state[f"{key}_scale"]) for key in self.codecs}
        for part in self.layout.parts(len(self.weights)):
            for key, moment in self._moments(part, update).items():
                found[key][part, self.layout.touched] = largest(moment).squeeze(-1)
        for scales in found.values():
            dist.all_reduce(scales, dist.ReduceOp.MAX)
        return found


@dataclass(frozen=True)
class _Update:
    """AdamW's arithmetic at one step; `root` is the root of the second moment."""

    group: dict[str, Any]
    step: float

    def moments(self, gradients: Tensor, first: Tensor, root: Tensor) -> None:
        """Take the gradients into the moments, in place."""
        beta1, beta2 = self.group["betas"]
        first.lerp_(gradients, 1 - beta1)
        root.square_().mul_(beta2).addcmul_(gradients, gradients, value=1 - beta2).sqrt_()

    def weights(self, weights: Tensor, first: Tensor, root: Tensor) -> None:
        """Move the weights, in place."""
        (beta1, beta2), lr = self.group["betas"], self.group["lr"]
        divisor = root / (1 - beta2**self.step) ** 0.5 + self.group["eps"]
        weights.mul_(1 - lr * self.group["weight_decay"])
        weights.addcdiv_(first, divisor, value=-lr / (1 - beta1**self.step))
