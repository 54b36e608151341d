"""A candidate's objects as the tests see them, and the tests themselves.

What a function returns arrives as plain values, so that `==` compares what the tests hold with what a candidate said,
by Python's own rules. An object that is no plain value stays where it is; tests may call it, read it and walk over it,
each time by asking. It equals nothing but itself, whatever its `__eq__` says.
"""

from __future__ import annotations

import builtins
import random
import sys
import types
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

from .codec import Handle
from .lasting import is_lasting, names_of
from .session import Session


class CandidateError(Exception):
    """What a candidate raised; its class also derives from the built-in exception of that name."""


class NoSuchName(BaseException):
    """The program has not what its tests call."""


def raised(name: str, message: str) -> CandidateError:
    """The exception that a candidate said it raised."""
    base = getattr(builtins, name, None)
    if isinstance(base, type) and issubclass(base, Exception) and base is not Exception:
        try:
            made: CandidateError = type(name, (CandidateError, base), {})(message)
            return made
        except TypeError:  # its constructor wants more than a message
            pass
    return type(name if name.isidentifier() else "Exception", (CandidateError,), {})(message)


class Remote:
    """An object of the candidate's process."""

    def __init__(self, session: Session, handle: Handle) -> None:
        object.__setattr__(self, "_session", session)
        object.__setattr__(self, "_handle", handle)

    def __hash__(self) -> int:
        """The same in every run, so that the order of a set is."""
        return hash(Remote.handle_of(self).number)

    def handle_of(self) -> Handle:
        handle: Handle = object.__getattribute__(self, "_handle")
        return handle

    def _ask(self, operation: str, *arguments: Any) -> Any:
        return ask(object.__getattribute__(self, "_session"), operation, Remote.handle_of(self), *arguments)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        given = [list(arguments), named]
        result, after = self._ask("call", *given)
        if after is not None:
            restore(given, after)
        return result

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._ask("get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("set", name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._ask("item", key)

    def __contains__(self, item: Any) -> bool:
        return self._ask("has", item) is True

    def __iter__(self) -> Any:
        return self._ask("iter")

    def __next__(self) -> Any:
        return self._ask("next")

    def __len__(self) -> int:
        return len(range(int(self._ask("len"))))

    def __bool__(self) -> bool:
        return Remote.handle_of(self).truth

    def __str__(self) -> str:
        return str(self._ask("str"))

    def __repr__(self) -> str:
        return str(self._ask("repr"))


def ask(session: Session, operation: str, *arguments: Any) -> Any:
    """The candidate's value. Raises what it raised, StopIteration, or Ended."""
    reply = session.ask(operation, *arguments)
    kind, *parts = reply if isinstance(reply, list) and reply else [None]
    if kind == "ok" and len(parts) == 1:
        return _with_remotes(session, parts[0])
    if kind == "raised" and len(parts) == 2:
        raise raised(str(parts[0]), str(parts[1]))
    if kind == "stop":
        raise StopIteration
    raise session._end("error", "malformed reply")


def _with_remotes(session: Session, value: Any) -> Any:
    """Handles anywhere within become Remotes."""
    if isinstance(value, Handle):
        return Remote(session, value)
    if type(value) in (list, tuple, set, frozenset, deque):
        return type(value)(_with_remotes(session, item) for item in value)
    if type(value) is dict:
        return {_with_remotes(session, key): _with_remotes(session, item) for key, item in value.items()}
    return value


def restore(old: Any, new: Any) -> Any:
    """What `old` is after the candidate changed its copy to `new`: the same container where it can be, changed."""
    if type(old) is not type(new):
        return new
    if type(old) is list or type(old) is deque:
        kept = [restore(a, b) for a, b in zip(old, new, strict=False)]
        rest = list(new)[len(kept) :]
        old.clear()
        old.extend([*kept, *rest])
        return old
    if type(old) is dict:
        merged = {key: restore(old[key], value) if key in old else value for key, value in new.items()}
        old.clear()
        old.update(merged)
        return old
    if type(old) is set:
        old.clear()
        old.update(new)
        return old
    if type(old) is bytearray:
        old[:] = new
        return old
    if type(old) is tuple and len(old) == len(new):
        return tuple(restore(a, b) for a, b in zip(old, new, strict=True))
    return old if isinstance(old, Remote) else new


@dataclass(frozen=True)
class Tests:
    """Compiled. `names` are those that the tests look up; `lasting`: could they leave something behind?"""

    trusted: types.CodeType
    tests: types.CodeType
    entries: tuple[str, ...]
    names: tuple[str, ...]
    lasting: bool

    def run(self, session: Session) -> None:
        """Run them to their end; a return without an exception is a pass. Raises what they raise."""
        random.seed(0)
        space: dict[str, Any] = {"__name__": "tests"}
        exec(self.trusted, space)  # noqa: S102
        for name in self.entries:
            space[name] = _found(session, name)
        for name in self.names:
            if name in space:
                continue
            if name in sys.stdlib_module_names:
                space[name] = import_module(name)
            else:
                try:
                    space[name] = _found(session, name)
                except NoSuchName:  # an attribute, or a name that the tests themselves give
                    continue
        exec(self.tests, space)  # noqa: S102
        if session.ended is not None:
            raise session.ended


@lru_cache(maxsize=64)
def prepared(trusted: str, tests: str, entries: tuple[str, ...]) -> Tests:
    """Tests that are ready to run. Raises what compiling raises."""
    code, before = compile(tests, "<tests>", "exec", dont_inherit=True), _compiled(trusted)
    names = tuple(sorted(names_of(code) - set(dir(builtins))))
    return Tests(before, code, entries, names, is_lasting((before, code), entries))


def _compiled(trusted: str) -> types.CodeType:
    """A prompt may end where a body must follow."""
    try:
        return compile(trusted, "<prompt>", "exec", dont_inherit=True)
    except SyntaxError:
        return compile(trusted.rstrip() + "\n    pass\n", "<prompt>", "exec", dont_inherit=True)


def _found(session: Session, name: str) -> Any:
    try:
        return ask(session, "name", name)
    except KeyError:
        raise NoSuchName(name) from None
