"""Scaled dot-product attention over grouped heads, and who may look at whom.

Letters: B batch, T query positions, S key positions, H heads, D head width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def visible(
    positions_BT: Tensor,
    key_positions_BS: Tensor,
    window: int | None,
    segments: tuple[Tensor, Tensor] | None = None,
    prefix: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Mask (B, 1, T, S), True where a query may look: not ahead, not beyond the window, within its own segment.

    `segments` and `prefix` are those of queries and keys, (B, T) and (B, S). Tokens of a prefix see each other, ahead
    and beyond the window too.
    """
    distance_BTS = positions_BT[:, :, None] - key_positions_BS[:, None, :]
    seen_BTS = distance_BTS >= 0
    if window is not None:
        seen_BTS &= distance_BTS < window
    if prefix is not None:
        prefix_BT, prefix_BS = prefix
        seen_BTS = seen_BTS | (prefix_BT[:, :, None] & prefix_BS[:, None, :])
    if segments is not None:
        query_BT, key_BS = segments
        seen_BTS = seen_BTS & (query_BT[:, :, None] == key_BS[:, None, :])
    return seen_BTS[:, None]


def attend(
    q_BHTD: Tensor,
    k_BGSD: Tensor,
    v_BGSD: Tensor,
    mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
    causal: bool = True,
) -> Tensor:
    """softmax(q k' * scale + mask) v, (B, T, H*D); scale: 1/sqrt(D) where None. G key-value heads serve H = n*G heads.

    `mask`, broadcast to (B, H, T, S): True where a query may look, or numbers to add. Without one attention is causal,
    unless `causal` is off. `softcap` c: scores become c * tanh(score / c) first (Gemma 2).
    """
    if k_BGSD.shape[1] != q_BHTD.shape[1]:
        repeats = q_BHTD.shape[1] // k_BGSD.shape[1]
        k_BGSD, v_BGSD = (x.repeat_interleave(repeats, dim=1) for x in (k_BGSD, v_BGSD))
    if softcap is not None:
        o_BHTD = _capped(q_BHTD, k_BGSD, v_BGSD, mask, dropout, scale, softcap)
    else:
        is_causal = causal and mask is None and q_BHTD.shape[2] > 1
        o_BHTD = F.scaled_dot_product_attention(
            q_BHTD, k_BGSD, v_BGSD, attn_mask=mask, dropout_p=dropout, is_causal=is_causal, scale=scale
        )
    return o_BHTD.transpose(1, 2).flatten(2)


def _capped(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float, scale: float | None, softcap: float
) -> Tensor:
    """The same with capped scores, which no fused kernel computes."""
    scores_BHTS = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    scores_BHTS = softcap * torch.tanh(scores_BHTS / softcap)
    if mask is None:
        length = q.shape[2]
        mask = torch.ones(length, k.shape[2], dtype=torch.bool, device=q.device).tril(k.shape[2] - length)
    if mask.dtype == torch.bool:
        # a row that may look nowhere (padding) must not become NaN, as in the fused kernel
        scores_BHTS = scores_BHTS.masked_fill(~mask, torch.finfo(scores_BHTS.dtype).min)
    else:
        scores_BHTS = scores_BHTS + mask
    weights_BHTS = F.dropout(scores_BHTS.float().softmax(-1).to(q.dtype), dropout)
    return weights_BHTS @ v


def split_heads(x_BTN: Tensor, head_dim: int) -> Tensor:
    """(B, T, H*D) -> (B, H, T, D)."""
    return x_BTN.unflatten(-1, (-1, head_dim)).transpose(1, 2)


def split_interleaved(qkv_BTN: Tensor, head_dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """A projection that holds q, k and v of head 0, then of head 1, and so on, as three (B, H, T, D)."""
    q, k, v = qkv_BTN.unflatten(-1, (-1, 3, head_dim)).permute(3, 0, 2, 1, 4)
    return q, k, v
