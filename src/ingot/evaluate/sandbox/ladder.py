"""How well programs are kept in here: each mechanism by name, and the rung that they make together.

    full     namespaces of its own for users, files, processes, network and IPC, a root with Python alone, and the
             filter of system calls
    partial  the filter, and either that root or Landlock; the kernel or a container refused some of the rest
    none     less than that; nothing runs unless it is asked for by name

What stands is what the worker says it built and what probes, run as programs, then failed to get around.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Level = Literal["full", "partial", "none"]

MECHANISMS = (
    "user", "mount", "root", "pid", "net", "ipc", "uts", "not_root", "capabilities", "no_new_privs", "seccomp",
    "listener", "landlock", "rlimits", "cgroup", "addresses",
)  # fmt: skip
FULL = {
    "user", "mount", "root", "pid", "net", "ipc", "uts", "not_root", "capabilities", "no_new_privs", "seccomp",
    "rlimits",
}  # fmt: skip
BASE = {"capabilities", "no_new_privs", "seccomp", "rlimits"}


@dataclass(frozen=True)
class Protection:
    """{mechanism: None where it is in force, else why it is not}."""

    mechanisms: Mapping[str, str | None]

    @property
    def standing(self) -> list[str]:
        return [name for name in MECHANISMS if self.mechanisms.get(name, "") is None]

    @property
    def missing(self) -> dict[str, str]:
        found = ((name, self.mechanisms.get(name, "not tried")) for name in MECHANISMS)
        return {name: reason for name, reason in found if reason is not None}

    @property
    def level(self) -> Level:
        standing = set(self.standing)
        if standing >= FULL:
            return "full"
        return "partial" if standing >= BASE and standing & {"root", "landlock"} else "none"
