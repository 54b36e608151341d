"""How likely tokens are under a model of any kind, and how far two decoders are apart.

Log-probabilities are natural logs in float32. What is asked is a `Query`: what the network reads, and which token at
which of its outputs. A text under a decoder is one query, its next tokens (`following`); `infer/gap.py` makes those of
encoders and encoder-decoders. Rows of different lengths are padded on the right, where no token of a row looks. Logits
are made for at most LOGITS_AT_ONCE numbers at a time, so memory does not grow with text times vocabulary. The caller
decides about start tokens: the first token of a text is context only and never scored. A model that reads prompts in
both directions reads a query's context so: what stands before the first token that is asked for.

Legend: B rows, T positions, S positions of a source, C width, V vocabulary, P places asked about, of all rows in line.
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
from ingot.model.encoder import Encoder
from ingot.model.encoder_decoder import EncoderDecoder

LOGITS_AT_ONCE = 1 << 23
"""Float32 numbers: 32 MiB of logits, and as much again for their log-softmax."""

TOKENS_AT_ONCE = 2048
"""Tokens of one padded batch."""


@dataclass(frozen=True)
class Query:
    """What a network reads, and the tokens asked for: `targets[i]` at the output of place `places[i]`.

    ids: what a decoder, an encoder, or the decoder of an encoder-decoder reads. source: what its encoder reads.
    """

    ids: tuple[int, ...]
    places: tuple[int, ...]
    targets: tuple[int, ...]
    source: tuple[int, ...] = ()


def following(ids: Sequence[int], first: int = 1) -> Query:
    """Of a decoder: each token from index `first` on, from those before it. The last one is asked for and not read."""
    return Query(tuple(ids[:-1]), tuple(range(first - 1, len(ids) - 1)), tuple(ids[first:]))


def token_logprobs(model: LanguageModel, ids: Sequence[int]) -> Tensor:
    """log p(ids[t] | ids[:t]) for t = 1..T-1, float32 (T-1,). Raises `row-too-long`, `token-outside`."""
    return batch_logprobs(model, [ids])[0]


def batch_logprobs(model: LanguageModel, rows: Sequence[Sequence[int]], label: str | None = None) -> list[Tensor]:
    """`token_logprobs` of every row, computed together. `label`: show progress under this name. Raises `not-a-decoder`
    for a model that does not write on its own."""
    _require_decoders(model)
    return query_logprobs(model, [following(ids) for ids in rows], label)


@torch.inference_mode()
def query_logprobs(model: LanguageModel, queries: Sequence[Query], label: str | None = None) -> list[Tensor]:
    """log p of the targets of each query, float32 (targets,), computed together, in the order given."""
    _check(model, queries)
    found: dict[int, Tensor] = {id(query): torch.zeros(0) for query in queries}
    for group in _progress(_groups(queries), label):
        parts = [_chosen(part, targets) for (part,), targets in _logits([model], group)]
        found |= zip(map(id, group), torch.cat(parts).split([len(query.targets) for query in group]), strict=True)
    return [found[id(query)] for query in queries]


@torch.inference_mode()
def query_entropies(model: LanguageModel, queries: Sequence[Query], temperatures: Sequence[float]) -> list[Tensor]:
    """Entropy in nats of the whole distribution that each target was drawn from, float32 (targets,): of the model's
    own at the query's temperature, which is above 0."""
    _check(model, queries)
    scales = {id(query): temperature for query, temperature in zip(queries, temperatures, strict=True)}
    found: dict[int, Tensor] = {id(query): torch.zeros(0) for query in queries}
    for group in _groups(queries):
        scales_P = torch.tensor([scales[id(query)] for query in group for _ in query.targets], device=model.device)
        parts, at = [], 0
        for (part_PV,), targets_P in _logits([model], group):
            parts.append(_entropy(part_PV, scales_P[at : at + len(targets_P)]))
            at += len(targets_P)
        found |= zip(map(id, group), torch.cat(parts).split([len(query.targets) for query in group]), strict=True)
    return [found[id(query)] for query in queries]


@torch.inference_mode()
def query_moments(model: LanguageModel, queries: Sequence[Query], label: str | None = None) -> list[Tensor]:
    """Of each target: its log p, and mean and standard deviation of log p over the distribution it was drawn from,
    float32 (targets, 3)."""
    _check(model, queries)
    found: dict[int, Tensor] = {id(query): torch.zeros(0, 3) for query in queries}
    for group in _progress(_groups(queries), label):
        parts = [_moments(part, targets) for (part,), targets in _logits([model], group)]
        found |= zip(map(id, group), torch.cat(parts).split([len(query.targets) for query in group]), strict=True)
    return [found[id(query)] for query in queries]


def _moments(logits_PV: Tensor, targets_P: Tensor) -> Tensor:
    """(P, 3). Tokens of no probability weigh nothing, whatever their log is."""
    logprobs_PV = logits_PV.log_softmax(-1)
    weights_PV = logprobs_PV.exp()
    finite_PV = logprobs_PV.masked_fill(weights_PV == 0, 0.0)
    mean_P = (weights_PV * finite_PV).sum(-1)
    variance_P = (weights_PV * (finite_PV - mean_P[:, None]) ** 2).sum(-1)
    chosen_P = logprobs_PV.gather(-1, targets_P[:, None])[:, 0]
    return torch.stack([chosen_P, mean_P, variance_P.sqrt()], -1).cpu()


def _entropy(logits_PV: Tensor, temperatures_P: Tensor) -> Tensor:
    """-sum p log p. The largest logit becomes 0 first, as where tokens are drawn."""
    shifted_PV = (logits_PV - logits_PV.amax(-1, keepdim=True)) / temperatures_P[:, None]
    logprobs_PV = shifted_PV.log_softmax(-1)
    return -(logprobs_PV.exp() * logprobs_PV).nan_to_num(0.0).sum(-1).cpu()


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
    _require_decoders(model)
    return torch.cat([torch.zeros(0), *query_logprobs(model, list(_windows(ids, window, stride)), label)])


def _windows(ids: Sequence[int], window: int, stride: int) -> Iterator[Query]:
    """The last token of a part is scored and not read, so a part has one token more than its window."""
    scored = 1
    for begin in range(0, len(ids), stride):
        if scored < len(ids):
            end = min(begin + window + 1, len(ids))
            yield following(ids[begin:end], scored - begin)
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
    """How far `b` is from `a`, at every token of `rows` but the first of each. Raises `vocabularies-differ`,
    `not-a-decoder`."""
    _require_decoders(a, b)
    if a.config.vocab_size != b.config.vocab_size:
        raise fail("vocabularies-differ", a=a.name, found=a.config.vocab_size, b=b.name, other=b.config.vocab_size)
    wanted = [following(ids) for ids in rows]
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


def _chosen(logits_PV: Tensor, targets_P: Tensor) -> Tensor:
    return (logits_PV.gather(-1, targets_P[:, None])[:, 0] - logits_PV.logsumexp(-1)).cpu()


def _logits(models: list[LanguageModel], group: list[Query]) -> Iterator[tuple[list[Tensor], Tensor]]:
    """Pieces of what is asked: logits (P, V) of each model, and the tokens asked for, (P,)."""
    device = models[0].device
    rows_P = torch.tensor([row for row, query in enumerate(group) for _ in query.places], device=device)
    places_P = torch.tensor([place for query in group for place in query.places], device=device)
    targets_P = torch.tensor([token for query in group for token in query.targets], device=device)
    hidden = [_hidden(model, group)[rows_P, places_P] for model in models]
    size = max(1, LOGITS_AT_ONCE // models[0].config.vocab_size)
    for at in range(0, len(targets_P), size):
        logits = [model.network.head(part[at : at + size]) for model, part in zip(models, hidden, strict=True)]
        for model, part in zip(models, logits, strict=True):
            if not bool(part.amax(-1).isfinite().all()):
                raise fail("logits-not-finite", path=model.model_dir.path)
        yield logits, targets_P[at : at + size]


def _hidden(model: LanguageModel, group: list[Query]) -> Tensor:
    """Hidden states (B, T, C) of rows read together, each as if it were alone. A causal network needs no telling where
    a row ends; one that sees both sides does."""
    network, device = model.network, model.device
    ids_BT, segments_BT = _padded([query.ids for query in group], device)
    if isinstance(network, EncoderDecoder):
        source_ids_BS, source_segments_BS = _padded([query.source for query in group], device)
        return network(ids_BT, source_ids_BS=source_ids_BS, source_segments_BS=source_segments_BS)
    if isinstance(network, Encoder):
        return network(ids_BT, segments_BT=segments_BT)
    return network(ids_BT, prefix_BT=_contexts(group, ids_BT) if model.config.prefix_lm else None)


def _contexts(group: list[Query], ids_BT: Tensor) -> Tensor | None:
    """Which tokens are context, (B, T): those before the first that is asked for. One token alone has no directions."""
    firsts_B1 = torch.tensor([[query.places[0] + 1] for query in group], device=ids_BT.device)
    if int(firsts_B1.max()) <= 1:
        return None
    return torch.arange(ids_BT.shape[1], device=ids_BT.device) < firsts_B1


def _padded(rows: list[tuple[int, ...]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids (B, T) with zeros behind short rows, and segments (B, T): 0 at a row's tokens, -1 behind them."""
    width = max(map(len, rows))
    ids_BT = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
    lengths_B = torch.tensor([len(row) for row in rows], device=device)
    return ids_BT, (torch.arange(width, device=device) < lengths_B[:, None]).long() - 1


def _groups(queries: Sequence[Query]) -> list[list[Query]]:
    """Queries that ask anything, those of like length together, as many as TOKENS_AT_ONCE allows."""
    groups: list[list[Query]] = []
    for query in sorted((query for query in queries if query.targets), key=_size):
        if groups and (len(groups[-1]) + 1) * _size(query) <= TOKENS_AT_ONCE:
            groups[-1].append(query)
        else:
            groups.append([query])
    return groups


def _size(query: Query) -> int:
    return len(query.source) + len(query.ids)


def _require_decoders(*models: LanguageModel) -> None:
    """Raises `not-a-decoder`: what an encoder says at a place is about the token there, not the next one."""
    for model in models:
        _ = model.decoder


def _check(model: LanguageModel, queries: Sequence[Query]) -> None:
    """Refuse rows beyond the window and tokens beyond the vocabulary, by the row's number from 1."""
    for number, query in enumerate(queries, start=1):
        if (longest := max(len(query.ids), len(query.source))) > model.max_length:
            raise fail("row-too-long", row=number, found=longest, limit=model.max_length)
        if isinstance(model.network, EncoderDecoder) and not query.source:
            raise fail("no-source", path=model.model_dir.path)
        tokens = (*query.ids, *query.targets, *query.source)
        for token in (min(tokens, default=0), max(tokens, default=0)):
            if not 0 <= token < model.config.vocab_size:
                raise fail("token-outside", where=f"row {number}", found=token, size=model.config.vocab_size)


def _progress(groups: list[list[Query]], label: str | None) -> Iterator[list[Query]]:
    yield from track(groups, label, len(groups)) if label else groups
