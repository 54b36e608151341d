"""Calls of tools as Hermes and Qwen models write them, with arguments that fit the functions' schemas.

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "台北"}}
    </tool_call>

One call, or several, each on lines of its own. The marks are text: where a tokenizer has them as special tokens, the
same characters are written with ordinary ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ingot.core.errors import IngotError, fail
from ingot.infer.constraint.options import Tool
from ingot.infer.constraint.proof import Proof, json_proof
from ingot.infer.constraint.refusal import pointer_to
from ingot.infer.constraint.schema import read_schema

OPEN, CLOSE = "<tool_call>\n", "\n</tool_call>"


def call_schema(tools: Sequence[Tool]) -> dict[str, Any]:
    """The (rewritten) schema of one call. Raises `schema-refused`; its pointer begins with the number of the tool."""
    names = [tool.name for tool in tools]
    if len(set(names)) < len(names):
        raise fail("tools-same-name", name=max(names, key=names.count))
    return {"anyOf": [_call(at, tool) for at, tool in enumerate(tools)]}


def _call(number: int, tool: Tool) -> dict[str, Any]:
    """References in a tool's schema lead into that schema, wherever it stands now."""
    try:
        base = pointer_to("anyOf", number, "properties", "arguments")
        arguments = read_schema({"type": "object"} if tool.parameters is None else tool.parameters, base=base)
    except IngotError as error:
        where = pointer_to("tools", number, "parameters") + str(error.details["pointer"])
        raise fail("schema-refused", pointer=where, reason=error.details["reason"]) from None
    return {
        "type": "object",
        "properties": {"name": {"const": tool.name}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def calls_proof(schema: dict[str, Any], parallel: bool) -> Proof:
    """Holds texts that are one call, or with `parallel` one or several."""
    prove_one = json_proof(schema)

    def prove(text: str) -> str | None:
        if not (text.startswith(OPEN) and text.endswith(CLOSE)):
            return "a call begins with <tool_call> and ends with </tool_call>, on lines of their own"
        calls = text[len(OPEN) : len(text) - len(CLOSE)].split(f"{CLOSE}\n{OPEN}")
        if len(calls) > 1 and not parallel:
            return f"{len(calls)} calls where one was asked for"
        return next((reason for call in calls if (reason := prove_one(call)) is not None), None)

    return prove
