"""The forms in which preferences are stored: a prompt with a chosen and a rejected answer, however they are spelt.

Where both answers are whole conversations, the prompt is what they share; they may part only where the assistant
speaks. Adding a form is a function and a line in PAIR_FORMS.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from ingot.core.errors import fail
from ingot.data.chat_forms import Form, Record, assistant, question, user
from ingot.data.turns import Messages, read_turns, with_system

LABELS = ("label", "kto_tag")
"""Keys that say whether an answer is good: true or false."""
HUMAN = "\n\nHuman:"


class Sides(NamedTuple):
    """What was asked, the better answer, the worse one, and how many answers the record ranks."""

    prompt: Messages
    chosen: Messages
    rejected: Messages
    ranked: int = 2


def kind_of(record: Record) -> str:
    """ "pairs", "labelled" or "chats", by the keys of a record."""
    if "kto_tag" in record or isinstance(record.get("label"), bool):
        return "labelled"
    ranked = "instruction" in record and isinstance(record.get("output"), list)
    return "pairs" if ranked or {"chosen", "rejected"} <= record.keys() or "response_j" in record else "chats"


def _prompted(record: Record) -> Sides:
    """A prompt and two answers; answers that are whole conversations begin with the prompt."""
    prompt = record["prompt"]
    asked = read_turns(prompt, "prompt") if isinstance(prompt, list) else _spoken(prompt, True) or [user(prompt)]
    chosen, rejected = _answers(record)
    if chosen and chosen[0].get("role") in {"assistant", "tool"}:
        return Sides(asked, chosen, rejected)
    sides = _parted(chosen, rejected)
    known = [message.get("content") for message in sides.prompt if message.get("role") == "user"]
    if known and asked[-1].get("content") not in (known[0], known[-1]):
        raise fail("pair-other-prompt", found=f"{known[0]!r:.60}", prompt=f"{asked[-1].get('content')!r:.60}")
    return sides


def _after_turns(record: Record) -> Sides:
    """A conversation, and two ways to go on: LLaMA-Factory's, and the same in messages."""
    name = "conversations" if "conversations" in record else "messages"
    chosen, rejected = _answers(record)
    return Sides(read_turns(record[name], name), chosen, rejected)


def _instructed(record: Record) -> Sides:
    chosen, rejected = _answers(record)
    return Sides(question(record), chosen, rejected)


def _whole(record: Record) -> Sides:
    """Two conversations that share their beginning, as messages or in Anthropic's text (see `_spoken`)."""
    return _parted(_conversation(record["chosen"], "chosen"), _conversation(record["rejected"], "rejected"))


def _conversation(value: object, name: str) -> Messages:
    spoken = _spoken(value)
    if spoken is None and isinstance(value, str):
        raise fail("pair-no-prompt", name=name, found=f"{value!r:.60}")
    return spoken or read_turns(value, name)


def _ranked(record: Record) -> Sides:
    """Alpaca's question with answers from the best to the worst; the first two are taken."""
    answers = record["output"]
    if not isinstance(answers, list) or len(answers) < 2:
        raise fail("pair-one-answer", found=f"{answers!r:.60}")
    return Sides(question(record), [assistant(answers[0])], [assistant(answers[1])], len(answers))


def _asked(record: Record) -> Sides:
    chosen, rejected = _answers(record)
    return Sides([user(record["question"])], chosen, rejected)


def _stack_exchange(record: Record) -> Sides:
    """A question with the better answer j and the worse one k."""
    return Sides([user(record["question"])], [assistant(record["response_j"])], [assistant(record["response_k"])])


def _answers(record: Record) -> tuple[Messages, Messages]:
    return _answer(record["chosen"], "chosen"), _answer(record["rejected"], "rejected")


def _answer(value: object, name: str) -> Messages:
    """An answer as a string, as one turn, or as a list of them."""
    if isinstance(value, list):
        return read_turns(value, name)
    return read_turns([value], name) if isinstance(value, dict) else [assistant(value)]


def _spoken(value: object, is_open: bool = False) -> Messages | None:
    """Turns of a text in which "\\n\\nHuman:" and "\\n\\nAssistant:" take turns, None for other text; at the end of an
    open one the assistant has not spoken yet."""
    if not isinstance(value, str) or not value.startswith((HUMAN, HUMAN.lstrip())):
        return None
    parts = re.split(r"(?:\A|\n\n)(Human|Assistant):", value)[1:]
    turns = [user(said.strip()) if who == "Human" else assistant(said.strip())
             for who, said in zip(parts[::2], parts[1::2], strict=True)]  # fmt: skip
    return turns[:-1] if is_open and turns[-1] == assistant("") else turns


def _parted(chosen: Messages, rejected: Messages) -> Sides:
    """Two conversations with a beginning in common. Raises `pair-parts-early` when they part where a user speaks."""
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    if shared == len(chosen) == len(rejected):
        shared -= 1
    rests = [chosen[shared:], rejected[shared:]]
    if any(not rest or rest[0].get("role") != "assistant" for rest in rests):
        roles = [str(rest[0].get("role")) if rest else "-" for rest in rests]
        raise fail("pair-parts-early", number=shared + 1, chosen=roles[0], rejected=roles[1])
    return Sides(chosen[:shared], rests[0], rests[1])


def sides(record: Record, form: Form[Sides]) -> Sides:
    """What a record of a form says, behind the system message beside it."""
    found = form.read(record)
    return found._replace(prompt=with_system(record.get("system"), found.prompt))


def label_of(record: Record) -> bool:
    """Is the answer a good one? Raises `bad-label` unless exactly one key says true or false."""
    said: list[Any] = [record[name] for name in LABELS if record.get(name) is not None]
    if len(said) != 1 or not isinstance(said[0], bool):
        raise fail("bad-label", known=" / ".join(LABELS), found=", ".join(f"{value!r:.40}" for value in said) or "-")
    return said[0]


PAIR_FORMS: dict[str, Form[Sides]] = {
    "prompt-chosen-rejected": Form(("prompt", "chosen", "rejected"), _prompted),
    "sharegpt-chosen-rejected": Form(("conversations", "chosen", "rejected"), _after_turns),
    "messages-chosen-rejected": Form(("messages", "chosen", "rejected"), _after_turns),
    "alpaca-chosen-rejected": Form(("instruction", "chosen", "rejected"), _instructed, ("input", "history")),
    "question-chosen-rejected": Form(("question", "chosen", "rejected"), _asked),
    "chosen-rejected": Form(("chosen", "rejected"), _whole),
    "alpaca-ranked": Form(("instruction", "output"), _ranked, ("input", "history")),
    "stack-exchange": Form(("question", "response_j", "response_k"), _stack_exchange),
}
"""Preferences; the first form whose keys a record has reads it."""
