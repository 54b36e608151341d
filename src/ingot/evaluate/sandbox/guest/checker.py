"""One program's checker: starts its process, runs the tests against it, and tells the host the verdict.

It runs no line of the program. The order matters: the candidate's process is forked before this one reads the job, so
the tests are never in the candidate's memory, nor in that of the keeper, from whom later candidates are forked.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import time
from typing import Any

from . import candidate, channel, filter, kernel, walls
from .remote import CandidateError, NoSuchName, ask, run_tests
from .session import Ended, Session
from .syscalls import numbers

HOST = 0
"""The descriptor that leads to ingot: a worker's standard input."""
EXTRA = ("kill", "ioctl")
"""What a checker may call and a candidate may not."""
FIRST = 1
"""The number of a process in a namespace of its own."""


def warm() -> None:
    """What every job needs and no job changes, made before any is forked."""
    if walls.machine_is_known():
        filter.build(kernel.machine(), filter.RET_NOTIFY, FIRST)
        filter.build(kernel.machine(), filter.RET_KILL, FIRST)
        filter.build(kernel.machine(), filter.RET_KILL, FIRST, EXTRA)


def check(standing: walls.Walls, config: dict[str, Any]) -> None:
    """Do the one job that waits on the host's channel. Never returns."""
    try:
        scratch = _scratch(standing, config)
        session = _start(standing, config, scratch)
        job = channel.receive_json(HOST)
        channel.send_json(session.wire.fileno(), [job["limits"], config["without"], scratch])
        session.limits = job["limits"]
        stands = standing | session.set_up()
        _lock_self(stands, job["limits"])
        verdict, cause = _verdict(session, job)
        session.close()
        if standing["mount"] is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        channel.send_json(HOST, _result(session, verdict, cause, stands))
    except BaseException as error:
        with contextlib.suppress(BaseException):
            channel.send_json(HOST, {"failed": f"{type(error).__name__}: {error}"})
        os._exit(1)
    os._exit(0)


def _scratch(standing: walls.Walls, config: dict[str, Any]) -> str:
    """An empty folder to write in: a mount of its own, else a folder that the host clears away."""
    if standing["user"] is None and standing["root"] is None:
        walls.fresh_scratch(config["scratch_bytes"])
        return walls.SCRATCH
    path = os.path.join(config["scratch"], str(time.monotonic_ns()))
    os.mkdir(path, 0o700)
    return path


def _start(standing: walls.Walls, config: dict[str, Any], scratch: str) -> Session:
    """Fork the candidate, as the first process of a namespace of its own where there is one."""
    if standing["user"] is None and standing["pid"] is None:
        kernel.unshare(kernel.CLONE_NEWPID)
    ours, theirs = socket.socketpair()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become_candidate(theirs.fileno(), write, config)
    theirs.close()
    os.close(write)
    return Session(pid, ours, read, {"cpu": 60.0, "output": 1 << 20})


def _become_candidate(wire: int, output: int, config: dict[str, Any]) -> None:
    """Never returns: only the channel, what is printed, and an empty input stay open."""
    try:
        os.setsid()
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        os.dup2(wire, candidate.CHANNEL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(4, 1 << 16)
        limits, without, scratch = channel.receive_json(candidate.CHANNEL)
        candidate.announce(*candidate.lock(limits, without, scratch, config["folders"]))
        candidate.serve()
    finally:
        os._exit(1)


def _lock_self(standing: walls.Walls, limits: dict[str, Any]) -> None:
    """The tests are the data set's, not ours: they run without rights, too."""
    for name, value in {"AS": 4 << 30, "CORE": 0, "NPROC": 64, "CPU": int(12 * limits["cpu"]) + 60}.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    if standing.get("capabilities") is None:
        kernel.drop_capabilities(numbers(kernel.machine()))
    if standing.get("no_new_privs") is None:
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if standing.get("seccomp") is None:
        filter.install(kernel.machine(), filter.build(kernel.machine(), filter.RET_KILL, FIRST, EXTRA), False)


def _verdict(session: Session, job: dict[str, Any]) -> tuple[str, str]:
    try:
        return _loaded(session, job["source"]) or _tested(session, job)
    except Ended as ended:
        return ended.verdict, ended.cause


def _loaded(session: Session, source: str) -> tuple[str, str] | None:
    """Why the program cannot even be loaded, if so."""
    try:
        ask(session, "load", source)
    except CandidateError as error:
        return _of_candidate(error, loading=True)
    return None


def _tested(session: Session, job: dict[str, Any]) -> tuple[str, str]:
    try:
        run_tests(session, job["trusted"], job["tests"], job["entries"])
    except NoSuchName as error:
        return "no-entry-point", str(error)
    except CandidateError as error:
        return _first(session, _of_candidate(error, loading=False))
    except AssertionError as error:
        return _first(session, ("wrong", f"line {_line(error)} of the tests"))
    except Exception as error:
        return _first(session, ("wrong", f"line {_line(error)} of the tests: {type(error).__name__}: {error}"[:500]))
    return "passed", ""


def _first(session: Session, found: tuple[str, str]) -> tuple[str, str]:
    """What ended the candidate, if that is why the tests stopped."""
    return (session.ended.verdict, session.ended.cause) if session.ended else found


def _of_candidate(error: CandidateError, loading: bool) -> tuple[str, str]:
    name = type(error).__name__
    text = f"{name}: {error}"
    if name == "MemoryError":
        return "memory", text
    if loading and (name in ("SyntaxError", "IndentationError", "TabError") or "null bytes" in str(error)):
        return "syntax-error", text
    return "error", text


def _line(error: BaseException) -> int:
    """Of the tests, the line where they stopped."""
    found, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<tests>":
            found = trace.tb_lineno
        trace = trace.tb_next
    return found


def _result(session: Session, verdict: str, cause: str, stands: walls.Walls) -> dict[str, Any]:
    return {
        "verdict": verdict,
        "cause": cause,
        "cpu": session.cpu,
        "wall": time.monotonic() - session.started,
        "output": bytes(session.printed).decode("utf-8", "replace"),
        "printed": session.num_printed,
        "stands": stands,
    }
