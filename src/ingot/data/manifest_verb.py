"""The verb `data manifest`: write down what a folder of text holds, where it came from and under which licence.

A folder without a manifest gets one that names all its data files as corpus; of one with a manifest the statements are
kept and digests and counts renewed. --licence and --source fill in what is missing, or with --file say it anew of the
files named. A licence that SPDX does not know is refused. Nothing is changed but manifest.json, and that in one step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ingot.core.errors import fail, nearest
from ingot.core.files import file_digest
from ingot.core.options import Options, argument, option, verb
from ingot.core.progress import say, track, warn
from ingot.data.files import read_records
from ingot.data.kinds import KINDS, kind_in
from ingot.data.licence import UNSTATED, check_licence, join_licences
from ingot.data.manifest import NAME, DataSet, Manifest, Role
from ingot.data.read import data_files, read_documents, unlisted_files
from ingot.data.records import stream
from ingot.text.tokenizer import Tokenizer

BATCH = 1000


class DataManifestOptions(Options):
    """Options of `data manifest`."""

    data: Path = argument("the folder of data")
    licence: str | None = option(None, "SPDX name of the licence, for sets that state none (or those of --file)")
    source: str | None = option(None, "where the data came from, for sets that state none (or those of --file)")
    file: list[str] = option([], "speak of these files only: names or patterns such as '*.txt'")
    role: Role | None = option(None, "what the files of --file are for: corpus, heldout, questions or chat")
    tokenizer: Path | None = option(None, "count tokens with this tokenizer, so that training can prove the count")


@dataclass(frozen=True)
class Described:
    """What the verb returns: the manifest as it was read back."""

    path: Path
    manifest: Manifest

    def summary(self) -> dict[str, Any]:
        """Totals over the corpus, and how many of its sets have each licence ("unknown" where nobody knows)."""
        corpus = self.manifest.files("corpus")
        totals = {name: _total([getattr(entry, name) for entry in corpus])
                  for name in ("documents", "bytes", "characters", "tokens")}  # fmt: skip
        licences = Counter(entry.licence or "unknown" for entry in corpus)
        return {"path": str(self.path), "sets": len(self.manifest.sets), **totals, "licences": dict(licences)}


@verb(DataManifestOptions)
def data_manifest(options: DataManifestOptions) -> Described:
    """Write or renew the manifest of a folder: source, licence, digest and counts of each file."""
    if not options.data.is_dir():
        raise fail("manifest-not-a-folder", path=options.data)
    if options.role and not options.file:
        raise fail("manifest-role-needs-file")
    licence = (check_licence(options.licence, "--licence") or UNSTATED) if options.licence else None
    tokenizer = Tokenizer.open(options.tokenizer) if options.tokenizer else None
    entries = [_stated(entry, options, licence) for entry in _entries(options)]
    _refuse_unknown(entries, options.data)
    counted = [count(options.data, entry, tokenizer) for entry in track(entries, "count", len(entries))]
    manifest = Manifest(tokenizer=tokenizer.digest if tokenizer else None, sets=counted)
    manifest.write(options.data)
    if Manifest.read(options.data) != manifest:
        raise fail("manifest-not-proven", path=options.data / NAME)
    described = Described(options.data, manifest)
    _tell(described)
    return described


def _entries(options: DataManifestOptions) -> list[DataSet]:
    """The sets of the manifest there is, or one for each data file; those that --file names are added."""
    directory = options.data
    manifest = Manifest.read(directory)
    listed = list(manifest.sets) if manifest else []
    files = unlisted_files(directory) if manifest else [file for file, _ in data_files(directory)]
    unlisted = [file.relative_to(directory).as_posix() for file in files]
    for pattern in options.file:
        names = [*(entry.file for entry in listed), *unlisted]
        if not any(fnmatchcase(name, pattern) for name in names):
            raise fail("manifest-no-match", pattern=pattern, folder=directory, nearest=nearest(pattern, names))
    added = [name for name in unlisted if not manifest or _named(name, options.file)]
    if left := [name for name in unlisted if name not in added]:
        warn("unlisted-files", folder=directory, count=len(left), first=left[0])
    return [*listed, *(DataSet(file=name, role="corpus") for name in added)]


def _named(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _stated(entry: DataSet, options: DataManifestOptions, licence: str | None) -> DataSet:
    """The set with what the options say of it."""
    if options.file and not _named(entry.file, options.file):
        return entry
    anew = bool(options.file)
    said: dict[str, Any] = {"licence": licence, "source": options.source, "role": options.role}
    return entry.model_copy(
        update={name: value for name, value in said.items() if value and (anew or getattr(entry, name) is None)}
    )


def _refuse_unknown(entries: list[DataSet], directory: Path) -> None:
    for entry in entries:
        if entry.licence:
            check_licence(entry.licence, f"{directory / NAME}, {entry.file}")


def count(directory: Path, entry: DataSet, tokenizer: Tokenizer | None = None) -> DataSet:
    """The set with digest and counts as its file lies there now; without a licence of its own, that of its documents.

    Raises `unknown-licence` naming the line of a document whose licence SPDX does not know.
    """
    path = directory / entry.file
    licence = entry.licence
    if entry.role == "questions":
        counts = {"documents": sum(1 for _ in read_records(path))}
    else:
        counts, found = _count_chats(path) if entry.role == "chat" else _count_documents(path, tokenizer)
        licence = licence or found
    cleared = dict.fromkeys(("documents", "bytes", "characters", "tokens"))
    return entry.model_copy(update={**cleared, **counts, "digest": file_digest(path), "licence": licence})


def _count_chats(path: Path) -> tuple[dict[str, int], str | None]:
    """Conversations, pairs or labelled answers of a file, and the licence that all of them together have."""
    licences = [_licence(chat, path) for chat in stream(path, KINDS[kind_in(path)])]
    return {"documents": len(licences)}, join_licences(licences)


def _licence(item: Any, path: Path) -> str | None:
    return check_licence(item.licence, f"{path}:{item.line}") if item.licence else None


def _count_documents(path: Path, tokenizer: Tokenizer | None) -> tuple[dict[str, int], str | None]:
    """Documents, bytes, characters (and tokens) of a file, and the licence that all its documents together have."""
    counts: Counter[str] = Counter(documents=0, bytes=0, characters=0, **({"tokens": 0} if tokenizer else {}))
    licences: set[str | None] = set()
    for texts in _batches(path, licences):
        counts["documents"] += len(texts)
        counts["bytes"] += sum(len(text.encode()) for text in texts)
        counts["characters"] += sum(map(len, texts))
        if tokenizer:
            counts["tokens"] += sum(map(len, tokenizer.encode_batch(texts)))
    return dict(counts), join_licences(licences)


def _batches(path: Path, licences: set[str | None]) -> Iterator[list[str]]:
    batch: list[str] = []
    for document in read_documents(path):
        licences.add(_licence(document, path))
        batch.append(document.text)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _total(counts: list[int | None]) -> int | None:
    return sum(count for count in counts if count is not None) if None not in counts else None


def _tell(described: Described) -> None:
    summary = described.summary()
    say("manifest-done", path=described.path / NAME, sets=summary["sets"], documents=f"{summary['documents']:,}",
        characters=f"{summary['characters']:,}", licences=", ".join(sorted(summary["licences"])))  # fmt: skip
    unknown = [entry.file for entry in described.manifest.files("corpus") if not entry.licence]
    if unknown:
        warn("manifest-unknown", count=len(unknown), first=unknown[0], folder=described.path)
