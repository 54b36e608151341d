"""Turns of a conversation in the spellings met in the field, to messages as chat templates read them.

A turn is {"role", "content"} (OpenAI's, Hugging Face's) or {"from", "value"} (ShareGPT's). What an assistant calls
becomes `tool_calls` with arguments as an object, because templates write them as JSON and would write a string twice;
what it thought becomes `reasoning_content`. What a turn holds that has no meaning here is refused, not left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ingot.core.errors import IngotError, fail
from ingot.core.language import text

Message = dict[str, Any]
Messages = list[Message]
Tools = list[dict[str, Any]]

SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant",
            "system": "system", "function_call": "assistant", "observation": "tool", "tool": "tool"}  # fmt: skip
"""ShareGPT's speakers."""


def read_turns(turns: object, name: str = "messages") -> Messages:
    """Messages of a list of turns. Raises `bad-message` with the number of the turn."""
    if not isinstance(turns, list):
        raise _wrong(1, text("turns-no-list", name=name, found=f"{turns!r:.60}"))
    messages = [_message(turn, number) for number, turn in enumerate(turns, start=1)]
    if any(isinstance(turn, dict) and turn.get("from") == "function_call" for turn in turns):
        _number_calls(messages)
    return messages


def read_tools(value: object) -> Tools | None:
    """Tool descriptions as templates read them, from a list or from JSON; None where there are none.

    Raises `bad-tools`.
    """
    value = value.strip() if isinstance(value, str) else value
    found = _parsed(value) if isinstance(value, str) and value else value
    if value in (None, "", []) or found == []:
        return None
    tools = [_tool(tool) for tool in found] if isinstance(found, list) else [None]
    if None in tools:
        raise fail("bad-tools", found=f"{value!r:.60}")
    return [tool for tool in tools if tool]


def with_system(system: object, messages: Messages) -> Messages:
    """The messages behind a system message that stands beside them in the record. Raises `bad-message`."""
    if system in (None, ""):
        return messages
    if not isinstance(system, str) or any(message.get("role") == "system" for message in messages):
        raise _wrong(1, text("turns-system", found=f"{system!r:.60}"))
    return [{"role": "system", "content": system}, *messages]


def check_turns(messages: Messages) -> None:
    """Training needs a user turn before each assistant turn, an answer in it, and an assistant turn at all.

    Raises `bad-message` and `no-assistant-turn`.
    """
    before = ""
    for number, message in enumerate(messages, start=1):
        role = message["role"]
        if role == before and role in {"user", "assistant"}:
            raise _wrong(number, text("turns-twice", role=role))
        if role == "assistant" and before not in {"user", "tool"}:
            raise _wrong(number, text("turns-order", before=before or "-"))
        if role == "assistant" and not message.get("tool_calls") and not str(message.get("content") or "").strip():
            raise _wrong(number, text("turns-empty"))
        before = role
    if all(message["role"] != "assistant" for message in messages):
        raise fail("no-assistant-turn")


def strings(value: object) -> Iterator[str]:
    """Every string below a value, keys of objects too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from strings(key)
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def _message(turn: object, number: int) -> Message:
    if not isinstance(turn, dict):
        raise _wrong(number, text("message-no-object", found=f"{turn!r:.60}"))
    if "from" in turn and "role" not in turn:
        return _spoken(turn, number)
    message = {key: value for key, value in turn.items() if value is not None}
    if message.get("role") == "function":
        message["role"] = "tool"
    if isinstance(message.get("content"), list):
        message |= _parts(message["content"], number)
    called = message.pop("function_call", None)
    calls = message.get("tool_calls") or ([called] if called else None)
    if calls:
        message |= {"content": message.get("content", ""), "tool_calls": _calls(calls, number)}
    return message


def _spoken(turn: Message, number: int) -> Message:
    """ShareGPT's turn; a function call is JSON with a name and arguments, or a list of such."""
    if turn["from"] not in SPEAKERS:
        raise _wrong(number, text("turns-speaker", known=", ".join(SPEAKERS), found=f"{turn!r:.60}"))
    value = turn.get("value")
    if turn["from"] == "function_call":
        return {"role": "assistant", "content": "", "tool_calls": _calls(value, number)}
    if SPEAKERS[turn["from"]] == "tool" and isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False)
    return {"role": SPEAKERS[turn["from"]], "content": value}


def _parts(parts: list[Any], number: int) -> Message:
    """A content in parts: its texts as one string, what was thought and what is called beside it."""
    found: dict[str, list[Any]] = {"text": [], "reasoning": [], "tool_call": []}
    for part in parts:
        value = part.get("text", part.get("value")) if isinstance(part, dict) else None
        if not isinstance(value, str) or part.get("type") not in found:
            raise _wrong(number, text("turns-part", found=f"{part!r:.60}"))
        found[part["type"]].append(value)
    calls = [call for value in found["tool_call"] for call in _calls(value, number)]
    thought = {"reasoning_content": "\n".join(found["reasoning"])} if found["reasoning"] else {}
    return {"content": "".join(found["text"]), **thought, **({"tool_calls": calls} if calls else {})}


def _calls(value: object, number: int) -> list[Message]:
    """Tool calls with their arguments as objects, from JSON, an object or a list of them."""
    found = _parsed(value) if isinstance(value, str) else value
    calls = found if isinstance(found, list) else [found]
    return [_call(call, number, value) for call in calls]


def _call(call: object, number: int, value: object) -> Message:
    inner = call.get("function", call) if isinstance(call, dict) else None
    name = inner.get("name") if isinstance(inner, dict) else None
    arguments = inner.get("arguments", {}) if isinstance(inner, dict) else None
    arguments = (_parsed(arguments) if arguments.strip() else {}) if isinstance(arguments, str) else arguments
    if not isinstance(call, dict) or not isinstance(name, str) or not isinstance(arguments, dict):
        raise _wrong(number, text("turns-call", found=f"{value!r:.80}"))
    id = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
    return {**id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _number_calls(messages: Messages) -> None:
    """ShareGPT's calls have no ids, which some templates ask for: nine letters and digits, as Mistral's have."""
    waiting: list[Message] = []
    number = 0
    for message in messages:
        for call in message.get("tool_calls", []):
            number += 1
            call["id"] = f"call{number:05}"
            waiting.append(call)
        if message["role"] == "tool" and waiting:
            call = waiting.pop(0)
            message |= {"tool_call_id": call["id"], "name": call["function"]["name"]}


def _tool(tool: object) -> dict[str, Any] | None:
    """A description in its outer object, which some sets leave out; None where it describes no tool."""
    whole = tool if isinstance(tool, dict) and "function" in tool else {"type": "function", "function": tool}
    inner = whole["function"]
    return whole if isinstance(inner, dict) and isinstance(inner.get("name"), str) else None


def _parsed(value: str) -> object:
    """What a JSON string holds; None where it is none."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def _wrong(number: int, reason: str) -> IngotError:
    return fail("bad-message", number=number, reason=reason)
