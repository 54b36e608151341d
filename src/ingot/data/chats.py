"""Reading conversations: the messages format, ShareGPT, Alpaca and prompt/completion, from .jsonl, .json or .parquet.

Each record says by its keys which format it is; all become lists of {"role", "content"} messages. A record that is
none of them, or has a turn missing or out of order, is refused by file and line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ingot.core.errors import IngotError, fail
from ingot.data.files import check_text, kind, read_records
from ingot.data.licence import stated_licence
from ingot.data.manifest import Manifest, licence_of
from ingot.text.chat import Rendered, check_messages, render
from ingot.text.tokenizer import Tokenizer

Messages = list[dict[str, Any]]


class Chat(NamedTuple):
    """A conversation, the line (or record) it stands on, its file's name, and its licence if known."""

    messages: Messages
    line: int
    source: str = ""
    licence: str | None = None


def read_chats(path: str | Path) -> Iterator[Chat]:
    """The conversations of a file, or of the `chat` files of a directory's manifest, one after the other. `licence` (or
    `license`) beside one speaks for it, else its file's manifest does.

    Raises `no-such-data`, `unknown-chat-type`, `no-chat-files`, `bad-record`, `unknown-chat-format`, `bad-chat` (line,
    message and reason) and `empty-chats`.
    """
    path = Path(path)
    empty = True
    for file, licence in chat_files(path):
        for line, record in read_records(file):
            empty = False
            yield _chat(file, line, record, licence)
    if empty:
        raise fail("empty-chats", path=path)


def count_chats(path: Path) -> int:
    """How many records `read_chats` will look at."""
    return sum(1 for file, _ in chat_files(path) for _ in read_records(file))


def render_chat(chat: Chat, tokenizer: Tokenizer) -> Rendered:
    """Render a conversation for training. Raises `chat-not-rendered` or `no-target` with its line."""
    try:
        rendered = render(chat.messages, tokenizer)
    except IngotError as error:
        if error.code not in PER_CHAT:
            raise
        raise fail("chat-not-rendered", line=chat.line, reason=str(error)) from error
    if not any(rendered.mask):
        raise fail("no-target", number=chat.line)
    return rendered


PER_CHAT = {"bad-message", "no-messages", "template-refused", "template-reads-specials", "mask-not-derivable"}
"""Errors that lie in one conversation; any other would come with every one of them."""


def chat_files(path: Path) -> list[tuple[Path, str | None]]:
    """The files that `read_chats` reads, each with the licence its manifest gives."""
    if not path.exists():
        raise fail("no-such-data", path=path)
    if path.is_dir():
        manifest = Manifest.read(path)
        files = [(path / entry.file, entry.licence) for entry in manifest.files("chat")] if manifest else []
        if not files:
            raise fail("no-chat-files", path=path)
        return files
    if kind(path) not in {".jsonl", ".json", ".parquet"}:
        raise fail("unknown-chat-type", path=path)
    return [(path, licence_of(path))]


def _chat(path: Path, line: int, record: dict[str, Any], licence: str | None) -> Chat:
    convert = next((convert for keys, convert in FORMATS.items() if set(keys) <= record.keys()), None)
    if convert is None:
        found = ", ".join(map(str, record)) or "nothing"
        raise fail("unknown-chat-format", path=path, line=line, found=found)
    try:
        messages = convert(record)
        check_messages(messages)
        _check_turns(messages)
    except IngotError as error:
        raise fail("bad-chat", path=path, line=line, reason=str(error)) from error
    for message in messages:
        if isinstance(message.get("content"), str):
            check_text(path, line, message["content"])
    return Chat(messages, line, path.name, stated_licence(record) or licence)


def _check_turns(messages: Messages) -> None:
    """Training needs a user turn before each assistant turn, and an assistant turn at all."""
    before = ""
    for number, message in enumerate(messages, start=1):
        role = message["role"]
        if role == before and role in {"user", "assistant"}:
            raise fail("bad-message", number=number, reason=f"two {role} messages in a row")
        if role == "assistant" and before not in {"user", "tool"}:
            raise fail("bad-message", number=number, reason=f"an assistant message follows {before or 'nothing'}")
        before = role
    if all(message["role"] != "assistant" for message in messages):
        raise fail("no-assistant-turn")


def _messages(record: dict[str, Any]) -> Messages:
    messages = record["messages"]
    if not isinstance(messages, list):
        raise fail("bad-message", number=1, reason=f"messages is {messages!r:.60}, not a list")
    return messages


def _sharegpt(record: dict[str, Any]) -> Messages:
    """{"conversations": [{"from": "human", "value": "..."}]}, with `system` beside it in some sets."""
    turns = record["conversations"]
    if not isinstance(turns, list):
        raise fail("bad-message", number=1, reason=f"conversations is {turns!r:.60}, not a list")
    system = record.get("system")
    messages: Messages = [{"role": "system", "content": system}] if isinstance(system, str) and system else []
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, dict) or turn.get("from") not in SPEAKERS:
            raise fail(
                "bad-message", number=number, reason=f"`from` must be one of {', '.join(SPEAKERS)}: {turn!r:.60}"
            )
        messages.append({"role": SPEAKERS[turn["from"]], "content": turn.get("value")})
    return messages


SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant",
            "system": "system", "function_call": "assistant", "observation": "tool", "tool": "tool"}  # fmt: skip


def _alpaca(record: dict[str, Any]) -> Messages:
    """{"instruction", "input" (may be empty or absent), "output"}."""
    given = [record["instruction"], record.get("input") or ""]
    question = "\n\n".join(part for part in given if part) if all(isinstance(part, str) for part in given) else given
    return _pair(record, question, record["output"])


def _prompt_completion(record: dict[str, Any]) -> Messages:
    return _pair(record, record["prompt"], record["completion"])


def _pair(record: dict[str, Any], question: object, answer: object) -> Messages:
    system = record.get("system")
    first: Messages = [{"role": "system", "content": system}] if isinstance(system, str) and system else []
    return [*first, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]


FORMATS: dict[tuple[str, ...], Callable[[dict[str, Any]], Messages]] = {
    ("messages",): _messages,
    ("conversations",): _sharegpt,
    ("instruction", "output"): _alpaca,
    ("prompt", "completion"): _prompt_completion,
}
"""The keys a record has in each format, and how it becomes messages."""
