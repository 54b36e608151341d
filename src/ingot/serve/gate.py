"""What every request passes first and last: the key, draining, counting, and the net that catches the unexpected.

Plain ASGI around the whole application, so nothing below it (the framework's own handlers included) can answer in
another shape, print a traceback, or escape being counted.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingot.core.errors import fail
from ingot.core.progress import say, warn
from ingot.serve.errors import ApiError, is_anthropic, place, refuse
from ingot.serve.metrics import Metrics

OPEN_ROUTES = frozenset({"/health", "/ready"})
"""Answered without a key, for supervisors and load balancers."""

WORK_ROUTES = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/embeddings"})
"""Refused while the server drains, and written to the log one by one."""

TEXT_ROUTES = frozenset({"/v1/messages/count_tokens", "/tokenize", "/detokenize", "/apply-template"})
ROUTES = OPEN_ROUTES | WORK_ROUTES | TEXT_ROUTES | {"/v1/models", "/v1/models/{id}", "/metrics", "/openapi.json"}
CLIENT_GONE = 499
"""The status counted for a request whose client left before an answer began; never sent."""


class Keys:
    """API keys, kept as digests and compared in constant time."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    @classmethod
    def read(cls, path: Path) -> Keys:
        """One key a line; blank lines and lines that begin with # do not count. Raises IngotError."""
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        except FileNotFoundError:
            raise fail("no-such-file", path=path) from None
        except (OSError, UnicodeDecodeError) as error:
            raise fail("serve-bad-keys", path=path, reason=type(error).__name__) from None
        keys = [line for line in lines if line and not line.startswith("#")]
        if not keys:
            raise fail("serve-no-keys", path=path)
        return cls(keys)

    def issue(self) -> str:
        """A fresh key that this process accepts, for asking itself."""
        key = secrets.token_urlsafe(32)
        self._digests.append(_digest(key))
        return key

    def check(self, authorization: str | None, plain: str | None = None) -> str:
        """Whose key the headers hold, in hexadecimal digits that do not tell the key. `plain` (x-api-key) counts where
        there is no `authorization`. Raises ApiError."""
        scheme, _, key = (f"Bearer {plain or ''}" if authorization is None else authorization).partition(" ")
        challenge = {"www-authenticate": "Bearer"}
        if scheme.lower() != "bearer" or not key:
            raise refuse("http-missing-key", headers=challenge)
        digest = _digest(key.strip())
        if not any([hmac.compare_digest(digest, known) for known in self._digests]):  # noqa: C419  (no early end)
            raise refuse("http-wrong-key", headers=challenge)
        return digest.hex()


class Gate:
    """The outermost ASGI application."""

    def __init__(self, app: ASGIApp, metrics: Metrics, keys: Keys | None) -> None:
        self.app = app
        self.metrics = metrics
        self.keys = keys
        self.draining = False
        self.active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self.active += 1
        try:
            await self._count(scope, receive, send)
        finally:
            self.active -= 1

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, began = CLIENT_GONE, time.monotonic()
        request_id = scope.setdefault("state", {})["request_id"] = f"req-{uuid.uuid4().hex}"

        async def counting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                names = [b"x-request-id", *([b"request-id"] if is_anthropic(scope["path"]) else [])]
                told = [(name, request_id.encode()) for name in names]
                message["headers"] = [*message.get("headers", []), *told]
            await send(message)

        await self._guarded(scope, receive, counting_send, lambda: status != CLIENT_GONE)
        route = _route(scope)
        self.metrics.requests.labels(route, str(status)).inc()
        if error := scope["state"].get("error"):
            self.metrics.errors.labels(error).inc()
        if route in WORK_ROUTES:
            self.metrics.whole.observe(time.monotonic() - began)
            told = {"prompt": 0, "completion": 0, "user": None, **scope["state"].get("told", {})}
            say("serve-request", id=request_id, route=route, status=status, **told)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send, begun: object) -> None:
        assert callable(begun)
        try:
            self._admit(scope)
            await self.app(scope, receive, send)
        except ApiError as error:
            scope["state"]["error"] = error.kind.code
            await error.response(scope["path"])(scope, receive, send)
        except Exception as error:
            # Only the kind and place: the message may quote a prompt.
            warn("serve-unexpected", place=place(error))
            if not begun():
                scope["state"]["error"] = refuse("http-unexpected").kind.code
                await refuse("http-unexpected").response(scope["path"])(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        if self.keys is not None and scope["path"] not in OPEN_ROUTES:
            headers = {name: value.decode("utf-8", "surrogateescape") for name, value in scope["headers"]}
            scope["state"]["tenant"] = self.keys.check(headers.get(b"authorization"), headers.get(b"x-api-key"))
        if self.draining and scope["path"] in WORK_ROUTES:
            raise refuse("http-draining", headers={"retry-after": "5", "connection": "close"})


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _route(scope: Scope) -> str:
    """The path as a label: one of the known ones, or "other", so that labels stay few."""
    path: str = scope["path"]
    if path.startswith("/v1/models/"):
        return "/v1/models/{id}"
    return path if path in ROUTES else "other"
