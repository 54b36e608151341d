"""What is longer than the window: refused with how many there are, or on request left out and said. Never cut.

Cut on the right a conversation loses its answer, cut on the left the question; both would teach something else than
what was given.
"""

from __future__ import annotations

from collections.abc import Sequence

from ingot.core.errors import fail
from ingot.core.progress import warn
from ingot.data.pairs import RenderedAnswer, RenderedPair
from ingot.data.records import places


def refuse_long(sizes: Sequence[int], lines: Sequence[int], length: int) -> None:
    """Raises `chat-too-long` where a size in tokens is beyond the window: how many, where, and the longest."""
    long = [(size, line) for size, line in zip(sizes, lines, strict=True) if size > length]
    if long:
        found, number = max(long)
        raise fail("chat-too-long", count=len(long), total=len(sizes), places=places([line for _, line in long]),
                   number=number, found=found, length=length)  # fmt: skip


def fit_pairs(pairs: Sequence[RenderedPair], length: int, *, skip_long: bool = False) -> list[RenderedPair]:
    """The pairs of which both sides fit into the window: all, or with `skip_long` those that do.

    Raises `chat-too-long`.
    """
    sizes = [max(len(pair.chosen.ids), len(pair.rejected.ids)) for pair in pairs]
    return [pairs[number] for number in fitting(sizes, [pair.line for pair in pairs], length, skip_long)]


def fit_labelled(answers: Sequence[RenderedAnswer], length: int, *, skip_long: bool = False) -> list[RenderedAnswer]:
    """The same for labelled answers."""
    sizes = [len(one.answer.ids) for one in answers]
    return [answers[number] for number in fitting(sizes, [one.line for one in answers], length, skip_long)]


def fitting(sizes: list[int], lines: list[int], length: int, skip_long: bool) -> list[int]:
    """Numbers of what fits: all, or with `skip_long` those that do, the others being said. Raises `chat-too-long`."""
    fitting = [number for number, size in enumerate(sizes) if size <= length]
    if not skip_long or not fitting:
        refuse_long(sizes, lines, length)
    if len(fitting) < len(sizes):
        long = [line for size, line in zip(sizes, lines, strict=True) if size > length]
        warn("long-skipped", count=f"{len(long):,}", total=f"{len(sizes):,}", length=length, places=places(long))
    return fitting
