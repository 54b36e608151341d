"""A batch of requests as tensors: what the samplers read beside the logits.

Built anew for every token from plain numbers; a parameter that is neutral in every row becomes None, so that the
common case builds nothing and computes nothing.

Legend: B rows (requests), N entries (pairs of a row and a token).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ingot.infer.options import Sampling


@dataclass(frozen=True)
class Request:
    """What drawing the next token of one request needs to know. `seen`: {token: its count in the answer, 0 when it
    stands in the prompt alone}; `position`: how many tokens the answer has; `eos_ids`: the model's end tokens;
    `banned_ids`: what it may never say; `forced`: what it must say now; `allowed`: what its constraint lets it say, one
    entry a token of the vocabulary."""

    sampling: Sampling
    seed: int
    position: int
    seen: Mapping[int, int]
    eos_ids: frozenset[int]
    banned_ids: frozenset[int] = frozenset()
    forced: int | None = None
    allowed: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Seen:
    """Tokens that penalties touch: one entry for each pair of a row and a token it has seen."""

    rows_N: Tensor
    ids_N: Tensor
    counts_N: Tensor
    repetition_N: Tensor
    presence_N: Tensor
    frequency_N: Tensor


@dataclass(frozen=True)
class Entries:
    """Single logits to change: row, token, value."""

    rows_N: Tensor
    ids_N: Tensor
    values_N: Tensor


@dataclass(frozen=True)
class Allowed:
    """What constraints let rows say: for each of N rows its number, and its mask over the vocabulary as far as the
    tokenizer goes."""

    rows_N: Tensor
    allowed_NV: Tensor


@dataclass(frozen=True)
class Controls:
    """A batch's parameters as tensors. None where every row has the neutral value, so that the step is skipped."""

    temperature_B: Tensor | None
    top_k_B: Tensor | None
    top_p_B: Tensor | None
    min_p_B: Tensor | None
    seen: Seen | None
    bias: Entries | None
    banned: Entries | None
    early: Entries | None
    forced: Entries | None
    allowed: Allowed | None

    @classmethod
    def of(cls, requests: Sequence[Request], device: torch.device) -> Controls:
        rows = [request.sampling for request in requests]
        return cls(
            temperature_B=_column([row.temperature or 1.0 for row in rows], 1.0, torch.float32, device),
            top_k_B=_column([row.top_k for row in rows], 0, torch.int64, device),
            top_p_B=_column([row.top_p for row in rows], 1.0, torch.float32, device),
            min_p_B=_column([row.min_p for row in rows], 0.0, torch.float32, device),
            seen=_seen(requests, device),
            bias=_entries([(i, *pair) for i, row in enumerate(rows) for pair in row.logit_bias.items()], device),
            banned=_entries([(i, token, -torch.inf) for i, r in enumerate(requests) for token in r.banned_ids], device),
            early=_entries(_early_ends(requests), device),
            forced=_entries([(i, r.forced, 0.0) for i, r in enumerate(requests) if r.forced is not None], device),
            allowed=_allowed(requests, device),
        )


def _column(values: list[float], neutral: float, dtype: torch.dtype, device: torch.device) -> Tensor | None:
    if all(value == neutral for value in values):
        return None
    return torch.tensor(values, dtype=dtype, device=device)


def _seen(requests: Sequence[Request], device: torch.device) -> Seen | None:
    """One entry for each token that a penalised row has seen."""
    rows: list[int] = []
    ids: list[int] = []
    counts: list[int] = []
    penalties: list[tuple[float, float, float]] = []
    for row, request in enumerate(requests):
        own = request.sampling
        penalty = (own.repetition_penalty, own.presence_penalty, own.frequency_penalty)
        if penalty != (1.0, 0.0, 0.0):
            rows += [row] * len(request.seen)
            ids += request.seen.keys()
            counts += request.seen.values()
            penalties += [penalty] * len(request.seen)
    if not rows:
        return None
    places = torch.tensor([rows, ids, counts], device=device)
    return Seen(*places, *torch.tensor(penalties, device=device).T)


def _entries(found: list[tuple[int, int, float]], device: torch.device) -> Entries | None:
    if not found:
        return None
    rows, ids, values = zip(*found, strict=True)
    rows_N, ids_N = torch.tensor([rows, ids], device=device)
    return Entries(rows_N, ids_N, torch.tensor(values, device=device))


def _allowed(requests: Sequence[Request], device: torch.device) -> Allowed | None:
    found = [(row, request.allowed) for row, request in enumerate(requests) if request.allowed is not None]
    if not found:
        return None
    masks = np.stack([mask for _, mask in found])
    return Allowed(torch.tensor([row for row, _ in found], device=device), torch.from_numpy(masks).to(device))


def _early_ends(requests: Sequence[Request]) -> list[tuple[int, int, float]]:
    """End tokens of the rows that may not end yet."""
    early = [(row, r) for row, r in enumerate(requests) if r.position < r.sampling.min_tokens]
    return [(row, eos, -torch.inf) for row, request in early for eos in request.eos_ids]
