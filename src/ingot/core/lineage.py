"""What a model learnt from, as the hallmarks of its directories tell."""

from __future__ import annotations

from collections.abc import Iterator

from ingot.core.hallmark import Hallmark, Step
from ingot.core.model_dir import split_reference

LEARNING = {"pretrain", "tune", "prefer", "context extend"}
"""Verbs that learn from their data; others only measure on it."""


def learning_steps(reference: str) -> Iterator[Step]:
    """The steps in which a model, its adapter and their ancestors learnt."""
    base, adapters = split_reference(reference)
    for path in (base, *adapters):
        hallmark = Hallmark.read(path)
        steps = [] if hallmark is None else [hallmark.step, *(ancestor.step for ancestor in hallmark.ancestry)]
        yield from (step for step in steps if step.verb in LEARNING)
