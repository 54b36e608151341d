"""Samplers that change single logits: penalties for what was written before, and biases.

Legend: B rows (requests), V vocabulary, N pairs of a row and a token.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ingot.infer.controls import Controls, Entries


def penalize_repetition(logits_BV: Tensor, controls: Controls) -> Tensor:
    """Tokens of prompt or answer: positive logits divided, others multiplied (CTRL, Keskar et al. 2019, with the
    mending of negative logits that transformers, vLLM and llama.cpp share; llama.cpp looks at the last 64 tokens)."""
    if controls.seen is None:
        return logits_BV
    seen = controls.seen
    found_N = logits_BV[seen.rows_N, seen.ids_N]
    penalized_N = torch.where(found_N > 0, found_N / seen.repetition_N, found_N * seen.repetition_N)
    return logits_BV.index_put((seen.rows_N, seen.ids_N), penalized_N)


def penalize_presence_and_frequency(logits_BV: Tensor, controls: Controls) -> Tensor:
    """Tokens of the answer alone: minus presence once, minus frequency times the count (OpenAI's definition, as vLLM;
    llama.cpp counts the prompt too)."""
    if controls.seen is None:
        return logits_BV
    seen = controls.seen
    once_N = (seen.counts_N > 0).float()
    change_N = -(seen.presence_N * once_N + seen.frequency_N * seen.counts_N)
    return logits_BV.index_put((seen.rows_N, seen.ids_N), change_N, accumulate=True)


def penalize_repeats(logits_BV: Tensor, controls: Controls) -> Tensor:
    """DRY (p-e-w 2024, text-generation-webui pull request 5677): minus multiplier * base ** (length - allowed_length)
    for the token that would lengthen a repeat of `length` tokens. Lengths are those of ingot.infer.sampling.dry."""
    return _add(logits_BV, controls.repeats)


def add_bias(logits_BV: Tensor, controls: Controls) -> Tensor:
    """What the request adds to single logits; after the penalties, so that a bias means the same under any of them. A
    text biases every token of its encoding, as in llama.cpp (which adds biases before the penalties)."""
    return _add(logits_BV, controls.bias)


def _add(logits_BV: Tensor, entries: Entries | None) -> Tensor:
    if entries is None:
        return logits_BV
    return logits_BV.index_put((entries.rows_N, entries.ids_N), entries.values_N, accumulate=True)
