"""Samplers that drop unlikely (or too likely) tokens. None sorts the vocabulary where a few candidates decide.

Where tokens are equally good, the lowest ids stay.

Legend: R rows in which a sampler acts, V vocabulary, K candidates.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ingot.infer.sampling.mass import Mass, num_possible, total

CANDIDATES = 256
"""How many tokens are looked at first when tokens are taken until their probabilities suffice."""

BUCKETS, SPAN = 8192, 32.0
"""Where those do not suffice, tokens are put into buckets by their key, SPAN nats wide together; only one bucket, in
which the border lies, is sorted."""

WHOLE = 2**40
"""Shares as whole numbers: their sums do not depend on the order in which a GPU adds them."""


def keep_top_n_sigma(logits_RV: Tensor, n_R1: Tensor) -> Tensor:
    """Logits no more than n standard deviations below the largest (Tang et al. 2024, Top-nsigma), the same set at every
    temperature. Deviation of all tokens that may come, divided by their number, as in llama.cpp."""
    largest_R1, count_R1 = logits_RV.amax(-1, keepdim=True), num_possible(logits_RV)
    below_RV = (logits_RV - largest_R1).nan_to_num_(neginf=0.0)
    mean_R1 = total(below_RV) / count_R1
    variance_R1 = total(below_RV.square()) / count_R1 - mean_R1.square()
    return _keep_from(logits_RV, largest_R1 - n_R1 * variance_R1.clamp(min=0).sqrt())


def keep_top_k(logits_RV: Tensor, k_R1: Tensor) -> Tensor:
    """The k largest (Fan et al. 2018); exactly k. (vLLM and transformers keep all that tie with the k-th.)"""
    every = logits_RV.shape[-1]
    count_R1 = k_R1.long().clamp(max=every)
    best = logits_RV.topk(min(int(count_R1.max()) + 1, every))
    return _keep_first(logits_RV, logits_RV, best.indices, count_R1)


def keep_typical(logits_RV: Tensor, p_R1: Tensor) -> Tensor:
    """Locally typical sampling (Meister et al. 2022): tokens whose surprise is nearest to the entropy, the fewest whose
    probabilities reach p, as in transformers (llama.cpp: exceed p)."""
    mass = Mass(logits_RV)
    expected_R1 = mass.total_R1.log() - mass.entropy
    nearness_RV = (mass.below_RV - expected_R1.float()).abs_().neg_()
    return _fewest(logits_RV, nearness_RV, mass.share_RV, p_R1 * mass.total_R1)


def keep_top_p(logits_RV: Tensor, p_R1: Tensor) -> Tensor:
    """The nucleus (Holtzman et al. 2020): the fewest tokens whose probabilities reach p, at least one."""
    mass = Mass(logits_RV)
    return _fewest(logits_RV, logits_RV, mass.share_RV, p_R1 * mass.total_R1)


def keep_min_p(logits_RV: Tensor, p_R1: Tensor) -> Tensor:
    """Tokens at least min_p times as likely as the most likely one (Nguyen et al. 2024)."""
    return _keep_from(logits_RV, logits_RV.amax(-1, keepdim=True) + p_R1.log())


def exclude_top(logits_RV: Tensor, threshold_R1: Tensor) -> Tensor:
    """XTC (p-e-w 2024, text-generation-webui pull request 6335): now and then drop all tokens of at least the threshold
    but the least likely of them. Whether now, a number of its own says, made from seed and position. As in llama.cpp
    no token is exempt; text-generation-webui exempts line breaks and ends."""
    mass = Mass(logits_RV)
    likely_RV = mass.share_RV >= (threshold_R1 * mass.total_R1).float()
    least_R1 = logits_RV.masked_fill(~likely_RV, torch.inf).argmin(-1, keepdim=True)
    return logits_RV.masked_fill(likely_RV.scatter(-1, least_R1, False), -torch.inf)


def keep_unsurprising(logits_RV: Tensor, mu_R1: Tensor) -> Tensor:
    """Mirostat 2 (Basu et al. 2021): tokens of at most mu bits of surprise, at least the most likely. mu begins at
    twice tau and is steered by the sequence. It acts on what the other samplers left; llama.cpp skips those."""
    surprise_R1 = Mass(logits_RV).total_R1.log()
    return _keep_from(logits_RV, logits_RV.amax(-1, keepdim=True) + (surprise_R1 - mu_R1 * math.log(2)).clamp(max=0))


def _keep_from(logits_RV: Tensor, least_R1: Tensor) -> Tensor:
    """The logits that are at least so large."""
    nothing = torch.full((), -torch.inf, device=logits_RV.device)
    return torch.where(logits_RV >= least_R1.float(), logits_RV, nothing)


def _fewest(logits_RV: Tensor, key_RV: Tensor, share_RV: Tensor, wanted_R1: Tensor) -> Tensor:
    """The fewest tokens, by falling `key`, whose shares reach what is wanted."""
    size = min(CANDIDATES, logits_RV.shape[-1])
    ids_RK = key_RV.topk(size).indices
    reached_RK = share_RV.gather(-1, ids_RK).double().cumsum(-1)
    count_R1 = (reached_RK < wanted_R1).sum(-1, keepdim=True) + 1
    short_R1 = count_R1 > size
    kept_RV = _keep_first(logits_RV, key_RV, ids_RK, count_R1.masked_fill(short_R1, 1))
    for row in short_R1[:, 0].nonzero()[:, 0].tolist():
        kept_V = _fewest_of_many(key_RV[row], share_RV[row].double(), wanted_R1[row])
        kept_RV[row] = logits_RV[row].masked_fill(~kept_V, -torch.inf)
    return kept_RV


def _fewest_of_many(key_V: Tensor, share_V: Tensor, wanted_1: Tensor) -> Tensor:
    """Which tokens: all of the buckets above the border, and of the border's bucket the fewest that suffice."""
    bucket_V = ((key_V.amax() - key_V) * (BUCKETS / SPAN)).clamp_(max=BUCKETS - 1).long()
    parts_V = (share_V * WHOLE).long()
    reached_K = parts_V.new_zeros(BUCKETS).index_add_(0, bucket_V, parts_V).cumsum(0) / float(WHOLE)
    border = min(int(torch.searchsorted(reached_K, wanted_1)), BUCKETS - 1)
    inside_N = (bucket_V == border).nonzero()[:, 0]
    order_N = inside_N[key_V[inside_N].sort(descending=True, stable=True).indices]
    before = float(reached_K[border - 1]) if border else 0.0
    count = int((before + share_V[order_N].cumsum(0) < wanted_1).sum()) + 1
    return (bucket_V < border).index_fill_(0, order_N[:count], True)


def _keep_first(logits_RV: Tensor, key_RV: Tensor, ids_RK: Tensor, count_R1: Tensor) -> Tensor:
    """The first `count` of the tokens `ids`, which stand by falling `key`; ties at the border to the lowest ids."""
    size = ids_RK.shape[-1]
    places_K = torch.arange(size, device=ids_RK.device)
    values_RK = logits_RV.gather(-1, ids_RK).masked_fill(places_K >= count_R1, -torch.inf)
    kept_RV = torch.full_like(logits_RV, -torch.inf).scatter_(-1, ids_RK, values_RK)
    last_R1, next_R1 = (
        key_RV.gather(-1, ids_RK.gather(-1, place_R1)) for place_R1 in (count_R1 - 1, count_R1.clamp(max=size - 1))
    )
    is_open_R1 = (last_R1 == next_R1) & ((count_R1 < size) | (size < key_RV.shape[-1]))
    tied_R = is_open_R1[:, 0].nonzero()[:, 0]
    if not len(tied_R):
        return kept_RV
    return kept_RV.index_copy_(
        0, tied_R, _keep_tied(logits_RV[tied_R], key_RV[tied_R], last_R1[tied_R], count_R1[tied_R])
    )


def _keep_tied(logits_RV: Tensor, key_RV: Tensor, last_R1: Tensor, count_R1: Tensor) -> Tensor:
    """All tokens above the last key, and of those that tie with it as many as there is room for."""
    above_RV, ties_RV = key_RV > last_R1, key_RV == last_R1
    room_R1 = count_R1 - above_RV.sum(-1, keepdim=True)
    return logits_RV.masked_fill(~(above_RV | (ties_RV & (ties_RV.cumsum(-1) <= room_R1))), -torch.inf)
