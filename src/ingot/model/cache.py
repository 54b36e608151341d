"""Keys and values of what was read so far, token by token, in each layer.

A cache is a pool of places, one a token; which places a text's tokens have, in order, its owner says with every pass
(the engine deals them out in blocks). What an encoder read is kept the same way in a cache of its own: its keys and
values are made once, by each layer of the decoder that will look at them. A forward pass sees a cache through
`HeldRows` (which it writes and reads) or `SourceRows` (which it only reads), so that nothing outside this file knows
how keys and values lie.

Legend: B rows, T tokens of this pass, S tokens held, P places of the pool, G key-value heads, D head width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ingot.model.config import ModelConfig

Keys = tuple[Tensor, Tensor]
"""Keys and values of one layer, each (B, G, T, D)."""

Places = slice | Tensor
"""Where the tokens of some rows lie: numbers (B, S), or, for a single row, a slice, which copies nothing."""


class KVCache:
    """Room for `num_tokens` tokens of any texts. `device`: of all layers, or of each. `dtype` int8 keeps codes, and a
    scale for each token and head."""

    def __init__(
        self, config: ModelConfig, num_tokens: int, device: torch.device | Sequence[torch.device], dtype: torch.dtype
    ) -> None:
        shape = (num_tokens, config.num_kv_heads, config.head_dim)
        self.num_tokens = num_tokens
        devices = [device] * config.num_layers if isinstance(device, torch.device) else device
        self._stores = [(_store(shape, each, dtype), _store(shape, each, dtype)) for each in devices]

    @property
    def nbytes(self) -> int:
        return sum(store.nbytes for pair in self._stores for store in pair)

    def write(self, layer: int, keys: Keys, places_BT: Tensor) -> None:
        """Put keys and values at their places."""
        for store, new_BGTD in zip(self._stores[layer], keys, strict=True):
            store.write(places_BT, new_BGTD.transpose(1, 2))

    def held(self, layer: int, places: Places, dtype: torch.dtype) -> Keys:
        """Keys and values at some places, in order."""
        k_store, v_store = self._stores[layer]
        return k_store.read(places, dtype), v_store.read(places, dtype)

    def copy(self, source: slice, target: slice) -> None:
        """Every layer's keys and values of some places to others."""
        for pair in self._stores:
            for store in pair:
                store.copy(source, target)


class _Store:
    """Keys, or values, of one layer as they are."""

    def __init__(self, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> None:
        self.held_PGD = torch.zeros(shape, device=device, dtype=dtype)

    @property
    def nbytes(self) -> int:
        return self.held_PGD.nbytes

    def write(self, places_BT: Tensor, new_BTGD: Tensor) -> None:
        self.held_PGD[places_BT] = new_BTGD.to(self.held_PGD)

    def read(self, places: Places, dtype: torch.dtype) -> Tensor:
        return _rows(self.held_PGD, places).to(dtype)

    def copy(self, source: slice, target: slice) -> None:
        self.held_PGD[target] = self.held_PGD[source]


class _Int8Store(_Store):
    """The same in eight bits: code * scale, the largest number of each token and head being 127."""

    def __init__(self, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(shape, device, dtype)
        self.scales_PG1 = torch.zeros((*shape[:-1], 1), device=device)

    @property
    def nbytes(self) -> int:
        return self.held_PGD.nbytes + self.scales_PG1.nbytes

    def write(self, places_BT: Tensor, new_BTGD: Tensor) -> None:
        scales = new_BTGD.float().abs().amax(-1, keepdim=True) / 127
        codes = (new_BTGD.float() / scales.where(scales > 0, 1)).round()
        self.held_PGD[places_BT], self.scales_PG1[places_BT] = codes.to(torch.int8), scales

    def read(self, places: Places, dtype: torch.dtype) -> Tensor:
        return (_rows(self.held_PGD, places) * _rows(self.scales_PG1, places)).to(dtype)

    def copy(self, source: slice, target: slice) -> None:
        super().copy(source, target)
        self.scales_PG1[target] = self.scales_PG1[source]


def _store(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> _Store:
    return (_Int8Store if dtype == torch.int8 else _Store)(shape, device, dtype)


def _rows(held_PGN: Tensor, places: Places) -> Tensor:
    """(B, G, S, N)."""
    found = held_PGN[places]
    return (found[None] if isinstance(places, slice) else found).transpose(1, 2)


class CacheRows:
    """What attention sees beside the keys and values of this pass."""

    def append(self, layer: int, keys: Keys) -> Keys:
        """All keys and values of a layer: those of this pass behind the others."""
        raise NotImplementedError

    def brought(self, bring: Callable[[Tensor], Tensor]) -> CacheRows:
        """The same for a layer that lies elsewhere; `bring` takes a tensor there. What is cached lies there already."""
        return self


@dataclass(frozen=True)
class HeldRows(CacheRows):
    """The part of a cache that a forward pass writes and reads: the tokens that stand at `positions_BT` of their texts
    go to `new_BT`, and each row sees the first `length` tokens of its text, which lie at `places`."""

    cache: KVCache
    places: Places
    new_BT: Tensor
    positions_BT: Tensor
    length: int

    @classmethod
    def at(cls, cache: KVCache, places_BS: Tensor, positions_BT: Tensor, real_BT: Tensor | None = None) -> HeldRows:
        """Tokens at these positions of texts that lie at `places_BS`. Where `real_BT` is False a token is padding: it
        goes to place 0, which is then nobody's."""
        length = int(positions_BT.max()) + 1
        new_BT = places_BS.gather(1, positions_BT)
        new_BT = new_BT if real_BT is None else new_BT.where(real_BT, 0)
        return cls(cache, in_line(places_BS[:, :length]), new_BT, positions_BT, length)

    def append(self, layer: int, keys: Keys) -> Keys:
        """Write the new tokens' keys and values; return all up to them."""
        self.cache.write(layer, keys, self.new_BT)
        return self.cache.held(layer, self.places, keys[0].dtype)

    def brought(self, bring: Callable[[Tensor], Tensor]) -> HeldRows:
        places = bring(self.places) if isinstance(self.places, Tensor) else self.places
        return replace(self, places=places, new_BT=bring(self.new_BT), positions_BT=bring(self.positions_BT))


@dataclass(frozen=True)
class SourceRows:
    """The part of a cache of sources that a forward pass looks at: `lengths_B[i]` tokens of row i's places."""

    cache: KVCache
    places: Places
    lengths_B: Tensor
    length: int
    dtype: torch.dtype

    @classmethod
    def at(cls, cache: KVCache, places_BS: Tensor, lengths_B: Tensor, dtype: torch.dtype) -> SourceRows:
        length = int(lengths_B.max())
        return cls(cache, in_line(places_BS[:, :length]), lengths_B, length, dtype)

    def held(self, layer: int) -> Keys:
        return self.cache.held(layer, self.places, self.dtype)

    def visible(self) -> Tensor:
        """(B, 1, 1, S), True for a row's own tokens."""
        return (torch.arange(self.length, device=self.lengths_B.device) < self.lengths_B[:, None])[:, None, None]


def in_line(places_BS: Tensor) -> Places:
    """A slice where a single row's places follow each other."""
    if len(places_BS) > 1:
        return places_BS
    first, count = int(places_BS[0, 0]), places_BS.shape[1]
    follow = torch.equal(places_BS[0], torch.arange(first, first + count, device=places_BS.device))
    return slice(first, first + count) if follow else places_BS
