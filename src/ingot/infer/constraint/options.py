"""What an answer's text must be, as a request asks for it: exactly one of several forms."""

from __future__ import annotations

from typing import Any, Self

from pydantic import model_validator

from ingot.core.options import Options, option


class Tool(Options):
    """A function that may be called. parameters: the JSON Schema of its arguments; None takes any object."""

    name: str
    parameters: dict[str, Any] | None = None


class Constraint(Options):
    """One of: any JSON object; JSON of a schema; a text that matches a regular expression from end to end; a text of a
    grammar (Lark, or GBNF); one of some texts; one or several calls of tools."""

    json_object: bool = option(False, "any JSON object")
    json_schema: dict[str, Any] | bool | None = option(None, "JSON that this schema allows")
    strict: bool = option(False, "refuse a schema with open objects or optional properties, as OpenAI's strict does")
    regex: str | None = option(None, "a text that this regular expression matches from end to end", min_length=1)
    grammar: str | None = option(None, "a text of this grammar (Lark as llguidance reads it, or GBNF)", min_length=1)
    choice: list[str] | None = option(None, "one of these texts", min_length=1, max_length=10_000)
    tools: list[Tool] | None = option(None, "calls of these functions", min_length=1, max_length=512)
    parallel: bool = option(False, "with tools: several calls, not just one")

    @property
    def kind(self) -> str:
        """The form that is asked for."""
        return self._given()[0]

    def _given(self) -> list[str]:
        forms = ("json_schema", "regex", "grammar", "choice", "tools")
        return [*(["json_object"] if self.json_object else []), *(f for f in forms if getattr(self, f) is not None)]

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = self._given()
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"give one of json_object, json_schema, regex, grammar, choice, tools; found {found}")
        if self.strict and self.json_schema is None:
            raise ValueError("strict needs json_schema")
        if self.parallel and self.tools is None:
            raise ValueError("parallel needs tools")
        return self
