"""The blocks of a cache: who holds them, and what they hold, so that texts that begin alike share their beginning.

A full block is found by the block before it and its tokens themselves, not by a hash of them, so that it can never be
taken for another. The first block of a text hangs on a root: whatever else decides keys and values or who may see them
(the adapters that act, the tenant's salt). Blocks that nobody holds stay findable until their room is needed; then
those go first that were let go first, and of one text its end before its beginning.

Block 0 is nobody's: what padding writes goes there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count

BLOCK = 16
"""Tokens of a block."""


def blocks_for(tokens: int) -> int:
    """How many blocks hold so many tokens."""
    return -(-tokens // BLOCK)


@dataclass(frozen=True)
class Node:
    """A place in the trie of known blocks. Numbers are never used again, so what hung on a block that is gone cannot be
    found."""

    number: int


class Blocks:
    """`num_blocks` blocks, scratch included. All counts are of blocks."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._free = list(range(num_blocks - 1, 0, -1))
        self._holders = [0] * num_blocks
        self._known: dict[tuple[Hashable, tuple[int, ...]], tuple[Node, int]] = {}
        self._keys: dict[int, tuple[Hashable, tuple[int, ...]]] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._numbers = count()

    @property
    def num_free(self) -> int:
        """Blocks that nobody holds; some may still be found."""
        return len(self._free) + len(self._idle)

    @property
    def num_known(self) -> int:
        """Blocks that can be found."""
        return len(self._known)

    def take(self) -> int | None:
        """A block of one's own, None when everything is held."""
        if not self._free and self._idle:
            block, _ = self._idle.popitem(last=False)
            del self._known[self._keys.pop(block)]
            self._free.append(block)
        if not self._free:
            return None
        block = self._free.pop()
        self._holders[block] = 1
        return block

    def find(self, parent: Hashable, tokens: Sequence[int]) -> tuple[Node, int] | None:
        """The block that holds these tokens behind `parent`, held from now on by one more."""
        found = self._known.get((parent, tuple(tokens)))
        if found is not None:
            self.hold(found[1])
        return found

    def num_held(self, root: Hashable, parts: Iterable[Sequence[int]]) -> int:
        """How many blocks at the beginning of a text, given part by part, others hold now."""
        parent, held = root, 0
        for tokens in parts:
            found = self._known.get((parent, tuple(tokens)))
            if found is None:
                break
            parent, held = found[0], held + (self._holders[found[1]] > 0)
        return held

    def hold(self, block: int) -> None:
        """One more holder of a block."""
        self._holders[block] += 1
        self._idle.pop(block, None)

    def is_shared(self, block: int) -> bool:
        return self._holders[block] > 1

    def publish(self, parent: Hashable, tokens: Sequence[int], block: int) -> Node:
        """Let others find a full block. Where one like it is known already that one stays, and this one is known to
        its holder alone."""
        key = (parent, tuple(tokens))
        if key not in self._known:
            self._known[key] = (Node(next(self._numbers)), block)
            self._keys[block] = key
        return self._known[key][0]

    def release(self, blocks: Sequence[int]) -> None:
        """One holder less of each of a text's blocks, the last first."""
        for block in reversed(blocks):
            self._holders[block] -= 1
            if self._holders[block] == 0:
                if block in self._keys:
                    self._idle[block] = None
                else:
                    self._free.append(block)
