"""The body of a request: only JSON, never compressed, never more of it in memory than allowed, and in time."""

from __future__ import annotations

import asyncio

from fastapi import Request
from starlette.requests import ClientDisconnect

from ingot.serve.errors import refuse

BODY_SECONDS = 60.0
"""How long a body may take to arrive."""


async def read_body(request: Request, limit: int, seconds: float) -> bytes:
    """The body, never more than `limit` bytes of it in memory. Raises ApiError."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise refuse("http-content-type", found=request.headers.get("content-type", "-")[:80])
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise refuse("http-content-encoding", found=request.headers["content-encoding"][:80])
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise refuse("http-too-large", limit=limit, headers={"connection": "close"})
    parts, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise refuse("http-too-large", limit=limit, headers={"connection": "close"})
                parts.append(part)
    except TimeoutError:
        raise refuse("http-slow-body", seconds=seconds, headers={"connection": "close"}) from None
    except ClientDisconnect:
        raise refuse("http-client-gone") from None
    return b"".join(parts)
