"""A frozen linear layer whose weight is held in NF4 (`ingot.model.nf4`) and decoded for each product, in the dtype of
the product, forward and backward.

The product is one operator to torch, not a decoding and a product: a compiler that saw both would keep the decoded
weight for the backward pass, which is the memory this is meant to save.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ingot.core.errors import fail
from ingot.model.held import HeldLinear, linear_layers
from ingot.model.layers import Conv1D
from ingot.model.network import Network
from ingot.model.nf4 import BLOCK, NF4, dequantize, pairs, quantize, scale_levels


@torch.library.custom_op("ingot::nf4_product", mutates_args=())
def nf4_product(x: Tensor, weight: list[Tensor], bias: Tensor | None, rows: int, turned: bool) -> Tensor:
    """x W^T + bias, or x W when `turned`. `weight`: the four of NF4, its pairs and scale levels; it has `rows` rows."""
    decoded = dequantize(NF4(*weight[:4]), weight[4], weight[5], x.dtype).view(rows, -1)
    return F.linear(x, decoded.t() if turned else decoded, bias)


@nf4_product.register_fake
def _shape(x: Tensor, weight: list[Tensor], bias: Tensor | None, rows: int, turned: bool) -> Tensor:
    return x.new_empty((*x.shape[:-1], 2 * weight[0].numel() // rows if turned else rows))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, weight, bias, ctx.rows, ctx.turned = inputs
    ctx.save_for_backward(*weight)
    ctx.has_bias = bias is not None


def _gradient(ctx: Any, gradient: Tensor) -> tuple[Tensor | list[None] | None, ...]:
    """Of x, and of the bias, should that train."""
    weight = list(ctx.saved_tensors)
    of_x = nf4_product(gradient, weight, None, ctx.rows, not ctx.turned) if ctx.needs_input_grad[0] else None
    of_bias = gradient.flatten(0, -2).sum(0) if ctx.has_bias and ctx.needs_input_grad[2] else None
    return of_x, [None] * len(weight), of_bias, None, None


nf4_product.register_autograd(_gradient, setup_context=_keep)


class NF4Linear(HeldLinear):
    """A linear layer in 4 bits."""

    def __init__(self, layer: nn.Linear | Conv1D) -> None:
        super().__init__(layer)
        for name in NF4.__dataclass_fields__:
            self.register_buffer(name, torch.empty(0, device="meta"), persistent=False)
        self.register_buffer("pairs", pairs(), persistent=False)
        self.register_buffer("scale_levels", scale_levels(), persistent=False)

    def fill(self, weight: Tensor | NF4) -> None:
        if isinstance(weight, Tensor):
            weight = quantize(weight.t().contiguous() if self.transposed else weight)
        for name, tensor in vars(weight).items():
            setattr(self, name, tensor)

    @property
    def is_filled(self) -> bool:
        return not self.get_buffer("places").is_meta

    @property
    def stored(self) -> list[Tensor]:
        """What `nf4_product` takes."""
        return [self.get_buffer(name) for name in (*NF4.__dataclass_fields__, "pairs", "scale_levels")]

    @property
    def weight(self) -> Tensor:
        *stored, pairs, levels = self.stored
        return dequantize(NF4(*stored), pairs, levels, torch.float32).view(self.out_features, self.in_features)

    @property
    def place(self) -> Tensor:
        return self.get_buffer("mean")

    def forward(self, x: Tensor) -> Tensor:
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            x = x.to(torch.get_autocast_dtype(kind))
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return nf4_product(x, self.stored, bias, self.out_features, False)


def hold_in_nf4(network: Network, path: object) -> dict[str, NF4Linear]:
    """Put NF4 layers in place of all linear layers of a network's blocks, but for those that choose among experts.

    Embeddings, head, norms and biases stay. Returns name of each weight -> the layer that holds it. `path` is for
    the error. Raises `nf4-size`.
    """
    found: dict[str, NF4Linear] = {}
    for name, layer in list(linear_layers(network)):
        weight = f"{name}.weight"
        check_size(weight, layer.weight, path)
        found[weight] = NF4Linear(layer)
        network.set_submodule(name, found[weight])
    return found


def check_size(name: str, weight: Tensor, path: object) -> None:
    """Raises `nf4-size` for a weight that cannot be cut into blocks."""
    if weight.numel() % BLOCK:
        raise fail("nf4-size", tensor=name, path=path, shape=list(weight.shape), block=BLOCK)


def is_in_nf4(network: nn.Module) -> bool:
    """Whether its layers are held in NF4."""
    return any(isinstance(module, NF4Linear) for module in network.modules())
