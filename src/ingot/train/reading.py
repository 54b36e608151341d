"""What `tune` trains on, packed: conversations rendered with their masks (of plain text see `corpus`)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ingot.adapt.load import LanguageModel
from ingot.core.errors import fail
from ingot.core.options import Options, option
from ingot.core.progress import say, track
from ingot.data.chats import TemplateWatch, read_chats, render_chat
from ingot.data.fit import tell_skipped, too_long
from ingot.data.objectives.objective import Objective
from ingot.data.objectives.options import ObjectiveOptions
from ingot.data.pack import ROWS, Rows, pack_chats, repack, segment_positions
from ingot.data.records import count_records
from ingot.data.show.rows import show_chat
from ingot.text.chat import Rendered
from ingot.train.account import Account
from ingot.train.corpus import Corpus
from ingot.train.names import Names

SHOWN = 3
"""Conversations of which `--show-mask` shows what is learnt."""
SHORTEST = 256
"""Rows that are no longer gain nothing by being shorter."""
MOST = 4096
"""Window where the user names none and the model's own is longer."""


class ConversationOptions(Options):
    """How conversations are read."""

    show_mask: bool = option(False, "show what is learnt of the first conversations before training", plain=True)
    skip_bad: bool = option(False, "leave out records that are wrong, instead of refusing the file")
    skip_long: bool = option(False, "leave out what is longer than the window, instead of refusing the file")


def window(model: LanguageModel, wanted: int | None) -> int:
    """Tokens a row. Raises `window-too-long` beyond the model's own: it has learned no position there."""
    if wanted is not None and wanted > model.max_length:
        raise fail("window-too-long", length=wanted, path=model.model_dir.path, longest=model.max_length)
    return wanted or min(model.max_length, MOST)


def read_conversations(account: Account, model: LanguageModel, objective: Objective, options: ObjectiveOptions,
                       length: int, directory: Path, chats: ConversationOptions,
                       shorter: bool = False) -> Corpus:  # fmt: skip
    """Render every conversation with its mask and pack them, in files below `directory`: only what the assistant says
    is learnt. `shorter`: rows need be no longer than the longest of them asks for.

    Raises `objective-needs-text`, `no-chat-template`, and by line what is wrong.
    """
    if objective.name != "next-token" and not (objective.name == "prefix-lm" and options.split == "answer"):
        raise fail("objective-needs-text", objective=objective.name)
    names = Names()
    rendered = _render(account, model, names, chats, lambda chat: objective.room(len(chat.ids)) <= length, length)
    pad, wide = model.tokenizer.pad_id or 0, directory / "wide"
    rows = pack_chats(rendered, length, pad=pad, line_of=names.line, directory=wide, room=objective.room)
    if shorter and objective.room is int:
        length = fitting(rows)
    if length < rows.length:
        repack(rows, length, pad=pad, directory=directory)
    else:
        for file in wide.iterdir():
            file.replace(directory / file.name)
    shutil.rmtree(wide)
    corpus = Corpus.finish(account, names, [], directory)
    say("show-packed", length=length, filled=f"{corpus.rows.num_tokens / corpus.rows.ids.size:.1%}",
        alone=f"{corpus.rows.num_tokens / (len(names) * length):.1%}")  # fmt: skip
    return corpus


def fitting(rows: Rows) -> int:
    """The shortest row that holds every document of these: SHORTEST doubled as often as it takes. Attention compares
    all tokens of a row, so short documents cost less in short rows (LOG.md)."""
    parts = (np.asarray(rows.segments[begin : begin + ROWS]) for begin in range(0, len(rows), ROWS))
    longest = 1 + max(int(segment_positions(part)[part >= 0].max()) for part in parts)
    length = SHORTEST
    while length < longest:
        length *= 2
    return min(length, rows.length)


def _render(account: Account, model: LanguageModel, names: Names, options: ConversationOptions,
            fits: Callable[[Rendered], bool], length: int) -> Iterator[Rendered]:  # fmt: skip
    """The conversations rendered one after the other, each that is trained on noted and taken into account."""
    watch, skipped = TemplateWatch(model.tokenizer), list[tuple[int, int]]()
    found = account.licensed(read_chats(account.data, skip_bad=options.skip_bad))
    for number, chat in enumerate(track(found, "render", count_records(account.data))):
        rendered = render_chat(chat, model.tokenizer)
        watch.see(chat, rendered)
        if options.show_mask and number < SHOWN:
            show_chat(chat, rendered, account.data, model.tokenizer, first=number == 0)
        if options.skip_long and not fits(rendered):
            skipped.append((len(rendered.ids), chat.line))
            continue
        names.note(chat)
        account.count(chat, len(rendered.ids))
        yield rendered
    watch.tell()
    if skipped and not len(names):
        raise too_long(skipped, len(skipped), length)
    tell_skipped([line for _, line in skipped], len(names) + len(skipped), length)
