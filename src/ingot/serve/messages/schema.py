"""POST /v1/messages and /v1/messages/count_tokens: what their bodies may hold.

Names and bounds are Anthropic's, and the rest is as in the other bodies: strict, and unknown keys are refused. A list
of blocks may be written as one string. `cache_control` on a block asks for what happens anyway, see MESSAGES_REFUSED.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from ingot.infer.options import MAX_STOPS
from ingot.serve.schema.base import Body, given
from ingot.serve.schema.chat import MAX_TOOLS, NAME

EMPTY = ("citations", "caller", "toolset_name")
"""Keys of Anthropic's own blocks that may be sent empty."""


class CacheControl(Body):
    """A wish to cache the prompt up to here. Other lifetimes than the usual one cannot be promised."""

    type: Literal["ephemeral"]
    ttl: Literal["5m"] | None = None


class Block(Body):
    """A part of a message."""

    cache_control: CacheControl | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        return {key: value for key, value in content.items() if key not in EMPTY or value not in (None, [])}


class TextBlock(Block):
    """Text."""

    type: Literal["text"]
    text: str


def _form(content: Any) -> str:
    return "{text}" if isinstance(content, str) else "{blocks}"


_EITHER = Discriminator(_form)
"""A string, or a list of blocks; said so by hand, because a union would name both in its errors."""
Texts = Annotated[Annotated[str, Tag("{text}")] | Annotated[list[TextBlock], Tag("{blocks}")], _EITHER]
"""A string, or text blocks."""


class ToolUseBlock(Block):
    """A call of an earlier answer, sent back."""

    type: Literal["tool_use"]
    id: str = Field(min_length=1, max_length=256)
    name: str = Field(pattern=NAME)
    input: dict[str, Any]


class ToolResultBlock(Block):
    """What a called function gave back. `is_error` puts "Error: " before it, because templates have no place of its own
    for it."""

    type: Literal["tool_result"]
    tool_use_id: str = Field(min_length=1, max_length=256)
    content: Texts | None = None
    is_error: bool | None = None


def _kind(block: Any) -> str | None:
    """The tag of a block; in braces, so that it is no part of the name of a field."""
    return f"{{{block.get('type')}}}" if isinstance(block, dict) else None


def _only(kinds: str) -> Discriminator:
    """Tells blocks apart, and refuses others."""
    return Discriminator(
        _kind, custom_error_type="block", custom_error_message=f"only {kinds} blocks are supported here"
    )


_Text = Annotated[TextBlock, Tag("{text}")]
UserBlock = Annotated[_Text | Annotated[ToolResultBlock, Tag("{tool_result}")], _only("text and tool_result")]
AssistantBlock = Annotated[_Text | Annotated[ToolUseBlock, Tag("{tool_use}")], _only("text and tool_use")]


class UserTurn(Body):
    """What somebody said, and results of the calls before it, which stand first."""

    role: Literal["user"]
    content: Annotated[Annotated[str, Tag("{text}")] | Annotated[list[UserBlock], Tag("{blocks}")], _EITHER]


class AssistantTurn(Body):
    """An earlier answer; as the last message, the beginning of this one."""

    role: Literal["assistant"]
    content: Annotated[Annotated[str, Tag("{text}")] | Annotated[list[AssistantBlock], Tag("{blocks}")], _EITHER]


class CallableTool(Body):
    """A function that may be called; `input_schema` is the JSON schema of its arguments."""

    type: Literal["custom"] | None = None
    name: str = Field(pattern=NAME)
    description: str | None = None
    input_schema: dict[str, Any]
    cache_control: CacheControl | None = None
    strict: Literal[False] | None = None
    defer_loading: Literal[False] | None = None
    eager_input_streaming: Literal[False] | None = None


class ToolChoice(Body):
    """Whether to call, and what."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"type": {"const": "tool"}}},
            "then": given("name"),
            "else": {"properties": {"name": {"type": "null"}}},
        }
    )

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = Field(None, description="end the answer behind its first call")

    @model_validator(mode="after")
    def _together(self) -> Self:
        if (self.type == "tool") != (self.name is not None):
            raise PydanticCustomError("tool_choice", "'name' is given exactly where the type is tool")
        return self


class Metadata(Body):
    """About the request; `user_id` stands in the server's log."""

    user_id: str | None = Field(None, max_length=256)


class CountBody(Body):
    """A conversation whose tokens are counted."""

    model: str
    messages: Annotated[list[Annotated[UserTurn | AssistantTurn, Discriminator("role")]], Field(min_length=1)]
    system: Texts | None = None
    tools: list[CallableTool] | None = Field(None, max_length=MAX_TOOLS)
    tool_choice: ToolChoice | None = None


class MessagesBody(CountBody):
    """A conversation to answer."""

    max_tokens: int = Field(ge=1)
    stream: bool | None = None
    temperature: float | None = Field(None, ge=0, le=1)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0)
    stop_sequences: list[Annotated[str, Field(min_length=1)]] | None = Field(None, max_length=MAX_STOPS)
    metadata: Metadata | None = None
