"""A corpus made ready to train on: some documents held out, the others encoded and packed as they stream by.

Rows and names lie in files of one directory, mapped and not held in memory, so that all processes of a machine train on
what one of them has packed (see `once`). The rest of a corpus is known only to the process that read it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ingot.core.errors import fail
from ingot.core.files import path_digest
from ingot.core.hallmark import Source
from ingot.core.options import Options, option
from ingot.core.progress import say
from ingot.data.manifest import heldout_files
from ingot.data.objectives.objective import Objective
from ingot.data.pack import Rows, open_rows, pack_documents
from ingot.data.read import Document, is_heldout, read_documents
from ingot.text.tokenizer import Tokenizer
from ingot.train.account import Account
from ingot.train.checkpoint import Place
from ingot.train.distributed.world import World
from ingot.train.names import Names

HELDOUT_CHARACTERS = 60_000
"""Held-out text that is measured after training: enough for bits per byte to within about a percent."""

BATCH_DOCUMENTS, BATCH_CHARACTERS = 1000, 1 << 22
"""Documents encoded at a time, until they hold so many characters."""


class CorpusOptions(Options):
    """What of the text is trained on."""

    heldout: float = option(0.02, "share of documents held out, where no manifest names some; 0: none", ge=0, lt=1)
    allow_unknown_licence: bool = option(False, "train on text even where nobody has said under which licence it is")


@dataclass(frozen=True)
class Corpus:
    """Rows to train on and where each document came from; and, where it was read, the account of its tokens and
    licences, what was read, and the texts held out."""

    rows: Rows
    names: Names
    account: Account
    sources: list[Source] = field(default_factory=list)
    heldout: list[str] = field(default_factory=list)

    @classmethod
    def finish(cls, account: Account, names: Names, heldout: list[str], directory: Path) -> Corpus:
        """That which was packed to a directory, opened from there."""
        names.write(directory)
        rows = open_rows(directory)
        filled = rows.num_tokens / (len(rows) * rows.length)
        say("corpus", tokens=f"{rows.num_tokens:,}", rows=f"{len(rows):,}", length=rows.length, filled=f"{filled:.1%}")
        return cls(rows, Names.open(directory), account, account.sources(), heldout)


def once(world: World, place: Place, pack: Callable[[Path], Corpus]) -> Corpus:
    """The corpus, packed by the first process of each machine and opened by the others there; where one refuses its
    data, all do. Raises `rows-differ` when machines read different data."""
    directory = place.path / f"rows-{world.machine}"
    made = world.once_a_machine(lambda: pack(place.fresh(directory.name)))
    if world.machines > 1:
        _compare(world, directory)
    return made or Corpus(open_rows(directory), Names.open(directory), Account(place.path, False))


def _compare(world: World, directory: Path) -> None:
    """Whether all machines have the same rows, byte for byte."""
    found = world.gather(path_digest(directory) if world.leads else "")
    if len(set(found) - {""}) > 1:
        raise fail("rows-differ", machines=world.machines)


def prepare(
    account: Account, tokenizer: Tokenizer, objective: Objective, length: int, share: float, seed: int, directory: Path
) -> Corpus:
    """Read, hold out and pack with the room that the objective needs; rows are kept in files below `directory`."""
    train, heldout = divide(account, tokenizer, share, seed)
    names = Names()
    encoded = encode(names.noting(train), tokenizer, objective.start_ids, account)
    pad = tokenizer.pad_id or 0
    pack_documents(encoded, length, eos=objective.end_id, pad=pad, directory=directory, room=objective.room)
    return Corpus.finish(account, names, heldout, directory)


def divide(
    account: Account, tokenizer: Tokenizer, share: float, seed: int, most: int = HELDOUT_CHARACTERS
) -> tuple[Iterator[Document], list[str]]:
    """What to train on, as a stream, and what is held out: the manifest's held-out files, else a share of the
    documents, of which the first `most` characters are kept. The list is full when the stream has ended.

    Raises, at the end, `bad-heldout-share` when either side is empty.
    """
    documents, kept = account.licensed(read_documents(account.data)), Kept(most)
    files = heldout_files(account.data)
    if files != [account.data]:
        for document in itertools.chain.from_iterable(map(read_documents, files)):
            if not kept.add(document.text):
                break
        return documents, kept.texts
    return _training(documents, account, tokenizer, share, seed, kept), kept.texts


@dataclass
class Kept:
    """Texts, as long as there is room for their characters."""

    room: int
    texts: list[str] = field(default_factory=list)

    def add(self, text: str) -> bool:
        """Keep a text, or what there is room for of it; whether there is more room."""
        if self.room > 0:
            self.texts.append(text[: self.room])
            self.room -= len(text)
        return self.room > 0


def _training(
    documents: Iterable[Document], account: Account, tokenizer: Tokenizer, share: float, seed: int, kept: Kept
) -> Iterator[Document]:
    """The documents that are not held out; those that are go to `kept`."""
    train = 0
    for document in documents:
        if is_heldout(document.text, share, seed):
            account.hold_out(len(tokenizer.encode(document.text)))
            kept.add(document.text)
        else:
            train += 1
            yield document
    if not train or (share and not account.heldout_documents):
        raise fail("bad-heldout-share", share=share, train=train, heldout=account.heldout_documents)


def encode(
    documents: Iterator[Document], tokenizer: Tokenizer, start: tuple[int, ...], account: Account
) -> Iterator[list[int]]:
    """Ids of each document behind what starts one, encoded in batches; the packer puts one token behind each."""
    while batch := list(_batch(documents)):
        for document, ids in zip(batch, tokenizer.encode_batch([document.text for document in batch]), strict=True):
            account.count(document, len(ids), separators=len(start) + 1)
            yield [*start, *ids]


def _batch(documents: Iterator[Document]) -> Iterator[Document]:
    """The next documents of the stream that are to be encoded at a time."""
    size = 0
    for document in itertools.islice(documents, BATCH_DOCUMENTS):
        yield document
        size += len(document.text)
        if size >= BATCH_CHARACTERS:
            return
