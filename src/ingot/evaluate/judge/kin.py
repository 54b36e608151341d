"""Is a judge related to a system it judges? Models prefer what they would have written themselves (Panickssery 2024).

A model's line is its own digest and those of every directory that it came from, as its hallmark tells. Two lines that
meet make kin: the same model, one tuned from the other, or two from one parent. Where nothing is known, that is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ingot.core.errors import fail, nearest
from ingot.core.hallmark import Hallmark
from ingot.core.model_dir import ModelDir, split_reference


def parse_systems(given: Sequence[str], systems: Sequence[str]) -> dict[str, str]:
    """NAME=DIR as a dict. Raises `judge-bad-system`, `judge-unknown-system`, and what opening a directory raises."""
    found = {}
    for entry in given:
        name, equals, reference = entry.partition("=")
        if not equals or not name or not reference:
            raise fail("judge-bad-system", found=entry)
        if name not in systems:
            raise fail("judge-unknown-system", name=name, nearest=nearest(name, systems))
        found[name] = reference
    return found


def line_of(reference: str) -> set[str]:
    """Digests of a model, its adapters and all they came from."""
    base, adapters = split_reference(reference)
    return set().union(*(_line(path) for path in (base, *adapters)))


def _line(path: Path) -> set[str]:
    hallmark = Hallmark.read(path)
    found = {ModelDir.open(path).digest}
    if hallmark is None:
        return found
    steps = [hallmark.step, *(ancestor.step for ancestor in hallmark.ancestry)]
    found |= {hallmark.digest, *(ancestor.digest for ancestor in hallmark.ancestry)}
    return found | {parent.digest for step in steps for parent in step.parents}


def kin_of(judge: str, systems: dict[str, str]) -> list[str]:
    """Systems whose line meets that of the judge."""
    own = line_of(judge)
    return sorted(name for name, reference in systems.items() if own & line_of(reference))


def namesakes(judge: str, systems: Sequence[str]) -> list[str]:
    """All that can be told of a service: systems with the judge's name, apart from case and a maker's prefix."""
    own = judge.rpartition("/")[2].casefold()
    return sorted(name for name in systems if name.rpartition("/")[2].casefold() == own)
