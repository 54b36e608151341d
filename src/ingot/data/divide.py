"""Packed rows divided into two, by whole documents: some to learn from, some to judge by."""

from __future__ import annotations

import hashlib

from ingot.core.errors import fail
from ingot.data.pack import Piece, Room, Rows, pack_pieces, pieces_of


def divide_rows(rows: Rows, share: float, seed: int, room: Room = int, pad: int = 0) -> tuple[Rows, Rows]:
    """The rest of the documents, and about `share` of them, each packed again. Decided by a document's tokens and the
    seed alone: equal documents stand on the same side, and where one was cut, all its pieces do. Raises
    `bad-judge-share` where a side comes out empty."""
    sides: dict[int, bool] = {}
    kept: list[Piece] = []
    held: list[Piece] = []
    for piece in pieces_of(rows):
        is_held = sides.setdefault(piece[2], _is_held(piece, share, seed))
        (held if is_held else kept).append(piece)
    if not kept or not held:
        count = sum(sides.values())
        raise fail("bad-judge-share", share=share, train=len(sides) - count, heldout=count)
    train, judge = (pack_pieces(iter(side), rows.length, pad, room) for side in (kept, held))
    return train, judge


def _is_held(piece: Piece, share: float, seed: int) -> bool:
    digest = hashlib.blake2b(piece[0].tobytes(), digest_size=8, key=str(seed).encode()).digest()
    return int.from_bytes(digest, "big") < share * 2**64
