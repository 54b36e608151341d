"""Random weights for a model that starts from nothing."""

from __future__ import annotations

import math

import torch
from torch import nn

from ingot.model.config import ModelConfig
from ingot.model.families.t5 import T5Config
from ingot.model.layers import Conv1D
from ingot.model.network import Network, make_network

RESIDUAL = tuple(
    f"{name}.weight"
    for name in ("o_proj", "down_proj", "c_proj", "w2", "dense", "dense_4h_to_h", "Wo", "o", "wo", "out_proj", "fc2",
                 "out_lin", "lin2")
)  # fmt: skip
"""Matrices that write to the residual stream, as the families call them."""

READS = ("intermediate.dense.weight", "head.dense.weight", "transform.dense.weight")
"""Matrices called `dense` that do not."""


@torch.no_grad()
def initialise(config: ModelConfig, seed: int) -> Network:
    """Normal with deviation 0.02 for embeddings and 1/sqrt(fan-in) for matrices; those that write to the residual
    stream start smaller by sqrt(2 x layers), so that its variance does not grow with depth (Radford et al. 2019).
    Norms and biases start as they are made, without effect. T5, whose scores are not scaled, begins with queries
    smaller by sqrt(head width); and where it divides what its embedding reads out by sqrt(width), that begins with
    deviation 1 (Raffel et al. 2020): at 0.02 all logits are alike, and hundreds of steps only make them differ."""
    generator = torch.Generator().manual_seed(seed)
    network = make_network(config)
    for name, parameter in network.named_parameters():
        owner = network.get_submodule(name.rpartition(".")[0])
        if isinstance(owner, nn.Embedding):
            is_divided = isinstance(config, T5Config) and config.scale_output and owner is network.embedding
            parameter.normal_(0.0, 1.0 if is_divided else 0.02, generator=generator)
        elif parameter.dim() == 1:
            if isinstance(owner, nn.Linear | Conv1D):
                nn.init.zeros_(parameter)
        else:
            fan_in = parameter.shape[0] if isinstance(owner, Conv1D) else parameter.shape[1]
            deviation = 1 / math.sqrt(fan_in)
            if name.endswith(RESIDUAL) and not name.endswith(READS):
                deviation /= math.sqrt(2 * len(network.blocks))
            if name.endswith("Attention.q.weight"):
                deviation /= math.sqrt(config.head_dim)
            parameter.normal_(0.0, deviation, generator=generator)
    return network
