"""Sequences on their way into a runner: what is read of them next, and what has to be there before."""

from __future__ import annotations

from collections.abc import Sequence as List

from ingot.infer.runner import Runner, Span, TorchRunner
from ingot.infer.sequence import Sequence


def span_of(sequence: Sequence, count: int, wanted: int) -> Span:
    """Its next `count` known tokens, and what is guessed behind them where these are the last."""
    start = sequence.start
    return Span(
        ids=[*sequence.known(sequence.num_cached, count), *sequence.draft],
        begin=sequence.next_position,
        blocks=sequence.blocks,
        wanted=wanted,
        length=sequence.front_cached + len(start.ids),
        front=sequence.front_cached,
        prefix=start.prefix,
        adapters=sequence.adapters,
        source_blocks=sequence.source_blocks,
        source=sequence.source_cached,
        taps=sequence.taps,
    )


def read_fronts(runner: Runner, sequences: List[Sequence]) -> None:
    """What adapters put in front of texts that begin."""
    new = [sequence for sequence in sequences if sequence.num_cached == 0]
    if new:
        assert isinstance(runner, TorchRunner)
        kept = runner.keep_front([each.blocks for each in new], [each.adapters for each in new])
        for sequence, length in zip(new, kept, strict=True):
            sequence.front_cached = length


def read_sources(runner: Runner, sequences: List[Sequence]) -> None:
    """What an encoder reads of texts that begin."""
    new = [sequence for sequence in sequences if sequence.source_left]
    if new:
        assert isinstance(runner, TorchRunner)
        kept = runner.read_sources(
            [each.start.source for each in new],
            [each.source_blocks for each in new],
            [each.adapters for each in new],
        )
        for sequence, length in zip(new, kept, strict=True):
            sequence.source_cached = length
