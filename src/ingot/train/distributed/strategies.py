"""How several processes share a network: copies of it, slices of every tensor, or slices of every product.

A strategy is a function in STRATEGIES that prepares the network in place and says what the loop must do around a step.
Its module is imported only where there are several processes: torch's machinery for them takes seconds to load.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module

from ingot.core.errors import fail
from ingot.model.network import Network
from ingot.model.split import COLUMNS, ROWS, has_llamas_products, uneven
from ingot.train.distributed.sharing import Sharing
from ingot.train.distributed.world import World


def copies(network: Network, world: World) -> Sharing:
    """Distributed data parallel (Li et al. 2020, arXiv 2006.15704): every process holds the network; one sum of all
    gradients a step."""
    return Sharing(world, summed=tuple(p for p in network.parameters() if p.requires_grad))


def shards(network: Network, world: World) -> Sharing:
    """Fully sharded data parallel (Zhao et al. 2023, arXiv 2304.11277; torch's FSDP2): every tensor, its gradient and
    its moments are cut over the processes, and gathered block by block when they are needed."""
    mesh = _mesh(world)
    for block in network.blocks:
        for table in (module for module in block.modules() if isinstance(module, nn.Embedding)):
            fully_shard(table, mesh=mesh)  # T5's first layer holds the bias that all layers are given
        fully_shard(block, mesh=mesh)
    root = fully_shard(network, mesh=mesh, reshard_after_forward=False)  # the head reads the embedding after forward
    return Sharing(world, averages=True, settle=root.reshard)


def slices(network: Network, world: World) -> Sharing:
    """Tensor parallel (Shoeybi et al. 2019, arXiv 1909.08053): heads and feed-forward columns are cut over the
    processes, which all see the same rows. Raises `tensor-parallel-unsupported`, `tensor-parallel-layer` and
    `tensor-parallel-heads`."""
    world.agree(lambda: _check(network, world))
    plan: dict[str, ParallelStyle] = {name: ColwiseParallel() for name in COLUMNS}
    plan |= {name: RowwiseParallel() for name in ROWS}
    mesh = _mesh(world)
    partial: list[nn.Parameter] = []
    for block in network.blocks:
        parallelize_module(block, mesh, plan)
        attention = block.get_submodule("self_attn")
        norms = [attention.get_submodule(name) for name in ("q_norm", "k_norm") if hasattr(attention, name)]
        partial += [parameter for norm in norms for parameter in norm.parameters() if parameter.requires_grad]
    return Sharing(world, splits_rows=False, summed=tuple(partial))


def _check(network: Network, world: World) -> None:
    """Refuse what cannot be cut; only blocks with Llama's parts are known."""
    config = network.config
    if not has_llamas_products(network):
        raise fail("tensor-parallel-unsupported", family=config.model_type)
    for name, layer in network.named_modules():
        if name.endswith((*COLUMNS, *ROWS)) and not isinstance(layer, nn.Linear):
            raise fail("tensor-parallel-layer", layer=name, kind=type(layer).__name__)
    for name, found in uneven(config, world.size):
        raise fail("tensor-parallel-heads", what=name, found=found, size=world.size)


STRATEGIES: dict[str, Callable[[Network, World], Sharing]] = {"ddp": copies, "fsdp": shards, "tp": slices}


def _mesh(world: World) -> DeviceMesh:
    return init_device_mesh(world.device.type, (world.size,))
