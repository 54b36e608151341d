"""Readers: every type of file, how text files are divided, and bad input named by file and line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingot.core.errors import IngotError
from ingot.data.manifest import DataSet, Manifest, licence_of
from ingot.data.read import DOCUMENT_SIZE, SMALL_FILE, Document, is_heldout, read_documents

RECORDS = [{"text": "one 一", "licence": None}, {"text": "two", "licence": "MIT"}]


def write(path: Path, content: str | bytes | list[Any]) -> Path:
    """A file of text, bytes or JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, list):
        content = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def texts(path: Path) -> list[str]:
    return [document.text for document in read_documents(path)]


def code_of(path: Path) -> tuple[str, dict[str, object]]:
    with pytest.raises(IngotError) as caught:
        list(read_documents(path))
    assert str(caught.value)
    return caught.value.code, caught.value.details


def test_records_are_read_with_line_and_licence(tmp_path: Path) -> None:
    expected = [Document("one 一", "a.jsonl", 1), Document("two", "a.jsonl", 2, "MIT")]
    assert list(read_documents(write(tmp_path / "a.jsonl", RECORDS))) == expected


def test_every_type_gives_the_same_documents(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    lines = write(tmp_path / "a.jsonl", RECORDS).read_bytes()
    write(tmp_path / "b.jsonl.gz", gzip.compress(lines))
    write(tmp_path / "c.json", json.dumps(RECORDS))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(RECORDS), tmp_path / "d.parquet")
    found = [[(d.text, d.line, d.licence) for d in read_documents(path)] for path in sorted(tmp_path.iterdir())]
    assert found == [found[0]] * 4


def test_windows_line_ends_and_byte_order_marks_are_dropped(tmp_path: Path) -> None:
    assert texts(write(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\ntwo")) == ["one\ntwo"]


def test_a_small_file_is_one_document(tmp_path: Path) -> None:
    assert texts(write(tmp_path / "a.txt", "one\n\ntwo\nthree\n\n\nfour\n")) == ["one\n\ntwo\nthree\n\n\nfour"]
    assert texts(write(tmp_path / "a.md", "# A\n\ntext.\n\n# B\n")) == ["# A\n\ntext.\n\n# B"]


def test_one_article_a_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "The first one.\n第二行在這裡。\n“A third!”\nheading\nFourth?\n")
    assert texts(path) == ["The first one.", "第二行在這裡。", "“A third!”", "heading", "Fourth?"]
    assert [document.line for document in read_documents(path)] == [1, 2, 3, 4, 5]


def test_wrapped_lines_are_no_documents(tmp_path: Path) -> None:
    assert texts(write(tmp_path / "a.txt", "This is wrapped\nover three\nlines.\n")) == [
        "This is wrapped\nover three\nlines."
    ]


def test_the_end_of_text_mark_separates(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "one.\n<|endoftext|>\ntwo.\n\nmore\n<|endoftext|>\n")
    assert [(d.text, d.line) for d in read_documents(path)] == [("one.", 1), ("two.\n\nmore", 3)]


def test_a_large_file_is_cut_between_paragraphs(tmp_path: Path) -> None:
    paragraphs = [f"{number} " + "word " * 150 for number in range(80)]
    found = texts(write(tmp_path / "a.txt", "\n\n".join(paragraphs)))
    assert len("\n\n".join(paragraphs)) > SMALL_FILE
    assert [part.strip() for text in found for part in text.split("\n\n")] == [part.strip() for part in paragraphs]
    assert all(len(text) <= DOCUMENT_SIZE for text in found)
    assert len(found) < 15


def test_a_large_file_without_blank_lines_is_cut_between_lines(tmp_path: Path) -> None:
    lines = [f"{number} " + "word " * 15 for number in range(1000)]
    found = texts(write(tmp_path / "a.txt", "\n".join(lines)))
    assert "\n".join(found) == "\n".join(lines).strip("\n")
    assert all(DOCUMENT_SIZE - 100 < len(text) <= DOCUMENT_SIZE for text in found[:-1])


def test_top_headings_begin_documents_in_a_large_file(tmp_path: Path) -> None:
    articles = [f" = Title {n} = \n \n text {n} \n \n = = Part = = \n \n " + "more , " * 700 for n in range(9)]
    found = texts(write(tmp_path / "a.txt", " \n" + " \n \n".join(articles)))
    assert [text.split("\n")[0] for text in found if "Title" in text] == [f" = Title {n} = " for n in range(9)]


def test_a_directory_is_read_in_the_order_of_names_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.txt", "a/c.md", ".hidden.txt", "notes.pdf", "config.json", ".git/x.txt"):
        write(tmp_path / name, name)
    assert texts(tmp_path) == ["a/c.md", "b.txt"]


def test_a_manifest_gives_the_corpus_only_with_its_licence(tmp_path: Path) -> None:
    for name in ("corpus", "more", "heldout"):
        write(tmp_path / f"{name}.jsonl", [{"text": name}])
    sets = [DataSet(file="corpus.jsonl", role="corpus", licence="CC0-1.0"), DataSet(file="more.jsonl", role="corpus"),
            DataSet(file="heldout.jsonl", role="heldout", licence="MIT")]  # fmt: skip
    Manifest(sets=sets).write(tmp_path)
    assert Manifest.read(tmp_path) == Manifest(sets=sets)
    assert [(d.text, d.licence) for d in read_documents(tmp_path)] == [("corpus", "CC0-1.0"), ("more", None)]
    assert licence_of(tmp_path / "corpus.jsonl") == "CC0-1.0"
    assert licence_of(tmp_path) is None
    Manifest(sets=[sets[0], sets[2]]).write(tmp_path)
    assert licence_of(tmp_path) == "CC0-1.0 AND MIT"


@pytest.mark.parametrize(
    ("content", "code", "word"),
    [
        ({"format": 2, "sets": []}, "bad-manifest", "format"),
        ({"format": 1, "sets": [{"file": "a", "role": "train"}]}, "bad-manifest", "role"),
        ({"format": 1, "sets": [{"file": "../a.txt", "role": "corpus"}]}, "bad-manifest", "../a.txt"),
        ({"format": 1, "sets": [{"file": "gone.txt", "role": "corpus"}]}, "no-such-file", "gone.txt"),
        ({"format": 1, "sets": [{"file": "a", "role": "corpus", "license": "MIT"}]}, "bad-manifest", "license"),
    ],
)
def test_bad_manifests_are_refused(content: Any, code: str, word: str, tmp_path: Path) -> None:
    write(tmp_path / "manifest.json", json.dumps(content))
    with pytest.raises(IngotError, match=word) as caught:
        list(read_documents(tmp_path))
    assert caught.value.code == code


def test_bad_bytes_are_refused_by_position(tmp_path: Path) -> None:
    code, details = code_of(write(tmp_path / "a.txt", "好\nab".encode() + b"\xa4\xa4"))
    assert (code, details["line"], details["byte"], details["value"]) == ("not-utf8", 2, 6, "0xa4")
    code, details = code_of(write(tmp_path / "a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n'))
    assert (code, details["line"], details["byte"]) == ("not-utf8", 2, 24)


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        ('{"text": "a"}\n{"text": \n', "bad-record", 2),
        ('{"text": "a"}\n\n["b"]\n', "bad-record", 3),
        ('{"text": "a"}\n{"content": "b"}\n', "missing-text", 2),
        ('{"text": null}\n', "missing-text", 1),
        ('{"text": "\\ud800"}\n', "bad-record", 1),
        ("[" * 100_000, "bad-record", 1),
    ],
)
def test_bad_records_are_refused_by_line(content: str, code: str, line: int, tmp_path: Path) -> None:
    found, details = code_of(write(tmp_path / "a.jsonl", content))
    assert (found, details["line"]) == (code, line)


def test_nothing_to_read_is_refused(tmp_path: Path) -> None:
    assert code_of(tmp_path / "gone")[0] == "no-such-data"
    assert code_of(write(tmp_path / "a.pdf", "x"))[0] == "unknown-data-type"
    assert code_of(write(tmp_path / "a.txt", ""))[0] == "empty-corpus"
    assert code_of(write(tmp_path / "b.txt", " \n\n \n"))[0] == "blank-corpus"
    assert code_of(write(tmp_path / "a.jsonl", [{"text": ""}, {"text": " \n"}]))[0] == "blank-corpus"
    (tmp_path / "empty").mkdir()
    assert code_of(tmp_path / "empty")[0] == "no-data-files"


def test_broken_files_are_refused(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"text": "a"}\n' * 1000)
    assert code_of(write(tmp_path / "a.jsonl.gz", whole[: len(whole) // 2]))[0] == "bad-file"
    assert code_of(write(tmp_path / "b.jsonl.gz", b"not gzip"))[0] == "bad-file"
    assert code_of(write(tmp_path / "c.parquet", b"not parquet"))[0] == "bad-file"


@given(st.lists(st.text(), unique=True, max_size=30), st.integers(0, 2**32))
def test_holding_out_depends_on_the_text_and_seed_alone(found: list[str], seed: int) -> None:
    sides = [is_heldout(text, 0.3, seed) for text in found]
    assert sides == [is_heldout(text, 0.3, seed) for text in found]
    assert all(is_heldout(text, 0.5, seed) for text, held in zip(found, sides, strict=True) if held)


def test_the_held_out_share_is_what_was_asked() -> None:
    texts = [f"text {number}" for number in range(4000)]
    held = [text for text in texts if is_heldout(text, 0.1, 0)]
    assert 330 < len(held) < 470
    assert [text for text in texts if is_heldout(text, 0.1, 1)] != held
    assert not any(is_heldout(text, 0.0, 0) for text in texts)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("wiki_demo.txt", 30),
        ("zh_hant/ud_zh_hant_sentences.txt", 1000),
        ("zh_hant/tang_poems_first5000.jsonl", 5000),
        ("tinystories_sample.txt", 5),
        ("c4_demo.jsonl", 300),
    ],
)
def test_real_files_give_their_documents(name: str, count: int, real_data: Path) -> None:
    assert len(list(read_documents(real_data / "02_text" / name))) == count


def test_wikitext_articles_begin_documents(real_data: Path) -> None:
    found = list(read_documents(real_data / "02_text/wikitext-2/wiki.valid.tokens.txt"))
    assert sum(document.text.lstrip("\n").startswith(" = ") for document in found) >= 59
    assert max(len(document.text) for document in found) < 2 * DOCUMENT_SIZE
