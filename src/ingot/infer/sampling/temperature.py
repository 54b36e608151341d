"""Samplers that make the distribution flatter or steeper.

Legend: R rows in which a sampler acts, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ingot.infer.sampling.mass import Mass, num_possible

COLDEST = 1e-6
"""The least dynamic temperature: next to nothing but the largest logits is left."""


def scale_temperature(logits_RV: Tensor, temperature_R1: Tensor) -> Tensor:
    """Logits over the temperature, before all truncation, as in OpenAI's API, vLLM and transformers (llama.cpp: after
    it). At 0 the largest is taken in the end. The largest becomes 0 first, so that a tiny temperature cannot
    overflow."""
    below_RV = logits_RV - logits_RV.amax(-1, keepdim=True)
    return below_RV / temperature_R1.to(below_RV.dtype).clamp(min=torch.finfo(below_RV.dtype).tiny)


def scale_dynamic_temperature(
    logits_RV: Tensor, temperature_R1: Tensor, range_R1: Tensor, exponent_R1: Tensor
) -> Tensor:
    """Entropy-based dynamic temperature (kalomaze 2023, as in llama.cpp): temperature -+ range, by the entropy's share
    of the greatest possible one, to the power of the exponent. Here over all tokens that may come, for no truncation
    has taken place yet; llama.cpp measures it among those its truncation left."""
    possible_R1 = num_possible(logits_RV).double().log().clamp(min=1e-9)
    low_R1, high_R1 = (temperature_R1 - range_R1).clamp(min=0), temperature_R1 + range_R1
    unsure_R1 = (Mass(logits_RV).entropy / possible_R1).clamp(0, 1)
    return scale_temperature(logits_RV, (low_R1 + (high_R1 - low_R1) * unsure_R1**exponent_R1).clamp(min=COLDEST))
