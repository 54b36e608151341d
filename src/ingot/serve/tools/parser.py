"""Calls out of an answer as it grows: text in, pieces of text and calls out.

A call is handed on when it is complete and right, never before, because a client cannot take back half a call; what
turns out to be none (broken JSON, a function that nobody offered, an answer that ends inside) is handed on as the text
it is. White space beside a call belongs to it and is left out. What comes out, put together, does not depend on how the
text was cut, so whole and streamed answers are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from ingot.serve.tools.call import SPACE, Call, read_call

Found = str | Call


class Parser(Protocol):
    """Reads one answer."""

    def push(self, text: str) -> list[Found]:
        """What is certain after this text."""
        ...

    def finish(self, ended: bool) -> list[Found]:
        """What is left at the end of the answer; `ended`: the model ended it itself."""
        ...


class TaggedParser:
    """Calls between an opening and a closing tag, anywhere in an answer."""

    def __init__(self, opening: str, closing: str, offered: Collection[str]) -> None:
        self._opening, self._closing, self._offered = opening, closing, offered
        self._text = ""
        self._looked = 0
        self._gap: str | None = None  # behind a call: the white space before it
        self._has_said = False

    def push(self, text: str) -> list[Found]:
        self._text += text
        found: list[Found] = []
        while (begin := self._text.find(self._opening)) >= 0:
            end = self._end(begin + len(self._opening))
            if end is None:
                return found + self._say(len(self._text[:begin].rstrip(SPACE)))
            found += self._take(begin, end)
        return found + self._say(certain(self._text, self._opening))

    def finish(self, ended: bool) -> list[Found]:
        begin = self._text.find(self._opening)
        call = read_call(self._text[begin + len(self._opening) :], self._offered) if begin >= 0 and ended else None
        if call is None:
            return self._say(len(self._text))
        return [*self._say(len(self._text[:begin].rstrip(SPACE))), call]

    def _end(self, begin: int) -> int | None:
        """Where the closing tag of the call at `begin` stands; one inside a string of it is part of the string."""
        at = self._text.find(self._closing, max(begin, self._looked))
        while at >= 0 and _in_string(self._text[begin:at]):
            at = self._text.find(self._closing, at + 1)
        if at >= 0:
            return at
        self._looked = max(begin, len(self._text) - len(self._closing) + 1)
        return None

    def _take(self, begin: int, end: int) -> list[Found]:
        """What stands before a call, and the call; all of it as text where it is none."""
        call = read_call(self._text[begin + len(self._opening) : end], self._offered)
        if call is None:
            return self._say(end + len(self._closing))
        before = self._text[:begin].rstrip(SPACE)
        rest = self._text[end + len(self._closing) :]
        found = self._say(len(before))
        if self._gap is None:
            self._gap = self._text[: begin - len(before)] if self._has_said else ""
        self._text, self._looked = rest, 0
        return [*found, call]

    def _say(self, size: int) -> list[Found]:
        """Hand on the first characters. Of the white space around calls, texts on both sides keep that before them."""
        said, self._text = self._text[:size], self._text[size:]
        self._looked = max(0, self._looked - size)
        if self._gap is not None:
            bare = said.lstrip(SPACE)
            said = said if bare and self._has_said and not self._gap else self._gap * bool(bare) + bare
            self._gap = self._gap if not bare else None
        self._has_said = self._has_said or bool(said)
        return [said] if said else []


class TailParser:
    """Calls that are all that follows an opening word, to the end of the answer."""

    def __init__(self, opening: str, read: Callable[[str], list[Call] | None]) -> None:
        self._opening, self._read = opening, read
        self._text = ""

    def push(self, text: str) -> list[Found]:
        self._text += text
        begin = self._text.find(self._opening)
        size = certain(self._text, self._opening) if begin < 0 else len(self._text[:begin].rstrip(SPACE))
        return self._say(size)

    def finish(self, ended: bool) -> list[Found]:
        begin = self._text.find(self._opening)
        calls = self._read(self._text[begin + len(self._opening) :]) if begin >= 0 and ended else None
        return self._say(len(self._text)) if calls is None else list(calls)

    def _say(self, size: int) -> list[Found]:
        said, self._text = self._text[:size], self._text[size:]
        return [said] if said else []


class ObjectParser:
    """A call that is the whole answer, which then begins with a brace."""

    def __init__(self, read: Callable[[str], list[Call] | None]) -> None:
        self._read = read
        self._text = ""
        self._is_text = False

    def push(self, text: str) -> list[Found]:
        self._text += text
        begun = self._text.lstrip(SPACE)
        self._is_text = self._is_text or (bool(begun) and not begun.startswith("{"))
        return self._all() if self._is_text else []

    def finish(self, ended: bool) -> list[Found]:
        calls = self._read(self._text) if ended and not self._is_text else None
        return self._all() if calls is None else list(calls)

    def _all(self) -> list[Found]:
        said, self._text = self._text, ""
        return [said] if said else []


def certain(text: str, opening: str) -> int:
    """How many first characters cannot be the white space before an opening tag, or its beginning."""
    sizes = range(min(len(opening) - 1, len(text)), 0, -1)
    begun = next((size for size in sizes if text.endswith(opening[:size])), 0)
    return len(text[: len(text) - begun].rstrip(SPACE))


def _in_string(written: str) -> bool:
    """Does a JSON text end inside a string?"""
    plain = written.replace("\\\\", "").replace('\\"', "")
    return plain.count('"') % 2 == 1
