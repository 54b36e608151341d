"""POST /v1/messages and /v1/messages/count_tokens, on the path that chat completions take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import Request, Response

from ingot.serve.errors import ApiError
from ingot.serve.generation import generate
from ingot.serve.guarded import Checker
from ingot.serve.messages.chat import NAMES, chat_body
from ingot.serve.messages.frames import MessageFrames
from ingot.serve.messages.schema import CountBody, MessagesBody
from ingot.serve.prepare import Prepared, Served, chat_prompt
from ingot.serve.schema import ChatBody, SamplingBody, parse
from ingot.serve.schema.refused import MESSAGES_REFUSED
from ingot.serve.shape import Head
from ingot.serve.stream import Reply
from ingot.serve.texts import reply

if TYPE_CHECKING:
    from ingot.serve.app import Api


async def messages(api: Api, request: Request) -> Reply:
    """POST /v1/messages. Raises ApiError."""
    try:
        return await generate(api, request, _read, _frames)
    except ApiError as error:
        raise _named(error) from None


def count_tokens(served: Served, raw: bytes) -> Response:
    """POST /v1/messages/count_tokens: how many tokens the other route would read. Raises ApiError."""
    try:
        body = chat_body(parse(CountBody, raw, MESSAGES_REFUSED))
        served.adapters(body.model)
        checker = Checker(served.guard)
        prompt, _ = chat_prompt(body, served, checker)
    except ApiError as error:
        raise _named(error) from None
    return reply({"input_tokens": len(prompt.ids)}, checker.headers())


def _read(raw: bytes) -> ChatBody:
    return chat_body(parse(MessagesBody, raw, MESSAGES_REFUSED))


def _frames(api: Api, body: SamplingBody, prepared: Prepared) -> MessageFrames:
    return MessageFrames(Head(body.model, None))


def _named(error: ApiError) -> ApiError:
    """In the words of this interface."""
    return error.about(NAMES[error.param]) if error.param in NAMES else error
