"""A batch of requests as tensors: what the samplers read beside the logits.

Built anew for every token from plain numbers; a parameter that is neutral in every row becomes nothing, so that the
common case builds nothing and computes nothing. A sampler works on the rows that ask for it and on no other, so that a
request neither waits for its neighbours' samplers nor is changed by them.

Legend: B rows (requests), R rows in which a sampler acts, N entries (pairs of a row and a token).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ingot.infer.options import Sampling
from ingot.infer.uniform import XTC, uniform

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Request:
    """What drawing the next token of one request needs to know. `seen`: {token: its count in the answer, 0 when it
    stands in the prompt alone}; `position`: how many tokens the answer has; `eos_ids`: what ends it; `banned_ids`: what
    the model may never say; `forced`: what it must say now. `may_end`: may an end token come?; `bias`: what to add to
    single logits; `repeats`: what DRY takes from them; `allowed`: nothing but these, if not None; `forbidden`: tokens
    that would complete a forbidden text; `mu`: how many bits of surprise Mirostat admits; `grammar`: what
    its constraint lets it say, one entry a token of the tokenizer."""

    sampling: Sampling
    seed: int
    position: int
    seen: Mapping[int, int]
    eos_ids: frozenset[int]
    banned_ids: frozenset[int] = frozenset()
    forced: int | None = None
    may_end: bool = True
    bias: Mapping[int, float] = field(default_factory=dict)
    repeats: Mapping[int, float] = field(default_factory=dict)
    allowed: Sequence[int] | None = None
    forbidden: Sequence[Ids] = ()
    mu: float = 0.0
    grammar: NDArray[np.bool_] | None = None


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
class Masks:
    """What constraints let rows say: for each of N rows its number, and its mask over the vocabulary as far as the
    tokenizer goes."""

    rows_N: Tensor
    allowed_NV: Tensor


@dataclass(frozen=True)
class Acting:
    """The rows in which a sampler acts, and its parameters there, each (R, 1)."""

    rows_R: Tensor
    parameters: tuple[Tensor, ...]
    is_all: bool

    def change(self, logits_BV: Tensor, sampler: Callable[..., Tensor]) -> Tensor:
        """sampler(logits_RV, *parameters) in these rows; every other row as it was."""
        if self.is_all:
            return sampler(logits_BV, *self.parameters)
        return logits_BV.index_copy(0, self.rows_R, sampler(logits_BV[self.rows_R], *self.parameters))


@dataclass(frozen=True)
class Controls:
    """A batch's parameters as tensors. None where every row has the neutral value, so that the step is skipped;
    `acting` has no entry then."""

    seen: Seen | None
    repeats: Entries | None
    bias: Entries | None
    allowed: Entries | None
    banned: Entries | None
    bad_words: Entries | None
    early: Entries | None
    forced: Entries | None
    grammar: Masks | None
    acting: Mapping[str, Acting]

    @classmethod
    def of(cls, requests: Sequence[Request], device: torch.device) -> Controls:
        rows = list(enumerate(requests))
        forced = [(i, r.forced, 0.0) for i, r in rows if r.forced is not None]
        return cls(
            seen=_seen(requests, device),
            repeats=_entries([(i, token, -value) for i, r in rows for token, value in r.repeats.items()], device),
            bias=_entries([(i, token, value) for i, r in rows for token, value in r.bias.items()], device),
            allowed=_entries([(i, token, 0.0) for i, r in rows for token in r.allowed or ()], device),
            banned=_entries([(i, token, -torch.inf) for i, r in rows for token in r.banned_ids], device),
            bad_words=_ids([(i, ids) for i, r in rows for ids in r.forbidden], device),
            early=_entries([(i, token, -torch.inf) for i, r in rows if _is_early(r) for token in r.eos_ids], device),
            forced=_entries(forced, device),
            grammar=_masks(requests, device),
            acting={name: own for name, wanted in ACTING.items() if (own := _acting(map(wanted, requests), device))},
        )


Parameters = tuple[float, ...]

ACTING: dict[str, Callable[[Request], Parameters | None]] = {
    "temperature": lambda r: (
        (r.sampling.temperature,) if r.sampling.temperature not in (0, 1) and not r.sampling.dynatemp_range else None
    ),
    "dynatemp": lambda r: (
        (r.sampling.temperature, r.sampling.dynatemp_range, r.sampling.dynatemp_exponent)
        if r.sampling.dynatemp_range
        else None
    ),
    "top_n_sigma": lambda r: (r.sampling.top_n_sigma,) if r.sampling.top_n_sigma else None,
    "top_k": lambda r: (r.sampling.top_k,) if r.sampling.top_k else None,
    "typical_p": lambda r: (r.sampling.typical_p,) if r.sampling.typical_p < 1 else None,
    "top_p": lambda r: (r.sampling.top_p,) if r.sampling.top_p < 1 else None,
    "min_p": lambda r: (r.sampling.min_p,) if r.sampling.min_p else None,
    "xtc": lambda r: (
        (r.sampling.xtc_threshold,)
        if r.sampling.xtc_probability and uniform(r.seed, r.position, XTC) < r.sampling.xtc_probability
        else None
    ),
    "mirostat": lambda r: (r.mu,) if r.sampling.mirostat else None,
}
"""The parameters of a request for each sampler of whole rows; None where it does not act."""


def _acting(parameters: Iterable[Parameters | None], device: torch.device) -> Acting | None:
    found = list(parameters)
    rows = [row for row, own in enumerate(found) if own is not None]
    if not rows:
        return None
    columns = zip(*(own for own in found if own is not None), strict=True)
    values = tuple(torch.tensor(column, dtype=torch.float64, device=device)[:, None] for column in columns)
    return Acting(torch.tensor(rows, device=device), values, len(rows) == len(found))


def _is_early(request: Request) -> bool:
    return not request.may_end or request.position < request.sampling.min_tokens


def _seen(requests: Sequence[Request], device: torch.device) -> Seen | None:
    """One entry for each token that a penalised row has seen."""
    rows: list[int] = []
    ids: list[int] = []
    counts: list[int] = []
    penalties: list[tuple[float, float, float]] = []
    for row, request in enumerate(requests):
        own = request.sampling
        if own.has_penalties:
            rows += [row] * len(request.seen)
            ids += request.seen.keys()
            counts += request.seen.values()
            penalty = (own.repetition_penalty, own.presence_penalty, own.frequency_penalty)
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


def _masks(requests: Sequence[Request], device: torch.device) -> Masks | None:
    found = [(row, request.grammar) for row, request in enumerate(requests) if request.grammar is not None]
    if not found:
        return None
    masks = np.stack([mask for _, mask in found])
    return Masks(torch.tensor([row for row, _ in found], device=device), torch.from_numpy(masks).to(device))


def _ids(found: list[tuple[int, Ids]], device: torch.device) -> Entries | None:
    """Tokens that may not come, from lists of them."""
    if not found:
        return None
    rows_N = torch.from_numpy(np.repeat([row for row, _ in found], [len(ids) for _, ids in found])).to(device)
    ids_N = torch.from_numpy(np.concatenate([ids for _, ids in found])).to(device)
    return Entries(rows_N, ids_N, torch.full(ids_N.shape, -torch.inf, device=device))
