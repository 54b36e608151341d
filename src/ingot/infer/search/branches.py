"""Texts that part from each other, in the blocks of one cache.

What a text has in common with those it parted from lies there once: all hold the same blocks. Only the last block, when
it is not full, is copied by whoever writes to it first while others hold it.
"""

from __future__ import annotations

from collections.abc import Sequence as List

import torch
from torch import Tensor

from ingot.infer.blocks import BLOCK, Blocks, blocks_for
from ingot.infer.runner import Runner
from ingot.infer.sequence import Sequence
from ingot.infer.spans import read_fronts, read_sources, span_of

AT_ONCE = 512
"""Tokens of a prompt that are read in one pass."""


class Branches:
    """`front`: positions that adapters may take in front of every text. most_held: of blocks, at any time so far."""

    def __init__(self, runner: Runner, num_blocks: int, num_source_blocks: int, front: int) -> None:
        self.runner, self.front = runner, front
        self.blocks = Blocks(num_blocks)
        self.source_blocks = Blocks(num_source_blocks)
        self.most_held = 0

    def begin(self, text: Sequence) -> None:
        """What has to be there before a text is read: what adapters put in front, and the source."""
        self._grow(text, self.front)
        if self.front:
            read_fronts(self.runner, [text])
        if text.source_left:
            text.source_blocks = [
                self._take(self.source_blocks) for _ in range(blocks_for(text.source_left + self.front))
            ]
            read_sources(self.runner, [text])

    def read(self, texts: List[Sequence], every: List[bool]) -> list[Tensor]:
        """Read all that is left of each text, long prompts in parts; the hidden state of its last token, or of every
        token, each (T, C)."""
        found: list[list[Tensor]] = [[] for _ in texts]
        while going := [number for number, text in enumerate(texts) if text.num_left]:
            counts = [texts[number].num_next(AT_ONCE) for number in going]
            for number, count in zip(going, counts, strict=True):
                self._grow(texts[number], texts[number].next_position + count)
            wanted = [
                count if every[number] else int(count == texts[number].num_left)
                for number, count in zip(going, counts, strict=True)
            ]
            spans = [span_of(texts[n], count, rows) for n, count, rows in zip(going, counts, wanted, strict=True)]
            for number, count, hidden_TC in zip(going, counts, self.runner.run(spans).split(wanted), strict=True):
                found[number].append(hidden_TC)
                texts[number].num_cached += count
        return [torch.cat(parts) if whole else parts[-1] for parts, whole in zip(found, every, strict=True)]

    def keep(self, parted: List[Sequence], texts: List[Sequence]) -> None:
        """Let `texts` hold what those they parted from hold, who then let go of it."""
        for text in texts:
            for block in text.blocks:
                self.blocks.hold(block)
        for text in parted:
            self.blocks.release(text.blocks)

    def end(self, root: Sequence) -> None:
        """Let go of a source."""
        self.source_blocks.release(root.source_blocks)

    def _grow(self, text: Sequence, end: int) -> None:
        """Blocks of its own for what is written up to position `end`."""
        for at in range(text.next_position // BLOCK, len(text.blocks)):
            block = text.blocks[at]
            if self.blocks.is_shared(block):
                text.blocks[at] = self._take(self.blocks)
                self.runner.copy_block(block, text.blocks[at])
                self.blocks.release([block])
        while len(text.blocks) < blocks_for(end):
            text.blocks.append(self._take(self.blocks))
        self.most_held = max(self.most_held, self.blocks.num_blocks - 1 - self.blocks.num_free)

    @staticmethod
    def _take(blocks: Blocks) -> int:
        block = blocks.take()
        assert block is not None, "room was reserved"
        return block
