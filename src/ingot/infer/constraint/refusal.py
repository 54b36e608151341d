"""How a schema is refused: the place by its JSON pointer, and what was found there."""

from __future__ import annotations

from typing import Any

from ingot.core.errors import IngotError, fail


def pointer_to(*steps: object) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def refused(pointer: str, reason: str) -> IngotError:
    """The error for a place in a schema."""
    return fail("schema-refused", pointer=pointer, reason=reason)


def shown(value: Any) -> str:
    """What was found, in one line."""
    return f"{value!r:.60}"
