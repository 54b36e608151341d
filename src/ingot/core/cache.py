"""Where ingot keeps what it can make again: compiled kernels, packed weights. Private to the user, safe to delete.

`INGOT_CACHE` names the directory; without it, it is `ingot` in `XDG_CACHE_HOME` or `~/.cache`. What lies there is
loaded and run, so a directory or file that others could have written is not used.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def cache_directory(name: str) -> Path | None:
    """A part of the cache, made where it is missing; None where it is not the user's alone or cannot be made."""
    root = os.environ.get("INGOT_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    path = (Path(root) if root else Path(base) / "ingot") / name
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    return path if path.is_dir() and is_ours(path) else None


def is_ours(path: Path) -> bool:
    """Whether a file or directory belongs to the user, and nobody else may write it."""
    found = path.stat()
    return found.st_uid == os.getuid() and not found.st_mode & OTHERS_WRITE
