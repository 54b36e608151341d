"""POST /v1/completions."""

from __future__ import annotations

from pydantic import Field

from ingot.serve.schema.base import MAX_PROMPTS, prompts_of
from ingot.serve.schema.generation import SamplingBody

MAX_TOP_LOGPROBS = 20
DEFAULT_TOKENS = 16
"""OpenAI's default for text completions."""


class CompletionBody(SamplingBody):
    """Text to go on from."""

    prompt: prompts_of(MAX_PROMPTS)  # type: ignore[valid-type]
    echo: bool | None = None
    logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    best_of: int | None = Field(
        None,
        ge=1,
        le=MAX_PROMPTS,
        description="write so many and answer with the n likeliest, by the mean log-probability of their tokens",
    )

    @property
    def limit(self) -> int | None:
        return self.max_tokens or DEFAULT_TOKENS

    @property
    def num_logprobs(self) -> int | None:
        """The choice among `best_of` answers needs those of the tokens themselves."""
        return 0 if self.logprobs is None and self.is_chosen else self.logprobs

    @property
    def num_prompt_logprobs(self) -> int | None:
        """A prompt that is said again is told of as the answer is."""
        return self.logprobs if self.echo else None

    @property
    def num_answers(self) -> int:
        return max(self.best_of or 1, self.n or 1)

    @property
    def is_chosen(self) -> bool:
        """Whether more answers are written than are shown."""
        return self.num_answers > (self.n or 1)
