"""Landlock: a process may read some folders, write to one, and connect to nothing, whatever the file modes say.

A second wall behind the empty root where namespaces are there, and the wall where they are not (kernel 5.13 and later).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence

from .kernel import syscall

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every machine
_READ = 1 << 2 | 1 << 3  # files, folders
_READ_FILE, _WRITE_FILE = 1 << 2, 1 << 1
_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights to files each version handles; later ones as many as the last."""


def version() -> int:
    """The kernel's version of Landlock. Raises OSError where it has none."""
    return syscall(_CREATE, 0, 0, 1)


class _Rule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("rights", ctypes.c_uint64), ("folder", ctypes.c_int32))


def restrict(readable: Sequence[str], writable: Sequence[str], devices: Sequence[str]) -> None:
    """This process, and what it starts, may touch nothing else from now on. Needs no_new_privs."""
    found = version()
    every = (1 << _BITS[min(found, max(_BITS))]) - 1
    handled = [every, 3 if found >= 4 else 0, 3 if found >= 6 else 0]
    rules = (ctypes.c_uint64 * 3)(*handled)
    size = 8 if found < 4 else 16 if found < 6 else 24
    ruleset = syscall(_CREATE, ctypes.byref(rules), size, 0)
    try:
        for paths, rights in ((readable, _READ), (writable, every), (devices, _READ_FILE | _WRITE_FILE)):
            for path in paths:
                _allow(ruleset, path, rights)
        syscall(_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        syscall(_ADD, ruleset, 1, ctypes.byref(_Rule(rights, folder)), 0)
    finally:
        os.close(folder)
