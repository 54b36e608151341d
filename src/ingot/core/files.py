"""Writing that is all or nothing, and digests of what was written.

A directory is made under a temporary name beside its target, synced, and renamed; a file likewise. A killed step
leaves at most a `.NAME.PID.partial` sibling, which the next step with the same target sweeps away.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ingot.core.errors import fail

CHUNK = 1 << 20

FULL = {errno.ENOSPC, errno.EDQUOT}
"""No space left, or none left for this user."""


@contextlib.contextmanager
def naming_a_full_disk(path: Path) -> Iterator[None]:
    """Raise `disk-full` naming what was being written, where the system only says that no space is left."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise fail("disk-full", path=path) from error
        raise


@contextlib.contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Yield an empty private directory that becomes `target` when the block ends well, and vanishes when it does not.

    Raises `out-not-empty` when target exists and holds anything.
    """
    refuse_nonempty(target)
    target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    partial = target.parent / f".{target.name}.{os.getpid()}.partial"
    partial.mkdir(mode=0o700)
    try:
        with naming_a_full_disk(target):
            yield partial
            for file in (*partial.rglob("*"), partial):
                _sync(file)
            partial.chmod(0o755)
            if target.exists():
                target.rmdir()
            partial.rename(target)
            _sync(target.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def refuse_nonempty(target: Path) -> None:
    """Refuse an output path that is a file or a directory with anything in it."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise fail("out-not-empty", path=target)


def write_file(path: Path, content: bytes | str) -> None:
    """Replace `path` by `content` in one step: readers see the old bytes or the new, never a mixture."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with naming_a_full_disk(path):
            partial.write_bytes(content.encode() if isinstance(content, str) else content)
            _sync(partial)
            partial.replace(path)
            _sync(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def tree_digest(files: dict[str, str]) -> str:
    """One digest for a set of files, from {relative name: sha256}; independent of order, dates and place."""
    lines = "".join(f"{name}\0{files[name]}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def path_digest(path: Path) -> str:
    """Digest of a file, or of all files below a directory (hidden ones and hallmark.json left out).

    Raises `no-such-file` when nothing lies there.
    """
    if not path.exists():
        raise fail("no-such-file", path=path)
    if path.is_file():
        return file_digest(path)
    return tree_digest(directory_files(path))


def directory_files(path: Path) -> dict[str, str]:
    """{relative name: sha256} of every file below `path`, without hidden ones and hallmark.json."""
    names = sorted(
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    return {name: file_digest(path / name) for name in names if name != "hallmark.json"}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(target: Path) -> None:
    """Remove partial siblings whose process is gone."""
    for sibling in target.parent.glob(f".{glob.escape(target.name)}.*.partial"):
        pid = sibling.name.split(".")[-2]
        if pid.isdigit() and (int(pid) == os.getpid() or not _alive(int(pid))):
            shutil.rmtree(sibling, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
