"""The checker: has a process started for each program, runs the tests against it, and tells the host the verdict.

It runs no line of a program, and candidates are forked from the keeper, so the tests are never in their memory. One
checker serves many programs. What a program can send it is values (`codec`), which end with the job. Tests that could
leave anything behind, or see what others left (`lasting`), have a checker to themselves.
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

from . import channel, filter, kernel, walls
from .birth import Link, has_own_scratch
from .remote import CandidateError, NoSuchName, Tests, ask, prepared
from .session import Ended, Session
from .syscalls import numbers

HOST = 0
"""The descriptor that leads to ingot: a worker's standard input."""
EXTRA = ("kill", "ioctl")
"""What a checker may call and a candidate may not."""
FIRST = 1
"""The number of a process in a namespace of its own."""
AGAIN = {"again": True}
"""Instead of a result: this job is for the next checker, and must be sent again."""
GROWTH_KIB = 128 << 10
"""A checker that has needed so much more than at its beginning serves no further program."""


def warm() -> None:
    """What every job needs and no job changes, made before any is forked."""
    if walls.machine_is_known():
        filter.build(kernel.machine(), filter.RET_NOTIFY, FIRST)
        filter.build(kernel.machine(), filter.RET_KILL, FIRST)
        filter.build(kernel.machine(), filter.RET_KILL, FIRST, EXTRA)


def serve(link: socket.socket, standing: walls.Walls, config: dict[str, Any]) -> None:
    """Do the jobs that wait on the host's channel. Never returns."""
    try:
        keeper = Link(link)
        _lock_self(config["without"])
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + GROWTH_KIB
        fresh = True
        with socket.socket(fileno=os.dup(HOST)) as host:
            while host.recv(1, socket.MSG_PEEK):
                job = channel.receive_json(HOST)
                tests = _prepared(job)
                lasting = isinstance(tests, Tests) and tests.lasting
                channel.send_json(HOST, _done(keeper, standing, config, job, tests) if fresh or not lasting else AGAIN)
                if lasting or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > most:
                    break
                fresh = False
    except BaseException as error:
        with contextlib.suppress(BaseException):
            channel.send_json(HOST, {"failed": f"{type(error).__name__}: {error}"})
        os._exit(1)
    os._exit(0)


def _done(
    keeper: Link, standing: walls.Walls, config: dict[str, Any], job: dict[str, Any], tests: Tests | Exception
) -> dict[str, Any]:
    """What came of one job."""
    _renew_time(job["limits"]["cpu"])
    scratch = _scratch(standing, config)
    with contextlib.closing(Session(keeper, job["limits"])) as session:
        stands = standing | session.set_up(config["without"], scratch)
        verdict, cause = _verdict(session, job, tests)
        session.close()
    if standing["mount"] is not None:
        shutil.rmtree(scratch, ignore_errors=True)
    return _result(session, verdict, cause, stands)


def _prepared(job: dict[str, Any]) -> Tests | Exception:
    """The tests, or why they cannot be compiled."""
    try:
        return prepared(job["trusted"], job["tests"], tuple(job["entries"]))
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        return error


def _scratch(standing: walls.Walls, config: dict[str, Any]) -> str:
    """An empty folder to write in: a candidate's own mount, else a folder that is cleared away."""
    if has_own_scratch(standing):
        return walls.SCRATCH
    path = os.path.join(config["scratch"], str(time.monotonic_ns()))
    os.mkdir(path, 0o700)
    return path


def _lock_self(without: list[str]) -> None:
    """The tests are the data set's, not ours: they run without rights, too."""
    for name, value in {"AS": 4 << 30, "CORE": 0, "NPROC": 64}.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    walls.attempt({}, "no_new_privs", lambda: kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1), without)
    if walls.machine_is_known():
        walls.attempt({}, "capabilities", lambda: kernel.drop_capabilities(numbers(kernel.machine())), without)
        program = filter.build(kernel.machine(), filter.RET_KILL, FIRST, EXTRA)
        walls.attempt({}, "seccomp", lambda: filter.install(kernel.machine(), program, False), without)


def _renew_time(cpu: float) -> None:
    """From now on, for one job; the kernel ends a checker whose tests never end."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime + 12 * cpu) + 60
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _verdict(session: Session, job: dict[str, Any], tests: Tests | Exception) -> tuple[str, str]:
    try:
        return _loaded(session, job["source"]) or _tested(session, tests)
    except Ended as ended:
        return ended.verdict, ended.cause


def _loaded(session: Session, source: str) -> tuple[str, str] | None:
    """Why the program cannot even be loaded, if so."""
    try:
        ask(session, "load", source)
    except CandidateError as error:
        return _of_candidate(error, loading=True)
    return None


def _tested(session: Session, tests: Tests | Exception) -> tuple[str, str]:
    try:
        if isinstance(tests, Exception):
            raise tests
        tests.run(session)
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
