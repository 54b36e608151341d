"""What chat and text completions have in common: how an answer is sampled, streamed, bounded and paid attention to.

The controls are `Sampling`'s own fields, with its types and bounds, so that a new sampler is in the API as soon as the
engine has it. What OpenAI bounds more tightly, or writes otherwise in JSON, stands in the two tables below.
"""

from __future__ import annotations

from typing import Annotated, Any, get_origin

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, WithJsonSchema, create_model
from pydantic.fields import FieldInfo

from ingot.infer.constraint.options import Constraint
from ingot.infer.options import Sampling
from ingot.serve.errors import explain_sampling
from ingot.serve.schema.base import MAX_PROMPTS, Body, StreamOptions
from ingot.serve.schema.form import StructuredOutputs

OWN = ("max_tokens", "logprobs", "prompt_logprobs", "constraint")
"""Fields of Sampling that the routes have in a form of their own."""

TIGHTER: dict[str, Any] = {"temperature": Field(le=2)}
"""Bounds that OpenAI has and the engine does not need."""

MAX_DEADLINE = 86_400_000
"""One day, in milliseconds."""


def _control(name: str, field: FieldInfo) -> tuple[Any, Any]:
    """A field of Sampling as a field of a body: the same, or null."""
    kind: Any = field.annotation
    given: list[Any] = [*field.metadata, *([TIGHTER[name]] if name in TIGHTER else [])]
    plain = [item for item in given if not isinstance(item, BeforeValidator)]
    if get_origin(kind) is list and len(plain) < len(given):
        many = TypeAdapter(Annotated[kind, *plain]).json_schema()
        many["items"].setdefault("minLength", 1)
        given.append(WithJsonSchema({"anyOf": [many["items"], many]}))  # one text stands for a list of one
    if given:
        kind = Annotated[kind, *given]
    return kind | None, Field(None, description=field.description)


_FIELDS: dict[str, Any] = {
    name: _control(name, field) for name, field in Sampling.model_fields.items() if name not in OWN
}
_Controls: Any = create_model("Controls", __base__=Body, **_FIELDS)


class SamplingBody(_Controls):  # type: ignore[misc]
    """A request for one or more answers."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(None, ge=1, le=MAX_PROMPTS)
    max_tokens: int | None = Field(None, ge=1)
    user: str | None = Field(None, max_length=256)
    deadline_ms: int | None = Field(
        None, ge=1, le=MAX_DEADLINE, description="end with an error when it takes longer than this"
    )
    cache_salt: str | None = Field(
        None, min_length=1, max_length=256, description="share cached prefixes only with requests of the same salt"
    )

    structured_outputs: StructuredOutputs | None = Field(None, description="the form that the answer has")

    @property
    def limit(self) -> int | None:
        """How many tokens may be made; None: as many as fit."""
        return self.max_tokens

    @property
    def num_logprobs(self) -> int | None:
        """Alternatives to report at each token; None: no log-probabilities."""
        raise NotImplementedError

    @property
    def num_prompt_logprobs(self) -> int | None:
        """The same of the prompt's tokens."""
        return None

    @property
    def form(self) -> tuple[str, Constraint] | None:
        """What form the answer is to have, and the field that asks for it."""
        if self.structured_outputs is None:
            return None
        return "structured_outputs", self.structured_outputs.constraint()

    @property
    def num_answers(self) -> int:
        """How many answers to write to each prompt."""
        return self.n or 1

    @property
    def usage_in_stream(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(self, max_tokens: int, temperature: float) -> Sampling:
        """The engine's controls: what was given, else this temperature and the engine's own defaults. Raises ApiError
        where they do not fit together."""
        given = {name: value for name in _FIELDS if (value := getattr(self, name)) is not None}
        given = {"temperature": temperature} | given
        if self.form is not None:
            given["constraint"] = self.form[1]
        try:
            return Sampling(
                **given,
                max_tokens=max_tokens,
                logprobs=self.num_logprobs,
                prompt_logprobs=self.num_prompt_logprobs,
            )
        except ValidationError as error:
            raise explain_sampling(error, given) from None
