"""What is longer than the window: refused with how many there are, or on request left out and said. Never cut.

Cut on the right a conversation loses its answer, cut on the left the question; both would teach something else than
what was given.
"""

from __future__ import annotations

from collections.abc import Sequence

from ingot.core.errors import IngotError, fail
from ingot.core.progress import warn
from ingot.data.pairs import RenderedAnswer, RenderedPair
from ingot.data.records import places


def too_long(long: Sequence[tuple[int, int]], total: int, length: int) -> IngotError:
    """`chat-too-long` for some (size in tokens, line): how many of the total, where, and the longest."""
    found, number = max(long)
    return fail("chat-too-long", count=len(long), total=total, places=places([line for _, line in long]),
                number=number, found=found, length=length)  # fmt: skip


def tell_skipped(lines: Sequence[int], total: int, length: int) -> None:
    """Warn of what was left out because it is longer than the window."""
    if lines:
        warn("long-skipped", count=f"{len(lines):,}", total=f"{total:,}", length=length, places=places(lines))


def fit_pairs(pairs: Sequence[RenderedPair], length: int, *, skip_long: bool = False) -> list[RenderedPair]:
    """The pairs of which both sides fit into the window: all, or with `skip_long` those that do.

    Raises `chat-too-long`.
    """
    sizes = [max(len(pair.chosen.ids), len(pair.rejected.ids)) for pair in pairs]
    return [pairs[number] for number in _fitting(sizes, [pair.line for pair in pairs], length, skip_long)]


def fit_labelled(answers: Sequence[RenderedAnswer], length: int, *, skip_long: bool = False) -> list[RenderedAnswer]:
    """The same for labelled answers."""
    sizes = [len(one.answer.ids) for one in answers]
    return [answers[number] for number in _fitting(sizes, [one.line for one in answers], length, skip_long)]


def _fitting(sizes: list[int], lines: list[int], length: int, skip_long: bool) -> list[int]:
    """Numbers of what fits: all, or with `skip_long` those that do, the others being said."""
    long = [(size, line) for size, line in zip(sizes, lines, strict=True) if size > length]
    if long and (not skip_long or len(long) == len(sizes)):
        raise too_long(long, len(sizes), length)
    tell_skipped([line for _, line in long], len(sizes), length)
    return [number for number, size in enumerate(sizes) if size <= length]
