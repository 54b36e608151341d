"""The process that a program runs in: it locks itself in, loads the program, and answers calls until it is ended.

It is forked before anything was read of what the program must do, so there is nothing of the tests in its memory: a
program that reads all of it, walks frames, patches modules or takes over the channel learns the arguments it is called
with, and can only answer with values.
"""

from __future__ import annotations

import array
import contextlib
import json
import math
import os
import random
import resource
import socket
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

from . import channel, filter, kernel, landlock, walls
from .codec import Decoder, Handle, encode
from .syscalls import numbers

CHANNEL = 3
"""The descriptor that leads to the checker."""


def lock(limits: dict[str, Any], without: list[str], scratch: str, folders: Sequence[str]) -> tuple[walls.Walls, int]:
    """Give up every right there is to give up. Returns what stands, and the listener's descriptor or -1."""
    found: walls.Walls = {}
    os.chdir(scratch)
    walls.attempt(found, "rlimits", lambda: _limit(limits), without)
    machine, known = kernel.machine(), walls.machine_is_known()
    if known:
        walls.attempt(found, "capabilities", lambda: kernel.drop_capabilities(numbers(machine)), without)
    walls.attempt(found, "no_new_privs", lambda: kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1), without)
    readable = [folder for folder in folders if os.path.isdir(folder)]
    devices = [device for device in walls.DEVICES if os.path.exists(device)]
    walls.attempt(found, "landlock", lambda: landlock.restrict(readable, [scratch], devices), without)
    listener = -1
    if not known:
        found["seccomp"] = f"no table for {machine}"
    elif "seccomp" in without:
        found["seccomp"] = "left out on request"
    else:
        listener = _filter(found, machine)
    return found, listener


def _filter(found: walls.Walls, machine: str) -> int:
    """With a listener where the kernel has one, else deadly."""
    try:
        listener = filter.install(machine, filter.build(machine, filter.RET_NOTIFY, os.getpid()), True)
        found["seccomp"] = found["listener"] = None
        return -1 if listener is None else listener
    except OSError as error:
        found["listener"] = str(error.strerror)
    walls.attempt(
        found,
        "seccomp",
        lambda: filter.install(machine, filter.build(machine, filter.RET_KILL, os.getpid()), False),
        [],
    )
    return -1


def _limit(limits: dict[str, Any]) -> None:
    """A margin on processor time: the checker ends a program at the exact limit, and the kernel if that fails."""
    for name, value in {
        "CPU": math.ceil(limits["cpu"]) + 1,
        "AS": limits["memory"],
        "FSIZE": limits["file"],
        "NPROC": limits["threads"],
        "NOFILE": 64,
        "CORE": 0,
        "MEMLOCK": 0,
        "MSGQUEUE": 0,
    }.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))


def announce(found: walls.Walls, listener: int) -> None:
    """Tell the checker what stands, and hand it the listener."""
    with socket.socket(fileno=os.dup(CHANNEL)) as wire:
        body = json.dumps(found).encode()
        files = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener]))] if listener >= 0 else []
        wire.sendmsg([channel.LENGTH.pack(len(body)) + body], files)
    if listener >= 0:
        os.close(listener)


class Answerer:
    """Does what the checker asks of the program's module and of the objects that it kept."""

    def __init__(self) -> None:
        self.module = types.ModuleType("program")
        self.kept: dict[int, Any] = {}

    def keep(self, value: Any) -> Handle:
        """A number for an object that does not travel; the same object has the same."""
        number = id(value)
        self.kept[number] = value
        return Handle(number, bool(value), type(value).__name__)

    def load(self, source: str) -> None:
        sys.modules["program"] = self.module
        exec(compile(source, "<program>", "exec", dont_inherit=True), self.module.__dict__)  # noqa: S102

    def name(self, name: str) -> Any:
        return self.module.__dict__[name]

    def call(self, function: Any, arguments: list[Any], named: dict[str, Any]) -> Any:
        """The result, and the arguments as they are afterwards where the function changed them."""
        before = encode([arguments, named], self.keep)
        result = function(*arguments, **named)
        after = [arguments, named]
        return [result, None if encode(after, self.keep) == before else after]

    def answer(self, message: bytes) -> bytes:
        try:
            operation, *arguments = Decoder(message, lambda handle: self.kept[handle.number]).value()
            found = ["ok", self.operations()[operation](*arguments)]
        except StopIteration:
            found = ["stop"]
        except BaseException as error:
            found = ["raised", *described(error)]
        try:
            return encode(found, self.keep)
        except BaseException as error:
            return encode(["raised", *described(error)], self.keep)

    def operations(self) -> dict[str, Callable[..., Any]]:
        return {
            "load": self.load, "name": self.name, "call": self.call, "get": getattr, "set": setattr, "iter": iter,
            "next": next, "item": lambda value, key: value[key], "len": len, "str": str, "repr": repr,
            "has": lambda value, item: item in value,
        }  # fmt: skip


def described(error: BaseException) -> tuple[str, str]:
    """An exception's type and message; a message that cannot be made is empty."""
    message = ""
    with contextlib.suppress(BaseException):
        message = str(error)[:500]
    return type(error).__name__, message


def serve() -> None:
    """Answer until the checker closes the channel."""
    sys.argv = [""]
    random.seed(0)
    answerer = Answerer()
    with contextlib.suppress(EOFError, OSError):
        while True:
            reply = answerer.answer(channel.receive(CHANNEL))
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(BaseException):
                    stream.flush()
            channel.send(CHANNEL, reply)
    os._exit(0)
