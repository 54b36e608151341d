"""Swap the gender of the people in a sentence, or say why it cannot be done; what is swapped leads back.

The words are data (`words.yaml`), the grammar a function of each language. Every swap is checked by swapping back: a
sentence that does not return is not given out. It knows words, not persons: whoever is named keeps everything else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

from ingot.core.errors import fail
from ingot.core.language import read_yaml
from ingot.evaluate.bias.swap import chinese, english

SWAPPERS: dict[str, Callable[[str, dict[str, str], frozenset[str]], str]] = {
    "en": english.swapped,
    "zh": chinese.swapped,
}


@dataclass(frozen=True)
class Words:
    """One language's: each word's counterpart, words that stay, and words that no swap leads back from."""

    counterparts: dict[str, str]
    kept: frozenset[str]
    unpaired: frozenset[str]


@dataclass(frozen=True)
class Swapped:
    """`text` is None where the sentence cannot be swapped: it holds the word `because`, or did not lead back ("")."""

    text: str | None
    because: str = ""


def swap(text: str, lang: str) -> Swapped:
    """The counterpart of a sentence. Raises `bias-language` for a language without words."""
    if lang not in SWAPPERS:
        raise fail("bias-language", lang=lang, known=", ".join(SWAPPERS))
    words, swapper = _words(lang), SWAPPERS[lang]
    if (word := _unpaired(text, lang, words)) is not None:
        return Swapped(None, word)
    found = swapper(text, words.counterparts, words.kept)
    return Swapped(found if swapper(found, words.counterparts, words.kept) == text else None)


def swap_both(text: str) -> Swapped:
    """A text in either language, or in both."""
    english_first = swap(text, "en")
    return english_first if english_first.text is None else swap(english_first.text, "zh")


def _unpaired(text: str, lang: str, words: Words) -> str | None:
    if lang == "en":
        return next((match[0] for match in english.words(text) if match[0].lower() in words.unpaired), None)
    return chinese.title_without_counterpart(text) or next((w for w in sorted(words.unpaired) if w in text), None)


@functools.cache
def _words(lang: str) -> Words:
    found = read_yaml(resources.files(__package__).joinpath("words.yaml").read_text(encoding="utf-8"))[lang]
    pairs = [(str(first), str(second)) for first, second in found["pairs"]]
    every = [word for pair in pairs for word in pair]
    assert len(set(every)) == len(every), f"a word stands in two pairs of {lang}"
    counterparts = dict(pairs) | {second: first for first, second in pairs}
    return Words(counterparts, frozenset(found["kept"]), frozenset(found["unpaired"]))
