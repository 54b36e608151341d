"""Who runs, what of each is read in a step, and in which blocks of the cache it lies.

A sequence that waits is admitted when a slot is free and its known tokens fit. In a step every sequence whose prompt is
read goes on by one token, and by what is guessed to follow; prompts are read in parts, fewer tokens at a time while
others write, so that these wait little. What is read in both directions (a source, a prefix) cannot be read in parts:
where it is longer than that, it is read alone in one step. A block that another sequence is reading right now is waited
for and then shared. When a block is needed and everything is held, the sequence that came last gives up its blocks,
waits, and reads its tokens again later. A guided text and its companion are let in, give way and go together.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from dataclasses import dataclass

from ingot.infer.blocks import BLOCK, Blocks, blocks_for
from ingot.infer.sequence import Sequence

BUSY_TOKENS = 16
"""Prompt tokens read in one step while others write: about what makes a step twice as long (64: five times)."""


@dataclass
class Counters:
    """What happened so far. Tokens of prompts that were to be read, and those that were found in the cache instead;
    sequences that had to give up their blocks; tokens that were guessed, and those that were right."""

    asked: int = 0
    hit: int = 0
    preempted: int = 0
    drafted: int = 0
    accepted: int = 0


@dataclass(frozen=True)
class Reading:
    """What is to be read of a sequence: its next `count` known tokens."""

    sequence: Sequence
    count: int


class Scheduler:
    """`num_slots` sequences run at once, in `num_blocks` blocks; an encoder-decoder's sources have blocks of their own.
    front: positions that adapters may take in front of every text."""

    def __init__(
        self, num_slots: int, num_blocks: int, num_source_blocks: int, prefill_tokens: int, front: int
    ) -> None:
        self.num_slots = num_slots
        self.prefill_tokens = prefill_tokens
        self.front = front
        self.blocks = Blocks(num_blocks)
        self.source_blocks = Blocks(num_source_blocks)
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.counters = Counters()

    @property
    def capacity(self) -> int:
        """The longest text that fits when it runs alone, in tokens."""
        return (self.blocks.num_blocks - 1) * BLOCK - self.front

    def fitting(self, lengths: list[int]) -> int:
        """How many tokens fit behind each of some texts that run together, and nothing else with them."""
        room = (self.capacity + self.front - sum(self.front + length for length in lengths)) // len(lengths)
        while room > 0 and sum(blocks_for(self.front + n + room) for n in lengths) >= self.blocks.num_blocks:
            room -= 1
        return room

    def add(self, sequence: Sequence) -> None:
        self.counters.asked += sum(len(each.start.ids) for each in sequence.together)
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is; its blocks are free at once."""
        if sequence in self.running:
            self.running.remove(sequence)
            self._free(sequence)
        else:
            self.waiting.remove(sequence)

    def admit(self) -> None:
        """Let those run for which there is room."""
        while self.waiting and self._has_slots(self.waiting[0]) and self._fits(self.waiting[0]):
            sequence = self.waiting.popleft()
            insort(self.running, sequence, key=lambda other: other.id)

    def plan(self, ahead: int = 0) -> list[Reading]:
        """What this step reads, in order of arrival, with blocks for all of it, and, where there are any left, for
        `ahead` tokens that may be guessed."""
        left = self.prefill_tokens
        if any(not any(each.is_reading for each in sequence.together) for sequence in self.running):
            left = min(left, BUSY_TOKENS)
        planned: list[Reading] = []
        being_read: set[object] = set()
        for sequence in [each for running in self.running for each in running.together]:
            if not self._is_running(sequence):
                break  # it and all that came later had to give way
            count = self._count(sequence, left, being_read, not any(r.sequence.is_reading for r in planned))
            guessed = 0 if sequence.is_reading or sequence.pair else min(ahead, sequence.room - 1)
            if count and self._make_room(sequence, count, guessed):
                planned.append(Reading(sequence, count))
                left -= (count + sequence.source_left) if sequence.is_reading else 0
        return [reading for reading in planned if self._is_running(reading.sequence)]

    def publish(self, sequence: Sequence) -> None:
        """Let others find the blocks that are full now."""
        while sequence.root is not None and (sequence.num_published + 1) * BLOCK <= sequence.num_cached:
            tokens, block = self._next_block(sequence), sequence.blocks[sequence.num_published]
            sequence.node = self.blocks.publish(sequence.node, tokens, block)
            sequence.num_published += 1

    def preempt(self, sequence: Sequence) -> None:
        """Make a running sequence wait again, before all that came later."""
        self.running.remove(sequence)
        self._free(sequence)
        self.counters.preempted += 1
        place = next((n for n, other in enumerate(self.waiting) if other.id > sequence.id), len(self.waiting))
        self.waiting.insert(place, sequence)

    def _count(self, sequence: Sequence, left: int, being_read: set[object], first: bool) -> int:
        """How many known tokens of a sequence to read now."""
        if not sequence.is_reading:
            return sequence.num_left
        self._adopt(sequence)
        if not sequence.is_reading:
            return sequence.num_left
        count = self._aligned(sequence, sequence.num_next(max(left, 1)))
        if left < count + sequence.source_left and not first:
            return 0
        if sequence.root is not None and sequence.num_cached % BLOCK == 0:
            key = (sequence.node, tuple(self._next_block(sequence)))
            if key in being_read:
                return 0
            being_read.add(key)
        return count

    def _aligned(self, sequence: Sequence, count: int) -> int:
        """A part of a prompt ends at a block's border where it can, so that the next one may be found."""
        over = (sequence.num_cached + count) % BLOCK
        is_part = sequence.num_cached + count < max(sequence.num_known, sequence.start.prefix + 1)
        return count - over if is_part and count > over and sequence.root is not None else count

    def _adopt(self, sequence: Sequence) -> None:
        """Take over blocks that hold what comes next; one token at least is left to read."""
        while self._may_adopt(sequence):
            found = self.blocks.find(sequence.node, self._next_block(sequence))
            if found is None:
                return
            sequence.node, block = found
            sequence.blocks.append(block)
            sequence.num_cached += BLOCK
            sequence.num_published += 1
            if not sequence.tokens and sequence.num_cached > sequence.num_seen:  # not what it read itself once
                sequence.num_hit += BLOCK
                self.counters.hit += BLOCK

    def _may_adopt(self, sequence: Sequence) -> bool:
        at_border = sequence.num_cached == sequence.num_published * BLOCK
        is_shared = sequence.root is not None and sequence.prompt_logprobs is None
        return is_shared and at_border and sequence.num_left > BLOCK

    def _next_block(self, sequence: Sequence) -> list[int]:
        """The tokens of the first block that is not published."""
        return sequence.known(sequence.num_published * BLOCK, BLOCK)

    def _has_slots(self, sequence: Sequence) -> bool:
        return sum(len(each.together) for each in (*self.running, sequence)) <= self.num_slots

    def _is_running(self, sequence: Sequence) -> bool:
        return sequence.together[0] in self.running

    def _fits(self, sequence: Sequence) -> bool:
        """Whether what is known of a sequence, and one token more, fits in what nobody holds."""
        if not self.running:
            return True
        needed = [blocks_for(self.front + e.num_known + 1) - self._num_shared(e) for e in sequence.together]
        return sum(needed) <= self.blocks.num_free

    def _num_shared(self, sequence: Sequence) -> int:
        """How many blocks of it others hold already."""
        return 0 if sequence.root is None else self.blocks.num_held(
            sequence.root, (sequence.known(begin, BLOCK) for begin in range(0, sequence.num_known - BLOCK, BLOCK))
        )  # fmt: skip

    def _make_room(self, sequence: Sequence, count: int, ahead: int) -> bool:
        """Blocks for its next tokens; False where it had to give way itself."""
        if self.source_blocks.num_blocks and not sequence.source_blocks:
            wanted = blocks_for(len(sequence.start.source) + self.front)
            taken = [self.source_blocks.take() for _ in range(wanted)]
            sequence.source_blocks = [block for block in taken if block is not None]
        end = (sequence.next_position or self.front) + count
        needed = blocks_for(end + ahead)
        if needed - len(sequence.blocks) > self.blocks.num_free:
            needed = blocks_for(end)
        while len(sequence.blocks) < needed:
            block = self.blocks.take()
            if block is not None:
                sequence.blocks.append(block)
                continue
            last = self.running[-1]
            self.preempt(last)
            if sequence in last.together:
                return False
        return True

    def _free(self, sequence: Sequence) -> None:
        for each in sequence.together:
            self.blocks.release(each.blocks)
            self.source_blocks.release(each.source_blocks)
            each.forget_cache()
