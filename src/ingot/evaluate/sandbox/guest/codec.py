"""Plain Python values as bytes: what a candidate's process and its checker say to each other.

Only values whose meaning is their content: None, numbers, texts, bytes and the built-in containers of them. A subclass
(a Counter, a named tuple) travels as the built-in it extends, so that nobody's `__eq__` arrives on the other side. All
else becomes a `Handle`, a number that its owner alone can look up. Never pickle: decoding runs no one's code, and what
is malformed, too deep or longer than it says raises ValueError.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Context, Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

MAX_DEPTH = 100
MAX_BYTES = 16 << 20
"""Of one message."""

_MALFORMED = Context(traps=[InvalidOperation])
"""Hears of texts that are no decimal numbers, so that nobody else's context does."""
_LENGTH = struct.Struct("<I")
_FLOAT = struct.Struct("<d")


@dataclass(frozen=True)
class Handle:
    """Something that stays where it is. `truth` is what `bool` says of it, `kind` its type's name."""

    number: int
    truth: bool
    kind: str


TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (bool, int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict, range, object,
                 type, type(None))
}  # fmt: skip
"""Types that are the same on both sides."""

Keep = Callable[[Any], Handle]
"""What becomes of a value that is not plain."""


def encode(value: Any, keep: Keep) -> bytes:
    """The bytes of a value. Raises ValueError when they are more than MAX_BYTES."""
    out = bytearray()
    _write(out, value, keep, 0)
    if len(out) > MAX_BYTES:
        raise ValueError(f"a value of {len(out)} bytes, more than {MAX_BYTES}")
    return bytes(out)


def _write(out: bytearray, value: Any, keep: Keep, depth: int) -> None:
    kind = next((kind for kind in type(value).__mro__ if kind in _WRITERS), None)
    if kind is None or depth > MAX_DEPTH or len(out) > MAX_BYTES:
        _write_handle(out, value if isinstance(value, Handle) else keep(value))
    else:
        _WRITERS[kind](out, value, keep, depth + 1)


def _sized(out: bytearray, tag: bytes, body: bytes) -> None:
    out += tag + _LENGTH.pack(len(body)) + body


def _write_int(out: bytearray, value: int, keep: Keep, depth: int) -> None:
    number = int.__index__(value)
    _sized(out, b"i", number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True))


def _write_many(tag: bytes, items: Callable[[Any], Any]) -> Callable[[bytearray, Any, Keep, int], None]:
    def write(out: bytearray, value: Any, keep: Keep, depth: int) -> None:
        found = list(items(value))
        out.extend(tag + _LENGTH.pack(len(found)))
        for item in found:
            _write(out, item, keep, depth)

    return write


def _flat(value: dict[Any, Any]) -> list[Any]:
    return [part for pair in dict.items(value) for part in pair]


def _text(value: str) -> bytes:
    return str.encode(value, "utf-8", "surrogatepass")


def _write_type(out: bytearray, value: type, keep: Keep, depth: int) -> None:
    """A built-in type is its name; a program's own class stays where it is."""
    name = type.__dict__["__name__"].__get__(value)
    if TYPES.get(name) is value:
        _sized(out, b"y", name.encode())
    else:
        _write_handle(out, keep(value))


def _write_handle(out: bytearray, handle: Handle) -> None:
    _sized(out, b"h", f"{handle.number} {int(handle.truth)} {handle.kind}".encode("utf-8", "replace"))


def _write_complex(out: bytearray, value: complex, keep: Keep, depth: int) -> None:
    out += b"c" + _FLOAT.pack(value.real) + _FLOAT.pack(value.imag)


_WRITERS: dict[type, Callable[[bytearray, Any, Keep, int], None]] = {
    type(None): lambda out, value, keep, depth: out.extend(b"N"),
    bool: lambda out, value, keep, depth: out.extend(b"T" if value else b"F"),
    int: _write_int,
    float: lambda out, value, keep, depth: out.extend(b"f" + _FLOAT.pack(float.__float__(value))),
    complex: _write_complex,
    str: lambda out, value, keep, depth: _sized(out, b"s", _text(value)),
    bytes: lambda out, value, keep, depth: _sized(out, b"b", bytes.__getitem__(value, slice(None))),
    bytearray: lambda out, value, keep, depth: _sized(out, b"B", bytes(value)),
    Decimal: lambda out, value, keep, depth: _sized(out, b"D", Decimal.__str__(value).encode()),
    Fraction: _write_many(b"R", lambda value: (value.numerator, value.denominator)),
    range: _write_many(b"r", lambda value: (value.start, value.stop, value.step)),
    list: _write_many(b"l", list.__iter__),
    tuple: _write_many(b"t", tuple.__iter__),
    set: _write_many(b"S", set.__iter__),
    frozenset: _write_many(b"Z", frozenset.__iter__),
    deque: _write_many(b"q", deque.__iter__),
    dict: _write_many(b"d", _flat),
    type: _write_type,
}


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


_MANY: dict[bytes, Callable[[list[Any]], Any]] = {
    b"l": list, b"t": tuple, b"S": set, b"Z": frozenset, b"q": deque, b"d": _pairs,
    b"r": lambda items: range(*items), b"R": lambda items: Fraction(*items),
}  # fmt: skip
_SIZED: dict[bytes, Callable[[bytes], Any]] = {
    b"i": lambda body: int.from_bytes(body, "little", signed=True),
    b"s": lambda body: body.decode("utf-8", "surrogatepass"),
    b"b": bytes,
    b"B": bytearray,
    b"D": lambda body: Decimal(body.decode(), _MALFORMED),
    b"y": lambda body: TYPES[body.decode()],
}
_PLAIN = {b"N": None, b"T": True, b"F": False}


class Decoder:
    """Reads one message. `take` makes what the receiver wants of a handle."""

    def __init__(self, data: bytes, take: Callable[[Handle], Any]) -> None:
        self.data, self.at, self.take = data, 0, take

    def value(self) -> Any:
        """The whole message. Raises ValueError for anything but one value."""
        try:
            found = self._value(0)
        except (TypeError, KeyError, ArithmeticError, struct.error, RecursionError) as error:
            raise ValueError(f"malformed message: {error}") from None
        if self.at != len(self.data):
            raise ValueError("malformed message: more than one value")
        return found

    def _value(self, depth: int) -> Any:
        tag = self._bytes(1)
        if depth > MAX_DEPTH + 3:
            raise ValueError("malformed message: too deep")
        if tag in _PLAIN:
            return _PLAIN[tag]
        if tag in (b"f", b"c"):
            parts = [_FLOAT.unpack(self._bytes(8))[0] for _ in range(1 if tag == b"f" else 2)]
            return parts[0] if tag == b"f" else complex(*parts)
        length: int = _LENGTH.unpack(self._bytes(4))[0]
        if tag in _SIZED:
            return _SIZED[tag](self._bytes(length))
        if tag == b"h":
            return self._handle(self._bytes(length))
        if tag not in _MANY:
            raise ValueError(f"malformed message: tag {tag!r}")
        if length > len(self.data) - self.at:
            raise ValueError("malformed message: longer than it is")
        return _MANY[tag]([self._value(depth + 1) for _ in range(length)])

    def _handle(self, body: bytes) -> Any:
        number, truth, kind = body.decode("utf-8", "replace").split(" ", 2)
        return self.take(Handle(int(number), truth == "1", kind[:80]))

    def _bytes(self, count: int) -> bytes:
        found = self.data[self.at : self.at + count]
        if len(found) != count:
            raise ValueError("malformed message: cut short")
        self.at += count
        return found
