"""Texts and builders that the tests of audit share."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from evaluating import write_lines

from ingot.data.clean.units import normalise, split_units
from ingot.data.read import Document

EN = ["the", "a", "red", "house", "river", "old", "new", "stone", "walked", "under", "many", "people", "saw", "green"]
ZH = "的一是不了在人有我他這中大來上國個到說們為子和你地出道也時年得就那要下以生會自著去之過家學對可她里後小"


def words(rng: random.Random, count: int, lang: str) -> str:
    """Random words, or characters, of a language; enough different ones that nothing repeats by chance."""
    if lang == "zh":
        return "".join(
            chr(rng.randrange(0x4E00, 0x9F00)) if rng.random() < 0.5 else rng.choice(ZH) for _ in range(count)
        )
    return " ".join(f"{rng.choice(EN)}{rng.randrange(40)}" for _ in range(count))


def edited(rng: random.Random, text: str, lang: str, share: float) -> str:
    """The same text with about this share of its words or characters replaced, left out or followed by another."""
    units = list(text) if lang == "zh" else text.split()
    kept: list[str] = []
    for unit in units:
        drawn = rng.random()
        if drawn >= share:
            kept.append(unit)
        elif drawn < share / 2:
            kept.append(words(rng, 1, lang))
        elif drawn < share * 3 / 4:
            kept += [unit, words(rng, 1, lang)]
    return ("" if lang == "zh" else " ").join(kept)


def write_texts(path: Path, texts: Sequence[str]) -> Path:
    return write_lines(path, [{"text": text, "licence": "CC0-1.0"} for text in texts])


def documents(texts: Sequence[str]) -> list[Document]:
    return [Document(text, "corpus.jsonl", line) for line, text in enumerate(texts, start=1)]


def naive_runs(text: str, n: int) -> list[tuple[str, ...]]:
    units = split_units(normalise(text))
    return [tuple(units[at : at + n]) for at in range(len(units) - n + 1)]
