"""A whole file read and rendered, without stopping at what is wrong: what can be trained on, and what cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ingot.core.errors import IngotError
from ingot.core.progress import track
from ingot.data.chats import TemplateWatch, render_chat
from ingot.data.kinds import KINDS, Item, kind_in
from ingot.data.pairs import (
    Pair,
    RenderedPair,
    as_chat,
    contradictions,
    render_answer,
    render_pair,
    repeats,
    tell_ranked,
)
from ingot.data.records import Problem, first_of, scan
from ingot.text.chat import Rendered
from ingot.text.tokenizer import Tokenizer

FATAL = {"no-chat-template", "bad-template", "template-limit"}
"""Errors that would come with every record."""


class Ready(NamedTuple):
    """A record as a model reads it: one text, or prompt with chosen and prompt with rejected, whose first `prompt` ids
    are the same."""

    item: Item
    sides: tuple[Rendered, ...]
    prompt: int = 0

    @property
    def size(self) -> int:
        """Tokens of the longer side."""
        return max(len(side.ids) for side in self.sides)

    @property
    def pair(self) -> RenderedPair:
        return RenderedPair(self.sides[0], self.sides[1], self.prompt, self.item.line)


@dataclass(frozen=True)
class Survey:
    """What a file holds. `length` is the window, None where nobody named one."""

    path: Path
    kind: str
    ready: list[Ready]
    problems: list[Problem]
    repeats: list[tuple[int, int]]
    contradictions: list[tuple[int, int]]
    length: int | None

    @property
    def long(self) -> list[Ready]:
        """What does not fit into the window."""
        return [one for one in self.ready if self.length is not None and one.size > self.length]


def survey(path: Path, tokenizer: Tokenizer, length: int | None) -> Survey:
    """Read and render everything. Raises what is wrong where no record is right, or with the file or the template."""
    kind = kind_in(path)
    items, problems = scan(path, KINDS[kind])
    ready = []
    for item in track(items, "render", len(items)):
        try:
            ready.append(RENDER[kind](item, tokenizer))
        except IngotError as error:
            if error.code in FATAL:
                raise
            problems.append(Problem(path, item.line, error))
    if not ready:
        raise first_of(problems)
    watch = TemplateWatch(tokenizer)
    for one in ready:
        watch.see(as_chat(one.item), one.sides[0])
    watch.tell()
    pairs = [item for item in items if isinstance(item, Pair)]
    tell_ranked(pairs)
    problems.sort(key=lambda problem: (str(problem.path), problem.line))
    return Survey(path, kind, ready, problems, repeats(items), contradictions(pairs), length)


def _chat(item: Any, tokenizer: Tokenizer) -> Ready:
    return Ready(item, (render_chat(item, tokenizer),))


def _pair(item: Any, tokenizer: Tokenizer) -> Ready:
    found = render_pair(item, tokenizer)
    return Ready(item, (found.chosen, found.rejected), found.prompt)


def _labelled(item: Any, tokenizer: Tokenizer) -> Ready:
    found = render_answer(item, tokenizer)
    return Ready(item, (found.answer,), found.prompt)


RENDER: dict[str, Callable[[Any, Tokenizer], Ready]] = {"chats": _chat, "pairs": _pair, "labelled": _labelled}
"""How a record of each kind is rendered."""
