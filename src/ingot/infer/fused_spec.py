"""A network as the fused step wants it described: where its packed weights, norms and embedding lie, and its numbers.

What the step computes of a block follows from the block's class: which norms stand before and behind its two halves,
and whether queries, keys and values (gate and up) come from one projection or from several.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ingot.model.decoder import Decoder
from ingot.model.families.gemma import NormAroundOne, SandwichBlock
from ingot.model.families.llama import Block
from ingot.model.families.olmo import PostNormBlock
from ingot.model.families.phi import PhiBlock
from ingot.model.kernels.decoder import DecoderSpec, LayerSpec
from ingot.model.packed import PANEL
from ingot.model.packed_linear import PackedLinear, handed

PRE_NORMS = {"before_attention": "input_layernorm", "before_mlp": "post_attention_layernorm"}
NORMS: dict[type[nn.Module], dict[str, str]] = {
    Block: PRE_NORMS,
    PhiBlock: PRE_NORMS,
    PostNormBlock: {"after_attention": "post_attention_layernorm", "after_mlp": "post_feedforward_layernorm"},
    SandwichBlock: {
        "before_attention": "input_layernorm",
        "after_attention": "post_attention_layernorm",
        "before_mlp": "pre_feedforward_layernorm",
        "after_mlp": "post_feedforward_layernorm",
    },
}
"""Blocks that the step knows: where it normalises, and what the block calls that norm."""

ACTIVATIONS = ("silu", "relu", "gelu", "gelu_tanh")
QUERY_NORMS = (None, "head", "width")
STORED = (torch.float32, torch.bfloat16, torch.float16)
"""Each in the order in which vector.h and decoder.h number them."""

VECTOR = 16
MOST_HEAD_DIM = 512
"""Floats in a vector; a head's width at most."""


@dataclass
class Description:
    """`spec`, and what it points to, which has to live as long."""

    network: Decoder
    spec: DecoderSpec = field(default_factory=DecoderSpec)
    kept: list[Any] = field(default_factory=list)

    def keep(self, tensor: Tensor) -> int:
        """Its address."""
        self.kept.append(tensor)
        return tensor.data_ptr()

    def linear(self, module: nn.Module | None) -> int:
        """The address of a packed layer's description."""
        assert isinstance(module, PackedLinear)
        missing = -module.out_features % PANEL
        bias = None if module.bias is None else F.pad(module.bias.detach().float(), (0, missing))
        found = handed(module.packed, bias)
        self.kept += [module, bias, found]
        return ctypes.addressof(found)

    def norm(self, module: nn.Module) -> int:
        """The address of a norm's factors."""
        weight: Any = module.weight
        around_one = isinstance(module, NormAroundOne)
        return self.keep((1.0 + weight.float() if around_one else weight.float().clone()).detach())


def refusal(network: nn.Module) -> str | None:
    """Why the step cannot run a network: "family", "prefix", "dense", "shape"; None where it can."""
    if not isinstance(network, Decoder) or any(type(block) not in NORMS for block in network.blocks):
        return "family"
    if network.before is not None or network.config.prefix_lm:
        return "prefix"
    layers = [layer for block in network.blocks for part in projections(block) for layer in part]
    if not all(isinstance(layer, PackedLinear) for layer in [*layers, _head(network)]):
        return "dense"
    return None if _fits(network) else "shape"


def projections(block: Any) -> list[list[nn.Module]]:
    """Of a block: what gives queries, keys and values; the way out; gate and up; down."""
    attention, mlp = block.self_attn, block.mlp
    if isinstance(block, PhiBlock):
        return [[attention.qkv_proj], [attention.o_proj], [mlp.gate_up_proj], [mlp.down_proj]]
    qkv = [attention.q_proj, attention.k_proj, attention.v_proj]
    return [qkv, [attention.o_proj], [mlp.gate_proj, mlp.up_proj], [mlp.down_proj]]


def _fits(network: Decoder) -> bool:
    """Whether widths are those that the step's loops take, and layers side by side read the same activations."""
    config = network.config
    together: list[list[Any]] = [part for block in network.blocks for part in projections(block)]
    return (
        config.hidden_size % VECTOR == 0
        and config.intermediate_size % PANEL == 0
        and config.head_dim % 2 == 0
        and config.head_dim <= MOST_HEAD_DIM
        and network.embedding.weight.dtype in STORED
        and all(len({(layer.packed.group, layer.packed.width) for layer in part}) == 1 for part in together)
    )


def _head(network: Decoder) -> nn.Module | None:
    return getattr(network, network.family.head, None)


def describe(network: Decoder) -> Description:
    """The description of a network that `refusal` has nothing against; its cache is still to be named."""
    found, config = Description(network), network.config
    backbone: Any = network.backbone
    layers = (LayerSpec * config.num_layers)(*(_layer(found, number) for number in range(config.num_layers)))
    found.kept.append(layers)
    spec = found.spec
    spec.layers, spec.embedding = ctypes.addressof(layers), found.keep(network.embedding.weight.detach())
    spec.final_norm, spec.head = found.norm(backbone.norm), found.linear(_head(network))
    spec.num_layers, spec.hidden, spec.inner = config.num_layers, config.hidden_size, config.intermediate_size
    spec.heads, spec.kv_heads, spec.head_dim = config.num_heads, config.num_kv_heads, config.head_dim
    spec.activation = ACTIVATIONS.index(config.activation)
    spec.query_norm = QUERY_NORMS.index(getattr(config, "qk_norm", None))
    spec.stored = STORED.index(network.embedding.weight.dtype)
    spec.eps, spec.scale = config.norm_eps, config.attention_scale or config.head_dim**-0.5
    spec.softcap, spec.logit_softcap = config.attention_softcap or 0.0, config.logit_softcap or 0.0
    spec.embedding_scale = torch.tensor(network.embedding_scale, dtype=network.dtype).item()
    return found


def _layer(found: Description, number: int) -> LayerSpec:
    network = found.network
    block: Any = network.blocks[number]
    qkv, (out,), gate_up, (down,) = projections(block)
    layer = LayerSpec(out=found.linear(out), down=found.linear(down))
    for at, projection in enumerate(qkv):
        layer.qkv[at] = found.linear(projection)
    for at, projection in enumerate(gate_up):
        layer.gate_up[at] = found.linear(projection)
    for place, name in NORMS[type(block)].items():
        setattr(layer, place, found.norm(getattr(block, name)))
    if getattr(network.config, "qk_norm", None) is not None:
        layer.q_norm, layer.k_norm = found.norm(block.self_attn.q_norm), found.norm(block.self_attn.k_norm)
    rope = network.config.ropes[number]
    layer.rope = -1 if rope is None else network.ropes.index(rope)
    layer.window = network.config.windows[number] or 0
    return layer
