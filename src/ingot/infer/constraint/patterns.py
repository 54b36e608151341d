r"""One dialect of regular expressions, read here and written anew for those that only match.

Read as ECMA-262 with the `u` flag does, which JSON Schema asks for: \d and \w are ASCII, \s is Unicode's white space, a
dot is anything but an end of line. What the automaton of the grammar cannot do (looking around, back references, word
borders) or what two engines would read differently (\p, flags, an anchor inside) is refused with its position. What is
written holds only literals by code point, sets, groups, `|` and counts, and means the same everywhere; it matches whole
texts. Its size, counts multiplied out, is bounded, which bounds what compiling and matching may cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import regex

from ingot.core.errors import fail

MAX_SIZE = 50_000
"""Characters of a pattern with its counts multiplied out."""
MAX_DEPTH = 50
"""Groups inside groups."""
TIMEOUT = 2.0
"""Seconds that a check of a finished text may take: the engine that checks goes back and forth."""

DIGIT = "0-9"
WORD = "0-9A-Za-z_"
SPACE = r"\u0009-\u000d\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
LINE_ENDS = r"\u000a\u000d\u2028\u2029"
CLASSES = {"d": DIGIT, "w": WORD, "s": SPACE}
CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
ANYTHING = "(?s:.*)"


@dataclass(frozen=True)
class Pattern:
    """A pattern for whole texts, in the plain dialect."""

    text: str

    def accepts(self, text: str) -> bool:
        """Raises TimeoutError where going back and forth takes too long."""
        return regex.fullmatch(self.text, text, timeout=TIMEOUT) is not None


def read_pattern(source: str, whole: bool) -> Pattern:
    """`whole`: the text must match from end to end; otherwise a part of it, as in JSON Schema. Raises ValueError with
    what is wrong and where."""
    if len(source) > MAX_SIZE:
        raise ValueError(f"it has {len(source)} characters, {MAX_SIZE} are taken")
    reader = _Reader(source)
    branches = [reader.branch(whole)]
    while reader.take("|"):
        branches.append(reader.branch(whole))
    if reader.left:
        raise reader.wrong("a ) without its (")
    return Pattern("|".join(branches) if len(branches) == 1 else f"(?:{'|'.join(branches)})")


def read_or_fail(source: str, where: str) -> Pattern:
    """A pattern for whole texts that a request has under this name. Raises `constraint-pattern`."""
    try:
        return read_pattern(source, whole=True)
    except ValueError as error:
        raise fail("constraint-pattern", where=where, reason=str(error)) from None


def literal(character: str) -> str:
    """A character as every engine reads it, in a set and outside."""
    code = ord(character)
    if 0xD800 <= code < 0xE000:
        raise ValueError("it holds half a character (a lone surrogate)")
    if character.isascii() and character.isalnum():
        return character
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class _Reader:
    """Recursive descent; each method gives what it read in the plain dialect, and counts its size."""

    def __init__(self, source: str) -> None:
        self.source, self.at, self.depth, self.size = source, 0, 0, 0

    @property
    def left(self) -> str:
        return self.source[self.at :]

    def wrong(self, reason: str) -> ValueError:
        return ValueError(f"{reason}, at character {self.at + 1} of {self.source!r:.80}")

    def take(self, expected: str) -> bool:
        if self.source.startswith(expected, self.at):
            self.at += len(expected)
            return True
        return False

    def next(self) -> str:
        if self.at == len(self.source):
            raise self.wrong("it ends too early")
        self.at += 1
        return self.source[self.at - 1]

    def branch(self, whole: bool) -> str:
        """One of the outermost alternatives, padded where it is not anchored."""
        begins = self.take("^") or whole
        body = self.sequence()
        ends = self.take("$") or whole
        if self.left and not self.left.startswith(("|", ")")):
            raise self.wrong("an anchor inside a pattern is not supported")
        return f"{'' if begins else ANYTHING}{body}{'' if ends else ANYTHING}"

    def sequence(self) -> str:
        parts: list[str] = []
        while self.left and self.left[0] not in "|)$":
            parts.append(self.repeated())
        return "".join(parts)

    def repeated(self) -> str:
        """An atom with what counts it."""
        before = self.size
        atom = self.atom()
        counts = self.counts()
        if counts is None:
            return atom
        least, most = counts
        self.size = before + (self.size - before) * max(1, least, most or 0)
        if self.size > MAX_SIZE:
            raise self.wrong(f"with its counts multiplied out it is larger than {MAX_SIZE} characters")
        self.take("?")  # lazy: which texts match stays the same
        if self.left.startswith(("*", "+", "?")) or self.counts() is not None:
            raise self.wrong("nothing to repeat")
        return f"{atom}{{{least},{'' if most is None else most}}}"

    def counts(self) -> tuple[int, int | None] | None:
        for sign, pair in {"*": (0, None), "+": (1, None), "?": (0, 1)}.items():
            if self.take(sign):
                return pair
        found = regex.match(r"\{([0-9]{1,9})(,([0-9]{0,9}))?\}", self.left)
        if found is None:
            return None
        self.at += found.end()
        least = int(found[1])
        most = least if found[2] is None else int(found[3]) if found[3] else None
        if most is not None and most < least:
            raise self.wrong("the larger count comes first")
        return least, most

    def atom(self) -> str:
        self.size += 1
        character = self.next()
        if character == "(":
            return self.group()
        if character == "[":
            return self.set()
        if character == ".":
            return f"[^{LINE_ENDS}]"
        if character == "\\":
            return self.escape()
        if character in "*+?^" or (character == "{" and regex.match(r"[0-9]+(,[0-9]*)?\}", self.left)):
            self.at -= 1
            raise self.wrong("an anchor inside a pattern is not supported" if character == "^" else "nothing to repeat")
        return self.plain(character)

    def plain(self, character: str) -> str:
        try:
            return literal(character)
        except ValueError as error:
            raise self.wrong(str(error)) from None

    def group(self) -> str:
        if self.take("?") and not self.take(":"):
            named = regex.match(r"P?<([A-Za-z_]\w*)>", self.left)
            if named is None:
                raise self.wrong("looking around, flags and conditions are not supported")
            self.at += named.end()
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.wrong(f"more than {MAX_DEPTH} groups inside groups")
        branches = [self.sequence()]
        while self.take("|"):
            branches.append(self.sequence())
        if self.left.startswith("$"):
            raise self.wrong("an anchor inside a group is not supported")
        if not self.take(")"):
            raise self.wrong("a ( without its )")
        self.depth -= 1
        return f"(?:{'|'.join(branches)})"

    def escape(self) -> str:
        letter = self.next()
        if letter.lower() in CLASSES:
            return f"[{'^' if letter.isupper() else ''}{CLASSES[letter.lower()]}]"
        return self.plain(self.character(letter))

    def character(self, letter: str) -> str:
        """What a backslash and this letter stand for, where that is one character."""
        if letter in CONTROLS and not (letter == "0" and self.left[:1].isdecimal()):
            return CONTROLS[letter]
        if letter in "xu":
            return self.by_number(letter)
        if letter.isalnum():
            self.at -= 1
            raise self.wrong(f"\\{letter} is not supported")
        return letter

    def by_number(self, letter: str) -> str:
        shape = r"[0-9a-fA-F]{2}" if letter == "x" else r"\{([0-9a-fA-F]{1,6})\}|[0-9a-fA-F]{4}"
        found = regex.match(shape, self.left)
        if found is None:
            raise self.wrong(f"\\{letter} without its digits")
        self.at += found.end()
        code = int(found[0].strip("{}"), 16)
        if 0xD800 <= code < 0xDC00:
            low = regex.match(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})", self.left)
            if low is not None:
                self.at += low.end()
                code = 0x10000 + ((code - 0xD800) << 10) + int(low[1], 16) - 0xDC00
        if code > 0x10FFFF:
            raise self.wrong("no character has this number")
        return chr(code)

    def set(self) -> str:
        negated = "^" if self.take("^") else ""
        parts: list[str] = []
        while not self.take("]"):
            parts.append(self.member())
        if not parts:
            raise self.wrong("an empty set")
        return f"[{negated}{''.join(parts)}]"

    def member(self) -> str:
        first = self.single()
        if len(first) > 1 or not self.left.startswith("-") or self.left.startswith("-]"):
            return first if len(first) > 1 else self.plain(first)
        self.take("-")
        last = self.single()
        if len(last) > 1 or last < first:
            raise self.wrong("a range that is none")
        return f"{self.plain(first)}-{self.plain(last)}"

    def single(self) -> str:
        """A character, or the inside of a set such as \\d."""
        character = self.next()
        if character != "\\":
            if character == "[" and self.left.startswith(":"):
                raise self.wrong("sets by name are not supported")
            return character
        letter = self.next()
        if letter in CLASSES:
            return CLASSES[letter]
        if letter.lower() in CLASSES:
            raise self.wrong(f"\\{letter} inside a set is not supported")
        return "\b" if letter == "b" else self.character(letter)
