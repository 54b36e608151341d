"""Licences by their SPDX names: which are known, what one unknown was probably meant to be, and several joined.

The names and the grammar (AND, OR, WITH, parentheses) come from the license-expression library, which carries the SPDX
list. `LicenseRef-NAME` is a licence that the list does not have (SPDX 2.3, annex D.1); `NOASSERTION` says that nobody
knows. Nothing here says whether a licence allows training: that is for people to decide.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable
from typing import Any

from ingot.core.errors import fail

UNSTATED = "NOASSERTION"
OWN = re.compile(r"LicenseRef-[A-Za-z0-9.-]+")
COMMON = "CC0-1.0, CC-BY-4.0, CC-BY-SA-4.0, ODC-By-1.0, MIT, Apache-2.0, LicenseRef-NAME"
"""What is offered when nothing is near."""


def check_licence(expression: str, place: str) -> str | None:
    """The licence as SPDX writes it, None for NOASSERTION. Raises `unknown-licence` with the name at fault, the nearest
    known one and the place it was found in."""
    found = _normalised(expression.strip())
    if isinstance(found, Unknown):
        raise fail("unknown-licence", name=found.name, place=place, nearest=found.nearest)
    return None if found == UNSTATED else found


def join_licences(licences: Iterable[str | None]) -> str | None:
    """What holds for a whole of parts under these licences: all of them; None when one part's is unknown."""
    found = set(licences)
    if not found or found & {None, UNSTATED}:
        return None
    parts = sorted({part for one in found if one for part in _conjuncts(one)})
    return " AND ".join(f"({part})" if " OR " in part and len(parts) > 1 else part for part in parts)


def stated_licence(record: dict[str, Any]) -> str | None:
    """What a record says of its own licence, if anything."""
    found = record.get("licence", record.get("license"))
    return found if isinstance(found, str) else None


class Unknown:
    """A name that SPDX does not have, and those it may have been meant to be."""

    def __init__(self, name: str) -> None:
        self.name = name
        names = _names()
        close = difflib.get_close_matches(re.sub(r"[\s_-]+", "-", name.lower()), names, n=1, cutoff=0.7)
        self.nearest = names[close[0]] if close else COMMON


@functools.lru_cache(maxsize=1024)
def _normalised(expression: str) -> str | Unknown:
    from license_expression import ExpressionError, Licensing

    names = _names()
    try:
        parsed: Any = Licensing().parse(expression)
    except ExpressionError:
        return Unknown(expression)
    symbols = [] if parsed is None else Licensing().license_symbols(parsed, unique=False, decompose=True)
    keys = [symbol.key for symbol in symbols]
    wrong = [key for key in keys if key.lower() not in names and not OWN.fullmatch(key)]
    if wrong or not keys:
        return Unknown(wrong[0] if wrong else expression)
    return re.sub(r"[^\s()]+", lambda word: names.get(word[0].lower(), word[0]), str(parsed))


def _conjuncts(expression: str) -> list[str]:
    """The parts of an expression that AND joins at its top; one that cannot be read is a part of its own."""
    from license_expression import ExpressionError, Licensing

    try:
        parsed: Any = Licensing().parse(expression)
    except ExpressionError:
        return [expression]
    return [str(part) for part in parsed.args] if getattr(parsed, "operator", "").strip() == "AND" else [str(parsed)]


@functools.cache
def _names() -> dict[str, str]:
    """Every name SPDX has or had, in lower case, with what it is written as today."""
    from license_expression import get_spdx_licensing

    names = {UNSTATED.lower(): UNSTATED}
    for key, symbol in get_spdx_licensing().known_symbols.items():
        if not key.startswith("LicenseRef-"):
            names |= {name.lower(): key for name in (*symbol.aliases, key) if " " not in name}
    return names
