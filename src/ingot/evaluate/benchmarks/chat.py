"""Benchmark prompts through a model's chat template, as lm-eval's --apply_chat_template puts them.

The preamble is the system's message. The examples are turns of user and assistant (--fewshot_as_multiturn), or one user
message holds them and the question as they stand in a plain prompt. What is scored follows the template's generation
prompt without a delimiter. Where a template has no place for a system message, lm-eval leaves the preamble out; here it
begins the first user message, which is told. Text that looks like a special token stays text (`text/chat.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from ingot.core.errors import IngotError
from ingot.core.progress import warn
from ingot.evaluate.benchmarks.prompts import Item
from ingot.evaluate.options import BenchmarkOptions
from ingot.text.chat import Rendered, render
from ingot.text.tokenizer import Tokenizer

Style = Literal["off", "turns", "message"]
"""How a model was asked: plainly, or through its template with examples as turns or in one message."""
Pieces = tuple[str | int, ...]
"""A text as the tokenizer takes it: strings, and ids of special tokens between them."""

MARK = "42424242"
"""A system message that is looked for in what a template makes of it; digits, which no filter changes."""


def style_of(wished: BenchmarkOptions, tokenizer: Tokenizer) -> Style:
    """How a model is asked; `auto` follows whether it has a template."""
    if wished.chat == "off" or (wished.chat == "auto" and tokenizer.chat_template is None):
        return "off"
    return wished.examples


@dataclass(frozen=True)
class Chat:
    """Puts items into the words of one tokenizer's template. Its methods raise what the renderer raises."""

    tokenizer: Tokenizer
    style: Style

    def messages(self, item: Item, choice: int = 0) -> list[dict[str, Any]]:
        """The conversation that ends with an item's question."""
        return self._messages(item, item.question(choice))

    def pieces(self, item: Item, choice: int) -> Pieces:
        """All that stands before what is scored."""
        return self._rendered(self._messages(item, item.question(choice)))

    def frame(self, item: Item) -> Pieces:
        """The same with an empty question: what it begins with, all items with these examples share."""
        return self._rendered(self._messages(item, ""))

    def _messages(self, item: Item, question: str) -> list[dict[str, Any]]:
        parts, is_single = item.parts, self.style == "message"
        examples = item.before[len(parts.preamble) :] if is_single else ""
        turns = [] if is_single else [(role, said) for pair in parts.examples for role, said in _roles(pair)]
        turns.append(("user", examples + question))
        if parts.preamble and not self.has_system:
            turns[0] = ("user", parts.preamble + turns[0][1])
        system = [("system", parts.preamble)] if parts.preamble and self.has_system else []
        return [{"role": role, "content": said} for role, said in (*system, *turns)]

    @cached_property
    def has_system(self) -> bool:
        """Does the template show a system message?"""
        probe = [{"role": "system", "content": MARK}, {"role": "user", "content": "a"}]
        try:
            found = MARK in render(probe, self.tokenizer, add_generation_prompt=True).text
        except IngotError as error:
            if error.code != "template-refused":
                raise
            found = False
        if not found:
            warn("bench-no-system", path=self.tokenizer.path)
        return found

    def _rendered(self, messages: list[dict[str, Any]]) -> Pieces:
        return _pieces(self.tokenizer, render(messages, self.tokenizer, add_generation_prompt=True))


def _roles(pair: tuple[str, str]) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("user", pair[0]), ("assistant", pair[1])


def _pieces(tokenizer: Tokenizer, found: Rendered) -> Pieces:
    """What was rendered, cut where the template wrote special tokens."""
    pieces: list[str | int] = []
    begin = 0
    for end, is_special, _ in found.stretches:
        part = found.text[begin:end]
        pieces.append(_id(tokenizer, part) if is_special else part)
        begin = end
    return tuple(pieces)


def _id(tokenizer: Tokenizer, token: str) -> int:
    found = tokenizer.id(token)
    assert found is not None
    return found
