"""What a task asks: questions with the answers that are accepted, or without any; read and checked before a model is.

A record has one of "prompt" (a text to go on from, or with --chat a user turn), "messages" (a conversation) and
"question" (a user turn), and where it is known "answer": a string, a number, or a list of them any of which is right. A
world's questions.jsonl is read as `evaluate` reads it. What is asked twice is asked once, so that questions can be
counted as independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingot.adapt.load import LanguageModel
from ingot.core.errors import IngotError, fail
from ingot.core.progress import say, warn
from ingot.data.files import check_text, kind, read_records
from ingot.evaluate.questions import NAME, Question, read_questions
from ingot.evaluate.scoring import (
    ABSTAINED,
    ARITHMETIC,
    EMPTY,
    NEVER_TOLD,
    NUMBER_ONLY,
    RIGHT,
    normalise,
    numbers,
    verdict,
)  # fmt: skip
from ingot.evaluate.subset import stratified
from ingot.infer.prompts import Asked, Messages, make_prompt

ASKED = ("prompt", "messages", "question")
OWN = "own"
"""Kind of a question that no world made."""
RIGHT_VOTE = "\0right"
"""The vote of every right sample, however it is worded."""


@dataclass(frozen=True)
class Item:
    """One question. accept: what a right answer contains, None where nobody knows."""

    id: str
    place: int
    given: str | Messages
    accept: tuple[str, ...] | None
    kind: str = OWN
    lang: str = "-"


@dataclass(frozen=True)
class Judged:
    """Is a sample right, and which answer does it vote for?"""

    right: bool
    vote: str


def read_items(path: Path, limit: int, seed: int) -> list[Item]:
    """All questions of a task, or a stratified sample. Raises `bad-record`, `temperature-task`, what
    `read_questions` raises."""
    path = path / NAME if path.is_dir() else path
    if kind(path) not in (".jsonl", ".json", ".parquet"):
        raise fail("temperature-task", path=path)
    items = _worlds(path) if _is_worlds(path) else [_own(path, place, record) for place, record in read_records(path)]
    if not items:
        raise fail("temperature-task", path=path)
    once = {repr(item.given): item for item in reversed(items)}
    if len(once) < len(items):
        warn("temperature-asked-twice", path=path, count=len(items) - len(once))
    different = sorted(once.values(), key=lambda item: item.place)
    if len(different) > limit:
        say("temperature-sampled", asked=limit, count=len(different))
    return stratified(different, limit, seed, lambda item: (item.kind, item.lang), lambda item: item.id)


def labelled(items: Sequence[Item], path: Path, method: str) -> bool:
    """Whether right answers decide. Raises `temperature-no-label` naming the line where some have one."""
    without = [item for item in items if item.accept is None]
    if method == "entropy" or (method == "auto" and len(without) == len(items)):
        return False
    if without:
        raise fail("temperature-no-label", path=path, line=without[0].place, count=len(without), total=len(items))
    return True


def halves(items: Sequence[Item], seed: int) -> tuple[list[int], list[int]]:
    """Places of the questions that choose, and of those that check: kinds and languages in both alike."""
    chosen = stratified(items, (len(items) + 1) // 2, seed + 1, lambda item: (item.kind, item.lang), lambda i: i.id)
    ids = {item.id for item in chosen}
    first = [place for place, item in enumerate(items) if item.id in ids]
    return first, [place for place, item in enumerate(items) if item.id not in ids]


def prompts_of(model: LanguageModel, items: Sequence[Item], path: Path, chat: bool) -> list[Asked]:
    """Every question as the model reads it. Raises `bad-record` naming the line."""
    return [_prompt(model, item, path, chat) for item in items]


def judge(item: Item, reply: str) -> Judged:
    """As `evaluate` judges a world's answers: normalised, contained as a whole word, Han run or number; where the
    answer is a number, the last one written counts. Wrong samples vote for what they say, so judged."""
    assert item.accept is not None
    judged_as = ARITHMETIC if item.kind == OWN and all(map(NUMBER_ONLY.fullmatch, item.accept)) else item.kind
    found = verdict(judged_as, reply, item.accept)
    right = found == (ABSTAINED if item.kind == NEVER_TOLD else RIGHT)
    return Judged(right, RIGHT_VOTE if right else "" if found == EMPTY else _vote(judged_as, reply))


def _vote(judged_as: str, reply: str) -> str:
    plain = normalise(reply)
    written = numbers(plain) if judged_as == ARITHMETIC else []
    return written[-1] if written else plain.rstrip(".。!！")


def _is_worlds(path: Path) -> bool:
    first = next(iter(read_records(path)), (1, {}))[1]
    return "question" in first and "kind" in first


def _worlds(path: Path) -> list[Item]:
    return [
        Item(one.id, place, [{"role": "user", "content": one.question}], tuple(one.accept), one.kind, one.lang)
        for place, one in enumerate(read_questions(path, Question), start=1)
    ]


def _own(path: Path, place: int, record: dict[str, Any]) -> Item:
    names = [name for name in ASKED if name in record]
    if len(names) != 1:
        found = ", ".join(names or record) or "nothing"
        reason = f'expected "prompt", "messages" or "question", one of them, found {found}'
        raise fail("bad-record", path=path, line=place, reason=reason)
    given = record[names[0]]
    if names[0] == "messages" and not isinstance(given, list):
        raise fail("bad-record", path=path, line=place, reason=f'"messages" must be a list, found {given!r:.60}')
    if names[0] != "messages":
        if not isinstance(given, str) or not given.strip():
            raise fail("bad-record", path=path, line=place, reason=f'"{names[0]}" must be a text, found {given!r:.60}')
        check_text(path, place, given)
    messages = [{"role": "user", "content": given}] if names[0] == "question" else given
    return Item(f"{place}", place, messages, _accepted(path, place, record.get("answer")))


def _accepted(path: Path, place: int, found: object) -> tuple[str, ...] | None:
    """Answers as normalised as they are compared."""
    if found is None:
        return None
    entries = found if isinstance(found, list) else [found]
    is_known = all(isinstance(one, str | int | float) and not isinstance(one, bool) for one in entries)
    accepted = tuple(normalise(str(one)) for one in entries) if is_known else ()
    if not accepted or not all(accepted):
        reason = f'"answer" must be a text, a number, or a list of them, none empty, found {found!r:.60}'
        raise fail("bad-record", path=path, line=place, reason=reason)
    return accepted


def _prompt(model: LanguageModel, item: Item, path: Path, chat: bool) -> Asked:
    try:
        return make_prompt(model, item.given, chat)
    except IngotError as error:
        raise fail("bad-record", path=path, line=item.place, reason=str(error)) from error
