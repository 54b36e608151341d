"""The values of a schema's keywords: checked, and as the rewritten schema has them.

Each function takes a value and the JSON pointer it stands at, and gives its new form. Raises `schema-refused`.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from math import isfinite
from typing import Any

from ingot.infer.constraint.formats import FORMATS
from ingot.infer.constraint.patterns import read_pattern
from ingot.infer.constraint.refusal import pointer_to, refused, shown
from ingot.text.tokenizer import SURROGATE

MAX_VALUE_DEPTH = 64
"""Lists and objects inside an enumerated value."""
MAX_INTEGER = 2**53
"""Bounds are read as 64-bit floats, which hold every integer up to here."""
MAX_DIGITS = 15
"""Decimal digits that a 64-bit float holds."""
MIN_EXPONENT = -12
"""Digits behind the point."""
TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")


def types(value: Any, pointer: str) -> Any:
    names = value if isinstance(value, list) else [value]
    unknown = [each for each in names if each not in TYPES]
    if unknown or not names:
        raise refused(pointer, f"expected {', '.join(TYPES)}, or a list of them; found {shown(value)}")
    return value


def values(value: Any, pointer: str) -> Any:
    if not isinstance(value, list) or not value:
        raise refused(pointer, f"expected a list with at least one value; found {shown(value)}")
    for at, each in enumerate(value):
        constant(each, pointer + pointer_to(at))
    return value


def constant(value: Any, pointer: str) -> Any:
    """Any value whose numbers stay what they are and whose text is text."""
    open_values, depth = [value], 0
    while open_values:
        depth += 1
        if depth > MAX_VALUE_DEPTH:
            raise refused(pointer, f"a value is nested more than {MAX_VALUE_DEPTH} deep")
        for each in open_values:
            _check_constant(each, pointer)
        inside = [list(each.values()) + list(each) if isinstance(each, dict) else each
                  for each in open_values if isinstance(each, dict | list)]  # fmt: skip
        open_values = [each for group in inside for each in group]
    return value


def required(value: Any, pointer: str) -> Any:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise refused(pointer, f"expected a list of names; found {shown(value)}")
    for each in value:
        check_text(each, pointer)
    return list(dict.fromkeys(value))


def count(value: Any, pointer: str) -> Any:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value <= 2**31:
        raise refused(pointer, f"expected a count from 0 to {2**31}; found {shown(value)}")
    return value


def bound(value: Any, pointer: str) -> Any:
    if type(value) not in (int, float) or not is_exact(value):
        raise refused(pointer, f"expected a number of at most {MAX_DIGITS} digits; found {shown(value)}")
    return value


def divisor(value: Any, pointer: str) -> Any:
    if bound(value, pointer) <= 0:
        raise refused(pointer, f"expected a number above 0; found {shown(value)}")
    return value


def pattern(value: Any, pointer: str) -> str:
    """In the plain dialect."""
    if not isinstance(value, str):
        raise refused(pointer, f"expected a regular expression; found {shown(value)}")
    try:
        return f"^(?:{read_pattern(value, whole=False).text})$"
    except ValueError as error:
        raise refused(pointer, str(error)) from None


def format_name(value: Any, pointer: str) -> Any:
    if not isinstance(value, str) or value not in FORMATS:
        raise refused(pointer, f"the format {shown(value)} is not enforced here; known: {', '.join(FORMATS)}")
    return value


def is_exact(value: float) -> bool:
    """Is this number the same in decimal and as a 64-bit float?"""
    if isinstance(value, int):
        return abs(value) <= MAX_INTEGER
    if not isfinite(value) or abs(value) > MAX_INTEGER:
        return False
    _, digits, exponent = Decimal(repr(value)).as_tuple()
    return len(digits) <= MAX_DIGITS and int(exponent) >= MIN_EXPONENT


def check_text(text: object, pointer: str) -> None:
    if not isinstance(text, str):
        raise refused(pointer, f"expected a text; found {shown(text)}")
    if not text.isascii() and SURROGATE.search(text):
        raise refused(pointer, "it holds half a character (a lone surrogate)")


def _check_constant(value: Any, pointer: str) -> None:
    if isinstance(value, str):
        check_text(value, pointer)
    elif type(value) in (int, float):
        if not is_exact(value):
            raise refused(pointer, f"expected numbers of at most {MAX_DIGITS} digits; found {shown(value)}")
    elif value is not None and not isinstance(value, bool | list | dict):
        raise refused(pointer, f"{shown(value)} is no JSON value")
    elif isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        raise refused(pointer, "the names in an object are strings")


VALUES: dict[str, Callable[[Any, str], Any]] = {
    "type": types,
    "enum": values,
    "const": constant,
    "required": required,
    "minProperties": count,
    "maxProperties": count,
    "minItems": count,
    "maxItems": count,
    "minLength": count,
    "maxLength": count,
    "pattern": pattern,
    "format": format_name,
    "minimum": bound,
    "maximum": bound,
    "exclusiveMinimum": bound,
    "exclusiveMaximum": bound,
    "multipleOf": divisor,
}
"""Keywords whose value holds no schema."""
