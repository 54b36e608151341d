"""Messages over a socket: four bytes of length, then that many bytes."""

from __future__ import annotations

import json
import os
import struct
from typing import Any

LENGTH = struct.Struct("<I")
LONGEST = 64 << 20


def read_exactly(descriptor: int, count: int) -> bytes:
    """So many bytes. Raises EOFError when the other side ends before."""
    parts = []
    while count:
        part = os.read(descriptor, min(count, 1 << 20))
        if not part:
            raise EOFError("the other side ended")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def receive(descriptor: int) -> bytes:
    """One message. Raises EOFError."""
    (length,) = LENGTH.unpack(read_exactly(descriptor, LENGTH.size))
    if length > LONGEST:
        raise EOFError(f"a message of {length} bytes")
    return read_exactly(descriptor, length)


def send(descriptor: int, message: bytes) -> None:
    """One message, all of it."""
    rest = memoryview(LENGTH.pack(len(message)) + message)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def receive_json(descriptor: int) -> Any:
    return json.loads(receive(descriptor))


def send_json(descriptor: int, value: Any) -> None:
    send(descriptor, json.dumps(value).encode())
