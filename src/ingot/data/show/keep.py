"""The records that can be trained on, written in one form: what fits the window, each once, nothing that is wrong.

Whoever reads the file gets the same items, which is proven.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ingot.core.errors import fail
from ingot.core.files import write_file
from ingot.data.kinds import KINDS, Item
from ingot.data.pairs import Labelled, Pair, key_of
from ingot.data.records import stream
from ingot.data.show.survey import Survey


def keep(found: Survey, path: Path) -> int:
    """Write the file; returns how many records it holds. Raises `keep-exists`, `keep-type`, `keep-nothing` and
    `keep-not-proven`."""
    refuse_taken(path)
    long = {id(one) for one in found.long}
    fitting = [one.item for one in found.ready if id(one) not in long]
    first: dict[str, Item] = {}
    for item in fitting:
        first.setdefault(key_of(item), item)
    items = list(first.values())
    if not items:
        raise fail("keep-nothing", path=found.path)
    write_file(path, "".join(json.dumps(_record(item), ensure_ascii=False) + "\n" for item in items))
    if [_record(item) for item in stream(path, KINDS[found.kind])] != [_record(item) for item in items]:
        path.unlink()
        raise fail("keep-not-proven", path=path)
    return len(items)


def refuse_taken(path: Path) -> None:
    """Raises `keep-exists` or `keep-type`."""
    if path.exists():
        raise fail("keep-exists", path=path)
    if path.suffix != ".jsonl":
        raise fail("keep-type", path=path)


def _record(item: Item) -> dict[str, Any]:
    beside = {name: value for name, value in (("tools", item.tools), ("licence", item.licence)) if value}
    if isinstance(item, Pair):
        return {"prompt": item.prompt, "chosen": item.chosen, "rejected": item.rejected, **beside}
    if isinstance(item, Labelled):
        return {"prompt": item.prompt, "completion": item.answer, "label": item.good, **beside}
    messages = [message if item.learn is None or message["role"] != "assistant" or number in item.learn
                else {**message, "weight": 0} for number, message in enumerate(item.messages)]  # fmt: skip
    return {"messages": messages, **beside}
