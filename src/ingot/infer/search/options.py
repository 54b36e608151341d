"""How whole answers are searched, as options."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ConfigDict, model_validator

from ingot.core.options import Options, option

MAX_BEAMS = 64

BEAM = frozenset({"beams", "length_penalty", "early_stopping", "results"})
OWN = {
    "off": frozenset[str](),
    "beam": BEAM,
    "diverse": BEAM | {"groups", "diversity_penalty"},
    "contrastive": frozenset({"candidates", "penalty_alpha"}),
}
"""What each kind looks at."""


def _word(found: object) -> object:
    """True and False, as transformers has them, are words."""
    return str(found).lower() if isinstance(found, bool) else found


class Search(Options):
    """Search for whole answers instead of drawing tokens."""

    model_config = ConfigDict(allow_inf_nan=False)

    kind: Literal["off", "beam", "diverse", "contrastive"] = option(
        "off", "keep several beginnings, in groups that differ, or avoid what resembles the text so far"
    )
    beams: int = option(4, "beam, diverse: beginnings that are kept, of all groups together", ge=1, le=MAX_BEAMS)
    length_penalty: float = option(
        1.0, "beam, diverse: answers rank by log-probability / length^this; more: longer", ge=-10, le=10
    )
    early_stopping: Annotated[Literal["true", "false", "never"], BeforeValidator(_word)] = option(
        "false", "beam, diverse: end when there are enough answers (true), when better ones are unlikely (false), or"
        " cannot come (never)"
    )  # fmt: skip
    results: int = option(1, "beam, diverse: best answers to give for each prompt", ge=1, le=MAX_BEAMS)
    groups: int = option(2, "diverse: groups that the beams are divided into", ge=2, le=MAX_BEAMS)
    diversity_penalty: float = option(
        0.5, "diverse: what a token costs for each beam of the groups before that takes it now", ge=0, le=100
    )
    candidates: int = option(4, "contrastive: likely tokens that are looked at", ge=1, le=MAX_BEAMS)
    penalty_alpha: float = option(
        0.6, "contrastive: how much resemblance to the text so far counts, from 0 to 1", ge=0, le=1
    )

    @property
    def width(self) -> int:
        """Texts that are held for one prompt."""
        return self.candidates if self.kind == "contrastive" else self.beams

    @model_validator(mode="after")
    def _together(self) -> Self:
        """No option of another kind, no more results than beams."""
        for name, field in type(self).model_fields.items():
            if name != "kind" and name not in OWN[self.kind] and getattr(self, name) != field.default:
                kinds = [kind for kind, names in OWN.items() if name in names]
                raise ValueError(f"{name} is for the kind {' or '.join(kinds)}")
        if self.results > self.beams:
            raise ValueError(f"results {self.results} are more than beams {self.beams}")
        if self.kind == "diverse" and self.beams % self.groups:
            raise ValueError(f"{self.beams} beams cannot be divided into {self.groups} equal groups")
        return self
