"""From a body of the Messages API to the chat completion that asks for the same.

What chat completions refuse by a name that this interface does not have is refused here before, so that a client always
reads the name of a field it sent. Messages stay as they are: neighbours of one role are not merged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from ingot.serve.errors import refuse
from ingot.serve.messages.schema import (
    AssistantBlock,
    AssistantTurn,
    CallableTool,
    CountBody,
    MessagesBody,
    TextBlock,
    ToolChoice,
    ToolResultBlock,
    ToolUseBlock,
    UserTurn,
)
from ingot.serve.schema import ChatBody
from ingot.serve.schema.chat import MAX_TOOLS

MODES = {"auto": "auto", "any": "required", "none": "none"}
NAMES = {"parallel_tool_calls": "tool_choice.disable_parallel_tool_use"}
"""Fields of chat completions that are refused where the template is known, by their names here."""


def chat_body(body: CountBody) -> ChatBody:
    """The same request of the other interface. Raises ApiError."""
    asked: dict[str, Any] = {"model": body.model, "messages": [*_system(body), *_messages(body.messages)]}
    if isinstance(body.messages[-1], AssistantTurn):
        asked |= {"add_generation_prompt": False, "continue_final_message": True}
    if body.tools:
        asked["tools"] = _tools(body.tools)
    if body.tool_choice is not None:
        asked |= _choice(body.tool_choice, has_tools=bool(body.tools))
    if isinstance(body, MessagesBody):
        asked |= _controls(body)
    found: ChatBody = ChatBody.model_validate({name: value for name, value in asked.items() if value is not None})
    return found


def _controls(body: MessagesBody) -> dict[str, Any]:
    forced = body.tool_choice is not None and body.tool_choice.type in ("any", "tool")
    if forced and body.stop_sequences:
        raise refuse("http-conflict", param="stop_sequences", other="tool_choice")
    same = ("max_tokens", "stream", "temperature", "top_p", "top_k")
    user = body.metadata.user_id if body.metadata else None
    return {name: getattr(body, name) for name in same} | {"stop": body.stop_sequences or None, "user": user}


def _system(body: CountBody) -> list[dict[str, Any]]:
    text = _text(body.system)
    return [{"role": "system", "content": text}] if text else []


def _text(content: str | Sequence[TextBlock] | None) -> str:
    return content if isinstance(content, str) else "".join(block.text for block in content or [])


def _messages(turns: Sequence[UserTurn | AssistantTurn]) -> Iterator[dict[str, Any]]:
    calls: set[str] = set()
    for number, turn in enumerate(turns):
        param = f"messages[{number}].content"
        if isinstance(turn, AssistantTurn):
            answer = _answer(param, turn.content)
            calls = {call["id"] for call in answer.get("tool_calls", [])}
            if calls and number == len(turns) - 1:
                reason = "the last message is an answer to go on with, and one with a call has ended"
                raise refuse("http-bad-field", param=param, found="a tool_use block", reason=reason)
            yield answer
        else:
            yield from _said(param, turn, calls)
            calls = set()


def _answer(param: str, content: str | Sequence[AssistantBlock]) -> dict[str, Any]:
    if isinstance(content, str):
        return {"role": "assistant", "content": content}
    calls = [block for block in content if isinstance(block, ToolUseBlock)]
    if len(calls) > MAX_TOOLS:
        raise refuse("http-bad-field", param=param, found=f"{len(calls)} calls", reason=f"{MAX_TOOLS} are the most")
    text = _text([block for block in content if isinstance(block, TextBlock)])
    if not calls:
        return {"role": "assistant", "content": text}
    return {"role": "assistant", "content": text or None, "tool_calls": [_call(call) for call in calls]}


def _call(block: ToolUseBlock) -> dict[str, Any]:
    function = {"name": block.name, "arguments": orjson.dumps(block.input).decode()}
    return {"id": block.id, "type": "function", "function": function}


def _said(param: str, turn: UserTurn, calls: set[str]) -> Iterator[dict[str, Any]]:
    """Results of tools as messages of their own, then the text."""
    if isinstance(turn.content, str):
        yield {"role": "user", "content": turn.content}
        return
    results = 0
    for at, block in enumerate(turn.content):
        if not isinstance(block, ToolResultBlock):
            continue
        where = f"{param}[{at}]"
        if at > results:
            reason = "results of tools stand before the text"
            raise refuse("http-bad-field", param=where, found="a tool_result block", reason=reason)
        if block.tool_use_id not in calls:
            reason = "no tool_use block of the message before it has this id"
            found = repr(block.tool_use_id)[:80]
            raise refuse("http-bad-field", param=f"{where}.tool_use_id", found=found, reason=reason)
        results += 1
        yield _result(block)
    if results < len(turn.content) or not results:
        yield {"role": "user", "content": _text([block for block in turn.content if isinstance(block, TextBlock)])}


def _result(block: ToolResultBlock) -> dict[str, Any]:
    text = ("Error: " if block.is_error else "") + _text(block.content)
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": text}


def _tools(tools: Sequence[CallableTool]) -> list[dict[str, Any]]:
    names: set[str] = set()
    for number, tool in enumerate(tools):
        if tool.name in names:
            raise refuse("http-bad-tools", param=f"tools[{number}].name", reason=f"{tool.name!r} stands twice")
        names.add(tool.name)
    return [{"type": "function", "function": _function(tool)} for tool in tools]


def _function(tool: CallableTool) -> dict[str, Any]:
    described = {} if tool.description is None else {"description": tool.description}
    return {"name": tool.name, **described, "parameters": tool.input_schema}


def _choice(choice: ToolChoice, *, has_tools: bool) -> dict[str, Any]:
    """Without tools there is nothing to call, and so never more than one."""
    mode: Any = MODES.get(choice.type)
    if choice.name is not None:
        mode = {"type": "function", "function": {"name": choice.name}}
    several = None if choice.disable_parallel_tool_use is None else not choice.disable_parallel_tool_use
    return {"tool_choice": mode, "parallel_tool_calls": several if has_tools else None}
