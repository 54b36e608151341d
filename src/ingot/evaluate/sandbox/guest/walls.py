"""The walls around everything that a worker runs: namespaces of its own and a root that holds Python alone.

Each wall is tried and its failure kept in words, because a container, a distribution or an old kernel may refuse some:
what stands is reported (`ladder.py` names the level), never assumed. Without privileges the user namespace comes first
and gives the right to build the others; root does the same, and then goes on as nobody, so that no file of root's is
within reach of even a broken wall. There is no /proc inside, hence no other process's environment or memory to read.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from . import kernel
from .syscalls import MACHINES, numbers

NOBODY = 65534
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
SCRATCH = "/tmp"  # noqa: S108  # inside the sandbox's own root
_BASE = "/proc"
"""Where the new root is put together: a folder that every Linux has and that no Python lies in."""

NAMESPACES = {
    "mount": kernel.CLONE_NEWNS,
    "net": kernel.CLONE_NEWNET,
    "ipc": kernel.CLONE_NEWIPC,
    "uts": kernel.CLONE_NEWUTS,
    "pid": kernel.CLONE_NEWPID,
}

Walls = dict[str, str | None]
"""{mechanism: why it is missing, or None where it stands}."""


def attempt(walls: Walls, name: str, build: Callable[[], object], without: list[str]) -> bool:
    """Build one and note how it went."""
    if name in without:
        walls[name] = "left out on request"
        return False
    try:
        build()
    except OSError as error:
        walls[name] = str(error.strerror or error)
        return False
    walls[name] = None
    return True


def namespaces(walls: Walls, without: list[str], map_user: Callable[[], None]) -> None:
    """Enter those that the kernel gives. `map_user` has the parent, who stayed outside, name our user."""

    def enter_user() -> None:
        kernel.unshare(kernel.CLONE_NEWUSER)
        map_user()

    attempt(walls, "user", enter_user, without)
    for name, flag in NAMESPACES.items():
        attempt(walls, name, lambda flag=flag: kernel.unshare(flag), without)  # type: ignore[misc]
    if walls["uts"] is None:
        kernel.set_host_name(numbers(kernel.machine()), b"sandbox")


def own_root(walls: Walls, without: list[str], folders: list[str]) -> None:
    """A root of our own: `folders` to read, three devices, a place to write that each program gets afresh."""
    if walls["mount"] is not None:
        walls["root"] = "no mount namespace"
        return
    attempt(walls, "root", lambda: _build_root(folders), without)


def _build_root(folders: list[str]) -> None:
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", _BASE, "tmpfs", kernel.MS_NOSUID, "size=1m,nr_inodes=1k,mode=755")
    for folder in folders:
        _bind(folder, kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV)
        packages = f"{_BASE}{folder}/site-packages"
        if os.path.isdir(packages):
            kernel.mount("tmpfs", packages, "tmpfs", kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV, "size=4k")
    for device in DEVICES:
        os.makedirs(os.path.dirname(_BASE + device), exist_ok=True)
        os.close(os.open(_BASE + device, os.O_CREAT | os.O_WRONLY))
        kernel.mount(device, _BASE + device, None, kernel.MS_BIND)
    os.makedirs(_BASE + SCRATCH, exist_ok=True)  # Python itself may lie below it
    os.chdir(_BASE)
    kernel.pivot_root_here(numbers(kernel.machine()))
    _remount("/", kernel.MS_RDONLY | kernel.MS_NOSUID)


def _bind(folder: str, flags: int) -> None:
    os.makedirs(_BASE + folder, exist_ok=True)
    kernel.mount(folder, _BASE + folder, None, kernel.MS_BIND)
    _remount(_BASE + folder, flags)


def _remount(folder: str, flags: int) -> None:
    """With these flags and those that it has: a user namespace may add, never take away."""
    had = os.statvfs(folder).f_flag & (0xF | 1024 | 2048)
    kernel.mount("none", folder, None, kernel.MS_REMOUNT | kernel.MS_BIND | had | flags)


def fresh_scratch(size: int) -> None:
    """An empty place to write, for this process and its children alone; gone when they are."""
    kernel.unshare(kernel.CLONE_NEWNS)
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("tmpfs", SCRATCH, "tmpfs", flags, f"size={size},nr_inodes=2k,mode=700")


def leave_root(walls: Walls, folders: list[str], without: list[str]) -> None:
    """Root becomes nobody, unless nobody could not read Python's library, which lies in a closed folder as it is."""
    walls["not_root"] = None
    if os.geteuid() == 0:
        if "not_root" in without:
            walls["not_root"] = "left out on request"
        elif walls["root"] is not None and not all(map(_open_to_all, folders)):
            walls["not_root"] = "Python's library can be read by root alone"
        else:
            _become_nobody(walls["user"] is None)


def _open_to_all(folder: str) -> bool:
    parts = [folder, *(folder[:at] for at in range(1, len(folder)) if folder[at] == "/")]
    return all(os.stat(part).st_mode & 0o1 for part in parts)


def _become_nobody(keep_capabilities: bool) -> None:
    """Inside a user namespace the rights over it are kept."""
    machine = numbers(kernel.machine())
    had = kernel.permitted_capabilities(machine)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    if keep_capabilities:
        kernel.prctl(kernel.PR_SET_KEEPCAPS, 1)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    if keep_capabilities:
        kernel.set_capabilities(machine, had)


def map_user(pid: int) -> None:
    """Called outside: name the users that a process in a new user namespace may be. Root's adds nobody."""
    user, group = os.geteuid(), os.getegid()
    both = user == 0
    if not both:
        _write(pid, "setgroups", "deny")
    _write(pid, "uid_map", f"{user} {user} 1\n" + (f"{NOBODY} {NOBODY} 1\n" if both else ""))
    _write(pid, "gid_map", f"{group} {group} 1\n" + (f"{NOBODY} {NOBODY} 1\n" if both else ""))


def _write(pid: int, name: str, content: str) -> None:
    descriptor = os.open(f"/proc/{pid}/{name}", os.O_WRONLY)
    try:
        os.write(descriptor, content.encode())
    finally:
        os.close(descriptor)


def machine_is_known() -> bool:
    """Are this machine's system calls in our table?"""
    return kernel.machine() in MACHINES
