"""Other ways to train the same model that fit, the ones that change least first; each is rehearsed itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ingot.core.progress import progress
from ingot.train.memory.predict import Needs, training
from ingot.train.memory.setting import Setting

WANTED = 3


def propose(setting: Setting, limit: float, process: float) -> list[tuple[Setting, Needs]]:
    """Up to three settings that stay under `limit` bytes."""
    found: list[tuple[Setting, Needs]] = []
    tried = list(dict.fromkeys(_candidates(setting)))
    with progress("plan", len(tried)) as advance:
        for number, candidate in enumerate(tried):
            needs = training(candidate, process)
            advance(number + 1)
            if needs.total <= limit:
                found.append((candidate, needs))
            if len(found) == WANTED:
                break
    return found


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
    yield replace(smallest, method="lora")
    yield replace(smallest, method="lora", checkpointing=True)
    for part in (2, 4):
        shorter = max(8, setting.length // part)
        many = replace(setting, length=shorter, batch_rows=rows * part, micro_batches=rows * part)
        yield many
        yield replace(many, optimizer="adamw8", checkpointing=True)
        yield replace(many, method="lora")
