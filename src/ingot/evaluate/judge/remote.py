"""A judge behind an OpenAI-compatible URL.

The verdict is asked for as JSON of a schema; a service that refuses that is asked in plain words from then on. Busy or
failing services are asked again, a little later each time; one that keeps failing ends the run, because a judge that
answered only what was easy would be another judge. The key comes from an environment variable and is sent as a header:
it is never written, logged or shown.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx

from ingot.core.errors import fail
from ingot.core.language import text
from ingot.core.progress import progress
from ingot.evaluate.judge.asking import VERDICTS, Reply
from ingot.evaluate.judge.options import RemoteOptions

TRIES = 5
FIRST_WAIT = 1.0
"""Seconds before the second try; doubled for each one behind it."""
MAX_TOKENS = 64
SCHEMA: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "verdict",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"verdict": {"type": "string", "enum": list(VERDICTS)}},
            "required": ["verdict"],
            "additionalProperties": False,
        },
    },
}
REFUSED = {400, 404, 415, 422}
BUSY = {408, 409, 425, 429, 500, 502, 503, 504}


def shown_url(url: str) -> str:
    """A URL without name and password."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _login(url: str, options: RemoteOptions) -> tuple[dict[str, str], tuple[str, str] | None]:
    """The header with the key, or name and password of a URL, which are kept out of the address that libraries log."""
    parts = urlsplit(url)
    if parts.query or parts.fragment or not parts.hostname:
        raise fail("judge-bad-url", url=shown_url(url))
    login = (unquote(parts.username or ""), unquote(parts.password or "")) if "@" in parts.netloc else None
    if options.key_env is None:
        return {}, login
    key = os.environ.get(options.key_env, "").strip()
    if not key:
        raise fail("judge-no-key", name=options.key_env)
    if login is not None:
        raise fail("judge-two-logins", url=shown_url(url), name=options.key_env)
    return {"authorization": f"Bearer {key}"}, None


class Remote:
    """One service and model. `transport` and `wait` are for tests."""

    def __init__(
        self, url: str, options: RemoteOptions, transport: httpx.BaseTransport | None = None,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        """Raises `judge-no-key`, `judge-two-logins`, `judge-bad-url`, `judge-service`, `judge-which-model`."""
        base = shown_url(url).rstrip("/") + ("" if urlsplit(url).path.strip("/") else "/v1")
        self.url, self.options, self.wait = base, options, wait
        self.schema = True
        headers, auth = _login(url, options)
        self.client = httpx.Client(
            base_url=base, headers=headers, auth=auth, timeout=options.timeout, transport=transport
        )
        self.name = options.name or self._only_model()

    def ask(self, texts: Sequence[str]) -> list[Reply]:
        """Replies in order. Raises `judge-service`."""
        replies: list[Reply] = []
        with (
            progress(text("judge-asking", model=self.name), len(texts)) as advance,
            ThreadPoolExecutor(self.options.at_once) as pool,
        ):
            for reply in pool.map(self._ask, texts):
                replies.append(reply)
                advance(len(replies))
        return replies

    def _only_model(self) -> str:
        found = self._send("GET", "/models", None)
        names = [str(each.get("id")) for each in found.get("data", []) if isinstance(each, dict)]
        if len(names) != 1:
            raise fail("judge-which-model", url=self.url, count=len(names), names=", ".join(names[:10]) or "-")
        return names[0]

    def _ask(self, asked: str) -> Reply:
        body = {"model": self.name, "messages": [{"role": "user", "content": asked}], "temperature": 0}
        found = self._send("POST", "/chat/completions", body | {"max_tokens": MAX_TOKENS})
        try:
            content = found["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            return Reply(None, "no-answer")
        return Reply(content) if isinstance(content, str) else Reply(None, "no-answer")

    def _send(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        """A request, again while the service is busy. Raises `judge-service`."""
        reason = ""
        for attempt in range(TRIES):
            if attempt:
                self.wait(FIRST_WAIT * 2 ** (attempt - 1))
            formed = self.schema and body is not None
            sent = body if not formed or body is None else body | {"response_format": SCHEMA}
            try:
                answer = self.client.request(method, path.lstrip("/"), json=sent)
            except httpx.TransportError as error:
                reason = type(error).__name__
                continue
            if answer.is_success:
                return self._object(answer)
            reason = f"HTTP {answer.status_code}"
            if answer.status_code in REFUSED and formed:
                self.schema = False
            elif answer.status_code not in BUSY:
                break
        raise fail("judge-service", url=self.url, reason=reason)

    def _object(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise fail("judge-service", url=self.url, reason="an answer that is no JSON object")
        return found
