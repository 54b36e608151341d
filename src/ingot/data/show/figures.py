"""What a file of conversations comes to in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from ingot.core.report import Cell, Interval
from ingot.data.bias import length_bias
from ingot.data.pack import best_fit
from ingot.data.pairs import Labelled
from ingot.data.show.survey import Survey

MOST_BINS = 16
STEPS = (1, 2, 5)
"""Widths of a histogram's bins are these times a power of ten."""


def numbers(found: Survey) -> dict[str, Cell]:
    """The numbers of a report; those about the window only where there is one."""
    ready, sizes = found.ready, [one.size for one in found.ready]
    tokens = sum(len(side.ids) for one in ready for side in one.sides)
    targets = sum(sum(side.mask) for one in ready for side in one.sides)
    beyond = {} if found.length is None else {"longer_than_window": len(found.long)}
    return {
        found.kind: len(ready),
        "bad_records": len(found.problems),
        "repeated": len(found.repeats),
        **beyond,
        **KIND_NUMBERS[found.kind](found),
        "median_tokens": int(median(sizes)),
        "longest_tokens": max(sizes),
        "target_share": targets / tokens,
        "target_tokens": targets,
    }


def _chats(found: Survey) -> dict[str, Cell]:
    """How full rows are that conversations are packed into, and that hold one each."""
    sizes = [one.size for one in found.ready if found.length is not None and one.size <= found.length]
    if found.length is None or not sizes:
        return {}
    rows = len(best_fit(sizes, found.length))
    return {"filled_share": sum(sizes) / (rows * found.length),
            "filled_alone_share": sum(sizes) / (len(sizes) * found.length)}  # fmt: skip


def _pairs(found: Survey) -> dict[str, Cell]:
    bias = length_bias([one.pair for one in found.ready])
    interval = Interval(value=bias.difference, low=bias.low, high=bias.high)
    return {
        "contradicting": len(found.contradictions),
        "chosen_longer_share": bias.longer_share,
        "chosen_shorter_share": bias.shorter / len(found.ready),
        "mean_difference_tokens": interval if len(found.ready) > 1 else bias.difference,
        "median_difference_tokens": bias.median_difference,
        "mean_chosen_tokens": bias.mean_chosen,
        "mean_rejected_tokens": bias.mean_rejected,
    }


def _labelled(found: Survey) -> dict[str, Cell]:
    good = sum(isinstance(one.item, Labelled) and one.item.good for one in found.ready)
    return {"good_share": good / len(found.ready)}


KIND_NUMBERS = {"chats": _chats, "pairs": _pairs, "labelled": _labelled}
"""Numbers that only one kind has."""


def bins(sizes: Sequence[int]) -> list[tuple[int, int, int]]:
    """(low, high, count) of at most MOST_BINS bins of one round width, from the one with the least to the one with the
    most; both ends are in the bin."""
    low, high = min(sizes), max(sizes)
    widths = (step * 10**power for power in range(12) for step in STEPS)
    width = next(width for width in widths if high // width - low // width < MOST_BINS)
    first = low // width
    counts = [0] * (high // width - first + 1)
    for size in sizes:
        counts[size // width - first] += 1
    return [((first + at) * width, (first + at + 1) * width - 1, count) for at, count in enumerate(counts)]


def bin_name(low: int, high: int) -> str:
    """What a bin is called."""
    return (f"{low:,}" if low == high else f"{low:,} – {high:,}").replace("-", "−")
