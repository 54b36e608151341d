"""Which part of a rendered conversation the assistant must produce.

A template with generation tags says so itself. For any other, a turn is found by rendering again with something of the
turn (its content, else what it calls) replaced by digits nobody can guess, so that template and turn are told apart
wherever the digits come out. The turn begins behind the generation prompt; where that is written otherwise once the
turn follows (thinking left out, tools moved to the last question), the message before is replaced as well, and what
both renderings write behind it is the header. The turn ends with the last special token that the template writes
behind it whatever comes next: another message, nothing, or a generation prompt. What cannot be told for certain is
refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ingot.core.errors import IngotError, fail
from ingot.text.template import has_generation

if TYPE_CHECKING:
    from ingot.text.chat import Shield

Message = dict[str, Any]
Messages = list[Message]
Run = Callable[[Messages, bool], str]
Span = tuple[int, int]
REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names under which templates read what was thought before an answer."""


def target_spans(source: str, text: str, messages: Messages, run: Run, shield: Shield, learn: set[int]) -> list[Span]:
    """Character ranges of `text` that the assistant must produce in the messages numbered `learn`, in order.

    `run(messages, add_generation_prompt)` renders; `text` is its result for all `messages` without a prompt.
    Raises `mask-not-derivable`.
    """
    turns = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    if has_generation(source):
        return _marked_spans(text, messages, run, shield, None if learn >= set(turns) else learn)
    spans = [_Turn(number, text, messages, run, shield).span() for number in turns if number in learn]
    for number, (before, after) in enumerate(pairwise(spans)):
        if before[1] > after[0]:
            raise fail("mask-not-derivable", number=turns[number + 1] + 1)
    return spans


def refuse_unwritten_calls(messages: Messages, run: Run, shield: Shield) -> None:
    """A template that leaves out what a turn calls would teach an answer without the call.

    Raises `template-ignores-calls` with the number of the message.
    """
    for number, message in enumerate(messages):
        for at, call in enumerate(message.get("tool_calls") or []):
            calls = [*message["tool_calls"]]
            calls[at] = _with_digits(call, "name", shield.digits(1))
            if shield.digits(1) not in run([*messages[:number], {**message, "tool_calls": calls}], False):
                raise fail("template-ignores-calls", number=number + 1)


def _marked_spans(text: str, messages: Messages, run: Run, shield: Shield, learn: set[int] | None) -> list[Span]:
    """What generation tags enclose; for some of the turns only, those spans that come with their messages."""
    begin, end = shield.marks
    pattern = re.compile(f"{begin}(.*?){end}", re.DOTALL)
    spans = [match.span() for match in pattern.finditer(text)]
    if learn is None:
        return spans

    def count(size: int) -> int:
        return len(pattern.findall(run(messages[:size], False))) if size else 0

    return [span for number in sorted(learn) for span in spans[count(number) : count(number + 1)]]


@dataclass(frozen=True)
class _Probe:
    """One way to make a turn recognisable: the changed message, its digits, and the conversation with it."""

    message: Message
    digits: str
    text: str


@dataclass(frozen=True)
class _Turn:
    """One assistant turn in the rendered `text`, to be found without tags."""

    number: int
    text: str
    messages: Messages
    run: Run
    shield: Shield

    def span(self) -> Span:
        for message in self._changed():
            text = self._with(self.before, message)
            if text is None or self.shield.digits(1) not in text:
                continue
            probe = _Probe(message, self.shield.digits(1), text)
            begin, end = self._begin(probe), self._end(probe)
            if begin is not None and end is not None and begin < end:
                return begin, end
        raise fail("mask-not-derivable", number=self.number + 1)

    def _changed(self) -> Iterator[Message]:
        """The turn with its content, its first call's arguments, that call's name, or its reasoning as digits."""
        turn, digits = self.messages[self.number], self.shield.digits(1)
        calls = turn.get("tool_calls")
        if turn.get("content") or not calls:
            yield {**turn, "content": _replaced(turn.get("content"), digits)}
        if isinstance(calls, list) and calls and isinstance(calls[0], dict):
            for key in ("arguments", "name"):
                yield {**turn, "tool_calls": [_with_digits(calls[0], key, digits), *calls[1:]]}
        if any(turn.get(name) for name in REASONING):
            yield {**turn, **{name: digits for name in REASONING if turn.get(name)}}

    # ---- where it begins

    def _begin(self, probe: _Probe) -> int | None:
        """Behind the generation prompt, as far as the turn is written with it."""
        prompt = self._render(self.before, True)
        if prompt is not None and probe.text.startswith(prompt) and self.text.startswith(prompt):
            return len(prompt) + self._header(prompt, "", self.before, probe.text[len(prompt) :])
        return self._behind_the_message_before(probe)

    def _behind_the_message_before(self, probe: _Probe) -> int | None:
        """The same where what stands before the turn depends on what follows it."""
        edge, before = self._edge()
        prompt, whole = self._render(before, True), self._with(before, probe.message)
        if not edge or prompt is None or whole is None or not prompt.count(edge) == whole.count(edge) == 1:
            return None
        asked, found = prompt.partition(edge)[2], whole.partition(edge)[2]
        size = self._uncut(found, _common(found, asked))
        begin = len(probe.text) - len(found) + size
        if not probe.text.endswith(found[size:]) or self.text[:begin] != probe.text[:begin]:
            return None
        rest = asked[size:] if self.text.startswith(asked[size:], begin) else ""
        return begin + (len(rest) or self._header(prompt, edge, before, found[size:]))

    def _header(self, prompt: str, edge: str, before: Messages, found: str) -> int:
        """Where a template ignores being asked for a generation prompt: how much of what it writes behind it is the
        header that it also writes before a turn of nothing but digits. White space alone is no header."""
        if prompt != self._render(before, False):
            return 0
        plain = self._render([*before, {"role": "assistant", "content": self.shield.digits(1)}], False) or ""
        known, behind = prompt.partition(edge)[2] if edge else prompt, plain.partition(edge)[2] if edge else plain
        header = behind[_common(known, behind) :].partition(self.shield.digits(1))[0]
        return _common(header, found) if header.strip() else 0

    def _edge(self) -> tuple[str, Messages]:
        """Digits for the text of the message before the turn, and the messages with them; "" where it has no text."""
        digits, content = self.shield.digits(2), self.before[-1].get("content") if self.before else None
        if not content:
            return "", self.before
        return digits, [*self.before[:-1], {**self.before[-1], "content": _replaced(content, digits)}]

    # ---- where it ends

    def _end(self, probe: _Probe) -> int | None:
        """Behind the last special token that stands behind the turn whatever comes next."""
        after = probe.text.partition(probe.digits)[2]
        alone, asked = (self._after(probe, prompt) for prompt in (False, True))
        if alone is None:
            return None
        size = self._close(after, alone, alone if asked is None else asked)
        if size is None:
            return None
        begin = next((begin for begin, end in self.shield.specials(after) if end == size), size)
        return len(self.text) - len(after) + size if self.text.endswith(after[begin:]) else None

    def _after(self, probe: _Probe, prompt: bool) -> str | None:
        """What stands behind the turn when it is the last."""
        found = self._render([*self.before, probe.message], prompt)
        return found.partition(probe.digits)[2] if found and probe.digits in found else None

    def _close(self, after: str, alone: str, asked: str) -> int | None:
        """How much of what follows the digits belongs to the turn; None where that cannot be told."""
        shared = min(_common(after, alone), _common(after, asked))
        specials = self.shield.specials(after)
        inside = [end for _, end in specials if end <= shared]
        if inside:
            return inside[-1]
        if shared == len(alone):
            return shared
        begin, end = specials[0] if specials else (0, 0)
        agreed = any(other.startswith(after[:end]) for other in (alone, asked))
        return end if specials and agreed and not after[:begin].strip() else None

    # ---- rendering

    @cached_property
    def before(self) -> Messages:
        return self.messages[: self.number]

    def _with(self, before: Messages, message: Message) -> str | None:
        """The whole conversation with another message in the turn's place."""
        return self._render([*before, message, *self.messages[self.number + 1 :]], False)

    def _render(self, messages: Messages, prompt: bool) -> str | None:
        """None where the template refuses: many do, when a conversation is empty or ends early."""
        try:
            return self.run(messages, prompt)
        except IngotError:
            return None

    def _uncut(self, text: str, size: int) -> int:
        """The size, or less where it would cut a special token apart."""
        return next((begin for begin, end in self.shield.specials(text) if begin < size < end), size)


def _replaced(content: object, digits: str) -> object:
    """Digits in place of a content, which is a string or a list of parts."""
    if isinstance(content, list):
        return [{**part, "text": digits if part is content[-1] else part["text"]} for part in content]
    return digits


def _with_digits(call: dict[str, Any], key: str, digits: str) -> dict[str, Any]:
    """A tool call with digits for its arguments or its name, wherever it keeps them."""
    holder = call.get("function") if isinstance(call.get("function"), dict) else call
    assert isinstance(holder, dict)
    value = {digits: digits} if isinstance(holder.get(key), dict) else digits
    changed = {**holder, key: value} if key in holder else holder
    return {**call, "function": changed} if holder is not call else changed


def _common(left: str, right: str) -> int:
    """How many first characters two texts share."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(left), len(right)))
