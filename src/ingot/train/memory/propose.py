"""Other ways to train the same model that fit, the ones that change least first; each is rehearsed itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from ingot.core.progress import progress
from ingot.train.memory.predict import Needs
from ingot.train.memory.setting import Setting

WANTED = 3

HEAVIER = ("full", "dora")
"""Methods that take more than a low-rank update does."""


def propose(
    setting: Setting, limit: float, needs_of: Callable[[Setting], Needs], same_model: bool = False
) -> list[tuple[Setting, Needs]]:
    """Up to three settings that stay under `limit` bytes; `same_model`: as the network and its rows are."""
    found: list[tuple[Setting, Needs]] = []
    tried = [one for one in dict.fromkeys(_candidates(setting)) if not same_model or _is_same(setting, one)]
    with progress("plan", len(tried)) as advance:
        for number, candidate in enumerate(tried):
            needs = needs_of(candidate)
            advance(number + 1)
            if needs.total <= limit:
                found.append((candidate, needs))
            if len(found) == WANTED:
                break
    return found


def _is_same(setting: Setting, other: Setting) -> bool:
    return (setting.method, setting.length) == (other.method, other.length)


def _candidates(setting: Setting) -> Iterator[Setting]:
    """The same result in smaller parts; other states; the same off the device; LoRA; shorter texts, and all of it."""
    rows = setting.batch_rows
    smallest = replace(setting, micro_batches=rows)
    if rows >= 4:
        yield replace(setting, micro_batches=min(rows, 4 * setting.micro_batches))
    yield smallest
    yield replace(smallest, checkpointing=True)
    yield replace(smallest, optimizer="adamw8")
    yield replace(smallest, optimizer="adamw8", checkpointing=True)
    yield replace(smallest, offload="optimizer", checkpointing=True)
    yield replace(smallest, offload="layers", checkpointing=setting.device == "cpu")
    if setting.method in HEAVIER:
        yield replace(smallest, method="lora")
        yield replace(smallest, method="lora", checkpointing=True)
    for part in (2, 4):
        shorter = max(8, setting.length // part)
        many = replace(setting, length=shorter, batch_rows=rows * part, micro_batches=rows * part)
        yield many
        yield replace(many, optimizer="adamw8", checkpointing=True)
        if setting.method in HEAVIER:
            yield replace(many, method="lora")
