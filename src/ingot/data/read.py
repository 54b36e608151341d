"""Reading documents: .txt, .md, .jsonl, .json, .parquet (each also .gz, except parquet), or a directory of them.

A directory with a manifest.json gives its `corpus` files only; any other gives every file of these types but .json
below it, in the order of their names. Record files hold one document a record, in the field `text` (`licence` beside
it if known).

A text file is divided by what it looks like, in this order:
1. lines that are exactly <|endoftext|> separate documents, where there are any;
2. in a .txt without blank lines where most lines end a sentence, every line is a document (one article a line);
3. a file of at most SMALL_FILE characters is one document;
4. a larger one is cut between paragraphs (blank lines; without those, between lines) into documents of about
   DOCUMENT_SIZE characters, and before each top heading ("# Title", or "= Title =" as in WikiText).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from ingot.core.errors import fail
from ingot.data.files import check_text, kind, read_lines, read_records
from ingot.data.licence import stated_licence
from ingot.data.manifest import Manifest, described, licence_of

SMALL_FILE = 32_768
DOCUMENT_SIZE = 8_192
SEPARATOR = "<|endoftext|>"
HEADING = re.compile(r"\s*(# \S.*|= [^=\s].*[^=\s] =|= [^=\s] =)\s*")
SENTENCE_END = re.compile(r"""[.!?。！？…]['"’”」』）)\]]*\s*$""")


@dataclass(frozen=True)
class Document:
    """A text and where it came from: file, the line (or record) it begins at, and its licence if known."""

    text: str
    source: str
    line: int
    licence: str | None = None


def read_documents(path: str | Path) -> Iterator[Document]:
    """The documents of a file or directory, one after the other, blank ones left out.

    Raises `no-such-data`, `unknown-data-type`, `no-data-files`, `not-utf8`, `bad-record` (line and reason),
    `missing-text`, `bad-file`, `bad-manifest`; and at the end `empty-corpus` when there was none, `blank-corpus` when
    all were blank.
    """
    path = Path(path)
    seen = blank = 0
    for document in _all_documents(path):
        seen += 1
        if document.text.strip():
            yield document
        else:
            blank += 1
    if seen == blank:
        raise fail("blank-corpus", path=path, count=blank) if seen else fail("empty-corpus", path=path)


def data_files(path: Path) -> list[tuple[Path, str | None]]:
    """The files that `read_documents` reads, each with the licence its manifest gives."""
    if not path.exists():
        raise fail("no-such-data", path=path)
    if path.is_file():
        if kind(path) not in READERS:
            raise fail("unknown-data-type", path=path, known=", ".join(READERS))
        return [(path, licence_of(path))]
    manifest = Manifest.read(path)
    if manifest:
        return [(path / entry.file, entry.licence) for entry in manifest.files("corpus")]
    found = [file for file in sorted(path.rglob("*")) if _is_data(file, path)]
    if not found:
        raise fail("no-data-files", path=path, known=", ".join(READERS))
    return [(file, None) for file in found]


def unlisted_files(directory: Path) -> list[Path]:
    """Files of a type that is read which the manifest of their directory does not name; none where there is none."""
    manifest, entries = described(directory)
    if manifest is None:
        return []
    return [file for file in sorted(directory.rglob("*")) if _is_data(file, directory) and file not in entries]


def is_heldout(text: str, share: float, seed: int) -> bool:
    """Does a text belong to the held-out share? Decided by the text and seed alone: equal texts never stand on both
    sides, and adding documents moves none."""
    digest = hashlib.blake2b(text.encode(), digest_size=8, key=str(seed).encode()).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def _is_data(file: Path, directory: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(directory).parts)
    return file.is_file() and not hidden and kind(file) in READERS and kind(file) != ".json"


def _all_documents(path: Path) -> Iterator[Document]:
    for file, licence in data_files(path):
        for document in READERS[kind(file)](file):
            yield document if document.licence or not licence else replace(document, licence=licence)


def _records(path: Path) -> Iterator[Document]:
    for line, record in read_records(path):
        text = record.get("text")
        if not isinstance(text, str):
            raise fail("missing-text", path=path, line=line, found=", ".join(map(str, record)) or "nothing")
        yield Document(check_text(path, line, text), path.name, line, stated_licence(record))


def _text(path: Path) -> Iterator[Document]:
    begins = _division(path)
    gathered: list[str] = []
    first = size = 0
    blank = False
    for number, line in enumerate(chain(read_lines(path), [None]), start=1):
        if gathered and (line is None or begins(line, size, blank)):
            yield Document("".join(gathered).rstrip("\n"), path.name, first)
            gathered, size = [], 0
        if line is None or line.strip() == SEPARATOR:
            continue
        blank = not line.strip()
        if gathered or not blank:
            first = first if gathered else number
            gathered.append(line)
            size += len(line)
    if first == 0 and number > 1:
        yield Document("", path.name, 1)


Begins = Callable[[str, int, bool], bool]
"""begins(line, size, blank): does this line begin a document, with `size` characters gathered, after a blank line?"""


def _division(path: Path) -> Begins:
    """How a text file is divided, from one look through it."""
    count = blanks = separators = sentences = size = 0
    for line in read_lines(path):
        count += 1
        size += len(line)
        blanks += not line.strip()
        separators += line.strip() == SEPARATOR
        sentences += bool(SENTENCE_END.search(line))
    if separators:
        return lambda line, size, blank: line.strip() == SEPARATOR
    if kind(path) == ".txt" and not blanks and count > 1 and sentences >= 0.75 * count:
        return lambda line, size, blank: size > 0
    if size <= SMALL_FILE:
        return lambda line, size, blank: False
    paragraphs = blanks > 0
    return lambda line, size, blank: bool(
        size
        and (
            (HEADING.fullmatch(line) and (blank or not paragraphs))
            or (size + len(line) > DOCUMENT_SIZE and (blank or not paragraphs))
        )
    )


READERS: dict[str, Callable[[Path], Iterator[Document]]] = {
    ".txt": _text,
    ".md": _text,
    ".jsonl": _records,
    ".json": _records,
    ".parquet": _records,
}
"""How each type of file is read; see `ingot.data.files.kind`."""
