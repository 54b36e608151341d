"""One forward pass with everything worth seeing kept: attention, the residual stream, what each layer would say.

Attention is watched from outside: a torch function mode sees every call of the fused kernel (and the softmax of capped
scores, which no kernel computes) and works out the same probabilities. No family is declared again and the ordinary
path does not know of it, so it cannot become slower or different. Calls come in the order of the layers; in an
encoder-decoder the encoder's come first, then self and cross attention by turns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ingot.model.decoder import Decoder
from ingot.model.encoder import Encoder
from ingot.model.encoder_decoder import EncoderDecoder
from ingot.model.network import Network

SELF, ENCODER, DECODER, CROSS = "self", "encoder", "decoder", "cross"


@dataclass(frozen=True)
class Stack:
    """The layers of one stack: what enters the first, then what leaves each, (layers + 1) tensors (T, C)."""

    name: str
    stream: list[Tensor]


@dataclass(frozen=True)
class Seen:
    """`attention[stack][layer]`: probabilities (H, T, S), rows summing to one. `lens[layer]`: logits (T, V) of the
    stream as it enters the first layer and leaves each, in the stack that writes."""

    attention: dict[str, list[Tensor]]
    stacks: list[Stack]
    lens: list[Tensor]


class Attentions(TorchFunctionMode):
    """Collects the probabilities of every attention that is computed while it is on, in order, (B, H, T, S)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self.found.append(probabilities(*args, **kwargs))
        result = func(*args, **kwargs)
        if func is Tensor.softmax and result.dim() == 4:
            self.found.append(result)
        return result


def probabilities(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **_: Any,
) -> Tensor:
    """What the fused kernel multiplies the values with, (B, H, T, S), float32."""
    scores = (q.float() @ k.float().transpose(-1, -2)) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        scores = scores.masked_fill(
            torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1), -torch.inf
        )
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return torch.softmax(scores, -1)


@torch.inference_mode()
def look(network: Network, ids: list[int], source: list[int] | None = None) -> Seen:
    """Run a text through (and, for an encoder-decoder, the source it answers); it is a prompt, and read as one."""
    device = network.embedding.weight.device
    kwargs = {} if source is None else {"source_ids_BS": torch.tensor([source], device=device)}
    if network.config.prefix_lm:
        kwargs["prefix_BT"] = torch.ones(1, len(ids), dtype=torch.bool, device=device)
    entered: dict[int, Tensor] = {}
    left: dict[int, Tensor] = {}
    hooks = [hook for number, block in enumerate(network.blocks) for hook in _hooks(number, block, entered, left)]
    try:
        with Attentions() as attentions:
            network(torch.tensor([ids], device=device), **kwargs)
    finally:
        for hook in hooks:
            hook.remove()
    stacks = [Stack(name, [entered[first][0], *(left[at][0] for at in range(first, end))])
              for name, first, end in _stacks(network)]  # fmt: skip
    final = _final(network)
    lens = [network.head(final(x)) for x in stacks[-1].stream]
    return Seen(_sorted(network, [one[0].float() for one in attentions.found]), stacks, lens)


def _hooks(number: int, block: nn.Module, entered: dict[int, Tensor], left: dict[int, Tensor]) -> list[Any]:
    def before(module: nn.Module, given: Any) -> None:
        entered[number] = given[0]

    def after(module: nn.Module, given: Any, result: Tensor) -> None:
        left[number] = result

    return [block.register_forward_pre_hook(before), block.register_forward_hook(after)]


def _stacks(network: Network) -> list[tuple[str, int, int]]:
    """Name, first and last block of each stack."""
    if not isinstance(network, EncoderDecoder):
        return [(SELF, 0, len(network.blocks))]
    split = int(getattr(network.config, "encoder_layers"))  # noqa: B009  (every family of this kind has it)
    return [(ENCODER, 0, split), (DECODER, split, len(network.blocks))]


def _sorted(network: Network, found: list[Tensor]) -> dict[str, list[Tensor]]:
    """The maps by stack: the text's own, which come last where a learnt prompt was read before it."""
    if not isinstance(network, EncoderDecoder):
        assert len(found) >= len(network.blocks), (len(found), len(network.blocks))
        return {SELF: found[-len(network.blocks) :]}
    split = _stacks(network)[1][1]
    assert len(found) == 2 * len(network.blocks) - split, (len(found), len(network.blocks))
    return {ENCODER: found[:split], DECODER: found[split::2], CROSS: found[split + 1 :: 2]}


def _final(network: Network) -> Callable[[Tensor], Tensor]:
    """What stands between the last layer and the head."""
    if isinstance(network, Decoder):
        return network.backbone.final
    if isinstance(network, Encoder):
        return network.final
    norm = dict(network.named_modules()).get("decoder.final_layer_norm")
    return (lambda x: x) if norm is None else norm
