"""From logits to the next token: pure functions over a batch, in one documented order.

    repetition penalty -> presence and frequency penalties -> DRY -> logit bias -> allowed tokens -> banned tokens
    -> forbidden texts -> minimum length -> forced tokens -> grammar -> temperature or dynamic temperature
    -> top-n-sigma -> top-k -> typical -> top-p -> min-p -> XTC -> Mirostat -> draw

Each entry of SAMPLERS takes logits and the batch's Controls and returns logits; a token that may not be drawn has
-inf. Those of ROWS take the logits of the rows that ask for them, and the parameters there. A row whose parameter is
neutral passes through bit for bit, so a request never depends on its neighbours. The draw is the inverse of the
cumulative distribution at one uniform number made from (seed, position) alone: the same request gives the same tokens
alone, batched, streamed or after a restart. Ties go to the lowest id everywhere.

What needs to remember the tokens before (penalties, DRY, texts, Mirostat) is kept by `State`, which the sequence
advances. What this does not do: beam search, or sampling a sequence at once.

Legend: B rows (requests), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ingot.infer.controls import Controls, Request
from ingot.infer.options import Sampling
from ingot.infer.sampling.drawing import draw, surprise
from ingot.infer.sampling.masks import ban, forbid_early_end, forbid_texts, force, keep_allowed, keep_grammar
from ingot.infer.sampling.penalties import (
    add_bias,
    penalize_presence_and_frequency,
    penalize_repeats,
    penalize_repetition,
)
from ingot.infer.sampling.temperature import scale_dynamic_temperature, scale_temperature
from ingot.infer.sampling.truncation import (
    exclude_top,
    keep_min_p,
    keep_top_k,
    keep_top_n_sigma,
    keep_top_p,
    keep_typical,
    keep_unsurprising,
)
from ingot.infer.uniform import uniform

__all__ = [
    "NO_TOKEN",
    "SAMPLERS",
    "Controls",
    "Request",
    "Sampling",
    "draw",
    "process",
    "sample",
    "surprise",
    "uniform",
]

NO_TOKEN = -1
"""What `sample` gives for a row whose rules leave no token."""

Sampler = Callable[[Tensor, Controls], Tensor]

ROWS: dict[str, Callable[..., Tensor]] = {
    "temperature": scale_temperature,
    "dynatemp": scale_dynamic_temperature,
    "top_n_sigma": keep_top_n_sigma,
    "top_k": keep_top_k,
    "typical_p": keep_typical,
    "top_p": keep_top_p,
    "min_p": keep_min_p,
    "xtc": exclude_top,
    "mirostat": keep_unsurprising,
}
"""Under the names of `controls.ACTING`, which says where they act."""


def _in_rows(name: str, sampler: Callable[..., Tensor]) -> Sampler:
    def act(logits_BV: Tensor, controls: Controls) -> Tensor:
        acting = controls.acting.get(name)
        return logits_BV if acting is None else acting.change(logits_BV, sampler)

    return act


SAMPLERS: dict[str, Sampler] = {
    "repetition_penalty": penalize_repetition,
    "presence_frequency_penalty": penalize_presence_and_frequency,
    "dry": penalize_repeats,
    "logit_bias": add_bias,
    "allowed": keep_allowed,
    "banned": ban,
    "bad_words": forbid_texts,
    "min_tokens": forbid_early_end,
    "forced": force,
    "grammar": keep_grammar,
    **{name: _in_rows(name, sampler) for name, sampler in ROWS.items()},
}
"""In the order in which they act."""


def process(logits_BV: Tensor, controls: Controls) -> Tensor:
    """All samplers in order."""
    for sampler in SAMPLERS.values():
        logits_BV = sampler(logits_BV, controls)
    return logits_BV


def sample(logits_BV: Tensor, requests: Sequence[Request]) -> tuple[Tensor, Tensor]:
    """The next token of each row, (B,), and the logits it was drawn from, (B, V). `logits_BV` is left as it is."""
    processed_BV = process(logits_BV, Controls.of(requests, logits_BV.device))
    drawn = [row for row, request in enumerate(requests) if request.sampling.temperature != 0]
    if not drawn:
        return _checked(processed_BV.argmax(-1), processed_BV), processed_BV
    numbers = [uniform(requests[row].seed, requests[row].position) for row in drawn]
    numbers_R = torch.tensor(numbers, dtype=torch.float64, device=logits_BV.device)
    if len(drawn) == len(requests):
        return _checked(draw(processed_BV, numbers_R), processed_BV), processed_BV
    rows_R = torch.tensor(drawn, device=logits_BV.device)
    tokens_B = processed_BV.argmax(-1).index_copy(0, rows_R, draw(processed_BV[rows_R], numbers_R))
    return _checked(tokens_B, processed_BV), processed_BV


def _checked(tokens_B: Tensor, processed_BV: Tensor) -> Tensor:
    """NO_TOKEN for a row that has none left."""
    inside_B = tokens_B.clamp(max=processed_BV.shape[-1] - 1)
    found_B = processed_BV.gather(-1, inside_B[:, None])[:, 0]
    return torch.where(found_B > -torch.inf, inside_B, NO_TOKEN)
