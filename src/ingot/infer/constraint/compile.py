"""From what a request asks for to a grammar and a proof: made once for each constraint, used by all its sequences.

What cannot be held to the letter is refused here, before a token is made: by our own reading of schemas, patterns and
grammars first, then by llguidance, whose complaint about a schema is traced to the place it comes from. That a text can
begin at all is tried with this model's vocabulary.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from llguidance import LLMatcher

from ingot.core.errors import IngotError, fail
from ingot.infer.constraint.grammars import one_of, read_grammar
from ingot.infer.constraint.matcher import Matcher
from ingot.infer.constraint.options import Constraint
from ingot.infer.constraint.patterns import read_or_fail
from ingot.infer.constraint.proof import Proof, json_proof, pattern_proof
from ingot.infer.constraint.refusal import refused
from ingot.infer.constraint.schema import parts, read_schema
from ingot.infer.constraint.tools import CLOSE, OPEN, call_schema, calls_proof
from ingot.text.tokenizer import Tokenizer
from ingot.text.trie import TokenTrie, byte_trie

KEPT = 64
"""Compiled constraints that are kept."""
MAX_BYTES = 1_000_000
"""Of a schema written as JSON."""
TRACED = 200
"""Parts of a schema that are tried alone to find the one that llguidance does not take."""
WHITESPACE = r"[ ]|\n[ ]{0,40}"
"""Between the parts of JSON: nothing, one space, or a new line and its indentation; never without end."""
TAIL = '\n%llguidance {"no_forcing": true}\n'
"""Any way to write a text in tokens may be drawn, not only the usual one."""


@dataclass(frozen=True)
class Compiled:
    """grammar: a matcher that has read nothing; copies of it are what sequences have. prove: says why a finished text
    is not what was asked for, None when it is. seconds: what compiling took."""

    constraint: Constraint
    grammar: LLMatcher
    trie: TokenTrie
    prove: Proof
    seconds: float


class Constraints:
    """Compiles and keeps the constraints of one tokenizer. May be used from several threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._kept: OrderedDict[str, Compiled] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def trie(self) -> TokenTrie:
        return self._tokenizer.trie

    @cached_property
    def bytes(self) -> TokenTrie:
        return byte_trie()

    def compiled(self, constraint: Constraint) -> Compiled:
        """Raises `schema-refused`, `constraint-pattern`, `grammar-refused`, `constraint-empty`,
        `tokenizer-not-bytewise`."""
        try:
            key = json.dumps(constraint.model_dump())
        except RecursionError:
            return self._compile(constraint)  # too deep, and refused for that with its place
        with self._lock:
            found = self._kept.get(key)
        found = found or self._compile(constraint)  # nobody waits for a large one
        with self._lock:
            self._kept[key] = found
            self._kept.move_to_end(key)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return found

    def matcher(self, constraint: Constraint, eos_ids: frozenset[int], is_first: bool) -> Matcher:
        """What one sequence has. `is_first`: its answer begins a text, see `ingot.text.token_bytes`."""
        compiled = self.compiled(constraint)
        with self._lock:
            return Matcher(compiled.grammar.deep_copy(), compiled.trie, eos_ids, is_first, compiled.prove)

    def _compile(self, constraint: Constraint) -> Compiled:
        trie = self.trie
        started = time.perf_counter()
        grammar, prove = KINDS[constraint.kind](self, constraint)
        matcher = trie.matcher(grammar + TAIL)
        if not matcher.is_error():
            allowed = Matcher(matcher.deep_copy(), trie, frozenset(), False, prove).allowed()
            if not allowed.any() and not matcher.is_accepting():
                raise fail("constraint-empty", kind=constraint.kind)
            matcher.compute_bitmask()
        if matcher.is_error():
            raise self._complaint(constraint, _said(matcher.get_error()))
        return Compiled(constraint, matcher, trie, prove, time.perf_counter() - started)

    def _complaint(self, constraint: Constraint, reason: str) -> IngotError:
        """What llguidance says, with the place in a schema that it says it of."""
        if constraint.kind == "json_schema":
            return refused(self._guilty(read_schema(constraint.json_schema)) or "", reason)
        if constraint.tools is not None:
            pointer = self._guilty(call_schema(constraint.tools)) or ""
            return refused(
                pointer.replace("anyOf", "tools", 1).replace("properties/arguments", "parameters", 1), reason
            )
        return fail("grammar-refused" if constraint.kind == "grammar" else "constraint-refused", reason=reason)

    def _guilty(self, schema: Any) -> str | None:
        """The pointer of the deepest part that is not taken even alone; None where only the whole is not."""
        definitions = {name: schema[name] for name in ("$defs", "definitions") if name in schema}
        worst = None
        for pointer, part in list(parts(schema))[:TRACED]:
            if isinstance(part, dict) and self.trie.matcher(json_grammar({**definitions, **part}) + TAIL).is_error():
                worst = pointer
        return worst


def json_grammar(schema: Any) -> str:
    """A Lark grammar of the JSON that a (rewritten) schema allows."""
    return f"start: {_inline(schema)}"


def _inline(schema: Any) -> str:
    schema = {} if schema is True else {"not": {}} if schema is False else schema
    return f"%json {json.dumps(schema | {'x-guidance': {'whitespace_pattern': WHITESPACE}})}"


def _json_schema(constraints: Constraints, constraint: Constraint) -> tuple[str, Proof]:
    schema = read_schema(constraint.json_schema, constraint.strict)
    size = len(json.dumps(schema))
    if size > MAX_BYTES:
        raise refused("", f"what it enforces takes {size} bytes, {MAX_BYTES} are taken")
    if schema is False:
        raise refused("", "false allows nothing")
    return json_grammar(schema), json_proof(schema)


def _json_object(constraints: Constraints, constraint: Constraint) -> tuple[str, Proof]:
    schema = {"type": "object"}
    return json_grammar(schema), json_proof(schema)


def _regex(constraints: Constraints, constraint: Constraint) -> tuple[str, Proof]:
    assert constraint.regex is not None
    pattern = read_or_fail(constraint.regex, "regex")
    return f"start: /(?:{pattern.text})/", pattern_proof(pattern)


def _grammar(constraints: Constraints, constraint: Constraint) -> tuple[str, Proof]:
    assert constraint.grammar is not None
    grammar = read_grammar(constraint.grammar)

    @cache
    def compiled() -> LLMatcher:
        return constraints.bytes.matcher(grammar + TAIL)

    def prove(text: str) -> str | None:
        matcher = compiled().deep_copy()
        read = matcher.try_consume_tokens(list(text.encode()))
        fits = read == len(text.encode()) and matcher.is_accepting()
        return None if fits else f"the grammar reads {read} of its {len(text.encode())} bytes"

    return grammar, prove


def _choice(constraints: Constraints, constraint: Constraint) -> tuple[str, Proof]:
    assert constraint.choice is not None
    texts = frozenset(constraint.choice)
    if "" in texts:
        raise fail("constraint-pattern", where="choice", reason="an empty text is no choice")
    return one_of(sorted(texts)), lambda text: None if text in texts else "it is none of the choices"


def _tools(constraints: Constraints, constraint: Constraint) -> tuple[str, Proof]:
    assert constraint.tools is not None
    schema = call_schema(constraint.tools)
    more = '("\\n" call)*' if constraint.parallel else ""
    grammar = f"start: call {more}\ncall: {json.dumps(OPEN)} body {json.dumps(CLOSE)}\nbody: {_inline(schema)}"
    return grammar, calls_proof(schema, constraint.parallel)


KINDS: dict[str, Callable[[Constraints, Constraint], tuple[str, Proof]]] = {
    "json_object": _json_object,
    "json_schema": _json_schema,
    "regex": _regex,
    "grammar": _grammar,
    "choice": _choice,
    "tools": _tools,
}


def _said(message: str) -> str:
    """llguidance's complaint in one line."""
    line = message.strip().partition("\n")[0].partition("failed to compile JSON schema: ")
    said = (line[2] or line[0])[:300]
    return "the branches of 'oneOf' cannot be told apart; use 'anyOf'" if said.startswith("oneOf constraints") else said
