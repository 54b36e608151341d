"""A network that holds one process's slices: loaded so, and made to add up what only all of them know.

Its modules and their code are the whole network's. Two sums a layer make each product whole, one the embedding; every
process then has the same hidden states. The head gives each process the logits of its own words, and the first
process collects them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ingot.core.errors import fail
from ingot.core.model_dir import TensorEntry
from ingot.model.config import ModelConfig
from ingot.model.decoder import Decoder
from ingot.model.network import Network, make_network
from ingot.model.place.layout import Layout
from ingot.model.quantized import dense_names, read_dense_tensor
from ingot.model.ranks.group import Group
from ingot.model.split import Cut, Share, shares, sums, uneven
from ingot.model.weights import DTYPES, full_name, load_network


def check_split(layout: Layout, size: int) -> Mapping[str, Share]:
    """What belongs to each process. Raises `ranks-unsupported`, `ranks-uneven`."""
    config = ModelConfig.read(layout.base.config, layout.base.path / "config.json")
    with torch.device("meta"):
        found = shares(make_network(config), size)
    if found is None:
        raise fail("ranks-unsupported", path=layout.base.path, family=config.model_type)
    for name, count in uneven(config, size):
        raise fail("ranks-uneven", what=name, found=count, size=size)
    return found


def load_slices(
    layout: Layout, share_of: Mapping[str, Share], rank: int, dtype: torch.dtype | None, device: torch.device
) -> Decoder:
    """The network of process `rank`, which reads its slices only. Raises what `load` raises."""
    tensors = _slices(layout, share_of, rank, device)
    network = load_network(layout.base, tensors, dtype, prepare=partial(_shrink, share_of, rank))
    assert isinstance(network, Decoder)
    network.rotary.to(device)
    return network.requires_grad_(False)


def _shrink(share_of: Mapping[str, Share], rank: int, network: Network) -> None:
    """Give parameters that have no memory yet the shapes of their slices."""
    for name, parameter in list(network.named_parameters()):
        if name in share_of:
            owner, _, attribute = name.rpartition(".")
            part = nn.Parameter(share_of[name].of(parameter, rank))
            network.get_submodule(owner).register_parameter(attribute, part)


def _slices(
    layout: Layout, share_of: Mapping[str, Share], rank: int, device: torch.device
) -> Iterator[tuple[str, Tensor]]:
    for name in dense_names(layout.base):
        full = full_name(name, layout.shapes)
        share, entries = share_of.get(full), layout.stored[full][1]
        if share is None:
            tensor = read_dense_tensor(layout.base, name)
        elif share.cut is not None and entries[0].name == name and entries[0].dtype in DTYPES:
            tensor = read_slice(entries[0], share, share.cut, rank)
        else:
            tensor = share.of(read_dense_tensor(layout.base, name), rank)
        yield name, tensor.to(device)


def read_slice(entry: TensorEntry, share: Share, cut: Cut, rank: int) -> Tensor:
    """A process's slice of a plain tensor; only what it holds is read of the file."""
    dtype = DTYPES[entry.dtype]
    if len(entry.shape) <= cut.dim or entry.shape[cut.dim] == 0:
        raise fail("wrong-shape", tensor=entry.name, path=entry.file, found=list(entry.shape),
                   expected=f"{cut.dim + 1} dimensions")  # fmt: skip
    stored = np.memmap(entry.file, f"u{dtype.itemsize}", "r", entry.begin, entry.shape)
    index: list[Any] = [slice(None)] * len(entry.shape)
    parts = []
    for begin, end in share.ranges(entry.shape[cut.dim], rank):
        index[cut.dim] = slice(begin, end)
        parts.append(stored[tuple(index)])
    return torch.from_numpy(np.concatenate(parts, cut.dim)).view(dtype)


def connect(network: Decoder, group: Group) -> None:
    """Make the slices one network: sums behind products, and an embedding of which each process knows some words."""
    for module in sums(network):
        module.register_forward_hook(partial(_add_up, group))
    table = network.embedding
    first = group.rank * -(-network.config.vocab_size // group.size)
    table.forward = partial(_look_up, table, first, group)  # type: ignore[method-assign]
    config, size = network.config, group.size
    network.config = dataclasses.replace(
        config, num_heads=config.num_heads // size, num_kv_heads=config.num_kv_heads // size
    )


def _add_up(group: Group, module: nn.Module, args: Any, output: Tensor) -> Tensor:
    return group.add(output)


def _look_up(table: nn.Embedding, first: int, group: Group, ids_BT: Tensor) -> Tensor:
    """Every process gives the words it has, and zeros for the others."""
    own_BT = ids_BT - first
    other_BT = (own_BT < 0) | (own_BT >= len(table.weight))
    found_BTC = F.embedding(own_BT.masked_fill(other_BT, 0), table.weight).masked_fill(other_BT[..., None], 0.0)
    return group.add(found_BTC)


def head_slice(network: Decoder, group: Group, hidden_RC: Tensor) -> Tensor | None:
    """Logits (R, V) on the first process, from every one's words."""
    each = -(-network.config.vocab_size // group.size)
    own_RV = Decoder.head(network, hidden_RC)
    parts = group.collect(F.pad(own_RV, (0, each - own_RV.shape[-1])))
    return torch.cat(parts, -1)[:, : network.config.vocab_size] if parts else None
