"""Texts on the page with what was copied marked, and personal data in them hidden."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

from ingot.core.language import text
from ingot.core.report import Piece, Sample, Samples, Written
from ingot.guard.guard import Guard

Spans = Iterable[Sequence[int]]
Entry = tuple[str, str, Spans]
"""A heading, a text, and the characters of it that are marked."""

LONGEST = 1500
"""Characters of a text that are shown."""

HIDDEN = "█"


def copied_samples(title: str, entries: Iterable[Entry], policy: str, note: str = "") -> Samples:
    """One sample an entry."""
    samples = [Sample(title=head, texts=[written("", words, spans, policy)]) for head, words, spans in entries]
    return Samples(title=title, samples=samples, names=names(), note=note)


def names() -> tuple[str, str, str, str]:
    """What the marks mean."""
    return text("audit-mark-copied"), text("audit-mark-other"), text("audit-mark-given"), "-"


def written(head: str, words: str, spans: Spans, policy: str, given: str = "") -> Written:
    """A text with its copied characters marked, behind what was given to continue."""
    masked = hide(words, policy)[:LONGEST]
    pieces = [Piece(text=hide(given, policy), special=True)] if given else []
    at = 0
    for begin, end in spans:
        pieces += [Piece(text=masked[at:begin]), Piece(text=masked[begin:end], learnt=True)]
        at = end
    pieces.append(Piece(text=masked[at:]))
    return Written(title=head, pieces=[piece for piece in pieces if piece.text])


def hide(words: str, policy: str) -> str:
    """The text with personal data blacked out, as long as before, so that places stay right."""
    if policy == "off":
        return words
    for finding in _guard(policy).check(words).findings:
        if finding.action in ("redact", "block"):
            words = words[: finding.begin] + HIDDEN * (finding.end - finding.begin) + words[finding.end :]
    return words


@functools.lru_cache(maxsize=1)
def _guard(policy: str) -> Guard:
    return Guard.open(policy)
