"""How much work the server takes on: so many sequences, and so many tokens as they will probably take.

What is refused is refused at once and says when to come back, from the speed that was measured: tokens of prompts and
answers a second of work, the last minute or so counting most. All numbers live on the event loop.
"""

from __future__ import annotations

import math
import time

from ingot.serve.errors import refuse

FIRST_GUESS = 256.0
"""Tokens of an answer before any was seen."""
KEPT = 0.98
"""What the next measurement leaves of those before it."""
LONGEST_WAIT = 60
"""Seconds; clients such as OpenAI's ignore a longer Retry-After."""


class Admission:
    """Counts what is outstanding; raises where it becomes too much."""

    def __init__(self, num_slots: int, num_waiting: int, max_tokens: int) -> None:
        self.capacity = num_slots + num_waiting
        self.max_tokens = max_tokens
        self.sequences = 0
        self.tokens = 0
        self.answer_length = FIRST_GUESS
        self._seconds = 0.0
        self._done = 0.0
        self._since = 0.0

    @property
    def speed(self) -> float:
        """Tokens a second; 0 before anything was measured."""
        return self._done / self._seconds if self._seconds else 0.0

    def expected(self, limit: int) -> int:
        """How long an answer will be that may have `limit` tokens, by those before it."""
        return min(limit, math.ceil(self.answer_length))

    def take(self, count: int, tokens: int, param: str = "n") -> None:
        """Count in a request. Raises ApiError; one request alone is never too many tokens."""
        if count > self.capacity:
            raise refuse("http-too-many", param=param, found=count, limit=self.capacity)
        if self.sequences + count > self.capacity:
            share = self.tokens / max(self.sequences, 1)
            headers = self._come_back(share * (self.sequences + count - self.capacity))
            raise refuse("http-queue-full", headers=headers, limit=self.capacity)
        if self.sequences and self.tokens + tokens > self.max_tokens:
            headers = self._come_back(self.tokens + tokens - self.max_tokens)
            raise refuse("http-queue-tokens", headers=headers, found=self.tokens, limit=self.max_tokens)
        if not self.sequences:
            self._since = time.monotonic()
        self.sequences += count
        self.tokens += tokens

    def work(self, tokens: int) -> None:
        """Some of what is outstanding is done."""
        self.tokens -= tokens

    def end(self, tokens_left: int, answer: int | None = None) -> None:
        """One sequence is over; `answer`: the length of one that ended by itself."""
        self.sequences -= 1
        self.tokens -= tokens_left
        if answer is not None:
            self.answer_length = KEPT * self.answer_length + (1 - KEPT) * answer

    def measure(self, tokens: int, now: float) -> None:
        """So many tokens were read and written since the last time."""
        self._seconds = KEPT * self._seconds + now - self._since
        self._done = KEPT * self._done + tokens
        self._since = now

    def _come_back(self, tokens: float) -> dict[str, str]:
        seconds = tokens / self.speed if self.speed else 1.0
        return {"retry-after": str(min(max(math.ceil(seconds), 1), LONGEST_WAIT))}
