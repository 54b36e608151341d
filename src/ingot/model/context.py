"""What every layer needs to know of one forward pass, worked out once: positions and masks."""

from __future__ import annotations

import torch
from torch import Tensor

from ingot.model.attention import visible
from ingot.model.cache import CacheRows
from ingot.model.config import ModelConfig
from ingot.model.positions import alibi_slopes


def key_positions(rows: CacheRows) -> Tensor:
    """Positions of all that a pass over a cache looks at, (B, S)."""
    return torch.arange(rows.length, device=rows.positions_BT.device).expand(len(rows.positions_BT), -1)


def _prefix_keys(prefix_BT: Tensor, positions_BT: Tensor, keys_BS: Tensor) -> Tensor:
    """Which tokens held are prefix. A prefix is read whole, in the pass that begins its text, so all that is prefix
    stands in this pass."""
    return torch.zeros_like(keys_BS, dtype=torch.bool).scatter(1, positions_BT, prefix_BT)


def default_positions(ids_BT: Tensor) -> Tensor:
    """0..T-1 in every row."""
    return torch.arange(ids_BT.shape[1], device=ids_BT.device).expand(ids_BT.shape)


def text_lengths(positions_BT: Tensor, segments_BT: Tensor | None) -> Tensor:
    """How long the text is that each token belongs to, as far as it is read: last position + 1 of its segment."""
    if segments_BT is None:
        return (positions_BT.amax(1, keepdim=True) + 1).expand_as(positions_BT)
    numbers_BT = segments_BT.long() + 1  # padding is -1
    longest = torch.zeros(len(numbers_BT), int(numbers_BT.max()) + 1, dtype=torch.long, device=numbers_BT.device)
    return longest.scatter_reduce(1, numbers_BT, positions_BT.long() + 1, "amax").gather(1, numbers_BT)


def both_ways(config: ModelConfig, positions_BT: Tensor, segments_BT: Tensor | None) -> dict[int | None, Tensor | None]:
    """The masks of an encoder: tokens see their own segment, as far as the window reaches on either side."""
    found: dict[int | None, Tensor | None] = {}
    for window in set(config.windows):
        mask = None if segments_BT is None else (segments_BT[:, :, None] == segments_BT[:, None, :])[:, None]
        if window is not None:
            order_BT = default_positions(positions_BT)[:1]
            near = (order_BT[:, None, :, None] - order_BT[:, None, None, :]).abs() <= window
            mask = near if mask is None else near & mask
        found[window] = mask
    return found


def masks(
    config: ModelConfig,
    positions_BT: Tensor,
    segments_BT: Tensor | None,
    prefix_BT: Tensor | None,
    rows: CacheRows | None,
) -> dict[int | None, Tensor | None]:
    """One mask (B, 1, T, S) for each distinct window, None standing for plain causal attention; with ALiBi the numbers
    to add, (B, H, T, S)."""
    windows = set(config.windows)
    if rows is not None:
        order_BT = positions_BT
        keys_BS = key_positions(rows)
        pair = None if prefix_BT is None else (prefix_BT, _prefix_keys(prefix_BT, positions_BT, keys_BS))
        found = {window: visible(order_BT, keys_BS, window, prefix=pair) for window in windows}
    elif segments_BT is not None or prefix_BT is not None:
        order_BT = keys_BS = default_positions(positions_BT)
        pairs = [None if part is None else (part, part) for part in (segments_BT, prefix_BT)]
        found = {window: visible(order_BT, order_BT, window, *pairs) for window in windows}
    else:
        order_BT = keys_BS = default_positions(positions_BT)[:1]
        plain = {window for window in windows if window is None or window >= positions_BT.shape[1]}
        if windows == plain and not config.alibi:
            return dict.fromkeys(windows)
        found = {window: visible(order_BT, order_BT, window) for window in windows}
        found |= {} if config.alibi else dict.fromkeys(plain)  # type: ignore[arg-type]
    if config.alibi:
        slopes_H = alibi_slopes(config.num_heads).to(positions_BT.device)
        bias_BHTS = slopes_H[:, None, None] * (keys_BS[:, None, None, :] - order_BT[:, None, :, None])
        return {window: bias_BHTS.masked_fill(~mask, -torch.inf) for window, mask in found.items()}
    return dict(found)
