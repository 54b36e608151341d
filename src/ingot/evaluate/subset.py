"""`--limit`: a seeded sample that keeps the strata's proportions and does not depend on the order of the file.

Items are ranked by a hash of seed and id, so adding or reordering items changes the sample as little as possible, and
the same limit asks every model the same.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Literal, TypeVar

from ingot.core.errors import fail

T = TypeVar("T")


def stratified(
    items: Sequence[T], limit: int | None, seed: int, stratum: Callable[[T], Hashable], identity: Callable[[T], str]
) -> list[T]:
    """At most `limit` items in their original order, each stratum by its share (largest remainders first)."""
    if limit is None or limit >= len(items):
        return list(items)
    strata: dict[Hashable, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        strata[stratum(item)].append(place)
    shares = _shares({name: len(places) for name, places in strata.items()}, limit)
    chosen: list[int] = []
    for name, places in strata.items():
        ranked = sorted(places, key=lambda place: _rank(seed, identity(items[place])))
        chosen.extend(ranked[: shares[name]])
    return [items[place] for place in sorted(chosen)]


def in_part(items: Sequence[T], part: Literal["all", "search", "test"], task: str) -> Sequence[T]:
    """The items of one half, told by a hash of what each is: no order, seed or sample moves an item to the other half.

    Raises `evaluate-part-empty`.
    """
    if part == "all":
        return items
    found = [item for item in items if (_rank(0, identity(item))[0] % 2 == 1) == (part == "test")]
    if not found:
        raise fail("evaluate-part-empty", task=task, part=part, count=len(items))
    return found


def identity(item: object) -> str:
    """What an item is: its text, else its id."""
    return str(getattr(item, "text", None) or getattr(item, "id", None) or item)


def _shares(sizes: dict[Hashable, int], limit: int) -> dict[Hashable, int]:
    """`limit` split in proportion to sizes, whole numbers that sum to it."""
    total = sum(sizes.values())
    shares = {name: size * limit // total for name, size in sizes.items()}
    remainders = sorted(sizes, key=lambda name: (-(sizes[name] * limit % total), str(name)))
    for name in remainders[: limit - sum(shares.values())]:
        shares[name] += 1
    return shares


def _rank(seed: int, identity: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{identity}".encode()).digest()
