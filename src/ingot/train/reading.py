"""What `tune` trains on, packed: conversations rendered with their masks, or plain text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ingot.adapt.load import LanguageModel
from ingot.core.errors import fail
from ingot.core.options import Options, option
from ingot.core.progress import say, track
from ingot.data.chats import Chat, TemplateWatch, read_chats, render_chat
from ingot.data.fit import tell_skipped, too_long
from ingot.data.objectives.objective import Objective
from ingot.data.objectives.options import ObjectiveOptions
from ingot.data.pack import Rows, pack_chats, pack_documents
from ingot.data.read import read_documents
from ingot.data.records import count_records
from ingot.data.show.rows import show_chat
from ingot.text.chat import Rendered
from ingot.train.names import Names

SHOWN = 3
"""Conversations of which `--show-mask` shows what is learnt."""
MOST = 4096
"""Window where the user names none and the model's own is longer."""


class ConversationOptions(Options):
    """How conversations are read."""

    show_mask: bool = option(False, "show what is learnt of the first conversations before training", plain=True)
    skip_bad: bool = option(False, "leave out records that are wrong, instead of refusing the file")
    skip_long: bool = option(False, "leave out what is longer than the window, instead of refusing the file")


@dataclass(frozen=True)
class Reading:
    """Rows to train on, how many conversations or documents they hold, and the name of each by its number."""

    rows: Rows
    count: int
    name_of: Callable[[int], str]


def window(model: LanguageModel, wanted: int | None) -> int:
    """Tokens a row. Raises `window-too-long` beyond the model's own: it has learned no position there."""
    if wanted is not None and wanted > model.max_length:
        raise fail("window-too-long", length=wanted, path=model.model_dir.path, longest=model.max_length)
    return wanted or min(model.max_length, MOST)


def read_conversations(data: Path, model: LanguageModel, objective: Objective, options: ObjectiveOptions,
                       length: int, chats: ConversationOptions) -> Reading:  # fmt: skip
    """Render every conversation with its mask and pack them: only what the assistant says is learnt.

    Raises `objective-needs-text`, `no-chat-template`, and by line what is wrong.
    """
    if objective.name != "next-token" and not (objective.name == "prefix-lm" and options.split == "answer"):
        raise fail("objective-needs-text", objective=objective.name)
    names: list[Chat] = []
    rendered = _render(data, model, chats, names, lambda chat: objective.room(len(chat.ids)) <= length, length)
    rows = pack_chats(rendered, length, pad=_pad(model), line_of=lambda at: names[at].line, room=objective.room)
    say("show-packed", length=length, filled=f"{rows.num_tokens / rows.ids.size:.1%}",
        alone=f"{rows.num_tokens / (len(names) * length):.1%}")  # fmt: skip
    return Reading(rows, len(names), lambda number: f"{names[number].source}:{names[number].line}")


def _render(data: Path, model: LanguageModel, options: ConversationOptions, names: list[Chat],
            fits: Callable[[Rendered], bool], length: int) -> Iterator[Rendered]:  # fmt: skip
    """The conversations rendered one after the other, each noted in `names` without its messages."""
    watch = TemplateWatch(model.tokenizer)
    skipped: list[tuple[int, int]] = []
    chats = track(read_chats(data, skip_bad=options.skip_bad), "render", count_records(data))
    for number, chat in enumerate(chats):
        rendered = render_chat(chat, model.tokenizer)
        watch.see(chat, rendered)
        if options.show_mask and number < SHOWN:
            show_chat(chat, rendered, data, model.tokenizer, first=number == 0)
        if options.skip_long and not fits(rendered):
            skipped.append((len(rendered.ids), chat.line))
            continue
        names.append(chat._replace(messages=[], tools=None))
        yield rendered
    watch.tell()
    if skipped and not names:
        raise too_long(skipped, len(skipped), length)
    tell_skipped([line for _, line in skipped], len(names) + len(skipped), length)


def read_text(data: Path, model: LanguageModel, objective: Objective, length: int) -> Reading:
    """Encode every document and pack them: every token is learnt, as in pre-training. Raises `id-beyond-vocabulary`."""
    names = Names()
    texts = [document.text for document in names.noting(read_documents(data))]
    encoded = [[*objective.start_ids, *ids] for ids in model.tokenizer.encode_batch(texts)]
    rows = pack_documents(encoded, length, eos=objective.end_id, pad=_pad(model), room=objective.room)
    return Reading(rows, len(texts), names)


def _pad(model: LanguageModel) -> int:
    return model.tokenizer.pad_id if model.tokenizer.pad_id is not None else 0
