"""The OpenAPI document: what each route takes and every way in which it answers, written by hand from the same bodies
and the same table of errors that the server uses."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from ingot.serve.errors import KINDS, is_anthropic
from ingot.serve.messages.schema import CountBody, MessagesBody
from ingot.serve.schema import (
    ChatBody,
    CompletionBody,
    DetokenizeBody,
    EmbeddingBody,
    TemplateBody,
    TokenizeBody,
)
from ingot.serve.schema.answers import SCHEMAS

JSON = "application/json"
EVENTS = "text/event-stream"
EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}
"""One event of a stream; `data` is JSON, or OpenAI's [DONE]."""

ALWAYS = (401, 405, 500)
"""Statuses that any route can answer with."""
BODY = (400, 408, 413, 415, 499)
"""Those of a route that reads a body."""
WORK = (429, 503, 504)
"""Those of a route that asks the engine."""

POSTS: dict[str, tuple[type[BaseModel], str, tuple[int, ...]]] = {
    "/v1/chat/completions": (ChatBody, "ChatCompletion", (404, *BODY, *WORK)),
    "/v1/completions": (CompletionBody, "Completion", (404, *BODY, *WORK)),
    "/v1/messages": (MessagesBody, "Message", (404, *BODY, *WORK)),
    "/v1/messages/count_tokens": (CountBody, "TokenCount", (404, *BODY)),
    "/v1/embeddings": (EmbeddingBody, "Embeddings", (404, *BODY, *WORK)),
    "/tokenize": (TokenizeBody, "Tokens", (404, *BODY)),
    "/detokenize": (DetokenizeBody, "Prompt", (404, *BODY)),
    "/apply-template": (TemplateBody, "Prompt", (404, *BODY)),
}
"""Route -> body, schema of the answer, statuses of refusals."""
STREAMED = ("/v1/chat/completions", "/v1/completions", "/v1/messages")

GETS: dict[str, tuple[str, tuple[int, ...]]] = {
    "/v1/models": ("Models", ()),
    "/v1/models/{name}": ("Model", (404,)),
    "/health": ("Status", ()),
    "/ready": ("Status", (503,)),
}


def document(model: str, *, needs_key: bool) -> dict[str, Any]:
    """The document of the server of a model; `needs_key`: whether requests need an API key."""
    schemas = dict(SCHEMAS)
    paths: dict[str, Any] = {path: {"post": _post(path, schemas)} for path in POSTS}
    for body, _, _ in POSTS.values():
        own = schemas[body.__name__]["properties"]["model"]
        own.update({"enum": [model] if own.get("type") else [model, None]})
    paths |= {path: {"get": _get(path)} for path in GETS}
    metrics = {"description": "Prometheus' text format", "content": {"text/plain": {"schema": {"type": "string"}}}}
    paths["/metrics"] = {"get": {"operationId": "metrics", "responses": {"200": metrics, **_refusals(ALWAYS)}}}
    made: dict[str, Any] = {"openapi": "3.1.0", "info": {"title": "ingot", "version": "1"}, "paths": paths}
    components: dict[str, Any] = {"schemas": schemas}
    if needs_key:
        plain = {"type": "apiKey", "in": "header", "name": "x-api-key"}
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}, "plain_key": plain}
        made["security"] = [{"key": []}, {"plain_key": []}]
        for path in ("/health", "/ready"):
            paths[path]["get"]["security"] = []
    return {**made, "components": components}


def _post(path: str, schemas: dict[str, Any]) -> dict[str, Any]:
    body, answer, statuses = POSTS[path]
    schema = body.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= schema.pop("$defs", {})
    schemas[body.__name__] = schema
    content: dict[str, Any] = {JSON: {"schema": _ref(answer)}}
    if path in STREAMED:
        content[EVENTS] = {"schema": EVENT}
    refusals = _refusals((*ALWAYS, *statuses), "MessagesError" if is_anthropic(path) else "Error")
    return {
        "operationId": _name(path),
        "requestBody": {"required": True, "content": {JSON: {"schema": _ref(body.__name__)}}},
        "responses": {"200": {"description": "the answer", "content": content}, **refusals},
    }


def _get(path: str) -> dict[str, Any]:
    answer, statuses = GETS[path]
    named = [{"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}]
    return {
        "operationId": _name(path),
        **({"parameters": named} if "{" in path else {}),
        "responses": {
            "200": {"description": "the answer", "content": {JSON: {"schema": _ref(answer)}}},
            **_refusals((*ALWAYS, *statuses)),
        },
    }


def _refusals(statuses: tuple[int, ...], schema: str = "Error") -> dict[str, Any]:
    """Each status with the codes that errors have there."""
    found: dict[str, Any] = {}
    for status in sorted(statuses):
        codes = sorted({kind.code for kind in KINDS.values() if kind.status == status and kind.code})
        found[str(status)] = {"description": ", ".join(codes), "content": {JSON: {"schema": _ref(schema)}}}
    return found


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _name(path: str) -> str:
    return path.strip("/").replace("{", "").replace("}", "").replace("/", "_").replace("-", "_")
