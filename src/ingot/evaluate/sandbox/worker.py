"""One worker process as ingot sees it: started, given jobs, ended; nothing of it is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ingot.core.errors import fail
from ingot.evaluate.sandbox.cgroup import Group, make_group
from ingot.evaluate.sandbox.guest import channel
from ingot.evaluate.sandbox.program import Limits, Outcome, Program

START = "import sys; sys.path.insert(0, {folder!r}); from guest.keeper import main; main()"
ENVIRONMENT = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONUTF8": "1", "LD_BIND_NOW": "1"}
"""All that a worker's Python is started with."""
SCRATCH_BYTES = 32 << 20
OVERHEAD = 64


class WorkerLostError(Exception):
    """The worker ended, or its checker failed, in the middle of a job."""


class Worker:
    """Runs one program at a time. `without`: mechanisms to leave out, for tests."""

    def __init__(self, core: int | None, limits: Limits, without: Sequence[str] = ()) -> None:
        self.core, self.limits, self.without = core, limits, list(without)
        self.mechanisms: dict[str, str | None] = {}
        self.group: Group | None = None
        self.job: dict[str, Any] = {}
        self.scratch = Path(tempfile.mkdtemp(prefix="ingot-sandbox-"))
        self.scratch.chmod(0o1777 if os.geteuid() == 0 else 0o700)
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        self.channel, theirs = socket.socketpair()
        config = json.dumps(
            {"folders": python_folders(), "scratch": str(self.scratch), "scratch_bytes": SCRATCH_BYTES,
             "without": self.without, "core": self.core}
        )  # fmt: skip
        start = START.format(folder=str(Path(channel.__file__).parent.parent))
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-s", "-P", "-S", "-B", "-X", "utf8", "-c", start, config],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=ENVIRONMENT,
                cwd="/",
            )
        self._join_group()
        self._receive()

    def _join_group(self) -> None:
        """Before a worker has started its processes it can still be moved whole."""
        try:
            if "cgroup" in self.without:
                raise PermissionError(1, "left out on request")
            name = f"ingot-sandbox-{self.process.pid}"
            self.group = make_group(name, self.limits.memory + (1 << 30), self.limits.threads + OVERHEAD)
            self.group.take(self.process.pid)
            self.mechanisms["cgroup"] = None
        except OSError as error:
            self.mechanisms["cgroup"] = error.strerror or str(error)

    def send(self, program: Program) -> None:
        """Give it a job. Raises WorkerLostError."""
        self.job = {"source": program.source, "tests": program.tests, "entries": list(program.entries),
                    "trusted": program.trusted, "limits": self.limits.of(program)}  # fmt: skip
        self._send()

    def _send(self) -> None:
        try:
            channel.send_json(self.channel.fileno(), self.job)
        except OSError as error:
            raise WorkerLostError(str(error)) from None

    def receive(self) -> Outcome:
        """What came of the job. Raises WorkerLostError."""
        while "again" in (found := self._receive()):
            self._send()
        self.mechanisms |= found.pop("stands")
        return Outcome(**found)

    def _receive(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = channel.receive_json(self.channel.fileno())
        except (EOFError, OSError) as error:
            raise WorkerLostError(str(error)) from None
        if "failed" in found:
            raise WorkerLostError(found["failed"])
        return found

    def close(self) -> None:
        """End it with all that runs in it, and clear away its scratch folder and group."""
        if hasattr(self, "channel"):
            self.channel.close()
        if hasattr(self, "process"):
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.group is not None:
            with contextlib.suppress(OSError):
                self.group.remove()
        shutil.rmtree(self.scratch, ignore_errors=True)


def python_folders() -> list[str]:
    """Where this Python's own library lies: all of the machine that a program may read."""
    if sys.platform != "linux":
        raise fail("sandbox-not-linux", platform=sys.platform)
    names = dict.fromkeys(os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))
    return [name for name in names if not any(name != other and name.startswith(other + "/") for other in names)]
