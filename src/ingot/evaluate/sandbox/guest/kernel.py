"""The kernel's calls that Python has no function for, through ctypes. Each raises OSError with the kernel's reason."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x00020000, 0x02000000, 0x04000000
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x08000000, 0x10000000, 0x20000000, 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
MS_REC, MS_PRIVATE = 1 << 14, 1 << 18
MNT_DETACH = 2

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_CAPBSET_DROP = 1, 4, 8, 24
PR_SET_NO_NEW_PRIVS = 38
ADDR_NO_RANDOMIZE = 0x0040000
_CAPABILITY_VERSION_3 = 0x20080522
_ALL = 0xFFFFFFFF

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(number: int, *arguments: object) -> int:
    """Any system call; integers go as 64 bits."""
    given = [ctypes.c_ulong(a & (2**64 - 1)) if isinstance(a, int) else a for a in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *given), f"system call {number}")


def unshare(flags: int) -> None:
    """Move this process (for CLONE_NEWPID: its children) to namespaces of their own."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def enter_namespace(descriptor: int, kind: int) -> None:
    """setns(2); for CLONE_NEWPID it is where this process's children will be."""
    _checked(_libc.setns(ctypes.c_int(descriptor), ctypes.c_int(kind)), "setns")


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """mount(2)."""
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
    found = _libc.mount(*words, ctypes.c_ulong(flags), data.encode() or None)
    _checked(found, f"mount {target}")


def unmount(target: str) -> None:
    """Take a tree of mounts away, at once for whoever looks it up."""
    _checked(_libc.umount2(os.fsencode(target), ctypes.c_int(MNT_DETACH)), f"umount {target}")


def pivot_root_here(numbers: dict[str, int]) -> None:
    """Make the working directory, a mount, this mount namespace's root, and let the old root go."""
    syscall(numbers["pivot_root"], ctypes.c_char_p(b"."), ctypes.c_char_p(b"."))
    unmount(".")
    os.chdir("/")


def set_host_name(numbers: dict[str, int], name: bytes) -> None:
    """sethostname(2)."""
    syscall(numbers["sethostname"], ctypes.c_char_p(name), len(name))


def prctl(option: int, value: int = 0) -> int:
    """prctl(2) with one argument."""
    return _checked(
        _libc.prctl(ctypes.c_int(option), *(ctypes.c_ulong(v) for v in (value, 0, 0, 0))), f"prctl {option}"
    )


def set_capabilities(numbers: dict[str, int], permitted: int) -> None:
    """The process's effective and permitted capabilities, as bits; inheritable ones none."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    low, high = permitted & _ALL, permitted >> 32
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    syscall(numbers["capset"], ctypes.byref(header), ctypes.byref(data))


def permitted_capabilities(numbers: dict[str, int]) -> int:
    """The process's permitted capabilities, as bits."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    syscall(numbers["capget"], ctypes.byref(header), ctypes.byref(data))
    return int(data[1]) | int(data[4]) << 32


def bound_capabilities() -> None:
    """Those that the process lacks can never come back to it or to what it starts."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:  # it has no right to, and then nothing to lose; or the kernel knows no more of them
            break


def drop_capabilities(numbers: dict[str, int]) -> None:
    """None are left."""
    set_capabilities(numbers, 0)


@cache
def machine() -> str:
    """The name of this machine's architecture."""
    return platform.machine()


def fixed_addresses() -> bool:
    """Ask that programs started from here lie at the same addresses every time; was it already so?"""
    before = _checked(_libc.personality(ctypes.c_ulong(_ALL)), "personality")
    _checked(_libc.personality(ctypes.c_ulong(before | ADDR_NO_RANDOMIZE)), "personality")
    return bool(before & ADDR_NO_RANDOMIZE)
