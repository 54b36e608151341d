"""An objective bound to a tokenizer, a kind of model and a row length, and what it is bound from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ingot.core.errors import fail
from ingot.data.objectives.lesson import Lesson
from ingot.data.objectives.options import Form, ObjectiveOptions
from ingot.data.objectives.special import end_id
from ingot.data.pack import Batch, Room
from ingot.text.tokenizer import Tokenizer

RANDOM_TAG = 0x0B1EC7
"""Keeps an objective's random numbers apart from others drawn from the same seed and step."""

Make = Callable[[Batch, np.random.Generator], Lesson]


@dataclass(frozen=True)
class Objective:
    """An objective ready for use.

    make: the pure function of a whole batch and a generator.
    room: tokens of a row that packing must give a document of n tokens, its start and end included.
    start_ids, end_id: what stands before and behind each document.
    both_ways: whether a decoder reads the beginning of a text in both directions.
    """

    name: str
    make: Make
    room: Room
    start_ids: tuple[int, ...]
    end_id: int
    both_ways: bool = False

    def lesson(self, batch: Batch, seed: int, step: int) -> Lesson:
        """The lesson of a step, from its WHOLE batch: cut it afterwards with `Lesson.part`. A pure function of its
        arguments, so a resumed run draws the same masks, and two epochs draw different ones."""
        return self.make(batch, np.random.default_rng([seed, step, RANDOM_TAG]))


@dataclass(frozen=True)
class Setting:
    """What an objective is bound from. `decoder_start_id` begins each target of an encoder-decoder (None: padding)."""

    tokenizer: Tokenizer
    length: int
    form: Form
    options: ObjectiveOptions
    decoder_start_id: int | None = None

    @property
    def pad(self) -> int:
        return self.tokenizer.pad_id or 0

    @property
    def start(self) -> int:
        """What an encoder-decoder's target begins with."""
        return self.pad if self.decoder_start_id is None else self.decoder_start_id

    def require(self, name: str, *forms: Form) -> None:
        """Raise `objective-form` unless the model is of one of these kinds."""
        if self.form not in forms:
            raise fail("objective-form", objective=name, form=self.form, forms=", ".join(forms))

    def bind(self, name: str, make: Make, room: Room = int, *, both_ways: bool = False) -> Objective:
        """The objective. An encoder-decoder's documents have only the start that the tokenizer itself puts there, as
        BART's does: their targets have one of their own."""
        start = self.tokenizer.document_prefix if self.form == "encoder-decoder" else self.tokenizer.start_ids
        return Objective(name, make, room, start, end_id(self.tokenizer), both_ways)
