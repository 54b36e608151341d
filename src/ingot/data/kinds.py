"""What a file of conversations holds: chats to imitate, pairs to prefer by, or answers labelled good and bad."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from ingot.core.errors import fail
from ingot.data.chats import Chat, chat_of
from ingot.data.files import read_records
from ingot.data.pair_forms import kind_of
from ingot.data.pairs import Labelled, Pair, labelled_of, pair_of
from ingot.data.records import chat_files

Kind = Literal["chats", "pairs", "labelled"]
Item = Chat | Pair | Labelled
KINDS: dict[str, Callable[[Path, int, dict[str, Any], str | None], Item]] = {
    "chats": chat_of,
    "pairs": pair_of,
    "labelled": labelled_of,
}
"""What turns a record of each kind into something; any other record is refused."""


def kind_in(path: Path) -> str:
    """The kind of the first record. Raises `empty-chats` and what finds and reads files."""
    for file, _ in chat_files(path):
        for _, record in read_records(file):
            return kind_of(record)
    raise fail("empty-chats", path=path)
