"""What a person sees while a step works: sentences on stdout, a bar with an estimate on stderr.

`say` goes through the "ingot" logger, so a library user hears nothing unless logging is on; the command line turns
it on. Bars are drawn on a terminal; elsewhere a plain line with the estimate is printed every ten seconds.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from ingot.core.language import text

T = TypeVar("T")
Advance = Callable[..., None]
"""advance(completed, note="") sets how much is done and a short note shown beside it."""

LOGGER = logging.getLogger("ingot")
QUIET_SECONDS = 10.0


def say(code: str, **details: object) -> None:
    """Tell the user a sentence of the catalogue."""
    LOGGER.info(text(code, **details))


def tell(words: str) -> None:
    """Tell the user what is no sentence of ours: a picture, or a text that was read."""
    LOGGER.info("%s", words)


def warn(code: str, **details: object) -> None:
    """The same, for something the user should know and may want to change."""
    LOGGER.warning(text(code, **details))


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Within, warnings are told and sentences are not: for what is done many times over."""
    level = LOGGER.level
    LOGGER.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        LOGGER.setLevel(level)


@contextlib.contextmanager
def progress(label: str, total: float) -> Iterator[Advance]:
    """Show how far a long piece of work is: `with progress("train", steps) as advance: advance(3, "loss 2.1")`."""
    if os.environ.get("INGOT_PROGRESS") == "0":
        yield lambda completed, note="": None
    elif sys.stderr.isatty():
        with _bar(label, total) as advance:
            yield advance
    else:
        yield _lines(label, total)


def track(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    """Iterate with a progress bar."""
    with progress(label, total) as advance:
        for done, item in enumerate(items, start=1):
            yield item
            advance(done)


@contextlib.contextmanager
def _bar(label: str, total: float) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
               TimeElapsedColumn(), TextColumn("<"), TimeRemainingColumn(),
               TextColumn("{task.fields[note]}"))  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task(label, total=total, note="")
        yield lambda completed, note="": display.update(task, completed=completed, note=note)


def _lines(label: str, total: float) -> Advance:
    started = last = time.monotonic()

    def advance(completed: float, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= QUIET_SECONDS and completed > 0:
            last = now
            left = (now - started) * (total - completed) / completed
            print(f"{label} {completed / total:.0%}, {left:.0f} s left {note}".rstrip(), file=sys.stderr, flush=True)

    return advance
