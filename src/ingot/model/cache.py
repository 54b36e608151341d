"""Keys and values of what was read so far: one contiguous slot a sequence, in each layer.

A slot holds positions 0..n-1 of one text; who owns which slot is the engine's business. What an encoder read is kept
the same way in a cache of its own: its keys and values are made once, by each layer of the decoder that will look at
them. A forward pass sees a cache through `SlotRows` (which it writes and reads) or `SourceRows` (which it only reads),
so that nothing outside this file knows how keys and values lie.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ingot.model.config import ModelConfig

Keys = tuple[Tensor, Tensor]
"""Keys and values of one layer, each (B, H, T, D)."""


class KVCache:
    """`num_slots` sequences of up to `capacity` tokens. Memory: 2 x layers x slots x capacity x kv heads x head_dim."""

    def __init__(
        self, config: ModelConfig, num_slots: int, capacity: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (num_slots, config.num_kv_heads, capacity, config.head_dim)
        self.num_slots = num_slots
        self.k_SHCD = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.num_layers)]
        self.v_SHCD = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.num_layers)]

    @property
    def capacity(self) -> int:
        return self.k_SHCD[0].shape[2]

    def grow(self, capacity: int) -> None:
        """Make room for longer sequences, keeping what is held."""
        if capacity <= self.capacity:
            return
        extra = (0, 0, 0, capacity - self.capacity)
        self.k_SHCD = [torch.nn.functional.pad(layer, extra) for layer in self.k_SHCD]
        self.v_SHCD = [torch.nn.functional.pad(layer, extra) for layer in self.v_SHCD]

    def write(self, layer: int, keys: Keys, slots_B: Tensor, positions_BT: Tensor) -> None:
        """Put keys and values at their positions."""
        for store, new_BHTD in zip((self.k_SHCD[layer], self.v_SHCD[layer]), keys, strict=True):
            store[slots_B[:, None], :, positions_BT] = new_BHTD.transpose(1, 2)

    def held(self, layer: int, rows: slice | Tensor, length: int) -> Keys:
        """The first `length` tokens of some slots; `rows` are these as `slot_rows` gives them."""
        return self.k_SHCD[layer][rows, :, :length], self.v_SHCD[layer][rows, :, :length]


class CacheRows:
    """What attention sees beside the keys and values of this pass."""

    def append(self, layer: int, keys: Keys) -> Keys:
        """All keys and values of a layer: those of this pass behind the others."""
        raise NotImplementedError


@dataclass(frozen=True)
class SlotRows(CacheRows):
    """The part of a cache that a forward pass writes and reads: row i goes on with slot `slots_B[i]`."""

    cache: KVCache
    slots_B: Tensor
    rows: slice | Tensor
    positions_BT: Tensor
    length: int

    @classmethod
    def at(cls, cache: KVCache, slots_B: Tensor, positions_BT: Tensor) -> SlotRows:
        """Tokens at these positions of these slots; each sees all that its slot holds before it."""
        return cls(cache, slots_B, slot_rows(slots_B), positions_BT, int(positions_BT.max()) + 1)

    def append(self, layer: int, keys: Keys) -> Keys:
        """Write the new tokens' keys and values; return all up to them."""
        self.cache.write(layer, keys, self.slots_B, self.positions_BT)
        return self.cache.held(layer, self.rows, self.length)


@dataclass(frozen=True)
class SourceRows:
    """The part of a cache of sources that a forward pass looks at: `lengths_B[i]` tokens of row i's slot."""

    cache: KVCache
    rows: slice | Tensor
    lengths_B: Tensor
    length: int

    @classmethod
    def at(cls, cache: KVCache, slots_B: Tensor, lengths_B: Tensor) -> SourceRows:
        return cls(cache, slot_rows(slots_B), lengths_B, int(lengths_B.max()))

    def held(self, layer: int) -> Keys:
        return self.cache.held(layer, self.rows, self.length)

    def visible(self) -> Tensor:
        """(B, 1, 1, S), True for a row's own tokens."""
        return (torch.arange(self.length, device=self.lengths_B.device) < self.lengths_B[:, None])[:, None, None]


def slot_rows(slots_B: Tensor) -> slice | Tensor:
    """How to index the slots: by a slice, which copies nothing, when they follow each other."""
    first, count = int(slots_B[0]), len(slots_B)
    follow = torch.equal(slots_B, torch.arange(first, first + count, device=slots_B.device))
    return slice(first, first + count) if follow else slots_B
