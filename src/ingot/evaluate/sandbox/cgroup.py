"""A control group for a worker, where this user may make one: a bound on all its processes' memory and number.

Only version 2, and only where the memory controller was handed to us (systemd does so for a user's own slice; a root in
a container may). Nothing is changed in groups that are not ours. Where there is none, rlimits hold each process alone.
"""

from __future__ import annotations

import os
from pathlib import Path

MOUNTED = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


class Group:
    """A group that was made; `remove` it when its processes have ended."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def take(self, pid: int) -> None:
        """Move a process, and what it starts from now on, into the group. Raises OSError."""
        (self.path / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        self.path.rmdir()


def make_group(name: str, memory: int, processes: int, mounted: Path = MOUNTED, own: Path = OWN) -> Group:
    """A group with these bounds, beside our own or below it. Raises OSError that says why there is none."""
    if not (mounted / "cgroup.controllers").exists():
        raise FileNotFoundError(2, "no control groups of version 2")
    line = next((line for line in own.read_text().splitlines() if line.startswith("0::")), "0::/")
    here = mounted / line.removeprefix("0::").strip("/")
    for parent in (here.parent, here) if here != mounted else (here,):
        if os.access(parent, os.W_OK) and "memory" in _words(parent / "cgroup.subtree_control"):
            return _made(parent / name, memory, processes)
    raise PermissionError(1, "the memory controller was not handed to this user")


def _words(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def _made(path: Path, memory: int, processes: int) -> Group:
    path.mkdir()
    bounds = {"memory.max": memory, "memory.swap.max": 0, "pids.max": processes}
    try:
        for file, bound in bounds.items():
            if file == "memory.max" or (path / file).exists():
                (path / file).write_text(str(bound))
    except OSError:
        path.rmdir()
        raise
    return Group(path)
