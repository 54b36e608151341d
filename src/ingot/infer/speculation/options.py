"""How following tokens are guessed, as options."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from ingot.core.options import Options, option

MAX_GUESSED = 32


class Speculation(Options):
    """Guess what follows and check the guesses together: faster where they are right, never another answer."""

    kind: Literal["off", "lookup", "draft", "self"] = option(
        "off", "guess by what followed the same words before, by a smaller model, or by this model's first layers"
    )
    tokens: int = option(4, "tokens guessed at a time", ge=1, le=MAX_GUESSED)
    draft: str | None = option(None, "the smaller model, with the same vocabulary: DIR")
    layers: int | None = option(None, "how many of this model's layers guess (default: a third)", ge=1)
    always: bool = option(False, "guess also where that was measured to be slower")

    @model_validator(mode="after")
    def _together(self) -> Self:
        if (self.kind == "draft") != (self.draft is not None):
            raise ValueError("a draft model is given exactly where the kind is draft")
        if self.layers is not None and self.kind != "self":
            raise ValueError("layers are for the kind self")
        return self
