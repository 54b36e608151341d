"""What frozen linear layers share whose weight is held in few bits: made from the shape of a layer, filled by its
weight, which is no parameter and no part of the state, because it follows from the checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ingot.model.families.moe import Experts
from ingot.model.layers import Conv1D

if TYPE_CHECKING:
    from ingot.model.network import Network


class HeldLinear(nn.Module):
    """A linear layer in few bits, in place of one of torch's or GPT-2's.

    A kind gives `fill`, `is_filled`, `weight` (out, in), decoded anew whenever it is asked for, and `place`.
    """

    def __init__(self, layer: nn.Linear | Conv1D) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.transposed, self.bias = isinstance(layer, Conv1D), layer.bias

    def fill(self, weight: Any) -> None:
        """Take a weight as its checkpoint has it, or as it is held."""
        raise NotImplementedError

    @property
    def is_filled(self) -> bool:
        raise NotImplementedError

    @property
    def weight(self) -> Tensor:
        raise NotImplementedError

    @property
    def place(self) -> Tensor:
        """A tensor that lies where the weight does."""
        raise NotImplementedError

    @property
    def num_weights(self) -> int:
        return self.in_features * self.out_features

    def get_parameter(self, target: str) -> nn.Parameter:
        """The weight is not a parameter, but asked for as one by those who merge."""
        return nn.Parameter(self.weight, requires_grad=False) if target == "weight" else super().get_parameter(target)


def is_held(network: nn.Module) -> bool:
    """Whether any of its layers is held in few bits."""
    return any(isinstance(module, HeldLinear) for module in network.modules())


def num_parameters(network: nn.Module) -> int:
    """Numbers of a network, whether it holds them in parameters or in few bits."""
    held = sum(module.num_weights for module in network.modules() if isinstance(module, HeldLinear))
    return held + sum(parameter.numel() for parameter in network.parameters())


def linear_layers(network: Network) -> Iterator[tuple[str, nn.Linear | Conv1D]]:
    """The linear layers of a network's blocks by name, but for those that choose among experts."""
    inside = {id(module) for block in network.blocks for module in block.modules()}
    routers = {id(module.gate) for module in network.modules() if isinstance(module, Experts)}
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear | Conv1D) and id(module) in inside - routers:
            yield name, module
