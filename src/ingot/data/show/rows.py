"""Single records for people: text in pieces and tokens, what is learnt of them marked; on a terminal and on a page."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from ingot.core.console import paint
from ingot.core.language import text
from ingot.core.progress import say, tell
from ingot.core.report import Piece, Sample, Samples, Written
from ingot.data.chats import Chat
from ingot.data.pairs import Labelled
from ingot.data.records import place
from ingot.data.show.survey import Ready
from ingot.text.chat import Rendered
from ingot.text.readable import readable
from ingot.text.tokenizer import Tokenizer

MOST_TOKENS = 1000
"""Tokens of a text that are shown one by one."""


def show_rows(rows: Sequence[Ready], path: Path, tokenizer: Tokenizer, marked: bool) -> None:
    """Tell the user some records as a model reads them; `marked` shows what is learnt, and the tokens."""
    if marked and rows:
        _tell_marks()
    for row in rows:
        _show(row, path, tokenizer, marked)


def show_chat(chat: Chat, rendered: Rendered, path: Path, tokenizer: Tokenizer, first: bool) -> None:
    """Tell the user what is learnt of a conversation; with the first, what the marks mean."""
    if first:
        _tell_marks()
    _show(Ready(chat, (rendered,)), path, tokenizer, marked=True)


def _tell_marks() -> None:
    say("show-marks", shown=paint([Piece(text=text("show-learnt"), learnt=True)]))


def _show(row: Ready, path: Path, tokenizer: Tokenizer, marked: bool) -> None:
    sample = sample_of(row, path, tokenizer)
    tell(f"\n{sample.title}")
    for written in sample.texts:
        if written.title:
            tell(f"[{written.title}]")
        tell(paint(written.pieces if marked else list(map(_unmarked, written.pieces))))
        if marked:
            tell(f"{text('show-tokens')}: " + paint(_between(written.tokens)))


def samples(rows: Sequence[Ready], path: Path, tokenizer: Tokenizer) -> Samples:
    """The same records as a section of a report."""
    names = (text("show-learnt"), text("show-not-learnt"), text("show-special"), text("show-tokens"))
    return Samples(title=text("show-samples"), samples=[sample_of(row, path, tokenizer) for row in rows], names=names,
                   note=text("show-samples-note"))  # fmt: skip


def sample_of(row: Ready, path: Path, tokenizer: Tokenizer) -> Sample:
    """A record in pieces; a pair as its prompt and two answers beside each other."""
    item, first = row.item, row.sides[0]
    learnt, total = sum(sum(side.mask) for side in row.sides), sum(len(side.ids) for side in row.sides)
    title = text("show-row", place=place(path, item.line), form=item.form, learnt=f"{learnt:,}", total=f"{total:,}")
    if isinstance(item, Labelled):
        title = f"{title} · {text('show-good' if item.good else 'show-bad')}"
    if len(row.sides) == 1:
        return Sample(title=title, texts=[_written("", first, tokenizer, 0, len(first.ids))])
    texts = [_written(text("show-prompt"), first, tokenizer, 0, row.prompt)]
    for name, side in zip(("chosen", "rejected"), row.sides, strict=True):
        heading = text(f"show-{name}", tokens=f"{sum(side.mask):,}")
        texts.append(_written(heading, side, tokenizer, row.prompt, len(side.ids), half=True))
    return Sample(title=title, texts=texts)


def _written(title: str, found: Rendered, tokenizer: Tokenizer, first: int, last: int, half: bool = False) -> Written:
    """The tokens from `first` to `last` and the text that belongs to them: before the answer, or from it on."""
    tokens = [Piece(text=readable(tokenizer, id), learnt=learnt, special=id in tokenizer.special_ids)
              for id, learnt in zip(found.ids[first:last], found.mask[first:last], strict=True)]  # fmt: skip
    pieces = pieces_of(found)
    answer = next((at for at, piece in enumerate(pieces) if piece.learnt), len(pieces))
    if first or last < len(found.ids):
        pieces = pieces[answer:] if first else pieces[:answer]
    return Written(title=title, pieces=pieces, tokens=_cut(tokens), num_tokens=len(tokens), half=half)


def pieces_of(found: Rendered) -> list[Piece]:
    """The text of a rendered conversation in its stretches."""
    begins = [0, *(end for end, _, _ in found.stretches)]
    return [Piece(text=found.text[begin:end], learnt=learnt, special=special)
            for begin, (end, special, learnt) in zip(begins, found.stretches, strict=False)]  # fmt: skip


def _unmarked(piece: Piece) -> Piece:
    return piece.model_copy(update={"learnt": False})


def _cut(tokens: list[Piece]) -> list[Piece]:
    left = len(tokens) - MOST_TOKENS
    return tokens if left <= 0 else [*tokens[:MOST_TOKENS], Piece(text=text("show-more-tokens", count=f"{left:,}"))]


def _between(tokens: Sequence[Piece]) -> list[Piece]:
    """Tokens with a bar between them."""
    bars = [Piece(text="|", learnt=one.learnt and next.learnt) for one, next in pairwise(tokens)]
    return [piece for pair in zip(tokens, bars, strict=False) for piece in pair] + list(tokens[-1:])
