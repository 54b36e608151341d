"""OpenAI's response objects, built from deltas: chat completions and text completions, whole and streamed.

Plain dictionaries: nothing is validated per token. `Head` holds what every object of one response repeats.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from itertools import groupby
from math import isnan
from typing import Any

from ingot.infer.sequence import TokenLogprobs
from ingot.serve.answer import Delta, Part
from ingot.serve.tools.call import Call
from ingot.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Head:
    """Identity of one response."""

    model: str
    fingerprint: str | None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def of(self, prefix: str, object: str) -> dict[str, Any]:
        return {
            "id": f"{prefix}-{self.id}",
            "object": object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


@dataclass
class Grown:
    """One whole choice, put together from its deltas."""

    parts: list[Part] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    finish_reason: str | None = None
    incomplete: bool = False
    stop: str | None = None

    def add(self, delta: Delta) -> None:
        self.parts += delta.parts
        self.logprobs += delta.logprobs
        self.finish_reason, self.incomplete, self.stop = delta.finish_reason, delta.incomplete, delta.stop

    @property
    def blocks(self) -> list[str | Call]:
        """Its texts and calls in order, as few as there can be."""
        found: list[str | Call] = []
        for said, group in groupby(self.parts, key=lambda part: isinstance(part, str)):
            items = list(group)
            found += ["".join(map(str, items))] if said else [part[1] for part in items if not isinstance(part, str)]
        return found

    @property
    def text(self) -> str:
        return "".join(part for part in self.parts if isinstance(part, str))

    @property
    def calls(self) -> list[Call]:
        return [part[1] for part in self.parts if not isinstance(part, str)]


class ChatShape:
    """chat.completion and chat.completion.chunk."""

    def __init__(self, head: Head, tokenizer: Tokenizer, wants_logprobs: bool, may_call: bool = False) -> None:
        self.empty = None if may_call else ""  # content of an answer without text: where it may call, null
        self.whole_head = head.of("chatcmpl", "chat.completion")
        self.chunk_head = head.of("chatcmpl", "chat.completion.chunk")
        self.tokenizer = tokenizer
        self.wants_logprobs = wants_logprobs

    def opening(self, index: int) -> dict[str, Any] | None:
        """The choice of the chunk that comes before any text."""
        return self._chunk(index, {"role": "assistant", "content": self.empty}, None)

    def chunks(self, delta: Delta) -> list[dict[str, Any]]:
        """Text first, then calls, then the reason to stop in a chunk of its own."""
        found: list[dict[str, Any]] = []
        if delta.text or delta.logprobs:
            found.append(self._chunk(delta.choice, {"content": delta.text}, self._logprobs(delta.logprobs)))
        for number, call in delta.calls:
            begun = _call(call) | {"function": {"name": call.name, "arguments": ""}}
            for part in (begun, {"function": {"arguments": call.arguments}}):
                found.append(self._chunk(delta.choice, {"tool_calls": [{"index": number, **part}]}, None))
        if delta.finish_reason is not None:
            found.append(self._chunk(delta.choice, {}, None, delta.finish_reason) | _mark(delta.incomplete))
        return found

    def whole(self, index: int, grown: Grown) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": grown.text or self.empty, "refusal": None}
        if grown.calls:
            message["tool_calls"] = [_call(call) for call in grown.calls]
        return {
            "index": index,
            "message": message,
            "logprobs": self._logprobs(grown.logprobs),
            "finish_reason": grown.finish_reason,
        } | _mark(grown.incomplete)

    def _chunk(self, index: int, delta: dict[str, Any], logprobs: Any, reason: str | None = None) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}

    def _logprobs(self, tokens: list[TokenLogprobs]) -> dict[str, Any] | None:
        if not self.wants_logprobs or not tokens:
            return None
        content = [
            self._token(token.token_id, token.logprob)
            | {"top_logprobs": [self._token(*pair) for pair in token.alternatives]}
            for token in tokens
        ]
        return {"content": content, "refusal": None}

    def _token(self, token_id: int, logprob: float) -> dict[str, Any]:
        text = self.tokenizer.decode([token_id], skip_special=False)
        # A token that is part of a character has no text of its own, and OpenAI's schema allows no bytes for it.
        raw = None if "\N{REPLACEMENT CHARACTER}" in text else list(text.encode())
        return {"token": text, "logprob": logprob, "bytes": raw}


def _mark(incomplete: bool) -> dict[str, Any]:
    """Said only of an answer that ended before it was what it was asked to be."""
    return {"incomplete": True} if incomplete else {}


def _call(call: Call) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


class TextShape:
    """text_completion, whole and streamed (the object has one name for both)."""

    def __init__(self, head: Head, tokenizer: Tokenizer, wants_logprobs: bool) -> None:
        self.whole_head = self.chunk_head = head.of("cmpl", "text_completion")
        self.tokenizer = tokenizer
        self.wants_logprobs = wants_logprobs
        self._offsets: dict[int, int] = {}

    def opening(self, index: int) -> dict[str, Any] | None:
        return None

    def chunks(self, delta: Delta) -> list[dict[str, Any]]:
        return [self._choice(delta.choice, delta.text, delta.logprobs, delta.finish_reason) | _mark(delta.incomplete)]

    def whole(self, index: int, grown: Grown) -> dict[str, Any]:
        return self._choice(index, grown.text, grown.logprobs, grown.finish_reason) | _mark(grown.incomplete)

    def _choice(
        self, index: int, text: str, logprobs: list[TokenLogprobs], finish_reason: str | None
    ) -> dict[str, Any]:
        return {
            "index": index,
            "text": text,
            "logprobs": self._logprobs(index, logprobs),
            "finish_reason": finish_reason,
        }

    def _logprobs(self, index: int, tokens: list[TokenLogprobs]) -> dict[str, Any] | None:
        if not self.wants_logprobs or not tokens:
            return None
        texts = [self._text(token.token_id) for token in tokens]
        offsets = [self._offset(index, text) for text in texts]
        top = [
            None
            if isnan(token.logprob)
            else {self._text(token_id): logprob for token_id, logprob in token.alternatives}
            for token in tokens
        ]
        values = [None if isnan(token.logprob) else token.logprob for token in tokens]
        return {"tokens": texts, "token_logprobs": values, "top_logprobs": top, "text_offset": offsets}

    def _offset(self, index: int, text: str) -> int:
        """Where a token begins in the answer, counted over the tokens before it."""
        begin = self._offsets.get(index, 0)
        self._offsets[index] = begin + len(text)
        return begin

    def _text(self, token_id: int) -> str:
        return self.tokenizer.decode([token_id], skip_special=False)


Shape = ChatShape | TextShape
