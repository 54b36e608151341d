"""From the messages of a request to what the chat template reads, for every route that takes messages.

Arguments of calls become objects, because templates write them as JSON themselves. Results of tools follow the order of
the calls they answer, since most templates write no ids: the model could not tell them apart otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ingot.core.errors import IngotError
from ingot.infer.reader import Prompt, Reader
from ingot.serve.errors import refuse
from ingot.serve.guarded import Checker
from ingot.serve.schema.chat import AssistantMessage, ChatMessage, Tool, ToolCall, ToolMessage
from ingot.serve.tools.offer import shown_tools
from ingot.text.chat import render
from ingot.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Conversation:
    """What a template reads. prompt: end where an answer begins; go_on: the last message is an answer's beginning."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    prompt: bool = True
    go_on: bool = False

    @classmethod
    def of(
        cls,
        messages: Sequence[ChatMessage],
        tools: list[Tool] | None,
        prompt: bool | None,
        go_on: bool | None,
        checker: Checker,
    ) -> Conversation:
        """Raises ApiError."""
        if go_on and prompt:
            raise refuse("http-conflict", param="continue_final_message", other="add_generation_prompt")
        last = messages[-1]
        if go_on and (not isinstance(last, AssistantMessage) or last.tool_calls):
            raise refuse("http-needs", param="continue_final_message", needs="messages[-1].role = assistant")
        shown = checker.value(shown_tools(tools), "tools")
        return cls(list(_read(messages, checker)), shown, prompt is not False, bool(go_on))

    def ids(self, reader: Reader, tokenizer: Tokenizer) -> Prompt:
        """As the model reads it. Raises ApiError."""
        try:
            self._check_calls(tokenizer)
            return reader.conversation(tokenizer, self.messages, self.tools, prompt=self.prompt, go_on=self.go_on)
        except IngotError as error:
            raise _not_rendered(error) from None

    def text(self, tokenizer: Tokenizer) -> str:
        """As the template writes it. Raises ApiError."""
        given, begun = (self.messages[:-1], self.messages[-1]["content"]) if self.go_on else (self.messages, "")
        asked = self.prompt or self.go_on
        learn = None if asked else ()
        try:
            self._check_calls(tokenizer)
            found = render(given, tokenizer, add_generation_prompt=asked, tools=self.tools, learn=learn, answer=begun)
        except IngotError as error:
            raise _not_rendered(error) from None
        return found.text

    def _check_calls(self, tokenizer: Tokenizer) -> None:
        """Raises `template-ignores-calls`: a model that is not shown a call cannot make sense of its result."""
        if any(message.get("tool_calls") for message in self.messages):
            render(self.messages, tokenizer, tools=self.tools, learn=())


def _not_rendered(error: IngotError) -> Exception:
    if error.code == "template-ignores-tools":
        return refuse("http-bad-tools", param="tools", reason=str(error))
    return refuse("http-bad-messages", param="messages", reason=str(error))


def _read(messages: Sequence[ChatMessage], checker: Checker) -> Iterable[dict[str, Any]]:
    """Messages as templates know them."""
    calls: list[ToolCall] = []
    results: list[tuple[int, dict[str, Any]]] = []
    for number, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            results.append(_result(number, message, calls, checker))
            continue
        yield from _in_order(results)
        results = []
        calls = (message.tool_calls or []) if isinstance(message, AssistantMessage) else []
        yield _spoken(number, message, checker)
    yield from _in_order(results)


def _in_order(results: list[tuple[int, dict[str, Any]]]) -> list[dict[str, Any]]:
    return [result for _, result in sorted(results, key=lambda pair: pair[0])]


def _result(number: int, message: ToolMessage, calls: list[ToolCall], checker: Checker) -> tuple[int, dict[str, Any]]:
    """A result of a tool, and which of the calls before it that is for."""
    place = next((at for at, call in enumerate(calls) if call.id == message.tool_call_id), None)
    if place is None:
        param = f"messages[{number}].tool_call_id"
        raise refuse(
            "http-bad-field", param=param, found=repr(message.tool_call_id)[:80], reason="no call before it has this id"
        )
    name = message.name or calls[place].function.name
    shown = {"role": "tool", "content": checker.text(message.content, "messages")}
    return place, {**shown, "tool_call_id": message.tool_call_id, "name": name}


def _spoken(number: int, message: ChatMessage, checker: Checker) -> dict[str, Any]:
    content = None if message.content is None else checker.text(message.content, "messages")
    shown: dict[str, Any] = {"role": message.role, "content": content}
    if isinstance(message, AssistantMessage) and message.tool_calls:
        shown["tool_calls"] = [
            _call(f"messages[{number}].tool_calls[{at}].function.arguments", call, checker)
            for at, call in enumerate(message.tool_calls)
        ]
    return shown


def _call(param: str, call: ToolCall, checker: Checker) -> dict[str, Any]:
    """An earlier call, its arguments as an object."""
    written = call.function.arguments or "{}"  # some clients write none as an empty string
    try:
        orjson.loads(written)  # the stricter of the two, but it rounds whole numbers of more than 64 bits
        arguments = json.loads(written)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise refuse(
            "http-bad-field", param=param, found=repr(call.function.arguments)[:80], reason="it must be a JSON object"
        )
    function = {"name": call.function.name, "arguments": checker.value(arguments, "messages")}
    return {"id": call.id, "type": "function", "function": function}
