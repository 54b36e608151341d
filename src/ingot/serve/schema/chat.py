"""POST /v1/chat/completions: messages of four kinds, and the tools a model may call.

A message has the fields of its role and no others; those in MESSAGE_REFUSED may be sent empty (clients send an answer
of ours back with these as null). Results of tools say which call they answer.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Discriminator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from ingot.infer.constraint.options import Constraint
from ingot.infer.constraint.options import Tool as FormTool
from ingot.serve.schema.base import Body, Text, given
from ingot.serve.schema.form import ResponseFormat
from ingot.serve.schema.generation import SamplingBody

MESSAGE_REFUSED = ("name", "audio", "refusal", "function_call", "tool_calls", "tool_call_id", "annotations")
"""Fields of a message that are accepted empty where its role has no use for them."""

MAX_TOP_LOGPROBS = 20
MAX_TOOLS = 128
NAME = r"^[a-zA-Z0-9_.-]{1,64}$"
MODES = ("none", "auto", "required")


class CalledFunction(Body):
    """Which function an assistant called; `arguments` is a JSON object written as a string."""

    name: str = Field(pattern=NAME)
    arguments: str


class ToolCall(Body):
    """A call of an earlier answer, sent back."""

    id: str = Field(min_length=1, max_length=256)
    type: Literal["function"] = "function"
    function: CalledFunction


class PlainMessage(Body):
    """What somebody said."""

    role: Literal["system", "developer", "user"]
    content: Text


class AssistantMessage(Body):
    """An earlier answer: text, calls, or both."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [given("content"), given("tool_calls")]})

    role: Literal["assistant"]
    content: Text | None = None
    tool_calls: list[ToolCall] | None = Field(None, min_length=1, max_length=MAX_TOOLS)


class ToolMessage(Body):
    """What a called function gave back."""

    role: Literal["tool"]
    content: Text
    tool_call_id: str = Field(min_length=1, max_length=256)
    name: str | None = Field(None, pattern=NAME)


ChatMessage = PlainMessage | AssistantMessage | ToolMessage


def _known_message(message: object) -> object:
    """Drop empty fields that a message may carry; what is left is known or refused."""
    if not isinstance(message, dict):
        return message
    return {key: value for key, value in message.items() if key not in MESSAGE_REFUSED or value not in (None, [])}


def _spoken(message: ChatMessage) -> ChatMessage:
    if isinstance(message, AssistantMessage) and message.content is None and not message.tool_calls:
        raise PydanticCustomError("message", "an assistant message needs content or tool_calls")
    return message


Message = Annotated[
    Annotated[ChatMessage, Discriminator("role")], BeforeValidator(_known_message), AfterValidator(_spoken)
]


class FunctionTool(Body):
    """A function that may be called; `parameters` is the JSON schema of its arguments."""

    name: str = Field(pattern=NAME)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def shown(self) -> dict[str, Any]:
        """What a chat template is given."""
        described = {} if self.description is None else {"description": self.description}
        return {"name": self.name, **described, "parameters": self.parameters or {"type": "object", "properties": {}}}


class Tool(Body):
    """Something that may be called."""

    type: Literal["function"]
    function: FunctionTool


def _choice(choice: object) -> object:
    """A mode, or {"type": "function", "function": {"name": ...}}. By hand: a union would name every alternative."""
    if (isinstance(choice, str) and choice in MODES) or choice is None:
        return choice
    function = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
    named = isinstance(function, dict) and set(function) == {"name"} and isinstance(function["name"], str)
    if not isinstance(choice, dict) or not named or set(choice) != {"type", "function"}:
        modes = ", ".join(MODES)
        raise PydanticCustomError(
            "tool_choice", f'it must be one of {modes}, or {{{{"type": "function", "function": {{{{"name": ...}}}}}}}}'
        )
    return choice


_NAMED = {
    "type": "object",
    "properties": {
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "properties": {"name": {"type": "string"}},
            "required": ["name"],
            "additionalProperties": False,
        },
    },
    "required": ["type", "function"],
    "additionalProperties": False,
}
ToolChoice = Annotated[Any, BeforeValidator(_choice), WithJsonSchema({"anyOf": [{"enum": [*MODES, None]}, _NAMED]})]


class ChatBody(SamplingBody):
    """A conversation to answer."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    tools: list[Tool] | None = Field(None, max_length=MAX_TOOLS)
    tool_choice: ToolChoice = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    add_generation_prompt: bool | None = Field(None, description="end the prompt where an answer begins (default)")
    continue_final_message: bool | None = Field(None, description="go on with the last message, an assistant's")

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def num_logprobs(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def form(self) -> tuple[str, Constraint] | None:
        """A call that must come is a form, too."""
        if self.must_call:
            tools = [FormTool(name=tool.function.name, parameters=tool.function.parameters) for tool in self.callable]
            several = self.tool_choice == "required" and self.parallel_tool_calls is not False
            return "tools", Constraint(tools=tools, parallel=several)
        asked = self.response_format.constraint() if self.response_format else None
        return super().form if asked is None else ("response_format", asked)

    @property
    def must_call(self) -> bool:
        """Is an answer without a call none?"""
        return bool(self.tools) and self.tool_choice not in (None, "none", "auto")

    @property
    def callable(self) -> list[Tool]:
        """Of the tools that are offered those that this answer may call."""
        named = self.tool_choice["function"]["name"] if isinstance(self.tool_choice, dict) else None
        return [tool for tool in self.offered if named in (None, tool.function.name)]

    @property
    def offered(self) -> list[Tool]:
        """The tools that may be called."""
        return [] if self.tool_choice == "none" else self.tools or []
