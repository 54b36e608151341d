"""Routes that make no tokens: vectors of texts, and texts and conversations as the tokens the model reads.

Vectors are computed on the engine's thread in small pieces between its steps, so running answers wait little. Token
routes read conversations as the chat route does, guard included, and give the same ids.
"""

from __future__ import annotations

import asyncio
import base64
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from fastapi import Request, Response

from ingot.serve.conversation import Conversation
from ingot.serve.errors import refuse
from ingot.serve.guarded import Checker
from ingot.serve.job import latest
from ingot.serve.prepare import Served, text_prompt
from ingot.serve.schema import DetokenizeBody, EmbeddingBody, TemplateBody, TokenizeBody, parse
from ingot.serve.stream import until_gone

if TYPE_CHECKING:
    from ingot.serve.app import Api


def reply(content: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    """JSON, not pretty."""
    return Response(orjson.dumps(content), 200, headers, "application/json")


async def embeddings(api: Api, request: Request) -> Response:
    """POST /v1/embeddings. Raises ApiError."""
    arrived = time.monotonic()
    raw = await api.read(request)
    body, rows, headers = await asyncio.to_thread(_embedding_rows, api.served, raw)
    size = sum(map(len, rows))
    pieces = api.served.embedder.vectors(rows, body.normalize is not False, api.served.adapters(body.model))
    found: list[tuple[list[int], Any]] = []

    async def work() -> None:
        found.extend(await api.worker.compute(pieces, size))

    expires, late = latest(arrived, api.limits.request_timeout, body.deadline_ms)
    if await until_gone(work(), request.receive, expires - time.monotonic(), late):
        raise refuse("http-client-gone")
    api.metrics.tokens.labels("embedding").inc(size)
    request.scope["state"]["told"] = {"prompt": size, "user": body.user}
    return reply(_embedding_list(body.model, body, len(rows), found, size), headers)


def _embedding_rows(served: Served, raw: bytes) -> tuple[EmbeddingBody, list[list[int]], dict[str, str]]:
    """Everything that can be refused before the engine is asked. Raises ApiError."""
    body = parse(EmbeddingBody, raw)
    served.adapters(body.model)
    if body.dimensions not in (None, served.embedder.width):
        raise refuse("http-bad-width", param="dimensions", width=served.embedder.width)
    checker = Checker(served.guard)
    rows = []
    for number, given in enumerate(body.input):
        if given == "":
            raise refuse("http-empty-prompt", param=f"input[{number}]")
        ids = served.embedder.read(checker.text(given, "input")) if isinstance(given, str) else None
        rows.append(ids if ids is not None else text_prompt(given, served, checker, "input").ids)
        if len(rows[-1]) > served.reader.window:
            limit, size = served.reader.window, len(rows[-1])
            raise refuse("http-too-long", param=f"input[{number}]", limit=limit, found=size)
        if not rows[-1]:
            raise refuse("http-empty-prompt", param=f"input[{number}]")
    return body, rows, checker.headers()


def _embedding_list(
    name: str, body: EmbeddingBody, count: int, found: list[tuple[list[int], Any]], size: int
) -> dict[str, Any]:
    vectors: list[Any] = [None] * count
    for places, piece_BC in found:
        for place, vector_C in zip(places, np.asarray(piece_BC, dtype="<f4"), strict=True):
            coded = body.encoding_format == "base64"
            vectors[place] = base64.b64encode(vector_C.tobytes()).decode() if coded else vector_C.tolist()
    data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(vectors)]
    usage = {"prompt_tokens": size, "total_tokens": size}
    return {"object": "list", "data": data, "model": name, "usage": usage}


def tokenize(served: Served, raw: bytes) -> Response:
    """POST /tokenize. Raises ApiError."""
    body = parse(TokenizeBody, raw)
    served.adapters(body.model)
    if (body.prompt is None) == (body.messages is None):
        raise refuse("http-one-of", param="prompt", other="messages")
    checker = Checker(served.guard)
    if body.messages is not None:
        if body.add_special_tokens is not None:
            raise refuse("http-needs", param="add_special_tokens", needs="prompt")
        ids = _conversation(body, checker).ids(served.reader, served.tokenizer).ids
    else:
        assert body.prompt is not None
        for name in ("tools", "add_generation_prompt", "continue_final_message"):
            if getattr(body, name) is not None:
                raise refuse("http-needs", param=name, needs="messages")
        text = checker.text(body.prompt, "prompt")
        plain = body.add_special_tokens is False
        ids = served.tokenizer.encode(text) if plain else served.reader.text(served.tokenizer, text).ids
    content = {"tokens": ids, "count": len(ids), "max_model_len": served.reader.window}
    if body.return_token_strs:
        content["token_strs"] = [served.tokenizer.token(id) for id in ids]
    return reply(content, checker.headers())


def detokenize(served: Served, raw: bytes) -> Response:
    """POST /detokenize: special tokens are written out, so that nothing is lost. Raises ApiError."""
    body = parse(DetokenizeBody, raw)
    served.adapters(body.model)
    for token in body.tokens:
        if token >= served.reader.vocab_size:
            raise refuse("http-token-id", param="tokens", found=token, size=served.reader.vocab_size)
    return reply({"prompt": served.tokenizer.decode(body.tokens, skip_special=False)})


def apply_template(served: Served, raw: bytes) -> Response:
    """POST /apply-template. Raises ApiError."""
    body = parse(TemplateBody, raw)
    served.adapters(body.model)
    checker = Checker(served.guard)
    return reply({"prompt": _conversation(body, checker).text(served.tokenizer)}, checker.headers())


def _conversation(body: TokenizeBody | TemplateBody, checker: Checker) -> Conversation:
    assert body.messages is not None
    return Conversation.of(body.messages, body.tools, body.add_generation_prompt, body.continue_final_message, checker)
