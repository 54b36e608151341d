"""Longest common subsequences of token sequences, a machine word of cells at a time.

Bit i of a row tells whether the length grows at token i of the first sequence, so a row of the table is one integer and
the next comes from it by three operations (Hyyro, "Bit-parallel LCS-length computation revisited", AWOCA 2004).
`common_places` walks back from those rows along the same path as rouge-score's table: a match is taken; else the second
sequence is shortened only where that loses nothing that shortening the first would keep.
"""

from __future__ import annotations

from collections.abc import Sequence

Masks = dict[str, int]
"""Token to the bits of its places."""


def masks_of(tokens: Sequence[str]) -> Masks:
    """Where each token stands."""
    found: Masks = {}
    bit = 1
    for token in tokens:
        found[token] = found.get(token, 0) | bit
        bit <<= 1
    return found


def common_length(masks: Masks, length: int, other: Sequence[str]) -> int:
    """Length of a longest common subsequence of the sequence behind `masks`, of `length` tokens, and another."""
    full = (1 << length) - 1
    row = full
    for token in other:
        if mask := masks.get(token):
            kept = row & mask
            row = ((row + kept) | (row - kept)) & full
    return length - row.bit_count()


def common_places(masks: Masks, length: int, other: Sequence[str]) -> int:
    """Places in the first sequence of one longest common subsequence, as bits: rouge-score's choice of several."""
    full = (1 << length) - 1
    row, grows, matches = full, [], []
    for token in other:
        mask = masks.get(token, 0)
        if mask:
            kept = row & mask
            row = ((row + kept) | (row - kept)) & full
        grows.append(full ^ row)
        matches.append(mask)
    return _walk_back(grows, matches, full)


def _walk_back(grows: list[int], matches: list[int], below: int) -> int:
    """`below`: bits of the places still left of the path."""
    places = 0
    for grow, match in zip(reversed(grows), reversed(matches), strict=True):
        reachable = (grow | match) & below
        if not reachable:
            break
        top = 1 << (reachable.bit_length() - 1)
        if match & top:
            places |= top
            below = top - 1
        else:
            below = (top << 1) - 1
    return places
