"""One question to a running server through a real HTTP client, streamed and whole; the two answers must agree."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from ingot.core.errors import fail
from ingot.core.progress import say

if TYPE_CHECKING:
    import httpx

SECONDS = 600.0


@dataclass(frozen=True)
class Probe:
    """What came back. `equal`: streamed and whole agree in text, reason to stop and tokens."""

    answer: str
    finish_reason: str
    tokens: int
    seconds_to_first_token: float
    equal: bool

    def summary(self) -> dict[str, Any]:
        return {
            "passed": self.equal,
            "answer": self.answer,
            "finish_reason": self.finish_reason,
            "answer_tokens": self.tokens,
            "seconds_to_first_token": round(self.seconds_to_first_token, 4),
            "equal": self.equal,
        }


def ask(url: str, model: str, prompt: str, *, max_tokens: int, chat: bool, key: str | None) -> Probe:
    """Ask greedily, streamed first. Raises `serve-probe-failed` with the server's own words."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    path = "/v1/chat/completions" if chat else "/v1/completions"
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": prompt}]} if chat else {"prompt": prompt}
    body = {"model": model, **asked, "temperature": 0, "max_tokens": max_tokens}
    import httpx  # a tenth of a second, which a server without a probe does not have to wait for

    with httpx.Client(base_url=url, headers=headers, timeout=SECONDS, trust_env=False) as client:
        streamed, seconds = _streamed(client, path, body)
        whole = _whole(client, path, body)
    answer, reason, tokens = whole
    say("serve-probe-answer", prompt=prompt, answer=answer)
    return Probe(answer, reason, tokens, seconds, streamed == whole)


def _whole(client: httpx.Client, path: str, body: dict[str, Any]) -> tuple[str, str, int]:
    response = client.post(path, json=body)
    _check(response)
    content = response.json()
    choice = content["choices"][0]
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    return text, choice["finish_reason"], content["usage"]["completion_tokens"]


def _streamed(client: httpx.Client, path: str, body: dict[str, Any]) -> tuple[tuple[str, str, int], float]:
    """Text, reason to stop, tokens; and seconds until the first event."""
    began, first = time.monotonic(), None
    text, reason, tokens = "", "", 0
    with client.stream("POST", path, json=body | {"stream": True, "stream_options": {"include_usage": True}}) as lines:
        _check(lines)
        for line in lines.iter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            first = first or time.monotonic()
            event = orjson.loads(line.removeprefix("data: "))
            if "error" in event:
                raise fail("serve-probe-failed", reason=event["error"]["message"])
            tokens = (event["usage"] or {"completion_tokens": tokens})["completion_tokens"]
            for choice in event["choices"]:
                text += choice.get("text") or choice.get("delta", {}).get("content") or ""
                reason = choice["finish_reason"] or reason
    return (text, reason, tokens), (first or time.monotonic()) - began


def _check(response: httpx.Response) -> None:
    if response.status_code != 200:
        response.read()
        raise fail("serve-probe-failed", reason=f"HTTP {response.status_code}: {response.text[:300]}")
