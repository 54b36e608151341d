"""What `tune` trains on, packed: conversations rendered with their masks. Plain text is read as by `pretrain`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ingot.adapt.load import LanguageModel
from ingot.core.errors import fail
from ingot.core.progress import track
from ingot.data.chats import count_chats, read_chats, render_chat
from ingot.data.objectives.objective import Objective
from ingot.data.objectives.options import ObjectiveOptions
from ingot.data.pack import pack_chats
from ingot.text.chat import Rendered
from ingot.train.account import Account
from ingot.train.corpus import Corpus
from ingot.train.names import Names

MOST = 4096
"""Window where the user names none and the model's own is longer."""


def window(model: LanguageModel, wanted: int | None) -> int:
    """Tokens a row. Raises `window-too-long` beyond the model's own: it has learned no position there."""
    if wanted is not None and wanted > model.max_length:
        raise fail("window-too-long", length=wanted, path=model.model_dir.path, longest=model.max_length)
    return wanted or min(model.max_length, MOST)


def read_conversations(account: Account, model: LanguageModel, objective: Objective, options: ObjectiveOptions,
                       length: int, directory: Path) -> Corpus:  # fmt: skip
    """Render every conversation with its mask and pack them, in files below `directory`: only what the assistant says
    is learnt.

    Raises `objective-needs-text`, `no-chat-template`, and by line what is wrong.
    """
    if objective.name != "next-token" and not (objective.name == "prefix-lm" and options.split == "answer"):
        raise fail("objective-needs-text", objective=objective.name)
    names = Names()
    rendered = _render(account, model, names)
    pad = model.tokenizer.pad_id or 0
    pack_chats(rendered, length, pad=pad, line_of=names.line, directory=directory, room=objective.room)
    return Corpus.finish(account, names, [], directory)


def _render(account: Account, model: LanguageModel, names: Names) -> Iterator[Rendered]:
    """The conversations rendered, each taken into account."""
    chats = track(account.licensed(read_chats(account.data)), "render", count_chats(account.data))
    for chat in names.noting(chats):
        rendered = render_chat(chat, model.tokenizer)
        account.count(chat, len(rendered.ids))
        yield rendered
