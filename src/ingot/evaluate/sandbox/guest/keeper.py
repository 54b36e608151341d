"""A worker: builds the walls once, then forks from a warm, clean Python: a checker, and a candidate for every job.

Started as `python -s -P -S -c 'from guest.keeper import main; main()' CONFIG`, with the host's channel as its input.
It never reads a job, so nothing of one program, its tests or its answers is in the memory that others are forked from.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
from typing import Any

from . import channel, checker, kernel, walls
from .birth import Starter

PRELOADED = (
    "abc", "array", "ast", "base64", "binascii", "bisect", "bz2", "calendar", "cmath", "collections.abc",
    "contextlib", "copy", "copyreg", "csv", "ctypes", "dataclasses", "datetime", "decimal", "difflib", "enum",
    "fractions", "functools", "hashlib", "heapq", "hmac", "inspect", "io", "itertools", "json", "keyword",
    "logging", "lzma", "math", "mmap", "numbers", "operator", "pathlib", "pickle", "pprint", "queue", "random",
    "re", "resource", "secrets", "select", "shlex", "shutil", "sqlite3", "ssl", "statistics", "string", "struct",
    "subprocess", "tempfile", "textwrap", "threading", "time", "timeit", "traceback", "types", "typing",
    "unicodedata", "urllib.parse", "uuid", "warnings", "weakref", "xml.etree.ElementTree", "zipfile",
    "zlib", "zoneinfo",
)  # fmt: skip
"""What programs like to import, with those whose system libraries are not inside the walls."""


def main() -> None:
    """Never returns to Python's own ending."""
    config: dict[str, Any] = json.loads(sys.argv[1])
    fixed = _fix_addresses(config)
    for name in PRELOADED:
        with contextlib.suppress(ImportError):  # a Python built without it
            importlib.import_module(name)
    sys.path[:] = [path for path in sys.path if path in config["folders"] or os.path.dirname(path) in config["folders"]]
    sys.path_importer_cache.clear()
    os.sched_setaffinity(0, {config["core"]}) if config["core"] is not None else None
    inside, outside = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        outside.close()
        _inside(config, inside, {"addresses": fixed})
    inside.close()
    with contextlib.suppress(EOFError, OSError), outside:
        if channel.read_exactly(outside.fileno(), 1):
            walls.map_user(pid)
            outside.send(b"!")
    os.close(checker.HOST)
    os.waitpid(pid, 0)
    os._exit(0)


def _fix_addresses(config: dict[str, Any]) -> str | None:
    """The same addresses in every worker, so that what depends on them repeats: this Python starts once more."""
    try:
        if not kernel.fixed_addresses():
            os.execv(sys.executable, sys.orig_argv)  # noqa: S606
    except OSError as error:
        return str(error.strerror)
    return None


def _inside(config: dict[str, Any], outside: socket.socket, walls_: walls.Walls) -> None:
    """Never returns."""
    try:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        _enter(walls_, config, outside)
        outside.close()
        home = _as_first_process() if walls_["pid"] is None else -1
        walls.own_root(walls_, config["without"], config["folders"])
        walls.leave_root(walls_, config["folders"], config["without"])
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)  # becoming somebody else clears it
        kernel.bound_capabilities()
        _serve(Starter(walls_, config, home), walls_, config)
    except BaseException as error:
        with contextlib.suppress(OSError):
            channel.send_json(checker.HOST, {"failed": f"{type(error).__name__}: {error}"})
    os._exit(1)


def _enter(walls_: walls.Walls, config: dict[str, Any], outside: socket.socket) -> None:
    def map_user() -> None:
        outside.send(b"?")
        if outside.recv(1) != b"!":
            raise PermissionError(1, "no users may be named in a user namespace")

    walls.namespaces(walls_, config["without"], map_user)


def _as_first_process() -> int:
    """Go on in the new process namespace; who is left waits, and ends with it. Returns what leads to the namespace."""
    pid = os.fork()
    if pid:
        os.close(checker.HOST)
        os.waitpid(pid, 0)
        os._exit(0)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.open("/proc/self/ns/pid", os.O_RDONLY)


def _serve(starter: Starter, standing: walls.Walls, config: dict[str, Any]) -> None:
    """A checker at a time, and what it asks for, until the host closes the channel."""
    os.environ.clear()
    checker.warm()
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=os.dup(checker.HOST)) as host:
        channel.send_json(checker.HOST, {"ready": True})
        while host.recv(1, socket.MSG_PEEK):
            ours, theirs = socket.socketpair()
            pid = os.fork()
            if pid == 0:
                ours.close()
                checker.serve(theirs, standing, config)
            theirs.close()
            with ours:
                starter.serve(ours)
            _wait_for(pid)
    os._exit(0)


def _wait_for(checker_pid: int) -> None:
    """Until that checker has ended; whatever else became ours is buried, too."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == checker_pid:
            if os.WIFSIGNALED(status) or os.WEXITSTATUS(status):
                os._exit(1)  # a half-read job may be left on the channel
            return
