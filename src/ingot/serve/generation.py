"""Every route that writes: from the bytes of a request to the reply that runs it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from fastapi import Request

from ingot.serve.answer import Answer, Choice
from ingot.serve.frames import Chunks, Frames
from ingot.serve.job import Job, latest
from ingot.serve.prepare import Prepared, prepare
from ingot.serve.schema import ChatBody, CompletionBody, SamplingBody, parse
from ingot.serve.shape import ChatShape, Head, Shape, TextShape
from ingot.serve.stream import Plan, Reply

if TYPE_CHECKING:
    from ingot.serve.app import Api


Reader = Callable[[bytes], SamplingBody]
"""Checks the bytes of a request."""
Framer = Callable[["Api", SamplingBody, Prepared], Frames]
"""Makes what an answer is framed by."""


async def complete(api: Api, request: Request, kind: type[SamplingBody]) -> Reply:
    """OpenAI's routes. Raises ApiError."""
    return await generate(api, request, partial(parse, kind), _chunks)


async def generate(api: Api, request: Request, read: Reader, framer: Framer) -> Reply:
    """Check a request, hand it to the engine, and return what sends its answer. Raises ApiError."""
    arrived = time.monotonic()
    raw = await api.read(request)
    # In a thread of its own: a long prompt takes a while to check and to encode.
    body, prepared = await asyncio.to_thread(_prepare, api, read, raw)
    job = _job(api, request, body, prepared, arrived)
    api.worker.submit(job)
    return _reply(api, request, body, prepared, job, framer(api, body, prepared))


def _prepare(api: Api, read: Reader, raw: bytes) -> tuple[SamplingBody, Prepared]:
    body = read(raw)
    return body, prepare(body, api.served)


def _job(api: Api, request: Request, body: SamplingBody, prepared: Prepared, arrived: float) -> Job:
    """The request as the engine's thread knows it: whose it is, how much it will take, until when it is wanted."""
    admission = api.worker.admission
    estimates = []
    for prompt, sampling in prepared.sequences:
        limit = sampling.max_tokens or 1
        estimates.append(len(prompt.ids) + (limit if body.limit else admission.expected(limit)))
    salt = f"{request.scope['state'].get('tenant', '')}/{body.cache_salt or ''}"
    expires, late = latest(arrived, api.limits.request_timeout, body.deadline_ms)
    return Job(prepared.sequences, arrived, estimates, salt, prepared.adapters, expires, late)


def _reply(api: Api, request: Request, body: SamplingBody, prepared: Prepared, job: Job, frames: Frames) -> Reply:
    written = body.num_answers
    echo = isinstance(body, CompletionBody) and body.echo
    openings = [prompt.text if echo else "" for prompt in prepared.prompts for _ in range(written)]
    choices = [
        Choice(at, api.served.guard, opening, prepared.offer, prompt.ids[0])
        for at, (opening, (prompt, _)) in enumerate(zip(openings, job.sequences, strict=True))
    ]
    answer = Answer(job, choices, lambda choice, reason: api.worker.cancel(job, reason, choice))
    num_prompt = sum(len(prompt.ids) for prompt in prepared.prompts)
    plan = Plan(frames, bool(body.stream), num_prompt, written, body.n or 1, prepared.headers)

    def ended(reason: str) -> None:
        api.worker.cancel(job, reason)
        api.metrics.tokens.labels("prompt").inc(num_prompt)
        api.metrics.tokens.labels("cached").inc(reply.num_cached)
        told = {"prompt": num_prompt, "completion": answer.num_tokens, "user": body.user}
        request.scope["state"]["told"] = told

    reply = Reply(answer, plan, api.limits.queue_timeout, ended)
    return reply


def _chunks(api: Api, body: SamplingBody, prepared: Prepared) -> Chunks:
    return Chunks(_shape(api, body, prepared), body.usage_in_stream)


def _shape(api: Api, body: SamplingBody, prepared: Prepared) -> Shape:
    head = Head(body.model, api.served.fingerprint)
    if isinstance(body, ChatBody):
        return ChatShape(head, api.served.tokenizer, body.num_logprobs is not None, prepared.offer is not None)
    assert isinstance(body, CompletionBody)
    return TextShape(head, api.served.tokenizer, body.logprobs is not None)
