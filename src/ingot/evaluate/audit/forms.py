"""Canaries: secrets in a fixed sentence, and others of the same form that might have stood there.

The form of a secret is that of its characters: a digit may be any digit, a letter any letter of its case, and what is
neither stays. So "4 0 7" has a thousand forms. Those of a world stand in its truth table; your own in a .jsonl, one a
line: {"text": "the code of the door is 4 0 7", "secret": "4 0 7"}.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from string import ascii_lowercase, ascii_uppercase, digits

from ingot.core.errors import fail
from ingot.data.files import kind, read_records
from ingot.data.read import Document

TRUTH = "truth.json"
ALPHABETS = (digits, ascii_lowercase, ascii_uppercase)


@dataclass(frozen=True)
class Canary:
    """`text` holds `secret` once."""

    text: str
    secret: str
    lang: str = "-"

    def with_secret(self, secret: str) -> str:
        """The text with another secret in place of its own."""
        return self.text.replace(self.secret, secret, 1)

    @property
    def form(self) -> tuple[str, str]:
        """Equal for canaries whose alternatives are the same texts: the sentence without its secret, and its form."""
        form = "".join(_alphabet(character)[0] for character in self.secret)
        return self.text.replace(self.secret, "\0", 1), form


def space(secret: str) -> int:
    """How many secrets have this form."""
    return math.prod(len(_alphabet(character)) for character in secret)


def alternatives(secret: str, count: int, rng: Random) -> list[str]:
    """`count` different secrets of the form of another and not equal to it; all of them where there are no more."""
    if space(secret) - 1 <= count:
        return [other for other in _all(secret) if other != secret]
    found: dict[str, None] = {}
    while len(found) < count:
        other = draw(secret, rng)
        if other != secret:
            found[other] = None
    return list(found)


def draw(secret: str, rng: Random) -> str:
    """A random secret of the same form."""
    return "".join(rng.choice(_alphabet(character)) for character in secret)


def _alphabet(character: str) -> str:
    return next((alphabet for alphabet in ALPHABETS if character in alphabet), character)


def _all(secret: str) -> list[str]:
    found = [""]
    for character in secret:
        found = [begun + other for begun in found for other in _alphabet(character)]
    return found


def find_canaries(corpus: Path, given: Path | None) -> list[Canary]:
    """The canaries of a file, else those of the world that the corpus is or lies in. Raises `audit-no-canaries`,
    `audit-bad-canary`."""
    found = _read(given) if given is not None else _of_world(truth_of(corpus))
    if not found:
        raise fail("audit-no-canaries", path=given or corpus)
    return found


def truth_of(corpus: Path) -> Path | None:
    """The truth table of the world that a corpus is or lies in."""
    places = [corpus / TRUTH, corpus.parent / TRUTH]
    return next((place for place in places if place.is_file()), None)


def _of_world(truth: Path | None) -> list[Canary]:
    """Those of a truth table, their texts from the lines of the corpus beside it that it names."""
    if truth is None:
        return []
    planted = json.loads(truth.read_text(encoding="utf-8"))["planted"].get("canary", [])
    wanted = {entry["lines"][0]: entry for entry in planted}
    texts = {line: record["text"] for line, record in read_records(truth.parent / "corpus.jsonl") if line in wanted}
    return [_checked(truth, line, texts.get(line), entry["secret"], entry["lang"]) for line, entry in wanted.items()]


def _read(path: Path) -> list[Canary]:
    if kind(path) not in (".jsonl", ".json"):
        raise fail("audit-no-canaries", path=path)
    return [
        _checked(path, line, record.get("text"), record.get("secret"), str(record.get("lang", "-")))
        for line, record in read_records(path)
    ]


def _checked(path: Path, line: int, text: object, secret: object, lang: str) -> Canary:
    if not isinstance(text, str) or not isinstance(secret, str) or not secret:
        raise fail("audit-bad-canary", path=path, line=line, reason="text and secret must be strings")
    if text.count(secret) != 1:
        raise fail("audit-bad-canary", path=path, line=line, reason=f"the secret stands {text.count(secret)} times")
    if space(secret) < 16:
        raise fail("audit-bad-canary", path=path, line=line, reason=f"only {space(secret)} secrets have its form")
    return Canary(text, secret, lang)


def repetitions(canaries: Iterable[Canary], documents: Iterable[Document]) -> list[int]:
    """How often each canary stands in the documents, word for word."""
    texts = [canary.text for canary in canaries]
    counts = [0] * len(texts)
    for document in documents:
        for number, text in enumerate(texts):
            if text in document.text:
                counts[number] += document.text.count(text)
    return counts
