"""What all request bodies have in common: strict types, no unknown keys, and how text and prompts may be given.

Field names are OpenAI's; where OpenAI has none, they are the engine's, or else vLLM's. Types are strict ("0.5" is no
number, true is no integer; 1.0 is one, as JSON Schema has it). null means "not given", as in OpenAI's own schema.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

MAX_PROMPTS = 128
"""Prompts, or answers to one, in one request."""


class Body(BaseModel):
    """Strict, and no unknown keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _whole_numbers(cls, content: Any) -> Any:
        return {name: whole(value) for name, value in content.items()} if isinstance(content, dict) else content


def whole(value: Any) -> Any:
    """A float that is a whole number as an integer; where a float is wanted, that is one too."""
    return int(value) if type(value) is float and value.is_integer() and abs(value) < 1 << 53 else value


class StreamOptions(Body):
    """How to stream."""

    include_usage: bool = False


def given(name: str) -> dict[str, Any]:
    """JSON schema of an object that has a field, and not null."""
    return {"required": [name], "properties": {name: {"not": {"type": "null"}}}}


def _text_of(content: object) -> object:
    """A string, or a list of text parts joined, as OpenAI defines it."""
    if not isinstance(content, list):
        return content
    texts = []
    for number, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            found = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise PydanticCustomError("part", f"part {number} is {found!r:.40}; only text parts are supported")
        if extra := set(part) - {"type", "text"}:
            raise PydanticCustomError("part", f"part {number} has the unsupported key {min(extra)!r:.40}")
        texts.append(part["text"])
    return "".join(texts)


_PART = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
    "additionalProperties": False,
}

Text = Annotated[
    str,
    BeforeValidator(_text_of),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": _PART}]}),
]
"""A string, or text parts."""


def _prompts(prompt: object) -> object:
    """One prompt stands for a list of one."""
    single = isinstance(prompt, str) or (isinstance(prompt, list) and prompt and isinstance(prompt[0], int | float))
    return [prompt] if single else prompt


def _each_prompt(prompts: list[Any]) -> list[Any]:
    """Strings, or lists of token ids. Checked by hand: a union would name both alternatives in its errors."""
    prompts = [[*map(whole, prompt)] if isinstance(prompt, list) else prompt for prompt in prompts]
    for number, prompt in enumerate(prompts):
        ids = isinstance(prompt, list) and prompt and all(type(token) is int and token >= 0 for token in prompt)
        if not isinstance(prompt, str) and not ids:
            raise PydanticCustomError("prompt", f"prompt {number} must be a string or a list of token ids")
    return prompts


_IDS = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}
_EACH = {"anyOf": [{"type": "string"}, _IDS]}


def prompts_of(most: int) -> Any:
    """The type of a text, token ids, or a list of at most `most` of either."""
    many = {"type": "array", "minItems": 1, "maxItems": most, "items": _EACH}
    return Annotated[
        list[Any],
        Field(min_length=1, max_length=most),
        BeforeValidator(_prompts),
        AfterValidator(_each_prompt),
        WithJsonSchema({"anyOf": [{"type": "string"}, _IDS, many]}),
    ]
