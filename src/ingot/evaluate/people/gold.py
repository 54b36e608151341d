"""Items whose answer is known, shown among the others without a mark, to see who reads and who clicks.

pairwise    {"id": "g1", "prompt": "...", "answers": {"x": "...", "y": "..."}, "right": "x"}
rubric      {"id": "g1", "prompt": "...", "answers": {"x": "..."}, "right": {"correct": [4, 5]}}
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingot.core.errors import fail
from ingot.data.files import check_text, read_records
from ingot.evaluate.people.answers import Item
from ingot.evaluate.people.rubric import Rubric

EVERY = 8
"""About one in so many items shown is a gold one."""


@dataclass(frozen=True)
class Gold:
    """An item with what is right: a system's name, or {criterion: (least, greatest)}."""

    item: Item
    right: str | dict[str, tuple[int, int]]


def read_gold(path: Path | None, mode: str, rubric: Rubric) -> list[Gold]:
    """Raises `bad-record` naming file and line."""
    if path is None:
        return []
    found: dict[str, Gold] = {}
    for line, record in read_records(path):
        gold = _gold(path, line, record, mode, rubric)
        if gold.item.id in found:
            raise fail("bad-record", path=path, line=line, reason=f"id {gold.item.id!r} stands twice")
        found[gold.item.id] = gold
    if not found:
        raise fail("people-no-pairs", path=path)
    return list(found.values())


def _gold(path: Path, line: int, record: dict[str, Any], mode: str, rubric: Rubric) -> Gold:
    answers, prompt = record.get("answers"), record.get("prompt")
    wanted = 2 if mode == "pairwise" else 1
    texts = list(answers.values()) if isinstance(answers, dict) else []
    if len(texts) != wanted or not all(isinstance(text, str) for text in (*texts, prompt)):
        reason = f'expected "prompt" and {wanted} of "answers" in mode {mode}'
        raise fail("bad-record", path=path, line=line, reason=reason)
    for text in (*texts, prompt):
        check_text(path, line, str(text))
    item = Item(f"gold:{record.get('id', line)}", str(prompt), dict(answers or {}))
    right = _choice(record, item) if mode == "pairwise" else _ranges(record, rubric)
    if right is None:
        expected = (
            "one of the answers' names" if mode == "pairwise" else "{criterion: [least, greatest]} within its scale"
        )
        raise fail("bad-record", path=path, line=line, reason=f'expected "right": {expected}')
    return Gold(item, right)


def _choice(record: dict[str, Any], item: Item) -> str | None:
    right = record.get("right")
    return right if isinstance(right, str) and right in item.answers else None


def _ranges(record: dict[str, Any], rubric: Rubric) -> dict[str, tuple[int, int]] | None:
    right, scales = record.get("right"), {criterion.name: criterion.values for criterion in rubric.criteria}
    if not isinstance(right, dict) or not right:
        return None
    for name, ends in right.items():
        whole = isinstance(ends, list) and len(ends) == 2 and all(type(end) is int for end in ends)
        if name not in scales or not whole or not scales[name][0] <= ends[0] <= ends[1] <= scales[name][-1]:
            return None
    return {name: (ends[0], ends[1]) for name, ends in right.items()}
