"""Reading conversations: messages, ShareGPT, Alpaca, Dolly and prompt/completion, from .jsonl, .json or .parquet.

Each record says by its keys which form it is (`chat_forms`); all become messages with `tool_calls`, and the tools that
are offered. A record that is none of them, has a turn missing, empty or out of order, or is a preference, is refused
by file and line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ingot.core.errors import IngotError, fail
from ingot.core.language import text
from ingot.core.progress import warn
from ingot.data.chat_forms import FORMS, Form, find_form, unread
from ingot.data.files import check_text
from ingot.data.licence import stated_licence
from ingot.data.pair_forms import kind_of
from ingot.data.records import place, places, stream
from ingot.data.turns import Messages, Tools, check_turns, read_tools, strings
from ingot.text.chat import Rendered, check_messages, render, template_source
from ingot.text.tokenizer import Tokenizer

T = TypeVar("T")


class Chat(NamedTuple):
    """A conversation, the line (or record) it stands on, its file's name, and its licence if known. `learn` are the
    numbers of the messages to learn, where that is not every one of the assistant's; `form` is how it was stored,
    `unread` what of the record was not read."""

    messages: Messages
    line: int
    source: str = ""
    licence: str | None = None
    tools: Tools | None = None
    learn: frozenset[int] | None = None
    form: str = "messages"
    unread: tuple[str, ...] = ()


def read_chats(path: str | Path, *, skip_bad: bool = False) -> Iterator[Chat]:
    """The conversations of a file, or of the `chat` files of a directory's manifest, one after the other.

    Wrong records are refused with the number of them, or with `skip_bad` said and left out. `licence` (or `license`)
    beside a conversation speaks for it, else its file's manifest does.

    Raises `no-such-data`, `unknown-chat-type`, `no-chat-files`, `bad-record`, `unknown-chat-format`, `other-kind`,
    `bad-chat` (line, message and reason) and `empty-chats`.
    """
    return stream(path, chat_of, skip_bad=skip_bad)


def chat_of(path: Path, line: int, record: dict[str, Any], licence: str | None = None) -> Chat:
    """A record as a conversation. Raises what `read_chats` says of it."""
    name = form_of("chats", FORMS, path, line, record)

    def read() -> Chat:
        messages, first = FORMS[name].read(record)
        check_messages(messages)
        check_turns(messages)
        kept, learn = _learnt(messages, first)
        whose = stated_licence(record) or licence
        tools, rest = read_tools(record.get("tools")), unread(record, FORMS[name])
        return Chat(kept, line, path.name, whose, tools, learn, name, rest)

    chat = explained(path, line, read)
    check_strings(path, line, chat.messages, chat.tools)
    return chat


def form_of(kind: str, forms: Mapping[str, Form[Any]], path: Path, line: int, record: dict[str, Any]) -> str:
    """Which of the forms of a kind a record has. Raises `other-kind` where it is of another kind (a conversation, a
    pair, a labelled answer), and `unknown-chat-format` with its keys."""
    found = kind_of(record)
    if found != kind:
        raise fail("other-kind", path=path, line=line, place=place(path, line), found=text(f"kind-{found}"),
                   wanted=text(f"kind-{kind}"), more="")  # fmt: skip
    name = find_form(record, forms)
    if name is None:
        keys = ", ".join(map(str, record)) or "-"
        raise fail("unknown-chat-format", path=path, line=line, place=place(path, line), found=keys, more="")
    return name


def explained(path: Path, line: int, read: Callable[[], T]) -> T:
    """What `read` gives; what it raises as `bad-chat` with the place."""
    try:
        return read()
    except IngotError as error:
        where = {"path": path, "line": line, "place": place(path, line)}
        raise fail("bad-chat", **where, reason=str(error), more="") from error


def check_strings(path: Path, line: int, *values: object) -> None:
    """Raises `bad-record` where a string below the values cannot be written as UTF-8."""
    for value in values:
        for string in strings(value):
            check_text(path, line, string)


def render_chat(chat: Chat, tokenizer: Tokenizer) -> Rendered:
    """Render a conversation for training. Raises `chat-not-rendered` or `no-target` with its line."""
    found = render_at(chat.line, chat.messages, tokenizer, chat.tools, chat.learn)
    if not any(found.mask):
        raise fail("no-target", number=chat.line)
    return found


def render_at(
    line: int, messages: Messages, tokenizer: Tokenizer, tools: Tools | None, learn: frozenset[int] | None
) -> Rendered:
    """Render one conversation. Raises `chat-not-rendered` with its line for what lies in it alone."""
    try:
        return render(messages, tokenizer, tools=tools, learn=learn)
    except IngotError as error:
        if error.code not in PER_CHAT:
            raise
        raise fail("chat-not-rendered", line=line, reason=str(error)) from error


PER_CHAT = {"bad-message", "no-messages", "template-refused", "template-reads-specials", "template-ignores-calls",
            "mask-not-derivable"}  # fmt: skip
"""Errors that lie in one conversation; any other would come with every one of them."""


class TemplateWatch:
    """Notices what a template leaves out of conversations, or writes into them from elsewhere; and tells at the end."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._left_out: dict[str, list[int]] = {"system": [], "user": [], "reasoning": []}
        self._is_dated = False

    def see(self, chat: Chat, rendered: Rendered) -> None:
        """One conversation, and what became of it."""
        self._is_dated = self._is_dated or "strftime_now" in template_source(self._tokenizer, chat.tools)
        for part in left_out(chat, rendered.text):
            self._left_out[part].append(chat.line)

    def tell(self) -> None:
        """Warn of what was seen."""
        if self._is_dated:
            warn("template-dated")
        for part, lines in self._left_out.items():
            if lines:
                warn("template-leaves-out", part=text(f"part-{part}"), count=f"{len(lines):,}", places=places(lines))


def left_out(chat: Chat, written: str) -> set[str]:
    """What of a conversation its rendered text does not hold: "system", "user", or the "reasoning" of the last turn."""
    said = [(message["role"], message.get("content")) for message in chat.messages]
    said.append(("reasoning", chat.messages[-1].get("reasoning_content")))
    texts = [(part, content.strip()) for part, content in said if isinstance(content, str)]
    return {part for part, content in texts if part in {"system", "user", "reasoning"} and content not in written}


def _learnt(messages: Messages, first: int) -> tuple[Messages, frozenset[int] | None]:
    """The messages without their `weight`, and which of them are learnt: none before `first`, none of weight 0."""
    kept = [{key: value for key, value in message.items() if key != "weight"} for message in messages]
    weights = [message.get("weight", 1) for message in messages]
    for number, weight in enumerate(weights, start=1):
        if weight not in (0, 1):
            raise fail("bad-message", number=number, reason=text("turns-weight", found=f"{weight!r:.40}"))
    turns = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    learn = frozenset(number for number in turns if number >= first and weights[number])
    if not learn:
        raise fail("no-assistant-turn")
    return kept, None if learn == frozenset(turns) else learn
