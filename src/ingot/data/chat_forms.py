"""The forms in which conversations are stored: which keys tell each, and how it becomes messages.

Each record is told by its own keys, so a file may mix forms as long as every record is right by itself. Adding a form
is a function and a line in FORMS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from ingot.core.errors import fail
from ingot.core.language import text
from ingot.data.turns import Messages, read_turns, with_system

Record = dict[str, Any]
T = TypeVar("T")
BESIDE = ("system", "tools", "licence", "license")
"""Keys that are read beside any form."""


class Turns(NamedTuple):
    """Messages, and the number (from 0) of the first that is to be learnt."""

    messages: Messages
    first: int = 0


class Form(NamedTuple, Generic[T]):
    """The keys a record of this form has, the keys it may have, and what reads it."""

    keys: tuple[str, ...]
    read: Callable[[Record], T]
    also: tuple[str, ...] = ()


def find_form(record: Record, forms: Mapping[str, Form[T]]) -> str | None:
    """The first form whose keys the record has."""
    return next((name for name, form in forms.items() if set(form.keys) <= record.keys()), None)


def unread(record: Record, form: Form[Any], also: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Keys of a record that its form does not look at."""
    return tuple(str(key) for key in record if key not in {*form.keys, *form.also, *BESIDE, *also})


def _messages(record: Record) -> Turns:
    return Turns(with_system(record.get("system"), read_turns(record["messages"])))


def _sharegpt(record: Record) -> Turns:
    return Turns(with_system(record.get("system"), read_turns(record["conversations"], "conversations")))


def question(record: Record) -> Messages:
    """Alpaca's instruction with its input, behind the turns of its history."""
    asked = [record["instruction"], record.get("input") or ""]
    if not all(isinstance(part, str) for part in asked):
        raise fail("bad-message", number=1, reason=text("message-content", found=f"{asked!r:.60}"))
    return [*_history(record.get("history")), user("\n\n".join(part for part in asked if part))]


def _history(history: object) -> Messages:
    """Earlier questions with their answers: [["q", "a"], ...]."""
    turns: Messages = []
    for pair in history if isinstance(history, list) else [] if history is None else [history]:
        if not (isinstance(pair, list) and len(pair) == 2):
            raise fail("bad-message", number=len(turns) + 1, reason=text("turns-history", found=f"{pair!r:.60}"))
        turns += [user(pair[0]), assistant(pair[1])]
    return turns


def _alpaca(record: Record) -> Turns:
    return _asked(record, question(record), record["output"])


def _dolly(record: Record) -> Turns:
    return _asked(record, question({**record, "input": record.get("context")}), record["response"])


def _prompt_completion(record: Record) -> Turns:
    """Strings, or lists of messages of which only the completion is learnt."""
    prompt, completion = record["prompt"], record["completion"]
    asked = read_turns(prompt, "prompt") if isinstance(prompt, list) else [user(prompt)]
    if not isinstance(completion, list):
        return _asked(record, asked, completion)
    messages = with_system(record.get("system"), [*asked, *read_turns(completion, "completion")])
    return Turns(messages, len(messages) - len(completion))


def _asked(record: Record, asked: Messages, answer: object) -> Turns:
    messages = with_system(record.get("system"), [*asked, assistant(answer)])
    return Turns(messages, len(messages) - 1 if isinstance(record.get("prompt"), list) else 0)


def user(content: object) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: object) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


FORMS: dict[str, Form[Turns]] = {
    "messages": Form(("messages",), _messages),
    "sharegpt": Form(("conversations",), _sharegpt),
    "alpaca": Form(("instruction", "output"), _alpaca, ("input", "history")),
    "dolly": Form(("instruction", "response"), _dolly, ("context", "history")),
    "prompt-completion": Form(("prompt", "completion"), _prompt_completion),
}
"""Conversations; the first form whose keys a record has reads it."""
