"""The answers to compare: files of all systems or of one each, read into items.

    one file    {"id": "7", "prompt": "...", "answers": {"base": "...", "tuned": "..."}}
    several     one a system, named after its file: what `ingot generate --out` writes, or `ingot evaluate`
                as raw/answers-NAME.jsonl ("prompt", "question" or "messages"; "text", "reply" or "answer"; "id")

Answers of several files belong together by their id, or where they have none by what was asked. An item needs two
answers; those that fewer systems answered stay in with the systems they have.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingot.core.errors import fail
from ingot.core.progress import warn
from ingot.core.report import unique_names
from ingot.data.files import check_text, kind, read_records

ASKED, ANSWERED = ("prompt", "question", "messages"), ("text", "reply", "answer")
NAME_LENGTH = 3
"""Shorter names stand in ordinary text too often to be looked for."""


@dataclass(frozen=True)
class Item:
    """A prompt and what systems answered."""

    id: str
    prompt: str
    answers: dict[str, str]

    @property
    def digest(self) -> str:
        """Of everything a person sees."""
        return hashlib.sha256(json.dumps([self.prompt, self.answers], sort_keys=True).encode()).hexdigest()


def read_answers(paths: Sequence[Path]) -> list[Item]:
    """Items in the order of the (first) file. Raises `bad-record`, `people-item-twice`, `people-no-pairs`."""
    joined = len(paths) == 1
    items = _joint(paths[0]) if joined else _separate(paths)
    if not items:
        raise fail("people-no-pairs", path=", ".join(map(str, paths)))
    return items


def systems_of(items: Sequence[Item]) -> list[str]:
    """The names of all systems, sorted."""
    return sorted({name for item in items for name in item.answers})


def warn_of_names(items: Sequence[Item]) -> None:
    """Answers that say which system wrote them: no page can be blind to that."""
    for system in systems_of(items):
        pattern = re.compile(rf"(?<!\w){re.escape(system)}(?!\w)", re.IGNORECASE)
        told = [
            item.id for item in items if len(system) >= NAME_LENGTH and pattern.search(item.answers.get(system, ""))
        ]
        if told:
            warn("people-names-itself", system=system, count=len(told), first=told[0])


def _joint(path: Path) -> list[Item]:
    items: list[Item] = []
    lines: dict[str, int] = {}
    for line, record in _records(path):
        answers = record.get("answers")
        if not isinstance(answers, dict) or not all(isinstance(text, str) for text in answers.values()):
            reason = 'expected "answers": {system: text} (or give several files, one a system)'
            raise fail("bad-record", path=path, line=line, reason=reason)
        if len(answers) < 2:
            raise fail("bad-record", path=path, line=line, reason=f"expected two answers or more, found {len(answers)}")
        asked = _asked(path, line, record)
        for name, text in answers.items():
            check_text(path, line, text)
            if not name.strip() or not name.isprintable():
                raise fail("bad-record", path=path, line=line, reason=f"{name!r:.60} is no name of a system")
        _note(path, line, str(record.get("id", line)), lines)
        items.append(Item(str(record.get("id", line)), asked, dict(answers)))
    return items


def _separate(paths: Sequence[Path]) -> list[Item]:
    names = unique_names([path.name.partition(".")[0] for path in paths])
    prompts: dict[str, str] = {}
    answers: dict[str, dict[str, str]] = {}
    for name, path in zip(names, paths, strict=True):
        lines: dict[str, int] = {}
        for line, record in _records(path):
            asked = _asked(path, line, record)
            key = str(record.get("id", hashlib.sha256(asked.encode()).hexdigest()[:16]))
            _note(path, line, key, lines)
            if prompts.setdefault(key, asked) != asked:
                raise fail(
                    "bad-record", path=path, line=line, reason=f"item {key!r} asks something else than in {paths[0]}"
                )
            answers.setdefault(key, {})[name] = _answered(path, line, record)
    alone = [key for key, given in answers.items() if len(given) < 2]
    if alone and len(alone) < len(answers):
        warn("people-lonely", count=len(alone), first=alone[0])
    return [Item(key, prompts[key], given) for key, given in answers.items() if len(given) > 1]


def _records(path: Path) -> Any:
    if kind(path) not in {".jsonl", ".json"}:
        raise fail("people-not-jsonl", path=path)
    return read_records(path)


def _note(path: Path, line: int, key: str, lines: dict[str, int]) -> None:
    if not key.isprintable() or not key:
        raise fail("bad-record", path=path, line=line, reason=f"id {key!r:.60} is empty or holds control characters")
    if lines.setdefault(key, line) != line:
        raise fail("people-item-twice", path=path, line=line, id=key, first=lines[key])


def _asked(path: Path, line: int, record: dict[str, Any]) -> str:
    """What was asked; of a conversation all turns, each behind its role."""
    found = next((record[name] for name in ASKED if name in record), None)
    if isinstance(found, list) and found and all(isinstance(turn, dict) for turn in found):
        turns = [f"{turn.get('role')}: {turn.get('content')}" for turn in found]
        found = str(found[0].get("content")) if len(found) == 1 else "\n\n".join(turns)
    if not isinstance(found, str):
        raise fail("bad-record", path=path, line=line, reason='expected "prompt" (a string) or "messages"')
    return check_text(path, line, found)


def _answered(path: Path, line: int, record: dict[str, Any]) -> str:
    found = next((record[name] for name in ANSWERED if isinstance(record.get(name), str)), None)
    if found is None:
        raise fail("bad-record", path=path, line=line, reason='expected "text": what the system answered')
    return check_text(path, line, found)
