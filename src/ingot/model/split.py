"""How the products of a decoder's layers are cut over several processes (Shoeybi et al. 2019, arXiv 1909.08053): the
first of two by what it gives, the second by what it takes, so that one sum behind the second makes them whole.

Known are layers with Llama's projections and GPT-2's. What they are cut for, training or writing, is others' business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ingot.model.config import ModelConfig
from ingot.model.decoder import Decoder
from ingot.model.families import gpt2
from ingot.model.layers import Attention, GatedMLP
from ingot.model.network import Network

COLUMNS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj")
ROWS = ("self_attn.o_proj", "mlp.down_proj")
"""Llama's products, cut by what they give, and by what they take."""

GPT2_COLUMNS = {"attn.c_attn": 3, "mlp.c_fc": 1}
GPT2_ROWS = ("attn.c_proj", "mlp.c_proj")
"""GPT-2's, whose weights are stored (in, out); one of them is queries, keys and values, three parts to be cut each."""


@dataclass(frozen=True)
class Cut:
    """Along which dimension a tensor is cut over so many processes, in equal slices but for the last ones."""

    dim: int
    parts: int

    def bounds(self, size: int, part: int) -> tuple[int, int]:
        """Where a part begins and ends of a dimension of this size; torch cuts as `torch.chunk` does."""
        step = -(-size // self.parts)
        return min(part * step, size), min((part + 1) * step, size)


@dataclass(frozen=True)
class Share:
    """What of a weight belongs to one process: slices along `cut.dim`, one of each of `fused` equal parts. Without a
    cut it is a bias behind a sum, which only the first process adds."""

    cut: Cut | None
    fused: int = 1

    def ranges(self, size: int, rank: int) -> list[tuple[int, int]]:
        """Where this process's slices lie along the dimension."""
        assert self.cut is not None
        part = size // self.fused
        begin, end = self.cut.bounds(part, rank)
        return [(number * part + begin, number * part + end) for number in range(self.fused)]

    def of(self, tensor: Tensor, rank: int) -> Tensor:
        """Its slice of a whole tensor, a copy."""
        if self.cut is None:
            return tensor.clone() if rank == 0 else torch.zeros_like(tensor)
        dim = self.cut.dim
        parts = [tensor.narrow(dim, begin, end - begin) for begin, end in self.ranges(tensor.shape[dim], rank)]
        return torch.cat(parts, dim).contiguous()


def has_llamas_products(network: Network) -> bool:
    """Whether every layer has Llama's attention and feed-forward, and norms that look at one head at a time."""
    return (
        isinstance(network, Decoder)
        and getattr(network.config, "qk_norm", None) != "width"
        and all(
            isinstance(getattr(block, "self_attn", None), Attention)
            and isinstance(getattr(block, "mlp", None), GatedMLP)
            for block in network.blocks
        )
    )


def uneven(config: ModelConfig, size: int) -> Iterator[tuple[str, int]]:
    """What cannot be cut evenly over so many processes: its name, and how many there are."""
    for name, found in (("key-value heads", config.num_kv_heads), ("feed-forward columns", config.intermediate_size)):
        if found % size:
            yield name, found


def shares(network: Network, size: int) -> Mapping[str, Share] | None:
    """Of every weight that is cut, by its name, what belongs to each of `size` processes; embedding and head are cut by
    words. None for a network that is not known."""
    if not isinstance(network, Decoder):
        return None
    found = {name: Share(Cut(0, size)) for name in _tables(network)}
    for prefix, block in _blocks(network):
        if isinstance(block, gpt2.Block):
            found |= _gpt2_shares(prefix, size)
        elif has_llamas_products(network):
            found |= _llama_shares(prefix, block, size)
        else:
            return None
    return found


def sums(network: Decoder) -> list[nn.Module]:
    """The products whose results are to be added up over the processes."""
    names = {*ROWS, *GPT2_ROWS}
    return [module for _, block in _blocks(network) for name, module in block.named_modules() if name in names]


def _blocks(network: Decoder) -> Iterator[tuple[str, nn.Module]]:
    names = {id(module): name for name, module in network.named_modules()}
    yield from ((names[id(block)], block) for block in network.blocks)


def _tables(network: Decoder) -> list[str]:
    """The names of the embedding and the head, where it has a tensor of its own (or may be stored once more)."""
    table = next(name for name, parameter in network.named_parameters() if parameter is network.embedding.weight)
    return [table, f"{network.family.head}.weight"]


def _llama_shares(prefix: str, block: nn.Module, size: int) -> dict[str, Share]:
    found = {}
    for name in (*COLUMNS, *ROWS):
        found[f"{prefix}.{name}.weight"] = Share(Cut(0 if name in COLUMNS else 1, size))
        if getattr(block.get_submodule(name), "bias", None) is not None:
            found[f"{prefix}.{name}.bias"] = Share(Cut(0, size) if name in COLUMNS else None)
    return found


def _gpt2_shares(prefix: str, size: int) -> dict[str, Share]:
    found = {}
    for name, fused in GPT2_COLUMNS.items():
        found[f"{prefix}.{name}.weight"] = Share(Cut(1, size), fused)
        found[f"{prefix}.{name}.bias"] = Share(Cut(0, size), fused)
    for name in GPT2_ROWS:
        found[f"{prefix}.{name}.weight"] = Share(Cut(0, size))
        found[f"{prefix}.{name}.bias"] = Share(None)
    return found
