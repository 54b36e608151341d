"""What every layer needs to know of one forward pass, worked out once: positions, masks, what stands in front."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ingot.model.attention import visible
from ingot.model.cache import CacheRows, HeldRows, Keys, KVCache
from ingot.model.config import ModelConfig
from ingot.model.positions import alibi_slopes


def key_positions(rows: HeldRows) -> Tensor:
    """Positions of all that a pass over a cache looks at, (B, S)."""
    return torch.arange(rows.length, device=rows.positions_BT.device).expand(len(rows.positions_BT), -1)


def _prefix_keys(prefix_BT: Tensor, positions_BT: Tensor, keys_BS: Tensor) -> Tensor:
    """Which tokens held are prefix. A prefix is read whole, in the pass that begins its text, so all that is prefix
    stands in this pass."""
    return torch.zeros_like(keys_BS, dtype=torch.bool).scatter(1, positions_BT, prefix_BT)


@dataclass(frozen=True)
class Before:
    """What every text of a batch sees in front of itself, as if it had been read: a prefix that an adapter learned.

    Of each layer keys and values, (B, G, V, D); row b has `lengths_B[b]` of them, the others are padding.
    """

    k_LBGVD: list[Tensor]
    v_LBGVD: list[Tensor]
    lengths_B: Tensor

    @property
    def length(self) -> int:
        return self.k_LBGVD[0].shape[2]

    def keep(self, cache: KVCache, places_BS: Tensor) -> None:
        """Write it to the first places of texts, which then go on from `lengths_B`."""
        for layer, keys in enumerate(zip(self.k_LBGVD, self.v_LBGVD, strict=True)):
            cache.write(layer, keys, places_BS[:, : self.length])


@dataclass(frozen=True)
class Behind(CacheRows):
    """The keys and values of one pass, behind what every text sees in front of itself."""

    before: Before

    def append(self, layer: int, keys: Keys) -> Keys:
        k_BHTD, v_BHTD = keys
        k_BGVD, v_BGVD = self.before.k_LBGVD[layer], self.before.v_LBGVD[layer]
        return torch.cat((k_BGVD.to(k_BHTD), k_BHTD), 2), torch.cat((v_BGVD.to(v_BHTD), v_BHTD), 2)


@dataclass(frozen=True)
class Recorder(CacheRows):
    """Keeps the keys and values that pass by, one entry a layer."""

    k_LBGTD: list[Tensor] = field(default_factory=list)
    v_LBGTD: list[Tensor] = field(default_factory=list)

    def append(self, layer: int, keys: Keys) -> Keys:
        self.k_LBGTD.append(keys[0])
        self.v_LBGTD.append(keys[1])
        return keys


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
    rows: HeldRows | None,
    before: Before | None = None,
) -> dict[int | None, Tensor | None]:
    """One mask (B, 1, T, S) for each distinct window, None standing for plain causal attention; with ALiBi the numbers
    to add, (B, H, T, S). The keys of `before` come first; its texts' positions count from its end."""
    windows = set(config.windows)
    found: dict[int | None, Tensor | None]
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
        if windows == plain and not config.alibi and before is None:
            return dict.fromkeys(windows)
        found = {window: visible(order_BT, order_BT, window) for window in windows}
        found |= {} if config.alibi or before is not None else dict.fromkeys(plain)
    if before is not None:
        order_BT, keys_BS, found = behind(before, positions_BT, order_BT, keys_BS, found)
    if config.alibi:
        slopes_H = alibi_slopes(config.num_heads).to(positions_BT.device)
        bias_BHTS = slopes_H[:, None, None] * (keys_BS[:, None, None, :] - order_BT[:, None, :, None])
        return {window: bias_BHTS.masked_fill(~mask, -torch.inf) for window, mask in found.items() if mask is not None}
    return found


def behind(
    before: Before,
    positions_BT: Tensor,
    order_BT: Tensor,
    keys_BS: Tensor,
    found: dict[int | None, Tensor | None],
) -> tuple[Tensor, Tensor, dict[int | None, Tensor | None]]:
    """Order of queries and keys, and masks, with a prefix's keys in front: seen from everywhere its window reaches."""
    lengths_B1 = before.lengths_B[:, None]
    front_BV = torch.arange(before.length, device=positions_BT.device).expand(len(positions_BT), -1)
    there_B1V = (front_BV < lengths_B1)[:, None]
    distance_BTV = (positions_BT + lengths_B1)[:, :, None] - front_BV[:, None, :]
    seen: dict[int | None, Tensor | None] = {}
    for window, mask in found.items():
        assert mask is not None
        near_BTV = there_B1V if window is None else there_B1V & (distance_BTV < window)
        front = near_BTV.expand(distance_BTV.shape)[:, None]
        seen[window] = torch.cat((front, mask.expand(len(positions_BT), -1, -1, -1)), -1)
    keys_BS = torch.cat((front_BV, keys_BS + lengths_B1), 1)
    return order_BT + lengths_B1, keys_BS, seen
