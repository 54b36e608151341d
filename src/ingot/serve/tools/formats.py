"""How templates have models write calls. The template is asked, not the model's name: what it shows as an example, or
writes into the history, is what the model learnt.

    hermes     <tool_call>{"name": ..., "arguments": {...}}</tool_call>, as often as wanted    Hermes, Qwen
    mistral    [TOOL_CALLS] [{"name": ..., "arguments": {...}}, ...] at the end                Mistral, Nemo
    llama      {"name": ..., "parameters": {...}} as the whole answer                          Llama 3.1 and later
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial

from ingot.serve.tools.call import Call, call_id, read_call, read_object, skip
from ingot.serve.tools.parser import ObjectParser, Parser, TaggedParser, TailParser
from ingot.text.tokenizer import Tokenizer

HERMES, HERMES_END = "<tool_call>", "</tool_call>"
MISTRAL = "[TOOL_CALLS]"
MISTRAL_ID = 9
"""Letters of a call's name, which Mistral's templates insist on."""


@dataclass(frozen=True)
class Format:
    """`reader(offered)`: a fresh parser for an answer. marks: words that a tokenizer may have as special tokens, which
    are then no text and are put back into it. is_single: at most one call can be asked for."""

    name: str
    reader: Callable[[Collection[str]], Parser]
    marks: tuple[str, ...] = ()
    is_single: bool = True

    def hidden(self, tokenizer: Tokenizer) -> dict[int, str]:
        """Special tokens whose text the parser needs to see."""
        found = {tokenizer.id(mark): mark for mark in self.marks}
        return {id: mark for id, mark in found.items() if id is not None and id in tokenizer.special_ids}


def _mistral(offered: Collection[str]) -> Parser:
    return TailParser(MISTRAL, partial(_read_list, offered=offered))


def _read_list(text: str, offered: Collection[str]) -> list[Call] | None:
    """A JSON list of calls; None unless all of it is right."""
    found: list[Call] = []
    at = skip(text, 0)
    if text[at : at + 1] != "[":
        return None
    while text[at : at + 1] == ("," if found else "["):
        at = begin = skip(text, at + 1)
        try:
            _, at = read_object(text, begin)
        except (json.JSONDecodeError, RecursionError):
            return None
        call = read_call(text[begin:at], offered)
        if call is None:
            return None
        found.append(replace(call, id=call_id(MISTRAL_ID, "")))
        at = skip(text, at)
    return found if text[at : at + 1] == "]" and skip(text, at + 1) == len(text) else None


def _llama(offered: Collection[str]) -> Parser:
    return ObjectParser(partial(_read_one, offered=offered))


def _read_one(text: str, offered: Collection[str]) -> list[Call] | None:
    call = read_call(text, offered, ("parameters", "arguments"))
    return None if call is None else [call]


def _hermes(offered: Collection[str]) -> Parser:
    return TaggedParser(HERMES, HERMES_END, offered)


FORMATS: dict[str, Format] = {
    "hermes": Format("hermes", _hermes, (HERMES, HERMES_END)),
    "mistral": Format("mistral", _mistral, (MISTRAL,), is_single=False),
    "llama": Format("llama", _llama),
}
SIGNS: dict[str, Callable[[str], bool]] = {
    "hermes": lambda source: HERMES in source,
    "mistral": lambda source: MISTRAL in source,
    "llama": lambda source: '"parameters"' in source and ("<|python_tag|>" in source or "<|eot_id|>" in source),
}
"""What in a template's source tells that it is this form; the first that fits counts."""


def format_of(source: str) -> Format | None:
    """The form of calls that a template asks for; None where it is none of these."""
    return next((FORMATS[name] for name, is_it in SIGNS.items() if is_it(source)), None)
