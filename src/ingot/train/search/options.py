"""How long and by what settings are searched."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from ingot.core.options import Options, option


class SearchOptions(Options):
    """How long and by what settings are searched."""

    trials: int | None = option(None, "try so many settings first, the defaults among them", ge=2)
    minutes: float | None = option(None, "try settings first for this long", gt=0)
    share: float = option(0.25, "length of a trial, as a share of the run's steps", gt=0, le=1)
    heldout: float = option(0.1, "share of the conversations or documents that trials are judged by", gt=0, lt=1)
    prune: bool = option(True, "end a trial early that does worse than most did at that point")

    @property
    def is_asked(self) -> bool:
        """Whether there is a budget."""
        return self.trials is not None or self.minutes is not None

    @model_validator(mode="after")
    def _every_option_acts(self) -> Self:
        """Without a budget nothing is searched."""
        idle = self.model_fields_set - {"trials", "minutes"}
        if idle and not self.is_asked:
            raise ValueError(f"--search.{sorted(idle)[0]} acts only with --search.trials or --search.minutes")
        return self
