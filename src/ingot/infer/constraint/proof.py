"""Is a finished text what was asked for? Asked again at the end, by other means than those that made the text.

JSON is read with exact numbers and held against the schema by `jsonschema`; a regular expression is matched by
`regex`; a grammar reads the text byte by byte, whatever tokens it came in. Each function gives None for a text that
holds, else the reason why not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any

from ingot.infer.constraint.formats import holds
from ingot.infer.constraint.patterns import Pattern
from ingot.infer.constraint.schema import FORMAT

Proof = Callable[[str], str | None]

DIGITS = 4000
"""Python reads no integers longer than this many digits at once."""


def json_proof(schema: Any) -> Proof:
    """Holds texts that are one JSON value of this (rewritten) schema."""
    exact = read_json(json.dumps(schema))
    validator = _validator_class()(exact)

    def prove(text: str) -> str | None:
        try:
            value = read_json(text)
            problem = next(validator.iter_errors(value), None)
        except (ValueError, TimeoutError, RecursionError) as error:
            return f"{type(error).__name__}: {error!s:.120}"
        return None if problem is None else f"at {problem.json_path}: {problem.message:.160}"

    return prove


def pattern_proof(pattern: Pattern) -> Proof:
    """Holds texts that the pattern matches from end to end."""

    def prove(text: str) -> str | None:
        try:
            return None if pattern.accepts(text) else "the pattern does not match"
        except TimeoutError:
            return "matching took too long"

    return prove


def read_json(text: str) -> Any:
    """A JSON value with exact numbers: whole ones as int of any length, others as Decimal."""
    return json.loads(text, parse_int=_integer, parse_float=_decimal, parse_constant=_no_constant)


def _integer(digits: str) -> int:
    """An integer of any length; int() itself stops where reading becomes slow."""
    if len(digits) <= DIGITS:
        return int(digits)
    number, sign = 0, -1 if digits[0] == "-" else 1
    for at in range(0, len(digits := digits.lstrip("-")), DIGITS):
        piece = digits[at : at + DIGITS]
        number = number * 10 ** len(piece) + int(piece)
    return sign * number


def _decimal(digits: str) -> Decimal:
    """Exact, but for exponents beyond all use, which are infinite or zero."""
    try:
        return Decimal(digits)
    except InvalidOperation:
        return Decimal(float(digits))


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def is_multiple(value: int | Decimal, divisor: int | Decimal) -> bool:
    """Exactly, and without writing out a large exponent."""
    (number, exponent), (by, by_exponent) = _parts(value), _parts(divisor)
    shift = exponent - by_exponent
    if shift >= 0:
        return number * pow(10, shift, by) % by == 0
    return number == 0 or (-shift <= number.bit_length() and number % (by * 10**-shift) == 0)


def _parts(value: int | Decimal) -> tuple[int, int]:
    """Without its sign: a whole number, and the power of ten that it is multiplied by."""
    if isinstance(value, int):
        return abs(value), 0
    _, digits, exponent = value.as_tuple()
    return _integer("".join(map(str, digits))), int(exponent)


@cache
def _validator_class() -> Any:
    """Draft 2020-12 with patterns of the plain dialect, formats that are checked, and exact numbers."""
    from jsonschema import Draft202012Validator, validators

    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer)
    return validators.extend(Draft202012Validator, KEYWORDS, type_checker=types)


def _is_integer(checker: Any, value: Any) -> bool:
    if isinstance(value, Decimal):
        return value.is_finite() and is_multiple(value, 1)
    return isinstance(value, int) and not isinstance(value, bool)


def _problem(message: str) -> Any:
    from jsonschema import ValidationError

    return ValidationError(message)


def _matches(pattern: str, text: str) -> bool:
    """`pattern` as the rewritten schema holds it, ^(?:...)$."""
    return Pattern(pattern[1:-1]).accepts(text)


def _pattern(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[Any]:
    if validator.is_type(value, "string") and not _matches(pattern, value):
        yield _problem(f"{value!r:.60} does not match {pattern:.60}")


def _format(validator: Any, name: str, value: Any, schema: Any) -> Iterator[Any]:
    if validator.is_type(value, "string") and not holds(name, value):
        yield _problem(f"{value!r:.60} is no {name}")


def _multiple(validator: Any, divisor: Any, value: Any, schema: Any) -> Iterator[Any]:
    if validator.is_type(value, "number") and not is_multiple(value, divisor):
        yield _problem(f"{value!s:.60} is no multiple of {divisor}")


def _by_pattern(validator: Any, patterns: Any, value: Any, schema: Any) -> Iterator[Any]:
    if validator.is_type(value, "object"):
        for pattern, inner in patterns.items():
            for name, each in value.items():
                if _matches(pattern, name):
                    yield from validator.descend(each, inner, path=name, schema_path=pattern)


def _additional(validator: Any, inner: Any, value: Any, schema: Any) -> Iterator[Any]:
    if validator.is_type(value, "object"):
        patterns = schema.get("patternProperties", {})
        for name, each in value.items():
            if name not in schema.get("properties", {}) and not any(_matches(pattern, name) for pattern in patterns):
                yield from validator.descend(each, inner, path=name)


KEYWORDS = {
    "pattern": _pattern,
    FORMAT: _format,
    "multipleOf": _multiple,
    "patternProperties": _by_pattern,
    "additionalProperties": _additional,
}
