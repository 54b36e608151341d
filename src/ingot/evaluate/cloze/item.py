"""One cloze item: a text with a gap, fillers of which one is true, and what is known of them."""

from __future__ import annotations

from typing import Self

from pydantic import ConfigDict, Field, model_validator

from ingot.evaluate.questions import Asked

BEFORE, AFTER = "before", "after"
"""Groups of items: what stands before the gap decides, or what stands after it."""


class Item(Asked):
    """`group` says what decides: BEFORE, AFTER, or a word of your own.

    right: the number of the true filler, from 0. subject: what it is about; answers about one subject are not
    independent ("": each item its own). counts: of how many subjects each filler is true, if known. seen: whether the
    true text stands word for word in what was trained on, if known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: str = Field(pattern=r"^[^\s.]+$")
    before: str
    fillers: list[str] = Field(min_length=2)
    after: str
    right: int = Field(ge=0)
    subject: str = ""
    counts: list[int] | None = None
    seen: bool | None = None

    @model_validator(mode="after")
    def _answerable(self) -> Self:
        if self.right >= len(self.fillers):
            raise ValueError(f"right is {self.right}, but the last of the fillers has number {len(self.fillers) - 1}")
        if not all(self.fillers) or len(set(self.fillers)) < len(self.fillers):
            raise ValueError("fillers must differ, and none may be empty")
        if self.counts is not None and len(self.counts) != len(self.fillers):
            raise ValueError(f"there are {len(self.counts)} counts for {len(self.fillers)} fillers")
        return self
