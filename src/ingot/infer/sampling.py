"""From logits to the next token: pure functions over a batch, in one documented order.

    repetition penalty -> presence and frequency penalties -> logit bias -> banned tokens -> minimum length
    -> forced tokens -> grammar -> temperature -> top-k -> top-p -> min-p -> draw

Each entry of SAMPLERS takes logits and the batch's Controls and returns logits; a token that may not be drawn has
-inf. A row whose parameter is neutral passes through bit for bit, so a request never depends on its neighbours. The
draw is the inverse of the cumulative distribution at one uniform number made from (seed, position) alone: the same
request gives the same tokens alone, batched, streamed or after a restart. Ties go to the lowest id everywhere.

What this does not do: beam search, or sampling a sequence at once.

Legend: B rows (requests), V vocabulary, K largest logits, N pairs of a row and a token it has seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ingot.infer.controls import Controls, Entries, Request
from ingot.infer.options import Sampling

__all__ = ["SAMPLERS", "Controls", "Request", "Sampling", "draw", "process", "sample", "uniform"]

CANDIDATES = 1024
"""How many of the largest logits top-p looks at before it sorts the whole vocabulary."""


def penalize_repetition(logits_BV: Tensor, controls: Controls) -> Tensor:
    """Tokens of prompt or answer: positive logits divided, others multiplied (CTRL, Keskar et al. 2019)."""
    if controls.seen is None:
        return logits_BV
    seen = controls.seen
    found_N = logits_BV[seen.rows_N, seen.ids_N]
    penalized_N = torch.where(found_N > 0, found_N / seen.repetition_N, found_N * seen.repetition_N)
    return logits_BV.index_put((seen.rows_N, seen.ids_N), penalized_N)


def penalize_presence_and_frequency(logits_BV: Tensor, controls: Controls) -> Tensor:
    """Tokens of the answer alone: minus presence once, minus frequency times the count (OpenAI's definition)."""
    if controls.seen is None:
        return logits_BV
    seen = controls.seen
    once_N = (seen.counts_N > 0).float()
    change_N = -(seen.presence_N * once_N + seen.frequency_N * seen.counts_N)
    return logits_BV.index_put((seen.rows_N, seen.ids_N), change_N, accumulate=True)


def add_bias(logits_BV: Tensor, controls: Controls) -> Tensor:
    """What the request adds to single logits; after the penalties, so that a bias means the same under any of them."""
    if controls.bias is None:
        return logits_BV
    bias = controls.bias
    return logits_BV.index_put((bias.rows_N, bias.ids_N), bias.values_N, accumulate=True)


def ban(logits_BV: Tensor, controls: Controls) -> Tensor:
    """No token that the model's directory bans."""
    return _overwrite(logits_BV, controls.banned)


def forbid_early_end(logits_BV: Tensor, controls: Controls) -> Tensor:
    """No end token before min_tokens."""
    return _overwrite(logits_BV, controls.early)


def force(logits_BV: Tensor, controls: Controls) -> Tensor:
    """The one token that the model's directory wants at this place, in the rows where it wants one."""
    if controls.forced is None:
        return logits_BV
    return _overwrite(logits_BV.index_fill(0, controls.forced.rows_N, -torch.inf), controls.forced)


def keep_grammar(logits_BV: Tensor, controls: Controls) -> Tensor:
    """What the request's constraint allows here. A row that is left with nothing stays as it was: any token of it is
    one that the constraint refuses, and the request ends in an error that says so."""
    if controls.allowed is None:
        return logits_BV
    rows_N, allowed_NV = controls.allowed.rows_N, controls.allowed.allowed_NV
    before_NV = logits_BV[rows_N]
    after_NV = torch.full_like(before_NV, -torch.inf)
    known = min(allowed_NV.shape[-1], before_NV.shape[-1])
    after_NV[:, :known] = before_NV[:, :known].masked_fill(~allowed_NV[:, :known], -torch.inf)
    is_left_N1 = after_NV.amax(-1, keepdim=True) > -torch.inf
    return logits_BV.index_put((rows_N,), torch.where(is_left_N1, after_NV, before_NV))


def _overwrite(logits_BV: Tensor, entries: Entries | None) -> Tensor:
    return logits_BV if entries is None else logits_BV.index_put((entries.rows_N, entries.ids_N), entries.values_N)


def scale_temperature(logits_BV: Tensor, controls: Controls) -> Tensor:
    """Logits over the temperature. The largest becomes 0 first, so that a tiny temperature cannot overflow."""
    if controls.temperature_B is None:
        return logits_BV
    temperature_B1 = controls.temperature_B[:, None]
    scaled_BV = (logits_BV - logits_BV.amax(-1, keepdim=True)) / temperature_B1
    return torch.where(temperature_B1 == 1, logits_BV, scaled_BV)


def keep_top_k(logits_BV: Tensor, controls: Controls) -> Tensor:
    """The k largest (Fan et al. 2018); exactly k, ties to the lowest ids."""
    if controls.top_k_B is None:
        return logits_BV
    every = logits_BV.shape[-1]
    count_B = torch.where(controls.top_k_B == 0, every, controls.top_k_B).clamp(max=every)
    largest = int(count_B.masked_fill(count_B == every, 1).max())
    return _keep_largest(logits_BV, count_B, logits_BV.topk(largest).values)


def keep_top_p(logits_BV: Tensor, controls: Controls) -> Tensor:
    """The nucleus (Holtzman et al. 2020): the fewest tokens whose probabilities reach p, at least one."""
    if controls.top_p_B is None:
        return logits_BV
    wanted_B1 = controls.top_p_B[:, None].double()
    total_B1 = logits_BV.logsumexp(-1, keepdim=True)
    for size in (min(CANDIDATES, logits_BV.shape[-1]), logits_BV.shape[-1]):
        values_BK = logits_BV.topk(size).values
        reached_BK = (values_BK - total_B1).double().exp().cumsum(-1)
        if bool(((reached_BK[:, -1:] >= wanted_B1) | (wanted_B1 == 1)).all()):
            break
    count_B = (reached_BK < wanted_B1).sum(-1) + 1
    count_B = count_B.masked_fill(wanted_B1[:, 0] == 1, logits_BV.shape[-1])
    return _keep_largest(logits_BV, count_B, values_BK)


def keep_min_p(logits_BV: Tensor, controls: Controls) -> Tensor:
    """Tokens at least min_p times as likely as the most likely one (Nguyen et al. 2024)."""
    if controls.min_p_B is None:
        return logits_BV
    floor_B1 = logits_BV.amax(-1, keepdim=True) + controls.min_p_B.log()[:, None]
    return logits_BV.masked_fill(logits_BV < floor_B1, -torch.inf)


def _keep_largest(logits_BV: Tensor, count_B: Tensor, sorted_BK: Tensor) -> Tensor:
    """Keep the `count_B` largest of each row, ties to the lowest ids. `sorted_BK`: the largest logits, descending;
    a row that asks for more than K keeps all."""
    size = sorted_BK.shape[-1]
    smallest_B1 = sorted_BK.gather(-1, count_B.clamp(max=size)[:, None] - 1)
    above_BV = logits_BV > smallest_B1
    ties_BV = logits_BV == smallest_B1
    room_B1 = count_B[:, None] - above_BV.sum(-1, keepdim=True)
    kept_BV = above_BV | (ties_BV & (ties_BV.cumsum(-1) <= room_B1)) | (count_B > size)[:, None]
    return logits_BV.masked_fill(~kept_BV, -torch.inf)


Sampler = Callable[[Tensor, Controls], Tensor]

SAMPLERS: dict[str, Sampler] = {
    "repetition_penalty": penalize_repetition,
    "presence_frequency_penalty": penalize_presence_and_frequency,
    "logit_bias": add_bias,
    "banned": ban,
    "min_tokens": forbid_early_end,
    "forced": force,
    "grammar": keep_grammar,
    "temperature": scale_temperature,
    "top_k": keep_top_k,
    "top_p": keep_top_p,
    "min_p": keep_min_p,
}
"""In the order in which they act."""


def process(logits_BV: Tensor, controls: Controls) -> Tensor:
    """All samplers in order."""
    for sampler in SAMPLERS.values():
        logits_BV = sampler(logits_BV, controls)
    return logits_BV


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) that depends on the seed and the position alone: 53 bits of BLAKE2b."""
    key = seed.to_bytes(8, "little", signed=True) + position.to_bytes(8, "little")
    bits = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")
    return (bits >> 11) / (1 << 53)


def draw(logits_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """The token at which the cumulative distribution passes each uniform number, (B,). Never one with -inf."""
    shares_BV = (logits_BV - logits_BV.amax(-1, keepdim=True)).double().exp().cumsum(-1)
    total_B = shares_BV[:, -1]
    wanted_B = torch.minimum(uniform_B * total_B, total_B.nextafter(torch.zeros_like(total_B)))
    return torch.searchsorted(shares_BV, wanted_B[:, None], right=True)[:, 0]


def sample(logits_BV: Tensor, requests: Sequence[Request]) -> tuple[Tensor, Tensor]:
    """The next token of each row, (B,), and the logits it was drawn from, (B, V). `logits_BV` is left as it is."""
    device = logits_BV.device
    processed_BV = process(logits_BV, Controls.of(requests, device))
    greedy = [request.sampling.temperature == 0 for request in requests]
    best_B = processed_BV.argmax(-1)
    if all(greedy):
        return best_B, processed_BV
    numbers = [uniform(request.seed, request.position) for request in requests]
    drawn_B = draw(processed_BV, torch.tensor(numbers, dtype=torch.float64, device=device))
    return torch.where(torch.tensor(greedy, device=device), best_B, drawn_B), processed_BV
