"""Samplers that take tokens away altogether: what may not be said, what must be, when an answer may end.

A row that they leave nothing has no token: `sample` gives NO_TOKEN for it, and its sequence ends in an error by itself.

Legend: B rows (requests), V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ingot.infer.controls import Controls, Entries


def keep_allowed(logits_BV: Tensor, controls: Controls) -> Tensor:
    """Nothing but the allowed tokens, end tokens too (vLLM's allowed_token_ids), or the next of a forced text."""
    if controls.allowed is None:
        return logits_BV
    allowed = controls.allowed
    kept_N = logits_BV[allowed.rows_N, allowed.ids_N]
    nothing_BV = logits_BV.index_fill(0, allowed.rows_N, -torch.inf)
    return nothing_BV.index_put((allowed.rows_N, allowed.ids_N), kept_N)


def ban(logits_BV: Tensor, controls: Controls) -> Tensor:
    """No token that the model's directory bans."""
    return _overwrite(logits_BV, controls.banned)


def forbid_texts(logits_BV: Tensor, controls: Controls) -> Tensor:
    """No token that would complete a forbidden text, whatever tokens began it. (vLLM's and transformers' bad words ban
    the last token of one or two tokenizations, and let every other through.)"""
    return _overwrite(logits_BV, controls.bad_words)


def forbid_early_end(logits_BV: Tensor, controls: Controls) -> Tensor:
    """No end token before min_tokens, nor before every text of force_words has come."""
    return _overwrite(logits_BV, controls.early)


def force(logits_BV: Tensor, controls: Controls) -> Tensor:
    """The one token that the model's directory wants at this place, in the rows where it wants one."""
    if controls.forced is None:
        return logits_BV
    return _overwrite(logits_BV.index_fill(0, controls.forced.rows_N, -torch.inf), controls.forced)


def keep_grammar(logits_BV: Tensor, controls: Controls) -> Tensor:
    """What the request's constraint allows here; ids beyond the tokenizer are no text."""
    if controls.grammar is None:
        return logits_BV
    rows_N, allowed_NV = controls.grammar.rows_N, controls.grammar.allowed_NV
    before_NV = logits_BV[rows_N]
    after_NV = torch.full_like(before_NV, -torch.inf)
    known = min(allowed_NV.shape[-1], before_NV.shape[-1])
    after_NV[:, :known] = before_NV[:, :known].masked_fill(~allowed_NV[:, :known], -torch.inf)
    return logits_BV.index_put((rows_N,), after_NV)


def _overwrite(logits_BV: Tensor, entries: Entries | None) -> Tensor:
    return logits_BV if entries is None else logits_BV.index_put((entries.rows_N, entries.ids_N), entries.values_N)
