"""Work of the engine's thread that makes no tokens, in pieces small enough to do between two steps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class Task:
    """`pieces` are made on the engine's thread; all else belongs to the event loop. size: tokens it reads."""

    pieces: Iterator[Any]
    size: int
    future: asyncio.Future[list[Any]]
    found: list[Any] = field(default_factory=list)

    def advance(self, call: Callable[..., None]) -> bool:
        """Make the next piece; whether there may be more. `call` has the event loop do something."""
        if self.future.done():
            return False
        try:
            piece = next(self.pieces, None)
        except Exception as error:
            call(self.settle, error)
            return False
        if piece is None:
            call(self.settle, self.found)
            return False
        self.found.append(piece)
        return True

    def settle(self, outcome: list[Any] | Exception) -> None:
        """Hand over what came of it, unless its client has left."""
        if self.future.done():
            return
        if isinstance(outcome, Exception):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)
