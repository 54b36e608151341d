"""The text on which forgetting is measured: as much of it as takes a model of its size a few seconds.

Reading a token takes work in proportion to the parameters, so a small model reads all of the text and a large one its
beginning: WORK over its parameters, in tokens, and LEAST texts at any rate. Both measurements read the same.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ingot.adapt.load import LanguageModel
from ingot.core.errors import fail
from ingot.core.files import path_digest
from ingot.core.language import text
from ingot.data.read import read_documents
from ingot.data.world.general import general_texts
from ingot.model.held import num_parameters
from ingot.train.corpus import HELDOUT_CHARACTERS
from ingot.train.forgetting.options import WORLD

WORK = 2e11
"""Parameters times tokens of one measurement: 400 tokens at 0.5B parameters, which two cores read in some seconds."""

LEAST, MOST = 8, 200
"""Texts at least and at most."""


@dataclass(frozen=True)
class General:
    """The texts, what they are called, and a digest of them."""

    name: str
    texts: list[str]

    @property
    def digest(self) -> str:
        return hashlib.sha256("\0".join(self.texts).encode()).hexdigest()

    @property
    def num_bytes(self) -> int:
        return sum(len(one.encode()) for one in self.texts)


def general_text(wanted: str, data: Path, model: LanguageModel) -> General:
    """What the option names, cut to what suits the model. Raises `general-is-data`, and what reading raises."""
    if wanted == WORLD:
        return General(text("forgetting-world-text"), list(_enough(iter(general_texts()), model)))
    path = Path(wanted)
    if path_digest(path) == path_digest(data):
        raise fail("general-is-data", path=path, data=data)
    return General(path.name, list(_enough(_pieces(path), model)))


def _pieces(path: Path) -> Iterator[str]:
    """The documents of a path, until they hold HELDOUT_CHARACTERS; the last is cut there."""
    left = HELDOUT_CHARACTERS
    for document in read_documents(path):
        yield document.text[:left]
        left -= len(document.text)
        if left <= 0:
            return


def _enough(texts: Iterator[str], model: LanguageModel) -> Iterator[str]:
    left = tokens_for(model)
    for number, one in enumerate(itertools.islice(texts, MOST)):
        if left <= 0 and number >= LEAST:
            return
        left -= len(model.tokenizer.encode(one))
        yield one


def tokens_for(model: LanguageModel) -> float:
    """How many tokens a model of this size reads for one measurement."""
    return WORK / num_parameters(model.network)
