"""Starting candidates for a checker, and learning how they ended.

The keeper forks them, because it never reads a job: a checker that has served many programs holds their tests in its
memory, and what is forked from the keeper holds none. The checker says one of three bytes and gets one line back; it
never says anything about a program.
"""

from __future__ import annotations

import array
import contextlib
import os
import signal
import socket
import struct
from typing import Any, NamedTuple

from . import candidate, channel, kernel, walls

START, END, LOOK = b"s", b"e", b"l"
"""Fork a candidate; wait until it is over; is it over already?"""
_ANSWER = struct.Struct("<?qd")


class Ending(NamedTuple):
    """How a candidate ended: the kernel's status, and its seconds on the processor."""

    status: int
    cpu: float


class Starter:
    """The keeper's side: one candidate at a time, in namespaces of its own where there are such. `home` leads to the
    keeper's own namespace of processes."""

    def __init__(self, standing: walls.Walls, config: dict[str, Any], home: int) -> None:
        self.config, self.home = config, home
        self.own_processes = standing["user"] is None and standing["pid"] is None
        self.own_scratch = has_own_scratch(standing)
        self.pid = 0

    def serve(self, link: socket.socket) -> None:
        """Do what the checker asks until it has ended; nothing that it started outlives it."""
        while asked := link.recv(1):
            if asked == START:
                self._start(link)
            else:
                link.send(_ANSWER.pack(*self._ended(0 if asked == END else os.WNOHANG)))
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._ended(0)

    def _start(self, link: socket.socket) -> None:
        ours, theirs = socket.socketpair()
        read, write = os.pipe()
        if self.own_processes:
            kernel.unshare(kernel.CLONE_NEWPID)
        self.pid = os.fork()
        if self.pid == 0:
            self._become_candidate(theirs.fileno(), write)
        if self.own_processes:
            kernel.enter_namespace(self.home, kernel.CLONE_NEWPID)
        files = array.array("i", [ours.fileno(), read])
        link.sendmsg([_ANSWER.pack(True, self.pid, 0.0)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
        ours.close()
        theirs.close()
        os.close(read)
        os.close(write)

    def _ended(self, flags: int) -> tuple[bool, int, float]:
        pid, status, used = os.wait4(self.pid, flags)
        if pid:
            self.pid = 0
        return bool(pid), status, used.ru_utime + used.ru_stime

    def _become_candidate(self, wire: int, output: int) -> None:
        """Never returns: only the channel, what is printed, and an empty input stay open."""
        try:
            os.setsid()
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.dup2(wire, candidate.CHANNEL)
            os.closerange(candidate.CHANNEL + 1, 1 << 16)
            if self.own_scratch:
                walls.fresh_scratch(self.config["scratch_bytes"])
            limits, without, scratch = channel.receive_json(candidate.CHANNEL)
            candidate.announce(*candidate.lock(limits, without, scratch, self.config["folders"]))
            candidate.serve()
        finally:
            os._exit(1)


def has_own_scratch(standing: walls.Walls) -> bool:
    """Is a candidate's place to write a mount of its own? Else it is a folder that the checker clears away."""
    return standing["user"] is None and standing["root"] is None


class Link:
    """The checker's side. Raises EOFError where the keeper has ended."""

    def __init__(self, wire: socket.socket) -> None:
        self.wire = wire

    def start(self) -> tuple[int, socket.socket, int]:
        """A new candidate's number, the channel to it, and what it prints."""
        self.wire.send(START)
        data, files, _, _ = socket.recv_fds(self.wire, _ANSWER.size, 2)
        _, pid, _ = _unpacked(data)
        return pid, socket.socket(fileno=files[0]), files[1]

    def ending(self, wait: bool) -> Ending | None:
        """How the candidate ended, if it has."""
        self.wire.send(END if wait else LOOK)
        over, status, cpu = _unpacked(self.wire.recv(_ANSWER.size))
        return Ending(status, cpu) if over else None


def _unpacked(data: bytes) -> tuple[bool, int, float]:
    if len(data) != _ANSWER.size:
        raise EOFError("the keeper ended")
    found: tuple[bool, int, float] = _ANSWER.unpack(data)
    return found
