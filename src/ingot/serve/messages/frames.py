"""Answers of the Messages API: a message of content blocks, whole or as named server-sent events.

Texts and calls stand in the order in which they were written. A call is one delta, because it is only sent when it is
complete; its arguments are handed on as the model wrote them, byte for byte.
"""

from __future__ import annotations

from typing import Any

import orjson

from ingot.serve.answer import Delta
from ingot.serve.errors import MESSAGES, ApiError
from ingot.serve.frames import Counts
from ingot.serve.shape import Grown, Head
from ingot.serve.tools.call import Call

REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


class MessageFrames:
    """Of one request, which has one answer."""

    def __init__(self, head: Head) -> None:
        self._head = {"id": f"msg_{head.id}", "type": "message", "role": "assistant", "model": head.model}
        self._num_blocks = 0
        self._in_text = False  # the last block is text that may go on
        self._stopped = _stopped(None, None)

    def whole(self, shown: list[Grown], counts: Counts) -> dict[str, Any]:
        (grown,) = shown
        content = [_text(block) if isinstance(block, str) else _call(block) for block in grown.blocks]
        return self._head | {"content": content, **_stopped(grown.finish_reason, grown.stop), "usage": _usage(counts)}

    def begin(self, num_choices: int, counts: Counts) -> bytes:
        usage = _usage(counts._replace(num_completion=0))
        message = self._head | {"content": [], **self._stopped, "usage": usage}
        return _event("message_start", message=message)

    def part(self, delta: Delta) -> bytes:
        if delta.finish_reason is not None:
            self._stopped = _stopped(delta.finish_reason, delta.stop)
        said = (self._say(part) if isinstance(part, str) else self._write(part[1]) for part in delta.parts)
        return b"".join(said)

    def end(self, counts: Counts) -> bytes:
        last = _event("message_delta", delta=self._stopped, usage=_usage(counts))
        return self._close() + last + _event("message_stop")

    def failed(self, error: ApiError) -> bytes:
        return b"event: error\ndata: " + error.body(MESSAGES) + b"\n\n"

    def _say(self, text: str) -> bytes:
        begun = b"" if self._in_text else self._open(_text(""))
        self._in_text = True
        return begun + self._delta({"type": "text_delta", "text": text})

    def _write(self, call: Call) -> bytes:
        begun = self._close() + self._open(_call(call) | {"input": {}})
        written = self._delta({"type": "input_json_delta", "partial_json": call.arguments})
        return begun + written + _event("content_block_stop", index=self._num_blocks - 1)

    def _open(self, block: dict[str, Any]) -> bytes:
        self._num_blocks += 1
        return _event("content_block_start", index=self._num_blocks - 1, content_block=block)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._num_blocks - 1, delta=delta)

    def _close(self) -> bytes:
        """End the text before a call, or before the end."""
        was_open, self._in_text = self._in_text, False
        return _event("content_block_stop", index=self._num_blocks - 1) if was_open else b""


def _event(name: str, **content: Any) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps({"type": name, **content}) + b"\n\n"


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _call(call: Call) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": orjson.Fragment(call.arguments)}


def _stopped(reason: str | None, stop: str | None) -> dict[str, Any]:
    """Why an answer ended; None while it has not."""
    if reason is None:
        return {"stop_reason": None, "stop_sequence": None}
    if reason == "stop" and stop is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": stop}
    return {"stop_reason": REASONS[reason], "stop_sequence": None}


def _usage(counts: Counts) -> dict[str, int]:
    """As Anthropic counts: what the cache held is not among the input tokens."""
    return {
        "input_tokens": counts.num_prompt - counts.num_cached,
        "output_tokens": counts.num_completion,
        "cache_read_input_tokens": counts.num_cached,
    }
