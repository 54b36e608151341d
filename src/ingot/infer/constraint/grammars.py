"""Grammars that a request brings: Lark as llguidance reads it, or GBNF as llama.cpp writes it.

A Lark grammar may use rules, terminals, counts, %ignore and %import common. What would let special tokens in, cut what
was said, or bring a schema past our own check is refused by name: %json, %llguidance, other % lines, <tokens>, @names
and [options] of a rule. GBNF is told by its `::=`, and translated by llguidance.
"""

from __future__ import annotations

import regex
from llguidance.gbnf_to_lark import gbnf_to_lark

from ingot.core.errors import fail
from ingot.infer.constraint.patterns import literal

MAX_LENGTH = 200_000
"""Characters of a grammar."""
QUOTED = regex.compile(r'"(?:[^"\\\n]|\\.)*"i?|/(?![/*])(?:[^/\\\n]|\\.)+/[a-z]*|(?://|\#)[^\n]*')
"""Strings, regular expressions and comments of a Lark grammar: nothing in them is syntax."""
FORBIDDEN = regex.compile(r"%(?!ignore\b|import\b)\w*|<[^>\n]*>|@\w+|^[ \t]*[\w!?-]+[ \t]*\[", regex.MULTILINE)


def read_grammar(source: str) -> str:
    """The grammar in Lark. Raises `grammar-refused`."""
    if len(source) > MAX_LENGTH:
        raise fail("grammar-refused", reason=f"it has {len(source)} characters, {MAX_LENGTH} are taken")
    if regex.search(r"^\s*[\w-]+\s*::=", source, regex.MULTILINE):
        return _from_gbnf(source)
    bare = QUOTED.sub(lambda found: " " * len(found[0]), source)
    found = FORBIDDEN.search(bare)
    if found is not None:
        line = bare.count("\n", 0, found.start()) + 1
        raise fail("grammar-refused", reason=f"line {line}: {found[0].strip()!r:.60} is not supported in a grammar")
    return source


def _from_gbnf(source: str) -> str:
    try:
        return str(gbnf_to_lark(source))
    except Exception as error:  # what the translator raises has no kind of its own
        raise fail("grammar-refused", reason=f"as GBNF: {error!s:.200}") from None


def one_of(texts: list[str]) -> str:
    """A grammar of these texts. Raises `constraint-pattern`."""
    try:
        return f"start: /{'|'.join(''.join(map(literal, text)) for text in texts)}/"
    except ValueError as error:
        raise fail("constraint-pattern", where="choice", reason=str(error)) from None
