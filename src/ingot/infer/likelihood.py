"""How likely a text is under a model, token by token, and how far two models are apart.

Log-probabilities are natural logs in float32. Rows of different lengths are padded on the right, which a causal model
does not see. Logits are made for at most LOGITS_AT_ONCE numbers at a time, so memory does not grow with text times
vocabulary. The caller decides about start tokens: the first token of a row is context only and never scored. A model
that reads prompts in both directions reads a row's context so: what stands before the first token that is scored.

Legend: B rows, T positions, D width, V vocabulary, P scored positions of all rows in one line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ingot.adapt.load import LanguageModel
from ingot.core.errors import fail
from ingot.core.progress import track

LOGITS_AT_ONCE = 1 << 23
"""Float32 numbers: 32 MiB of logits, and as much again for their log-softmax."""

TOKENS_AT_ONCE = 2048
"""Tokens of one padded batch."""


@dataclass(frozen=True)
class Row:
    """Token ids, and the index of the first one to score (1: all that have something before them). Those before it are
    the context."""

    ids: Sequence[int]
    first: int = 1

    @property
    def num_scored(self) -> int:
        return len(self.ids) - self.first


def token_logprobs(model: LanguageModel, ids: Sequence[int]) -> Tensor:
    """log p(ids[t] | ids[:t]) for t = 1..T-1, float32 (T-1,). Raises `row-too-long`, `token-outside`."""
    return batch_logprobs(model, [ids])[0]


def batch_logprobs(model: LanguageModel, rows: Sequence[Sequence[int]], label: str | None = None) -> list[Tensor]:
    """`token_logprobs` of every row, computed together. `label`: show progress under this name."""
    return _score(model, [Row(ids) for ids in rows], label)


def sliding_window(
    model: LanguageModel,
    ids: Sequence[int],
    window: int | None = None,
    stride: int | None = None,
    label: str | None = None,
) -> Tensor:
    """log p of every token but the first, each scored once, float32 (T-1,), for a text of any length.

    Window w reads `window` tokens (default: all the model can) from token w * stride on, and scores the tokens that
    the windows before it did not. A token so has `window - stride` tokens of context or more, and all that there are
    near the beginning; with stride = window the windows are disjoint. Default stride: half the window. Raises
    `bad-window`.
    """
    window = model.max_length if window is None else window
    stride = max(1, window // 2) if stride is None else stride
    if not 1 <= stride <= window <= model.max_length:
        raise fail("bad-window", window=window, stride=stride, limit=model.max_length)
    return torch.cat([torch.zeros(0), *_score(model, list(_windows(ids, window, stride)), label)])


def _windows(ids: Sequence[int], window: int, stride: int) -> Iterator[Row]:
    """The last token of a row is scored and not read, so a row has one token more than its window."""
    scored = 1
    for begin in range(0, len(ids), stride):
        if scored < len(ids):
            end = min(begin + window + 1, len(ids))
            yield Row(ids[begin:end], scored - begin)
            scored = end


@dataclass(frozen=True)
class Comparison:
    """Two models on the same tokens. KL(a || b) in nats a token; `top1_agreement`: the share of tokens at which both
    find the same one most likely; `nll_a`, `nll_b`: negative log-likelihood of all tokens, nats."""

    num_tokens: int
    kl_mean: float
    kl_stderr: float
    kl_max: float
    top1_agreement: float
    nll_a: float
    nll_b: float


@torch.inference_mode()
def compare_models(
    a: LanguageModel, b: LanguageModel, rows: Sequence[Sequence[int]], label: str | None = None
) -> Comparison:
    """How far `b` is from `a`, at every token of `rows` but the first of each. Raises `vocabularies-differ`."""
    if a.config.vocab_size != b.config.vocab_size:
        raise fail("vocabularies-differ", a=a.name, found=a.config.vocab_size, b=b.name, other=b.config.vocab_size)
    wanted = [Row(ids) for ids in rows]
    for model in (a, b):
        _check(model, wanted)
    parts = [_compare(*pair) for group in _progress(_groups(wanted), label) for pair in _logits([a, b], group)]
    if not parts:
        raise fail("nothing-to-score", rows=len(rows))
    kl_P, agree_P, a_P, b_P = (torch.cat(column).double() for column in zip(*parts, strict=True))
    return Comparison(
        num_tokens=len(kl_P),
        kl_mean=kl_P.mean().item(),
        kl_stderr=kl_P.std(correction=0).item() / math.sqrt(len(kl_P)),
        kl_max=kl_P.max().item(),
        top1_agreement=agree_P.mean().item(),
        nll_a=-a_P.sum().item(),
        nll_b=-b_P.sum().item(),
    )


def _compare(logits: list[Tensor], targets_P: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """KL, agreement and both log-probabilities at each position."""
    a_PV, b_PV = (part.log_softmax(-1) for part in logits)
    kl_P = (a_PV.exp() * (a_PV - b_PV)).sum(-1)
    agree_P = a_PV.argmax(-1) == b_PV.argmax(-1)
    a_P, b_P = (part.gather(-1, targets_P[:, None])[:, 0] for part in (a_PV, b_PV))
    return kl_P.cpu(), agree_P.cpu(), a_P.cpu(), b_P.cpu()


@torch.inference_mode()
def _score(model: LanguageModel, rows: list[Row], label: str | None) -> list[Tensor]:
    """Log-probabilities of the scored tokens of each row, in the order given."""
    _check(model, rows)
    found: dict[int, Tensor] = {id(row): torch.zeros(0) for row in rows}
    for group in _progress(_groups(rows), label):
        parts = [_chosen(part, targets) for (part,), targets in _logits([model], group)]
        found |= zip(map(id, group), torch.cat(parts).split([row.num_scored for row in group]), strict=True)
    return [found[id(row)] for row in rows]


def _chosen(logits_PV: Tensor, targets_P: Tensor) -> Tensor:
    return (logits_PV.gather(-1, targets_P[:, None])[:, 0] - logits_PV.logsumexp(-1)).cpu()


def _logits(models: list[LanguageModel], group: list[Row]) -> Iterator[tuple[list[Tensor], Tensor]]:
    """Pieces of what to score: logits (P, V) of each model, and the tokens that came, (P,)."""
    device = models[0].device
    width = max(len(row.ids) for row in group) - 1
    ids_BT = torch.tensor([[*row.ids[:-1], *[0] * (width + 1 - len(row.ids))] for row in group], device=device)
    scored_BT = torch.zeros(len(group), width, dtype=torch.bool, device=device)
    for number, row in enumerate(group):
        scored_BT[number, row.first - 1 : len(row.ids) - 1] = True
    targets_P = torch.tensor([token for row in group for token in row.ids[row.first :]], device=device)
    firsts_B1 = torch.tensor([[row.first] for row in group], device=device)
    hidden = [_hidden(model, ids_BT, firsts_B1)[scored_BT] for model in models]
    size = max(1, LOGITS_AT_ONCE // models[0].config.vocab_size)
    for at in range(0, len(targets_P), size):
        logits = [model.decoder.head(part[at : at + size]) for model, part in zip(models, hidden, strict=True)]
        for model, part in zip(models, logits, strict=True):
            if not bool(part.amax(-1).isfinite().all()):
                raise fail("logits-not-finite", path=model.model_dir.path)
        yield logits, targets_P[at : at + size]


def _hidden(model: LanguageModel, ids_BT: Tensor, firsts_B1: Tensor) -> Tensor:
    """Hidden states, contexts read in both directions where the model was trained to. One token alone has none."""
    if not model.config.prefix_lm or int(firsts_B1.max()) <= 1:
        return model.decoder(ids_BT)
    order_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
    return model.decoder(ids_BT, prefix_BT=order_T < firsts_B1)


def _groups(rows: list[Row]) -> list[list[Row]]:
    """Rows with anything to score, those of like length together, as many as TOKENS_AT_ONCE allows."""
    groups: list[list[Row]] = []
    for row in sorted((row for row in rows if row.num_scored > 0), key=lambda row: len(row.ids)):
        if groups and (len(groups[-1]) + 1) * len(row.ids) <= TOKENS_AT_ONCE:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _check(model: LanguageModel, rows: list[Row]) -> None:
    """Refuse rows beyond the window and tokens beyond the vocabulary, by the row's number from 1."""
    for number, row in enumerate(rows, start=1):
        if len(row.ids) - 1 > model.max_length:
            raise fail("row-too-long", row=number, found=len(row.ids), limit=model.max_length + 1)
        for token in (min(row.ids, default=0), max(row.ids, default=0)):
            if not 0 <= token < model.config.vocab_size:
                raise fail("token-outside", where=f"row {number}", found=token, size=model.config.vocab_size)


def _progress(groups: list[list[Row]], label: str | None) -> Iterator[list[Row]]:
    yield from track(groups, label, len(groups)) if label else groups
