"""Rotary angles for the fused step: tables by position, made once and grown.

Where angles depend on how long a text is, there is a table for each length that is about, and a step gets copies of the
rows that it reads.
"""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from ingot.model.decoder import Decoder
from ingot.model.kernels.decoder import Angles
from ingot.model.positions import Rotary

PIECE = 256
"""Positions computed at a time, always the same ones together: a cosine's last bit depends on how its tensor is cut for
vectors and threads."""

MOST_TABLES = 64
"""Lengths whose tables are kept, of each description of positions."""

Table = tuple[Tensor, Tensor]


class AngleTables:
    """cos and sin of a network's rotary positions wherever a step reads."""

    def __init__(self, network: Decoder) -> None:
        self._ropes = [_Tables(rotary) for rotary in network.rotary if isinstance(rotary, Rotary)]
        self._structs = (Angles * max(1, len(self._ropes)))()
        self._read: list[Table] = []

    def at(self, positions: Sequence[range], lengths: Sequence[int]) -> int:
        """The address of what a step reads: each sequence's positions, and how long its text is."""
        self._read = [rope.at(positions, lengths) for rope in self._ropes]
        for struct, rope, (cos, sin) in zip(self._structs, self._ropes, self._read, strict=False):
            struct.cos, struct.sin, struct.half = cos.data_ptr(), sin.data_ptr(), cos.shape[-1]
            struct.by_row = rope.by_length
        return ctypes.addressof(self._structs)


class _Tables:
    """Of one description of positions; by a text's length where that matters."""

    def __init__(self, rotary: Rotary) -> None:
        self._rotary, self.by_length = rotary, rotary.rope.depends_on_length
        self._tables: OrderedDict[int, Table] = OrderedDict()

    def at(self, positions: Sequence[range], lengths: Sequence[int]) -> Table:
        if not self.by_length:
            return self._grown(0, max(each.stop for each in positions))
        rows = [self._rows(each, length) for each, length in zip(positions, lengths, strict=True)]
        return torch.cat([cos for cos, _ in rows]), torch.cat([sin for _, sin in rows])

    def _rows(self, positions: range, length: int) -> Table:
        cos, sin = self._grown(self._kind(length), positions.stop)
        return cos[positions.start : positions.stop], sin[positions.start : positions.stop]

    def _kind(self, length: int) -> int:
        """One number for all lengths that have the same angles."""
        original = self._rotary.rope.original_length
        if length <= original:
            return 0
        return original + 1 if self._rotary.rope.scaling == "longrope" else length

    def _grown(self, length: int, stop: int) -> Table:
        """The table of texts of a length, to position `stop` at least."""
        table = self._tables.get(length)
        held = 0 if table is None else len(table[0])
        if held < stop:
            begin = held // PIECE
            end = max(-(-stop // PIECE), 2 * begin)
            pieces = [self._piece(number, length) for number in range(begin, end)]
            parts = [*([] if table is None else [table]), *pieces]
            table = torch.cat([cos for cos, _ in parts]), torch.cat([sin for _, sin in parts])
            self._tables[length] = table
            if len(self._tables) > MOST_TABLES:
                self._tables.popitem(last=False)
        assert table is not None
        self._tables.move_to_end(length)
        return table

    def _piece(self, number: int, length: int) -> Table:
        positions_1P = torch.arange(number * PIECE, (number + 1) * PIECE)[None]
        cos, sin = self._rotary(positions_1P, torch.full_like(positions_1P, length), torch.float32)
        return cos[0, 0].contiguous(), sin[0, 0].contiguous()
