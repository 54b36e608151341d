"""The filter of system calls (seccomp): what a Python program needs is allowed, all else is refused.

An allow-list, so that a call nobody thought of is refused. Three answers: allowed; an error number, for what libraries
try and can do without; and `refused`, which stops the program. Where the kernel can tell another process (since 5.0),
the checker hears which call it was and ends the program itself; else the kernel kills it. Written for x86_64 and
aarch64; calls of another architecture are always refused.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from fcntl import ioctl
from functools import cache

from .kernel import syscall
from .syscalls import numbers

ALLOWED = (
    "access", "alarm", "arch_prctl", "brk", "chdir", "chmod", "clock_getres", "clock_gettime", "clock_nanosleep",
    "close", "close_range", "copy_file_range", "creat", "dup", "dup2", "dup3", "epoll_create", "epoll_create1",
    "epoll_ctl", "epoll_pwait", "epoll_wait", "eventfd", "eventfd2", "exit", "exit_group", "faccessat",
    "faccessat2", "fadvise64", "fallocate", "fchdir", "fchmod", "fchmodat", "fdatasync", "flock", "fstat",
    "fstatfs", "fsync", "ftruncate", "futex", "getcwd", "getdents", "getdents64", "getegid", "geteuid", "getgid",
    "getgroups", "getitimer", "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrandom", "getresgid",
    "getresuid", "getrlimit", "getrusage", "get_robust_list", "getsid", "gettid", "gettimeofday", "getuid", "link",
    "linkat", "lseek", "lstat", "madvise", "membarrier", "mincore", "mkdir", "mkdirat", "mmap", "mprotect",
    "mremap", "msync", "munmap", "nanosleep", "newfstatat", "open", "openat", "pause", "pipe", "pipe2", "poll",
    "ppoll", "pread64", "preadv", "pselect6", "pwrite64", "pwritev", "read", "readlink", "readlinkat", "readv",
    "rename", "renameat", "renameat2", "restart_syscall", "rmdir", "rseq", "rt_sigaction", "rt_sigpending",
    "rt_sigprocmask", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "sched_getaffinity", "sched_getparam",
    "sched_getscheduler", "sched_yield", "select", "sendfile", "setitimer", "set_robust_list", "set_tid_address",
    "sigaltstack", "stat", "statfs", "statx", "symlink", "symlinkat", "sysinfo", "time", "times",
    "truncate", "umask", "uname", "unlink", "unlinkat", "utime", "utimensat", "utimes", "wait4", "waitid", "write",
    "writev",
)  # fmt: skip
WITH_SOCKET = ["sendto", "recvfrom", "sendmsg", "recvmsg", "shutdown", "getsockopt", "setsockopt", "getsockname"]
"""On a pair of sockets that the program made itself, or the one to its checker."""

QUIET = {
    "clone3": errno.ENOSYS, "openat2": errno.ENOSYS, "epoll_pwait2": errno.ENOSYS, "ioctl": errno.ENOTTY,
    "sched_setaffinity": errno.EPERM, "sched_setparam": errno.EPERM, "sched_setscheduler": errno.EPERM,
    "setpriority": errno.EPERM, "mlock": errno.EPERM, "chown": errno.EPERM, "fchown": errno.EPERM,
    "lchown": errno.EPERM, "fchownat": errno.EPERM, "getxattr": errno.ENOTSUP, "lgetxattr": errno.ENOTSUP,
    "fgetxattr": errno.ENOTSUP, "listxattr": errno.ENOTSUP, "llistxattr": errno.ENOTSUP, "flistxattr": errno.ENOTSUP,
    "capget": errno.EPERM, "setpgid": errno.EPERM, "setsid": errno.EPERM,
}  # fmt: skip

CLONE_THREAD, AF_UNIX = 0x00010000, 1
_IOCTLS = (0x5401, 0x5421, 0x5450, 0x5451, 0x541B)
"""TCGETS, FIONBIO, FIONCLEX, FIOCLEX, FIONREAD."""
_FCNTLS = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1031, 1032)
"""Copies of descriptors, their flags, locks, a pipe's size; not whom to signal about them."""
_PRCTLS = (15, 16, 0x53564D41)
"""Name a thread, ask for its name, name a piece of memory."""

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000

_LOAD, _EQUAL, _AT_LEAST, _SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
RET_ALLOW, RET_ERRNO, RET_KILL, RET_NOTIFY = 0x7FFF0000, 0x00050000, 0x80000000, 0x7FC00000

_MODE_FILTER, _NEW_LISTENER = 1, 8
_RECEIVE, _STILL_VALID = 0xC0502100, 0x40082102


def _step(code: int, value: int, on_true: int = 0, on_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, on_true, on_false, value)


def _return(action: int) -> bytes:
    return _step(_RETURN, action)


def _one_of(argument: int, values: tuple[int, ...], otherwise: int) -> bytes:
    """Allowed where an argument is one of the values."""
    found = b"".join(_step(_EQUAL, value, 0, 1) + _return(RET_ALLOW) for value in values)
    return _step(_LOAD, _ARGUMENTS + 8 * argument) + found + _return(otherwise)


def _has_bit(argument: int, bit: int, otherwise: int) -> bytes:
    """Allowed where an argument has a bit."""
    begin = _step(_LOAD, _ARGUMENTS + 8 * argument) + _step(_SET, bit, 0, 1)
    return begin + _return(RET_ALLOW) + _return(otherwise)


def _answers(machine: str, refused: int, own: int, extra: tuple[str, ...]) -> dict[int, bytes]:
    """{number of a call: what becomes of it}; what is allowed outright comes before all else."""
    known, found = numbers(machine), dict[int, bytes]()
    by_argument = {
        "clone": _has_bit(0, CLONE_THREAD, refused),
        "socketpair": _one_of(0, (AF_UNIX,), refused),
        "tgkill": _one_of(0, (own,), refused),
        "fcntl": _one_of(1, _FCNTLS, refused),
        "prctl": _one_of(0, _PRCTLS, refused),
        "prlimit64": _one_of(0, (0,), refused),  # process 0 is the caller
        "ioctl": _one_of(1, _IOCTLS, RET_ERRNO | errno.ENOTTY),
    }
    quiet = {name: _return(RET_ERRNO | number) for name, number in QUIET.items()}
    allowed = dict.fromkeys((*ALLOWED, *WITH_SOCKET, *extra), _return(RET_ALLOW))
    for answers in (quiet, by_argument, allowed):
        found.update({known[name]: body for name, body in answers.items() if name in known})
    return found


def _search(choices: list[tuple[int, bytes]]) -> bytes:
    """What to do with a number, found by halving: each choice holds from its number to the next one's."""
    if len(choices) == 1:
        return choices[0][1]
    middle = len(choices) // 2
    low, high = _search(choices[:middle]), _search(choices[middle:])
    return _step(_AT_LEAST, choices[middle][0], len(low) // 8, 0) + low + high


@cache
def build(machine: str, refused: int, own: int, extra: tuple[str, ...] = ()) -> bytes:
    """The filter's program; `refused` answers what is on no list, `extra` names are allowed too. `own`: the number of
    the process it is for, which may signal its own threads, to crash for example. The kernel tries each filter on every
    number when it is put on, hence the search by halves."""
    program = _step(_LOAD, _ARCH) + _step(_EQUAL, _ARCHITECTURES[machine], 1, 0) + _return(RET_KILL)
    program += _step(_LOAD, _NUMBER)
    if machine == "x86_64":
        program += _step(_AT_LEAST, _X32, 0, 1) + _return(RET_KILL)
    answers, choices = _answers(machine, refused, own, extra), [(0, b"")]
    for number in sorted({0, *answers, *(number + 1 for number in answers)}):
        body = answers.get(number, _return(refused))
        if body != choices[-1][1]:
            choices.append((number, body))
    return program + _search(choices[1:])


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install(machine: str, program: bytes, listen: bool) -> int | None:
    """Put the filter on this process for good; with `listen`, give the descriptor that hears of refusals."""
    given = _Program(len(program) // 8, program)
    flags = _NEW_LISTENER if listen else 0
    found = syscall(numbers(machine)["seccomp"], _MODE_FILTER, flags, ctypes.byref(given))
    return found if listen else None


def heard(listener: int) -> int | None:
    """The number of the call that a program waits in, if it still does."""
    notice = bytearray(80)
    try:
        ioctl(listener, _RECEIVE, notice)
    except OSError:
        return None
    return int(struct.unpack_from("<i", notice, 16)[0])
