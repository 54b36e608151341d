"""The routes: OpenAI's, vLLM's and Anthropic's, and what a supervisor asks.

Bodies are read and checked by hand rather than by the framework, because every refusal must have the interface's shape
and the size must be bounded while reading. Only application/json is taken: a web page cannot send that across origins
without a preflight, and preflights are never answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from ingot.serve import texts
from ingot.serve.errors import ApiError, refuse
from ingot.serve.gate import Gate, Keys
from ingot.serve.generation import complete
from ingot.serve.limits import LimitOptions
from ingot.serve.messages import route
from ingot.serve.metrics import Metrics
from ingot.serve.openapi import document
from ingot.serve.prepare import Served
from ingot.serve.read import BODY_SECONDS, read_body
from ingot.serve.schema import ChatBody, CompletionBody
from ingot.serve.worker import Worker


class Api:
    """The handlers, with what they share. `gate` is the ASGI application to run."""

    def __init__(
        self, served: Served, worker: Worker, metrics: Metrics, limits: LimitOptions, keys: Keys | None = None
    ) -> None:
        self.served = served
        self.worker = worker
        self.metrics = metrics
        self.limits = limits
        self.gate = Gate(_application(self), metrics, keys)

    async def read(self, request: Request) -> bytes:
        """The body of a request. Raises ApiError."""
        return await read_body(request, self.limits.max_body, min(self.limits.request_timeout, BODY_SECONDS))

    async def chat(self, request: Request) -> Response:
        return await complete(self, request, ChatBody)

    async def complete(self, request: Request) -> Response:
        return await complete(self, request, CompletionBody)

    async def messages(self, request: Request) -> Response:
        return await route.messages(self, request)

    async def count_tokens(self, request: Request) -> Response:
        return await self._apart(request, route.count_tokens)

    async def embeddings(self, request: Request) -> Response:
        return await texts.embeddings(self, request)

    async def tokenize(self, request: Request) -> Response:
        return await self._apart(request, texts.tokenize)

    async def detokenize(self, request: Request) -> Response:
        return await self._apart(request, texts.detokenize)

    async def apply_template(self, request: Request) -> Response:
        return await self._apart(request, texts.apply_template)

    async def models(self) -> Response:
        return texts.reply({"object": "list", "data": [self._card(name) for name in self.served.names]})

    async def model(self, request: Request) -> Response:
        name: str = request.path_params["name"]
        self.served.adapters(name)
        return texts.reply(self._card(name))

    async def health(self) -> Response:
        """The process lives."""
        return texts.reply({"status": "ok"})

    async def ready(self) -> Response:
        """It takes requests: 503 while draining or after the engine failed."""
        if self.worker.failure is not None:
            raise refuse("http-engine-failed")
        if self.gate.draining:
            raise refuse("http-draining")
        return texts.reply({"status": "ready"})

    async def metrics_page(self) -> Response:
        return Response(self.metrics.exposition(), media_type="text/plain; version=1.0.0; charset=utf-8")

    async def openapi(self) -> Response:
        return texts.reply(document(self.served.name, needs_key=self.gate.keys is not None))

    async def _apart(self, request: Request, answer: Callable[[Served, bytes], Response]) -> Response:
        """Answer in a thread of its own: a long text takes a while to check and to encode."""
        raw = await self.read(request)
        return await asyncio.to_thread(answer, self.served, raw)

    def _card(self, name: str) -> dict[str, Any]:
        own = {"id": name, "object": "model", "created": self.served.created, "owned_by": "ingot"}
        return own | {"max_model_len": self.served.reader.window}


def _application(api: Api) -> FastAPI:
    """FastAPI with our routes, error shapes and document. Its own documentation pages would load scripts from
    elsewhere, and its own document does not know our bodies: off."""
    app = FastAPI(title="ingot", docs_url=None, redoc_url=None, openapi_url=None)
    for path, handler in (
        ("/v1/chat/completions", api.chat),
        ("/v1/completions", api.complete),
        ("/v1/messages", api.messages),
        ("/v1/messages/count_tokens", api.count_tokens),
        ("/v1/embeddings", api.embeddings),
        ("/tokenize", api.tokenize),
        ("/detokenize", api.detokenize),
        ("/apply-template", api.apply_template),
    ):
        app.add_api_route(path, handler, methods=["POST"])
    for path, getter in (
        ("/v1/models", api.models),
        ("/v1/models/{name:path}", api.model),
        ("/health", api.health),
        ("/ready", api.ready),
        ("/metrics", api.metrics_page),
        ("/openapi.json", api.openapi),
    ):
        app.add_api_route(path, getter, methods=["GET"])
    app.add_exception_handler(ApiError, _refused)
    app.add_exception_handler(Exception, _unexpected)
    app.add_exception_handler(HTTPException, _not_routed)
    app.router.redirect_slashes = False
    return app


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    request.scope["state"]["error"] = error.kind.code
    return error.response(request.url.path)


async def _unexpected(request: Request, error: Exception) -> Response:
    """What the framework answers before it lets the error through to the gate, which reports it."""
    return await _refused(request, refuse("http-unexpected"))


async def _not_routed(request: Request, error: Exception) -> Response:
    """The router's own refusals: no such path, wrong method."""
    assert isinstance(error, HTTPException)
    headers, path = dict(error.headers or {}), request.url.path[:80]
    if error.status_code == 405:
        return await _refused(request, refuse("http-wrong-method", method=request.method, path=path, headers=headers))
    return await _refused(request, refuse("http-unknown-route", path=path, headers=headers))
