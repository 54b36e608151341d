"""How a request draws its tokens, as options: checked here, acted on in ingot.infer.sampling and the engine.

Two groups, so that verbs show the common ones as flags and keep the rare ones in a group of their own; `Sampling`
is both, and what the engine takes.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from ingot.core.options import Options, option
from ingot.infer.constraint.options import Constraint

MAX_STOPS = 64
"""More stop strings than any real request has; bounds the search at every token."""

MAX_ALTERNATIVES = 64
"""The most alternatives a token reports."""

Bias = Annotated[float, Field(ge=-100, le=100)]


def _stops(found: object) -> object:
    """One string stands for a list of one."""
    return [found] if isinstance(found, str) else found


def _no_empty(found: list[str]) -> list[str]:
    if "" in found:
        raise ValueError("a stop string must not be empty")
    return found


def _token_ids(found: dict[int, float]) -> dict[int, float]:
    if found and min(found) < 0:
        raise ValueError(f"token id {min(found)} is negative")
    return found


class CommonSampling(Options):
    """What most people set."""

    model_config = ConfigDict(allow_inf_nan=False)

    temperature: float = option(1.0, "0 takes the most likely token; 1 draws from the model's own distribution", ge=0)
    top_k: int = option(0, "draw among this many most likely tokens (0: all)", ge=0)
    top_p: float = option(1.0, "draw among the fewest tokens whose probabilities sum to this", gt=0, le=1)
    seed: int | None = option(
        None, "same seed, same tokens (without one, a fresh one is reported)", ge=-(2**63), lt=2**63
    )
    max_tokens: int | None = option(256, "stop after this many tokens (None: at the end of the model's window)", ge=1)
    stop: Annotated[list[str], BeforeValidator(_stops), AfterValidator(_no_empty)] = option(
        [], "end before this text (may be given several times)", max_length=MAX_STOPS
    )


class RareSampling(Options):
    """What is seldom set."""

    model_config = ConfigDict(allow_inf_nan=False)

    min_p: float = option(0.0, "drop tokens less likely than this share of the most likely one", ge=0, le=1)
    repetition_penalty: float = option(
        1.0, "divide the positive logits of tokens in prompt or answer by this, multiply the negative", gt=0
    )
    presence_penalty: float = option(0.0, "subtract this from the logits of tokens in the answer", ge=-2, le=2)
    frequency_penalty: float = option(
        0.0, "subtract this times its count in the answer from a token's logit", ge=-2, le=2
    )
    min_tokens: int = option(0, "no end token before this many tokens; stop strings still apply", ge=0)
    ignore_eos: bool = option(False, "go on after an end token")


class Sampling(CommonSampling, RareSampling):
    """How one request draws its tokens. `Sampling.of(...)` names the value that is out of range."""

    logit_bias: Annotated[dict[int, Bias], AfterValidator(_token_ids)] = option(
        {}, "{token id: what to add to its logit, -100..100}"
    )
    logprobs: int | None = option(
        None, "report this many alternatives a token (0: the chosen one alone)", ge=0, le=MAX_ALTERNATIVES
    )
    prompt_logprobs: int | None = option(
        None, "report this many alternatives of each token of the prompt, too", ge=0, le=MAX_ALTERNATIVES
    )
    logprobs_mode: Literal["raw", "processed"] = option("raw", "the model's own distribution, or the one drawn from")
    constraint: Constraint | None = option(None, "what the answer's text must be: JSON of a schema, a pattern, ...")

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} is more than max_tokens {self.max_tokens}")
        return self

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        """A constraint says where an answer ends; what would end it elsewhere, or never, goes without one."""
        for name in ("stop", "ignore_eos"):
            if self.constraint is not None and getattr(self, name):
                raise ValueError(f"{name} cannot go with a constraint, which alone says where the answer may end")
        return self

    def numbered(self, number: int) -> Self:
        """The same controls for the n-th of several answers: its own seed where there is one, n = 0 keeps it."""
        if self.seed is None:
            return self
        return self.model_copy(update={"seed": (self.seed + number + 2**63) % 2**64 - 2**63})
