"""Errors a user reads: a stable code, one sentence, in English or Traditional Chinese.

`fail("out-not-empty", path=out)` builds the error to raise; the sentences live in `messages/*.yaml`, one file
per folder of the house, so code and wording can be read apart. A test holds that every code used has both
languages with the same fields, and that no sentence is left without a use.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ingot.core.language import text


class IngotError(ValueError):
    """A mistake in what the user gave us. `code` is stable across versions and languages; `str(error)` is localised.

    `is_told`: another process of the run has found it and tells the user.
    """

    is_told = False

    def __init__(self, code: str, **details: object) -> None:
        self.code = code
        self.details = details
        super().__init__(text(code, **details))


def fail(code: str, **details: object) -> IngotError:
    """The error with this code; `details` fill the fields of its sentence. Use as `raise fail(...)`."""
    return IngotError(code, **details)


def nearest(name: str, known: Iterable[str]) -> str:
    """What the user probably meant: the closest known name, or all of them when nothing is close."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return close[0] if close else ", ".join(names)
