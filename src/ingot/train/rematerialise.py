"""Activation checkpointing (Chen et al. 2016, arXiv 1604.06174): of each layer only its input is kept for the backward
pass, and the rest is computed again when it is needed. Memory of activations falls to about one layer's, for one more
forward pass. Random numbers are put back, so dropout drops the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from ingot.model.network import Network

Call = Callable[[nn.Module], Callable[..., Any]]
"""How a layer is computed, from the layer."""


def plainly(block: nn.Module) -> Callable[..., Any]:
    """As it is."""
    return block.forward


@contextlib.contextmanager
def rematerialised(network: Network, enabled: bool, call: Call = plainly) -> Iterator[None]:
    """While the block runs, the network's layers keep only their inputs."""
    blocks = list(network.blocks) if enabled else []
    for block in blocks:
        block.forward = partial(checkpoint, call(block), use_reentrant=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward
