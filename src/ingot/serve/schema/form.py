"""What form an answer is asked to have: OpenAI's `response_format`, and vLLM's `structured_outputs` for the rest."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from ingot.infer.constraint.options import Constraint
from ingot.serve.schema.base import Body

Schema = dict[str, Any]


class NamedSchema(Body):
    """A JSON schema with a name. It is enforced with `strict` and without; `strict` also asks for closed objects with
    all properties required."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    definition: Schema | None = Field(None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Body):
    """text, any JSON object, or JSON of a schema."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"type": {"const": "json_schema"}}},
            "then": {"required": ["json_schema"], "properties": {"json_schema": {"not": {"type": "null"}}}},
            "else": {"properties": {"json_schema": {"type": "null"}}},
        }
    )

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    @model_validator(mode="after")
    def _together(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise PydanticCustomError("response_format", "'json_schema' is given exactly where the type is json_schema")
        return self

    def constraint(self) -> Constraint | None:
        """What the engine is asked."""
        if self.json_schema is None:
            return Constraint(json_object=True) if self.type == "json_object" else None
        schema = {"type": "object"} if self.json_schema.definition is None else self.json_schema.definition
        return Constraint(json_schema=schema, strict=bool(self.json_schema.strict))


class StructuredOutputs(Body):
    """Exactly one of them."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": [name], "properties": {name: {"not": {"enum": [None, False]}}}}
                for name in ("json", "json_object", "regex", "grammar", "choice")
            ]
        }
    )

    definition: Schema | None = Field(None, alias="json")
    json_object: bool | None = None
    regex: str | None = Field(None, min_length=1)
    grammar: str | None = Field(None, min_length=1)
    choice: list[str] | None = Field(None, min_length=1, max_length=10_000)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.given()) != 1:
            raise PydanticCustomError("structured_outputs", "give one of json, json_object, regex, grammar, choice")
        return self

    def given(self) -> dict[str, Any]:
        found: dict[str, Any] = {"json_schema": self.definition, "json_object": self.json_object or None}
        found |= {"regex": self.regex, "grammar": self.grammar, "choice": self.choice}
        return {name: value for name, value in found.items() if value is not None}

    def constraint(self) -> Constraint:
        """What the engine is asked."""
        return Constraint(**self.given())
