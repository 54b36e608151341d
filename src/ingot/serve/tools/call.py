"""One call as a model wrote it: a JSON object with a name and arguments.

The arguments are handed on as the model wrote them, byte for byte, once the whole object is known to be JSON and to
name a function that was offered. What is not such an object is no call and stays text.
"""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Collection
from dataclasses import dataclass, field
from json.decoder import JSONDecodeError, scanstring  # type: ignore[attr-defined]
from typing import Any

SPACE = " \t\r\n"
ID_LETTERS = string.ascii_letters + string.digits


def call_id(size: int = 24, prefix: str = "call_") -> str:
    """A fresh name for a call."""
    return prefix + "".join(secrets.choice(ID_LETTERS) for _ in range(size))


@dataclass(frozen=True)
class Call:
    """A call of a function that was offered. `arguments`: a JSON object as a string."""

    name: str
    arguments: str
    id: str = field(default_factory=call_id)


def read_call(text: str, offered: Collection[str], arguments: Collection[str] = ("arguments",)) -> Call | None:
    """The call that `text` is, white space around it left aside; `arguments`: keys under which its arguments may stand.
    None where it is no JSON object, has other keys, or names no function that was offered."""
    try:
        members, end = read_object(text, skip(text, 0))
    except (JSONDecodeError, RecursionError):
        return None
    allowed = {"name", "id", "type", *arguments}
    if skip(text, end) != len(text) or not members.keys() <= allowed or "name" not in members:
        return None
    name = members["name"][0]
    keys = [key for key in arguments if key in members]
    written = _arguments(*members[keys[0]]) if len(keys) == 1 else ("{}" if not keys else None)
    if not isinstance(name, str) or name not in offered or written is None:
        return None
    return Call(name, written)


def _arguments(value: Any, written: str) -> str | None:
    """An object as it was written; some models write it as a string that holds the object."""
    if isinstance(value, dict):
        return written
    if isinstance(value, str):
        try:
            _, end = read_object(value, skip(value, 0))
        except (JSONDecodeError, RecursionError):
            return None
        return value.strip(SPACE) if skip(value, end) == len(value) else None
    return None


def read_object(text: str, at: int) -> tuple[dict[str, tuple[Any, str]], int]:
    """The members of the JSON object at `at`, each with what was written for it, and where it ends. Raises
    JSONDecodeError, also for a key that stands twice and for NaN, which JSON does not have."""
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    members: dict[str, tuple[Any, str]] = {}
    at = _expect(text, at, "{")
    while True:
        at = skip(text, at)
        if not members and text[at : at + 1] == "}":
            return members, at + 1
        key, at = scanstring(text, _expect(text, at, '"'), True)
        begin = skip(text, _expect(text, skip(text, at), ":"))
        value, at = decoder.raw_decode(text, begin)
        if key in members:
            raise JSONDecodeError("a key stands twice", text, begin)
        members[key] = (value, text[begin:at])
        at = skip(text, at)
        if text[at : at + 1] == "}":
            return members, at + 1
        at = _expect(text, at, ",")


def skip(text: str, at: int) -> int:
    """Where something other than white space stands, from `at` on."""
    while at < len(text) and text[at] in SPACE:
        at += 1
    return at


def _expect(text: str, at: int, mark: str) -> int:
    if text[at : at + 1] != mark:
        raise JSONDecodeError(f"expected {mark}", text, at)
    return at + 1


def _no_constant(name: str) -> Any:
    raise JSONDecodeError(f"{name} is no JSON", name, 0)
