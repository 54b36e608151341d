"""How a network's layers are kept and computed, as the options of the loop say: in training and before it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial

from torch import Tensor

from ingot.model.network import Network
from ingot.train.machine import fastest_attention
from ingot.train.offload import visiting
from ingot.train.rematerialise import plainly, rematerialised
from ingot.train.settings import LoopOptions


@contextlib.contextmanager
def arranged(network: Network, options: LoopOptions, checkpointing: bool | None = None) -> Iterator[None]:
    """While the block runs, layers are computed where the network's embedding is, whatever their weights' home;
    `checkpointing`: of each only what it reads is kept."""
    device = network.embedding.weight.device
    visits = options.offload == "layers" and device.type == "cuda"
    call = visiting(partial(Tensor.to, device=device, non_blocking=True)) if visits else plainly
    kept = rematerialised(network, bool(checkpointing) or visits, call)
    with kept, fastest_attention(device):
        yield
