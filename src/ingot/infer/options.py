"""How a request draws its tokens, as options: checked here, acted on in ingot.infer.sampling and the engine.

Groups, so that verbs show the common ones as flags and keep the rare ones, and those that steer, in groups of their
own; `Sampling` is all of them, and what the engine takes.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from ingot.core.options import Options, option
from ingot.infer.constraint.options import Constraint
from ingot.infer.steering.options import Steering

MAX_STOPS = 64
"""More stop strings than any real request has; bounds the search at every token. The same for every list of texts."""

MAX_CHARACTERS = 200
"""The longest text of those that are looked for at every token."""

MAX_ALTERNATIVES = 64
"""The most alternatives a token reports."""

MAX_COUNT = 1 << 31
"""More tokens than any text or vocabulary has; far larger numbers overflow where they are used."""

Weights = Literal["auto", "dense", "int8", "int4"]
"""What linear layers multiply by: `ingot.adapt.load`."""

Bias = Annotated[float, Field(ge=-100, le=100)]
TokenId = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]

NEEDS = {
    "xtc_threshold": "xtc_probability",
    "dynatemp_exponent": "dynatemp_range",
    "mirostat_tau": "mirostat",
    "mirostat_eta": "mirostat",
    "dry_base": "dry_multiplier",
    "dry_allowed_length": "dry_multiplier",
    "dry_penalty_last_n": "dry_multiplier",
    "dry_sequence_breakers": "dry_multiplier",
}
"""Controls that do nothing while another one is off."""


def _stops(found: object) -> object:
    """One string stands for a list of one."""
    return [found] if isinstance(found, str) else found


def _no_empty(found: list[str]) -> list[str]:
    if "" in found:
        raise ValueError("a stop string must not be empty")
    return found


def _no_fragment(found: list[str]) -> list[str]:
    """Half a character, and the sign that stands for one, are no text that could be found again."""
    for text in found:
        if "\N{REPLACEMENT CHARACTER}" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise ValueError(f"{text!r} holds half a character")
    return found


def _bias_keys(found: object) -> object:
    """A key of digits is a token id, as in OpenAI's API and llama.cpp; any other is a text."""
    if not isinstance(found, dict):
        return found
    return {int(key) if isinstance(key, str) and key.isdecimal() else key: value for key, value in found.items()}


def _bias_checked(found: dict[int | str, float]) -> dict[int | str, float]:
    for key in found:
        if isinstance(key, int) and key < 0:
            raise ValueError(f"token id {key} is negative")
    _no_fragment([key for key in found if isinstance(key, str)])
    if "" in found:
        raise ValueError("a text must not be empty")
    return found


def _second(found: int) -> int:
    if found not in (0, 2):
        raise ValueError("expected 2 (Mirostat's second version, the one there is) or 0 (off)")
    return found


Stops = Annotated[list[str], BeforeValidator(_stops), AfterValidator(_no_empty)]
Texts = Annotated[list[Text], BeforeValidator(_stops), AfterValidator(_no_fragment)]


class CommonSampling(Options):
    """What most people set. Without a temperature, what the model's directory says, else the verb's own."""

    model_config = ConfigDict(allow_inf_nan=False)

    temperature: float | None = option(
        None, "0: the most likely token; 1: the model's own distribution (default: as the directory says, else 1)", ge=0
    )
    top_k: int = option(0, "draw among this many most likely tokens (0: all)", ge=0, le=MAX_COUNT)
    top_p: float = option(1.0, "draw among the fewest tokens whose probabilities sum to this", gt=0, le=1)
    seed: int | None = option(
        None, "same seed, same tokens (without one, a fresh one is reported)", ge=-(2**63), lt=2**63
    )
    max_tokens: int | None = option(256, "stop after this many tokens (None: at the end of the model's window)", ge=1)
    stop: Stops = option([], "end before this text (may be given several times)", max_length=MAX_STOPS)


class RareSampling(Options):
    """What is seldom set."""

    model_config = ConfigDict(allow_inf_nan=False)

    min_p: float = option(0.0, "drop tokens less likely than this share of the most likely one", ge=0, le=1)
    typical_p: float = option(
        1.0, "draw among the tokens whose surprise is nearest the expected one, up to this probability", gt=0, le=1
    )
    top_n_sigma: float = option(
        0.0, "drop tokens whose logit is this many standard deviations below the largest (0: off)", ge=0
    )
    xtc_probability: float = option(
        0.0, "how often to drop all tokens above xtc-threshold but the least likely of them", ge=0, le=1
    )
    xtc_threshold: float = option(0.1, "what counts as a likely token for xtc", gt=0, le=0.5)
    dynatemp_range: float = option(
        0.0, "let the temperature move this much to both sides, high where the model is unsure", ge=0
    )
    dynatemp_exponent: float = option(1.0, "the temperature's curve between both ends", gt=0)
    mirostat: Annotated[int, AfterValidator(_second)] = option(
        0, "2: steer the surprise of tokens towards mirostat-tau (0: off)"
    )
    mirostat_tau: float = option(5.0, "mirostat: the surprise aimed at, in bits", gt=0)
    mirostat_eta: float = option(0.1, "mirostat: how fast to steer", gt=0, le=1)
    repetition_penalty: float = option(
        1.0, "divide the positive logits of tokens in prompt or answer by this, multiply the negative", gt=0
    )
    presence_penalty: float = option(0.0, "subtract this from the logits of tokens in the answer", ge=-2, le=2)
    frequency_penalty: float = option(
        0.0, "subtract this times its count in the answer from a token's logit", ge=-2, le=2
    )
    penalty_last_n: int | None = option(
        None, "these three penalties see this many last tokens only (None: all)", ge=1, le=MAX_COUNT
    )
    dry_multiplier: float = option(0.0, "penalise tokens that would go on repeating what was written (0: off)", ge=0)
    dry_base: float = option(1.75, "dry: how the penalty grows with each repeated token", ge=1)
    dry_allowed_length: int = option(2, "dry: repeats up to this many tokens are free", ge=1)
    dry_penalty_last_n: int | None = option(None, "dry: look back over this many tokens (None: all)", ge=1)
    dry_sequence_breakers: Texts = option(
        ["\n", ":", '"', "*"], "dry: texts over which no repeat runs", max_length=MAX_STOPS
    )
    bad_words: Texts = option([], "texts that must not stand in the answer", max_length=MAX_STOPS)
    force_words: Texts = option([], "texts that must stand in the answer before it ends", max_length=MAX_STOPS)
    allowed_token_ids: list[TokenId] | None = option(None, "draw only these tokens", min_length=1)
    stop_token_ids: list[TokenId] = option([], "end at these tokens, too", max_length=MAX_STOPS)
    include_stop_in_output: bool = option(False, "show the stop string, or the stop token's text, that ended it")
    min_tokens: int = option(0, "no end token before this many tokens; stop strings still apply", ge=0)
    ignore_eos: bool = option(False, "go on after an end token")


class Sampling(CommonSampling, RareSampling, Steering):
    """How one request draws its tokens. `Sampling.of(...)` names the value that is out of range."""

    temperature: float = option(1.0, "0 takes the most likely token; 1 draws from the model's own distribution", ge=0)
    logit_bias: Annotated[dict[int | str, Bias], BeforeValidator(_bias_keys), AfterValidator(_bias_checked)] = option(
        {}, "{token id, or text for every token of it: what to add to its logit, -100..100}"
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
    def _agree(self) -> Self:
        """No control is accepted that could do nothing, or that contradicts another one."""
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} is more than max_tokens {self.max_tokens}")
        for name, needed in NEEDS.items():
            if getattr(self, name) != type(self).model_fields[name].default and not getattr(self, needed):
                raise ValueError(f"{name} does nothing without {needed}")
        if self.temperature == 0 and (self.dynatemp_range or self.mirostat):
            raise ValueError(f"{'dynatemp_range' if self.dynatemp_range else 'mirostat'} needs a temperature above 0")
        if self.penalty_last_n is not None and not self.has_penalties:
            raise ValueError("penalty_last_n does nothing without a repetition, presence or frequency penalty")
        for wanted in self.force_words:
            for other in (*self.bad_words, *self.stop):
                if other in wanted:
                    raise ValueError(f"force_words asks for {wanted!r}, which holds {other!r} of bad_words or stop")
        return self

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        """A constraint says where an answer ends; what would end it elsewhere, or never, goes without one."""
        for name in ("stop", "stop_token_ids", "ignore_eos", "force_words"):
            if self.constraint is not None and getattr(self, name):
                raise ValueError(f"{name} cannot go with a constraint, which alone says where the answer may end")
        return self

    @property
    def has_penalties(self) -> bool:
        """Does any of the penalties on seen tokens act?"""
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1.0, 0.0, 0.0)

    def numbered(self, number: int) -> Self:
        """The same controls for the n-th of several answers: its own seed where there is one, n = 0 keeps it."""
        if self.seed is None:
            return self
        return self.model_copy(update={"seed": (self.seed + number + 2**63) % 2**64 - 2**63})
