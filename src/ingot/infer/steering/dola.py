"""DoLa: what the last layer knows better than an earlier one (Chuang et al. 2024, arXiv 2309.03883).

The distribution of the last layer is divided by that of an earlier one, chosen for each token among some candidates:
the one whose distribution is furthest from the last layer's by Jensen-Shannon divergence. Only tokens that the last
layer itself thinks likely enough stay. An earlier layer speaks through the head alone, without the final norm, as in
the authors' code and transformers; which layers "low" and "high" are is transformers' choice, too. The divergence is
the paper's. (Their code gives torch's kl_div its arguments the other way round, and averages the choice over a batch.)

Legend: V vocabulary, R tokens, K earlier layers.
"""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

from ingot.core.errors import fail
from ingot.model.config import ModelConfig

DEEP = 40
"""Above so many layers, "low" and "high" are SPAN layers at either end."""

SPAN = 20


def earlier_layers(config: ModelConfig, wanted: str | list[int]) -> tuple[int, ...]:
    """How many layers the candidates have behind them; 0 is the embedding. Raises `layer-outside`."""
    every = config.num_layers
    if isinstance(wanted, list):
        outside = [layer for layer in wanted if layer >= every]
        if outside:
            raise fail("layer-outside", found=outside[0], every=every)
        return tuple(sorted(set(wanted)))
    if wanted == "high":
        return tuple(range(max(every // 2, every - SPAN) if every > DEEP else every // 2, every, 2))
    begin = _lowest(config)
    return tuple(range(begin, SPAN if every > DEEP else every // 2, 2)) or (begin,)


def _lowest(config: ModelConfig) -> int:
    """A tied head over the embedding alone says the token that was just read, so that it is left out."""
    return min(2, config.num_layers // 2) if config.tie_embeddings else 0


def contrasted(last_RV: Tensor, earlier_KRV: Tensor, relative_top: float) -> Tensor:
    """log p of the last layer less that of the furthest earlier one, (R, V); -inf for what is not likely enough. Of
    layers equally far the lowest counts."""
    last_RV, earlier_KRV = last_RV.log_softmax(-1), earlier_KRV.log_softmax(-1)
    chosen_R = divergence(last_RV, earlier_KRV).argmax(0)
    base_RV = earlier_KRV[chosen_R, torch.arange(len(last_RV), device=last_RV.device)]
    floor_R1 = last_RV.amax(-1, keepdim=True) + log(relative_top)
    return (last_RV - base_RV).masked_fill(last_RV < floor_R1, -torch.inf)


def divergence(last_RV: Tensor, earlier_KRV: Tensor) -> Tensor:
    """Jensen-Shannon, in nats, (K, R), of log-probabilities."""
    mean_KRV = torch.logaddexp(last_RV.expand_as(earlier_KRV), earlier_KRV) - log(2)
    each = [(logs.exp() * (logs - mean_KRV)).sum(-1) for logs in (last_RV, earlier_KRV)]
    return (each[0] + each[1]) / 2
