"""How much memory there still is: on a card, or of a computer, or of the control group that this process was put in (a
container's limit), whichever is less. Where the system does not say (it is not Linux), nobody knows.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

PROC = Path("/proc")
GROUPS = Path("/sys/fs/cgroup")


def free_bytes(device: torch.device) -> float | None:
    """What a process may still take on a device, None where that is not known."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return float(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    found = [*_of_machine(PROC / "meminfo"), *_of_groups(PROC / "self" / "cgroup", GROUPS)]
    return min(found) if found else None


def resident_bytes() -> float:
    """What this process holds of memory now; 0 where the system does not say."""
    return 1024.0 * _numbers(PROC / "self" / "status").get("VmRSS:", 0.0)


def give_back() -> None:
    """Let glibc return what reading has freed: it would keep it for blocks of those sizes, which do not come again."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _of_machine(meminfo: Path) -> Iterator[float]:
    """What Linux says can be had without swapping."""
    for key, value in _numbers(meminfo).items():
        if key == "MemAvailable:":
            yield 1024.0 * value


def _of_groups(listed: Path, mount: Path) -> Iterator[float]:
    """What is left of the limits of this process's groups and of those around them, in both versions of the files.
    Pages of files that nobody has used lately can be had back, so they count as free."""
    for line in _lines(listed):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            names, root = ("memory.max", "memory.current", "inactive_file"), mount
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            root = mount / "memory"
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                yield from _of_group(folder, *names)


def _of_group(folder: Path, limit: str, usage: str, unused: str) -> Iterator[float]:
    """What is left of one group's limit, where it has one."""
    stated = [line for name in (limit, usage) for line in _lines(folder / name)[:1]]
    if len(stated) == 2 and all(word.isdecimal() for word in stated):
        yield float(stated[0]) - float(stated[1]) + _numbers(folder / "memory.stat").get(unused, 0.0)


def _numbers(path: Path) -> dict[str, float]:
    """Lines of a name and a number."""
    words = (line.split() for line in _lines(path))
    return {found[0]: float(found[1]) for found in words if len(found) >= 2 and found[1].isdecimal()}


def _lines(path: Path) -> list[str]:
    """A file's lines; none where it is not there or may not be read."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
