"""What became of every document and token of a corpus, and under which licences they stand.

A document whose licence nobody knows is refused, unless the user said that it may be trained on all the same.
Conversations are as a rule one's own, so a file of which no manifest and no record says anything is told of and trained
on; where somebody has spoken, the same holds as for text. Tokens are counted three times, independently: as documents
are encoded, in the packed rows, and (where `ingot data manifest` was run with the same tokenizer) beforehand; the
hallmark proves that the counts agree to the token, and says how many stand under which licence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from ingot.core.errors import fail
from ingot.core.files import path_digest
from ingot.core.hallmark import Source
from ingot.core.model_dir import Draft
from ingot.core.progress import warn
from ingot.data.licence import UNSTATED, check_licence, join_licences
from ingot.data.manifest import described
from ingot.data.pack import Rows
from ingot.data.read import data_files, unlisted_files
from ingot.data.records import chat_files
from ingot.text.tokenizer import Tokenizer


class Item(Protocol):
    """A document or conversation: where it stands, and its licence if known."""

    @property
    def source(self) -> str: ...
    @property
    def line(self) -> int: ...
    @property
    def licence(self) -> str | None: ...


I = TypeVar("I", bound=Item)  # noqa: E741

Files = Callable[[Path], list[tuple[Path, str | None]]]
"""The files that are read of a path, each with the licence its manifest gives."""


@dataclass
class Account:
    """Counts that grow while a corpus streams by. `separators` are tokens put before and behind documents; `unstated`
    counts the documents trained on though nobody says anything of their licence; `licences` are tokens trained on."""

    data: Path
    allow_unknown_licence: bool
    files: Files = data_files
    refuses_unstated: bool = True
    documents: int = 0
    heldout_documents: int = 0
    tokens: int = 0
    heldout_tokens: int = 0
    separators: int = 0
    unstated: int = 0
    licences: Counter[str] = field(default_factory=Counter)
    _by_file: dict[str, set[str | None]] = field(default_factory=dict)

    @classmethod
    def of_chats(cls, data: Path, allow_unknown_licence: bool) -> Account:
        """That of conversations."""
        has_manifest = data.is_dir() or data in described(data)[1]
        return cls(data, allow_unknown_licence, chat_files, refuses_unstated=has_manifest)

    def licensed(self, documents: Iterable[I]) -> Iterator[I]:
        """The documents, each with a licence that is known. Raises `unknown-licence` and `no-licence`, naming file and
        line."""
        for document in documents:
            self.documents += 1
            self._by_file.setdefault(document.source, set()).add(self._licence(document))
            yield document

    def _licence(self, document: Item) -> str | None:
        if self.allow_unknown_licence:
            return document.licence
        if document.licence is None and not self.refuses_unstated:
            self.unstated += 1
            return None
        place = f"{document.source}:{document.line}"
        licence = check_licence(document.licence, place) if document.licence else None
        if licence is None:
            raise fail("no-licence", place=place, folder=self.folder)
        return licence

    def count(self, document: Item, tokens: int, separators: int = 0) -> None:
        """Take a document into account that is trained on."""
        self.tokens += tokens
        self.separators += separators
        licence = document.licence if self.allow_unknown_licence else check_licence(document.licence or UNSTATED, "")
        self.licences[licence or UNSTATED] += tokens

    def hold_out(self, tokens: int) -> None:
        """Take a document into account that is not."""
        self.heldout_documents += 1
        self.tokens += tokens
        self.heldout_tokens += tokens

    @property
    def folder(self) -> Path:
        return self.data if self.data.is_dir() else self.data.parent

    def sources(self) -> list[Source]:
        """The files read, with digest and licence. Raises `stale-manifest` when one is not what its manifest says."""
        found = []
        _, entries = described(self.data)
        for file, stated in self.files(self.data):
            digest = path_digest(file)
            if file in entries and entries[file].digest not in {None, digest}:
                raise fail("stale-manifest", path=file, folder=self.folder)
            licence = join_licences([stated] if stated else self._by_file.get(file.name, ()))
            found.append(Source(name=file.name, digest=digest, licence=licence))
        if self.data.is_dir() and (files := unlisted_files(self.data)):
            warn("unlisted-files", folder=self.data, count=len(files), first=files[0].relative_to(self.data))
        if self.unstated:
            warn("licence-unstated", path=self.data, count=self.unstated, name=self.data.name)
        return found

    def prove(self, draft: Draft, rows: Rows, tokenizer: Tokenizer) -> None:
        """Write the counts down, and prove that no token was lost or counted twice."""
        counts = ("documents", "heldout_documents", "tokens", "heldout_tokens", "separators")
        draft.numbers |= {f"corpus_{name}": getattr(self, name) for name in counts}
        draft.numbers["corpus_licences"] = dict(sorted(self.licences.items()))
        left = self.tokens + self.separators - self.heldout_tokens - rows.num_tokens
        compared = (f"{self.tokens:,} of the documents and {self.separators:,} separators with "
                    f"{rows.num_tokens:,} packed and {self.heldout_tokens:,} held out")  # fmt: skip
        draft.prove("tokens lost or counted twice", compared, abs(left))
        stated = self._stated(tokenizer)
        if stated is not None:
            compared = f"{stated:,} in the manifest with {self.tokens:,} encoded"
            draft.prove("tokens beside those of the manifest", compared, abs(stated - self.tokens))

    def _stated(self, tokenizer: Tokenizer) -> int | None:
        """Tokens of the corpus as the manifest states them, None where it does not for this tokenizer."""
        manifest, entries = described(self.data)
        if manifest is None or manifest.tokenizer != tokenizer.digest:
            return None
        counts = [entries[file].tokens for file, _ in self.files(self.data) if file in entries]
        return sum(count for count in counts if count is not None) if None not in counts else None
