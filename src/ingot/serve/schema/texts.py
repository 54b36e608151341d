"""Bodies that ask for no answer: embeddings, and texts and conversations as tokens.

The shapes are OpenAI's for embeddings and vLLM's for the others.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from ingot.serve.schema.base import Body, given, prompts_of, whole
from ingot.serve.schema.chat import MAX_TOOLS, Message, Tool
from ingot.serve.schema.generation import MAX_DEADLINE

MAX_INPUTS = 2048
"""OpenAI's limit for one request."""
MAX_IDS = 1 << 20


class EmbeddingBody(Body):
    """POST /v1/embeddings."""

    model: str
    input: prompts_of(MAX_INPUTS)  # type: ignore[valid-type]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1, description="only the model's own width; vectors are not cut")
    normalize: bool | None = Field(None, description="vectors of length 1 (default)")
    user: str | None = Field(None, max_length=256)
    deadline_ms: int | None = Field(None, ge=1, le=MAX_DEADLINE)


class TokenizeBody(Body):
    """POST /tokenize: a text as it is, or a conversation as the chat route reads it."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [given("prompt"), given("messages")]})

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[Message], Field(min_length=1)] | None = None
    tools: list[Tool] | None = Field(None, max_length=MAX_TOOLS)
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    add_special_tokens: bool | None = Field(None, description="with what stands before a document (default)")
    return_token_strs: bool | None = None


def _whole_ids(tokens: Any) -> Any:
    return [*map(whole, tokens)] if isinstance(tokens, list) else tokens


class DetokenizeBody(Body):
    """POST /detokenize."""

    model: str | None = None
    tokens: Annotated[list[Annotated[int, Field(ge=0)]], BeforeValidator(_whole_ids)] = Field(max_length=MAX_IDS)


class TemplateBody(Body):
    """POST /apply-template: a conversation as the text that the model reads."""

    model: str | None = None
    messages: Annotated[list[Message], Field(min_length=1)]
    tools: list[Tool] | None = Field(None, max_length=MAX_TOOLS)
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
