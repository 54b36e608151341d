"""What a request offers to call, checked against what the model's template can say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ingot.core.errors import IngotError
from ingot.serve.errors import refuse
from ingot.serve.schema import ChatBody
from ingot.serve.schema.chat import Tool
from ingot.serve.tools.formats import Format, format_of
from ingot.text.chat import template_source
from ingot.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Offer:
    """Functions that an answer may call. `single`: at most one call."""

    names: frozenset[str]
    format: Format
    hidden: dict[int, str]
    single: bool


def shown_tools(tools: list[Tool] | None) -> list[dict[str, Any]] | None:
    """Tools as a template reads them; None for none. Raises ApiError where a name stands twice."""
    names: set[str] = set()
    for number, tool in enumerate(tools or []):
        if tool.function.name in names:
            raise refuse(
                "http-bad-tools", param=f"tools[{number}].function.name", reason=f"{tool.function.name!r} stands twice"
            )
        names.add(tool.function.name)
    return [{"type": "function", "function": tool.function.shown()} for tool in tools or []] or None


def offer(body: ChatBody, tokenizer: Tokenizer) -> Offer | None:
    """What may be called, or None. Raises ApiError for what cannot be promised."""
    _check_choice(body)
    tools = shown_tools(body.offered)
    if tools is None:
        return None
    for number, tool in enumerate(body.offered):
        if tool.function.strict:
            raise refuse("http-unsupported-field", param=f"tools[{number}].function.strict")
    try:
        form = format_of(template_source(tokenizer, tools))
    except IngotError as error:
        raise refuse("http-bad-tools", param="tools", reason=str(error)) from None
    if form is None:
        raise refuse("http-bad-tools", param="tools", reason="the chat template's way of writing calls is not known")
    if body.must_call and form.name != "hermes":
        raise refuse("http-unsupported-field", param="tool_choice")
    single = body.parallel_tool_calls is False
    if single and not form.is_single:
        raise refuse("http-unsupported-field", param="parallel_tool_calls")
    names = frozenset(tool.function.name for tool in body.offered)
    return Offer(names, form, form.hidden(tokenizer), single)


def _check_choice(body: ChatBody) -> None:
    """A call that must come is held to by a constraint on what is written, see `ChatBody.form`."""
    if body.parallel_tool_calls is not None and not body.tools:
        raise refuse("http-needs", param="parallel_tool_calls", needs="tools")
    if body.tool_choice in (None, "none", "auto"):
        return
    if not body.tools:
        raise refuse("http-needs", param="tool_choice", needs="tools")
    if not body.callable:
        known = ", ".join(tool.function.name for tool in body.tools)
        raise refuse("http-bad-tools", param="tool_choice", reason=f"no such tool; known: {known}")
