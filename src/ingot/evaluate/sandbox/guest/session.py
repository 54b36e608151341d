"""The checker's side of a candidate: ask, wait, and end it when it is over a limit or does what is forbidden.

Time is the candidate's own time on the processor, read from the kernel's clock of that process, so that a busy machine
fails nobody; only one that sleeps is ended by the clock on the wall.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import signal
import socket
import time
from typing import Any

from . import channel, filter, kernel
from .birth import Ending, Link
from .codec import MAX_BYTES, Decoder, Handle, encode
from .syscalls import numbers

TICK_MS = 20
ASLEEP_SHARE = 0.02
"""Of the wall's time, less than this on the processor is sleep; a starved program on a busy machine gets more. With it
nothing lasts longer than the limit over this share."""
KEPT_OUTPUT = 4096


class Ended(BaseException):
    """The candidate is over, and why. No test's `except Exception` hides it, and the session remembers it."""

    def __init__(self, verdict: str, cause: str) -> None:
        self.verdict, self.cause = verdict, cause
        super().__init__(verdict, cause)


def overtime(cpu: float, wall: float, limit: float) -> str | None:
    """Why a program that used so many seconds must end, if it must."""
    if cpu >= limit:
        return f"{limit:g} s on the processor"
    if wall >= limit and cpu < ASLEEP_SHARE * wall:
        return f"asleep for {limit:g} s"
    return None


class Session:
    """One candidate process, started by the keeper. `wire` leads to it, `output` is what it prints."""

    def __init__(self, keeper: Link, limits: dict[str, Any]) -> None:
        self.keeper, self.limits = keeper, limits
        self.pid, self.wire, self.output = keeper.start()
        self.listener = -1
        self.clock = (~self.pid << 3) | 2  # the kernel's id of a process's own clock
        self.cpu, self.started = 0.0, time.monotonic()
        self.ended: Ended | None = None
        self.ending: Ending | None = None
        self.closed = False
        self.printed, self.num_printed = bytearray(), 0
        self.poll = select.poll()
        os.set_blocking(self.output, False)
        self.poll.register(self.output, select.POLLIN)

    def set_up(self, without: list[str], scratch: str) -> dict[str, Any]:
        """What the candidate says stands before it reads a program; takes the listener over."""
        channel.send_json(self.wire.fileno(), [self.limits, without, scratch])
        self.wire.settimeout(60)
        data, files = self._received()
        if files:
            self.listener = files[0]
            self.poll.register(self.listener, select.POLLIN)
        self.wire.setblocking(False)
        found: dict[str, Any] = json.loads(data)
        return found

    def _received(self) -> tuple[bytes, list[int]]:
        room = socket.CMSG_SPACE(array.array("i", [0]).itemsize)
        data, extra, _, _ = self.wire.recvmsg(1 << 16, room)
        files = array.array("i")
        for level, kind, body in extra:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                files.frombytes(body[: len(body) - len(body) % files.itemsize])
        return data[channel.LENGTH.size :], list(files)

    def ask(self, *request: Any) -> Any:
        """What the candidate replies, decoded: its words, never its objects. Raises Ended."""
        if self.ended is not None or self.closed:
            raise self.ended or Ended("error", "asked when it was over")
        try:
            reply = self._exchange(encode(list(request), _unsent))
            return Decoder(reply, lambda handle: handle).value()
        except ValueError as error:
            raise self._end("error", str(error)) from None

    def _exchange(self, message: bytes) -> bytes:
        rest = memoryview(channel.LENGTH.pack(len(message)) + message)
        reply = bytearray()
        self._check_time()
        while True:
            self.poll.register(self.wire, select.POLLIN | (select.POLLOUT if rest else 0))
            ready = dict(self.poll.poll(TICK_MS))
            if self.listener in ready:
                self._refuse()
            if self.output in ready:
                self._read_output()
            if rest and ready.get(self.wire.fileno(), 0) & select.POLLOUT:
                rest = self._push(rest)
            elif ready.get(self.wire.fileno(), 0):
                self._pull(reply)
                if len(reply) >= 4 and len(reply) - 4 >= channel.LENGTH.unpack(reply[:4])[0]:
                    return bytes(reply[4:])
            self._check_time()

    def _push(self, rest: memoryview) -> memoryview:
        try:
            return rest[self.wire.send(rest) :]
        except BlockingIOError:
            return rest
        except OSError:
            raise self._gone() from None

    def _pull(self, reply: bytearray) -> None:
        try:
            part = self.wire.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if not part:
            raise self._gone()
        reply += part
        if len(reply) >= 4 and channel.LENGTH.unpack(reply[:4])[0] > MAX_BYTES:
            raise self._end("error", f"answered with more than {MAX_BYTES} bytes")

    def _refuse(self) -> None:
        number = filter.heard(self.listener)
        if number is not None:
            names = {found: name for name, found in numbers(kernel.machine()).items()}
            raise self._end("blocked", names.get(number, f"system call {number}"))

    def _read_output(self) -> None:
        with contextlib.suppress(BlockingIOError):
            part = os.read(self.output, 1 << 16)
            if not part:
                self.poll.unregister(self.output)
            self.num_printed += len(part)
            self.printed += part[: KEPT_OUTPUT - len(self.printed)]
        if self.num_printed > self.limits["output"]:
            raise self._end("output-limit", f"more than {self.limits['output']} bytes printed")

    def _check_time(self) -> None:
        with contextlib.suppress(OSError):
            self.cpu = time.clock_gettime(self.clock)
        cause = overtime(self.cpu, time.monotonic() - self.started, self.limits["cpu"])
        if cause is not None:
            raise self._end("timeout", cause)

    def _gone(self) -> Ended:
        """The candidate closed the channel, or ended: which, and how?"""
        for _ in range(50):
            if self._reap(wait=False):
                break
            if self.listener >= 0 and filter_waits(self.listener):
                self._refuse()
            time.sleep(0.01)
        if self.ending is None:
            return self._end("error", "closed its channel")
        if os.WIFEXITED(self.ending.status):
            return self._end("error", f"ended by itself with status {os.WEXITSTATUS(self.ending.status)}")
        number = os.WTERMSIG(self.ending.status)
        if number == signal.SIGSYS:
            return self._end("blocked", "a forbidden system call")
        if number in (signal.SIGKILL, signal.SIGXCPU) and self.cpu >= self.limits["cpu"]:
            return self._end("timeout", f"{self.limits['cpu']:g} s on the processor")
        if number == signal.SIGKILL:
            return self._end("memory", "ended by the kernel")
        return self._end("error", f"crashed: {signal.Signals(number).name}")

    def _end(self, verdict: str, cause: str) -> Ended:
        self.ended = self.ended or Ended(verdict, cause)
        self.close()
        return self.ended

    def _reap(self, wait: bool) -> bool:
        if self.ending is None:
            self.ending = self.keeper.ending(wait)
            if self.ending is not None:
                self.cpu = self.ending.cpu
        return self.ending is not None

    def close(self) -> None:
        """End the candidate and what it started, keep what it printed last, and leave nothing open."""
        if self.closed:
            return
        self.closed = True
        if self.ending is None:
            for end in (os.killpg, os.kill):
                with contextlib.suppress(OSError):
                    end(self.pid, signal.SIGKILL)
        if self.listener >= 0:
            os.close(self.listener)
        self._reap(wait=True)
        with contextlib.suppress(OSError):
            while part := os.read(self.output, 1 << 16):
                self.num_printed += len(part)
                self.printed += part[: KEPT_OUTPUT - len(self.printed)]
        os.close(self.output)
        self.wire.close()


def filter_waits(listener: int) -> bool:
    """Does a call wait to be refused?"""
    return bool(select.select([listener], [], [], 0)[0])


def _unsent(value: Any) -> Handle:
    """Of what the tests pass, only handles and plain values go to a candidate."""
    handle = getattr(type(value), "handle_of", None)
    if handle is None:
        raise ValueError(f"a test passes a {type(value).__name__}, which cannot be sent to a program")
    found: Handle = handle(value)
    return found
