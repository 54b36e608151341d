"""Records as a model reads them, for the page: what is learnt stands out, special tokens look like what they are.

The text is somebody's, so all of it is escaped, and its control characters are pictures. Tokens are folded away.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from itertools import groupby

from ingot.core.format import visible
from ingot.core.report import Piece, Sample, Samples, Written


def html_of(section: Samples) -> str:
    """The whole section: what the marks mean, then the records."""
    learnt, other, special, tokens = map(_escape, section.names)
    legend = (f'<p class="marks"><mark>{learnt}</mark> <span class="unlearnt">{other}</span> '
              f'<span class="special">{special}</span></p>')  # fmt: skip
    return legend + "\n".join(_sample(sample, tokens) for sample in section.samples)


def _sample(sample: Sample, tokens: str) -> str:
    body = ""
    for half, texts in groupby(sample.texts, key=lambda text: text.half):
        written = "".join(_written(text, tokens) for text in texts)
        body += f'<div class="halves">{written}</div>' if half else written
    return f'<article class="sample"><h3>{_escape(sample.title)}</h3>{body}</article>'


def _written(text: Written, tokens: str) -> str:
    title = f"<h4>{_escape(text.title)}</h4>" if text.title else ""
    shown = f'<div class="written">{_pieces(text.pieces)}</div>'
    if not text.tokens:
        return f"<div>{title}{shown}</div>"
    listed = "".join(f'<span class="{_class(token)}">{_escape(token.text)}</span>' for token in text.tokens)
    folded = f'<details><summary>{tokens} ({text.num_tokens:,})</summary><div class="tokens">{listed}</div></details>'
    return f"<div>{title}{shown}{folded}</div>"


def _pieces(pieces: Iterable[Piece]) -> str:
    return "".join(_run(learnt, run) for learnt, run in groupby(pieces, key=lambda piece: piece.learnt))


def _run(learnt: bool, pieces: Iterable[Piece]) -> str:
    inside = "".join(
        f'<span class="special">{_escape(piece.text)}</span>' if piece.special else _escape(piece.text)
        for piece in pieces
    )
    return f"<mark>{inside}</mark>" if learnt else inside


def _class(token: Piece) -> str:
    return " ".join(name for name, is_so in (("learnt", token.learnt), ("special", token.special)) if is_so)


def _escape(text: str) -> str:
    return html.escape(visible(text, keep="\n\t"), quote=True)
