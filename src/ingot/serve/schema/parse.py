"""From bytes to a checked body, or to the refusal that names the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError

from ingot.serve.errors import explain, refuse
from ingot.serve.schema.base import Body
from ingot.serve.schema.chat import ChatBody
from ingot.serve.schema.completion import CompletionBody
from ingot.serve.schema.generation import SamplingBody
from ingot.serve.schema.refused import REFUSED, without_refused

B = TypeVar("B", bound=Body)


def parse(kind: type[B], raw: bytes, refused: Mapping[str, tuple[Any, ...]] = REFUSED) -> B:
    """A checked body; `refused`: what the route's interface has and the server has not. Raises ApiError naming the
    field."""
    try:
        content = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise refuse("http-bad-json", reason=str(error)) from None
    if not isinstance(content, dict):
        raise refuse("http-not-object", found=type(content).__name__)
    known = frozenset(kind.model_fields)
    try:
        body = kind.model_validate(without_refused(content, known, refused))
    except ValidationError as error:
        raise explain(error, [*known, *refused]) from None
    if isinstance(body, SamplingBody):
        _check_pairs(body)
    return body


def _check_pairs(body: SamplingBody) -> None:
    """Fields that make sense only together."""
    if body.stream_options is not None and not body.stream:
        raise refuse("http-needs", param="stream_options", needs="stream")
    if isinstance(body, ChatBody):
        _check_chat(body)
    if isinstance(body, CompletionBody):
        _check_completion(body)
    if body.logprobs_mode is not None and body.num_logprobs is None:
        raise refuse("http-needs", param="logprobs_mode", needs="logprobs")


def _check_chat(body: ChatBody) -> None:
    asks = body.response_format is not None and body.response_format.type != "text"
    if asks and body.structured_outputs is not None:
        raise refuse("http-conflict", param="structured_outputs", other="response_format")
    if body.must_call and (asks or body.structured_outputs is not None):
        raise refuse("http-conflict", param="tool_choice", other="response_format" if asks else "structured_outputs")
    if body.top_logprobs is not None and not body.logprobs:
        raise refuse("http-needs", param="top_logprobs", needs="logprobs")
    if body.max_tokens and body.max_completion_tokens and body.max_tokens != body.max_completion_tokens:
        raise refuse("http-conflict", param="max_tokens", other="max_completion_tokens")


def _check_completion(body: CompletionBody) -> None:
    if body.best_of is not None and body.best_of < (body.n or 1):
        raise refuse("http-conflict", param="best_of", other="n")
    if body.stream and body.is_chosen:
        raise refuse("http-conflict", param="best_of", other="stream")
