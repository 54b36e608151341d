"""What steers a request's distribution, as options: which layers are contrasted, which prompt is kept away from."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from ingot.core.options import Options, option

NO_GUIDANCE = 1.0


def _layers(found: object) -> object:
    """ "low", "high", or numbers: a list of them, or "2,4,6" as the command line gives it."""
    if not isinstance(found, str) or found in ("low", "high"):
        return found
    words = [word.strip() for word in found.split(",")]
    if not all(word.isdecimal() for word in words):
        raise ValueError("expected low, high, or numbers of layers, for example 2,4,6")
    return [int(word) for word in words]


Layers = Annotated[
    Literal["low", "high"] | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=64)],
    BeforeValidator(_layers),
]


class Steering(Options):
    """Draw from a distribution that two make together."""

    model_config = ConfigDict(allow_inf_nan=False)

    dola_layers: Layers | None = option(
        None, "DoLa: contrast the last layer with the most different of these: low, high, or numbers (0: the embedding)"
    )
    dola_relative_top: float = option(
        0.1, "DoLa: drop tokens less likely than this share of the last layer's most likely one", gt=0, le=1
    )
    guidance_scale: float = option(
        NO_GUIDANCE, "move this far from what the negative prompt makes likely (1: off)", ge=0, le=100
    )
    negative_prompt: str | None = option(
        None, "what to move away from (default: the prompt's last token, so no prompt at all)"
    )
    negative_prompt_ids: list[Annotated[int, Field(ge=0)]] | None = option(
        None, "the negative prompt as token ids", min_length=1
    )

    @property
    def is_guided(self) -> bool:
        return self.guidance_scale != NO_GUIDANCE

    @model_validator(mode="after")
    def _together(self) -> Self:
        """No option that would do nothing."""
        if self.dola_relative_top != 0.1 and self.dola_layers is None:
            raise ValueError("dola_relative_top does nothing without dola_layers")
        if self.negative_prompt is not None and self.negative_prompt_ids is not None:
            raise ValueError("give either negative_prompt or negative_prompt_ids")
        given = [name for name in ("negative_prompt", "negative_prompt_ids") if getattr(self, name) is not None]
        if given and not self.is_guided:
            raise ValueError(f"{given[0]} does nothing without a guidance_scale other than 1")
        if self.is_guided and self.dola_layers is not None:
            raise ValueError("dola_layers and guidance_scale cannot go together")
        return self
