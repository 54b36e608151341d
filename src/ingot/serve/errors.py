"""Every refusal of the server, in OpenAI's shape: {"error": {"message", "type", "param", "code"}}; at /v1/messages and
below in Anthropic's: {"type": "error", "error": {"type", "message", "details"}}.

`raise refuse("http-unknown-model", param="model", ...)` anywhere below a route becomes the answer, or, once a stream
has begun, its last event. The sentences live in messages/serve.yaml; status, OpenAI's type and the code stand in KINDS.
Clients never see a traceback, and logs never hold what a client wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError
from starlette.responses import Response

from ingot.core.errors import nearest
from ingot.core.language import text
from ingot.text.chat import ROLES

MESSAGE_TAG = 2
"""Where pydantic puts the role of a message in the place of a problem: ("messages", 0, "user", "content")."""


class Kind(NamedTuple):
    """HTTP status, OpenAI's error type, and the error code that both interfaces tell."""

    status: int
    type: str
    code: str | None


KINDS = {
    "http-bad-http": Kind(400, "invalid_request_error", "invalid_http"),
    "http-bad-json": Kind(400, "invalid_request_error", "invalid_json"),
    "http-not-object": Kind(400, "invalid_request_error", "invalid_json"),
    "http-bad-field": Kind(400, "invalid_request_error", "invalid_value"),
    "http-missing-field": Kind(400, "invalid_request_error", "missing_required_parameter"),
    "http-unknown-field": Kind(400, "invalid_request_error", "unknown_parameter"),
    "http-unknown-key": Kind(400, "invalid_request_error", "unknown_parameter"),
    "http-unsupported-field": Kind(400, "invalid_request_error", "unsupported_parameter"),
    "http-needs": Kind(400, "invalid_request_error", "invalid_value"),
    "http-conflict": Kind(400, "invalid_request_error", "invalid_value"),
    "http-bad-sampling": Kind(400, "invalid_request_error", "invalid_value"),
    "http-bad-messages": Kind(400, "invalid_request_error", "invalid_value"),
    "http-bad-tools": Kind(400, "invalid_request_error", "invalid_value"),
    "http-bad-form": Kind(400, "invalid_request_error", "invalid_value"),
    "http-bad-width": Kind(400, "invalid_request_error", "invalid_value"),
    "http-token-id": Kind(400, "invalid_request_error", "invalid_value"),
    "http-empty-prompt": Kind(400, "invalid_request_error", "invalid_value"),
    "http-not-runnable": Kind(400, "invalid_request_error", "invalid_value"),
    "http-one-of": Kind(400, "invalid_request_error", "invalid_value"),
    "http-too-long": Kind(400, "invalid_request_error", "context_length_exceeded"),
    "http-no-token": Kind(400, "invalid_request_error", "no_token_left"),
    "http-too-many": Kind(400, "invalid_request_error", "invalid_value"),
    "http-context": Kind(400, "invalid_request_error", "context_length_exceeded"),
    "http-source": Kind(400, "invalid_request_error", "context_length_exceeded"),
    "http-blocked": Kind(400, "invalid_request_error", "content_filter"),
    "http-redacted-ids": Kind(400, "invalid_request_error", "content_filter"),
    "http-missing-key": Kind(401, "authentication_error", "invalid_api_key"),
    "http-wrong-key": Kind(401, "authentication_error", "invalid_api_key"),
    "http-unknown-model": Kind(404, "invalid_request_error", "model_not_found"),
    "http-unknown-route": Kind(404, "invalid_request_error", "unknown_url"),
    "http-wrong-method": Kind(405, "invalid_request_error", "method_not_allowed"),
    "http-slow-body": Kind(408, "invalid_request_error", "request_timeout"),
    "http-too-large": Kind(413, "invalid_request_error", "request_too_large"),
    "http-content-type": Kind(415, "invalid_request_error", "unsupported_media_type"),
    "http-content-encoding": Kind(415, "invalid_request_error", "unsupported_content_encoding"),
    "http-queue-full": Kind(429, "rate_limit_error", "queue_full"),
    "http-queue-tokens": Kind(429, "rate_limit_error", "queue_full"),
    "http-client-gone": Kind(499, "invalid_request_error", "client_closed_request"),
    "http-unexpected": Kind(500, "server_error", "internal_error"),
    "http-engine-failed": Kind(500, "server_error", "engine_failed"),
    "http-bad-answer": Kind(500, "server_error", "answer_not_valid"),
    "http-aborted": Kind(503, "server_error", "aborted"),
    "http-draining": Kind(503, "server_error", "draining"),
    "http-queue-timeout": Kind(503, "server_error", "queue_timeout"),
    "http-timeout": Kind(504, "server_error", "timeout"),
    "http-deadline": Kind(504, "server_error", "deadline_exceeded"),
    "http-slow-reader": Kind(408, "server_error", "slow_reader"),
}


MESSAGES = "/v1/messages"
"""The route that is Anthropic's, with everything below it."""

ANTHROPIC_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""What Anthropic calls errors of these statuses; all others are `invalid_request_error`."""


def is_anthropic(path: str) -> bool:
    """Whether a path speaks Anthropic's interface."""
    return path == MESSAGES or path.startswith(MESSAGES + "/")


class ApiError(Exception):
    """A refusal to send: `name` is its key in KINDS, `param` the request field it is about, `details` the other fields
    of its sentence."""

    def __init__(self, name: str, param: str | None, headers: dict[str, str], details: dict[str, Any]) -> None:
        super().__init__(name)
        self.name = name
        self.param = param
        self.headers = headers
        self.details = details
        self.message = text(name, param=param, **details)

    def about(self, param: str) -> ApiError:
        """The same refusal of a field that has another name where it was asked for."""
        return ApiError(self.name, param, self.headers, self.details)

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]

    @property
    def reason(self) -> str:
        """Its name as a label of a metric."""
        return self.name.removeprefix("http-")

    def body(self, path: str = "") -> bytes:
        """The JSON object, for a response or for an event, as it is written at a path."""
        kind = self.kind
        if is_anthropic(path):
            named = ANTHROPIC_TYPES.get(kind.status, "invalid_request_error")
            details = {"error_code": kind.code, "param": self.param}
            return orjson.dumps(
                {"type": "error", "error": {"type": named, "message": self.message, "details": details}}
            )
        error = {"message": self.message, "type": kind.type, "param": self.param, "code": kind.code}
        return orjson.dumps({"error": error})

    def response(self, path: str) -> Response:
        return Response(self.body(path), self.kind.status, self.headers, "application/json")


def refuse(name: str, *, param: str | None = None, headers: dict[str, str] | None = None, **details: Any) -> ApiError:
    """The error to raise; `details` fill the fields of its sentence."""
    return ApiError(name, param, headers or {}, details)


def explain(error: ValidationError, known: list[str]) -> ApiError:
    """The first problem pydantic found in a request body, naming the field as `messages[0].role`."""
    problem = error.errors(include_url=False, include_context=False)[0]
    path = _path(problem["loc"])
    if problem["type"].startswith("union_tag"):
        path.append("role")
    param = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    if problem["type"] == "missing":
        return refuse("http-missing-field", param=param)
    if problem["type"] == "extra_forbidden":
        if len(path) > 1:
            return refuse("http-unknown-key", param=param)
        return refuse("http-unknown-field", param=param, nearest=nearest(str(path[0]), known))
    return refuse("http-bad-field", param=param or None, found=_shown(problem["input"]), reason=_reason(problem["msg"]))


def explain_sampling(error: ValidationError, given: Iterable[str]) -> ApiError:
    """Controls that are fine one by one and do not fit together; the field is the first one that the reason names."""
    problem = error.errors(include_url=False, include_context=False)[0]
    reason = _reason(problem["msg"])
    named = [str(part) for part in problem["loc"]] or [name for name in given if name in reason]
    return refuse("http-bad-sampling", param=min(named, key=reason.find, default=None), reason=reason)


TRIED = re.compile(r"(literal|list|tuple|function-\w+)\[|\{")
"""How pydantic names one of several types that it tried; tags of ours stand in braces."""


def _path(places: tuple[int | str, ...]) -> list[int | str]:
    """Without pydantic's own words: that a key is meant, and which kind of message or type was tried."""
    return [
        part
        for at, part in enumerate(places)
        if part != "[key]"
        and not TRIED.match(str(part))
        and not (at == MESSAGE_TAG and places[0] == "messages" and part in ROLES)
    ]


def _reason(message: str) -> str:
    return message.removeprefix("Value error, ")


def _shown(value: object) -> str:
    found = repr(value)
    return found if len(found) <= 80 else found[:77] + "..."


def place(error: BaseException) -> str:
    """Kind of error, file and line; never its message."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" ({trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno})" if trace else ""
    return f"{type(error).__name__}{where}"
