"""`data manifest` and the SPDX names it accepts: true counts, statements kept, the unknown refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

import ingot
from ingot.core.errors import IngotError
from ingot.core.files import file_digest
from ingot.data.licence import COMMON, check_licence, join_licences
from ingot.data.manifest import Manifest
from ingot.text.tokenizer import Tokenizer
from tiny import write_tokenizer

TEXTS = ["the cat sat on the mat", "天空是藍色的。", "naïve café"]


def write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    write_lines(folder / "a.jsonl", [{"text": text} for text in TEXTS])
    write_lines(folder / "sub" / "b.jsonl", [{"text": "more", "licence": "cc-by-4.0"}, {"text": "x", "license": "MIT"}])
    return folder


def refused(code: str, *args: Any, **options: Any) -> dict[str, Any]:
    with pytest.raises(IngotError) as caught:
        ingot.data_manifest(*args, **options)
    assert caught.value.code == code
    return caught.value.details


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("MIT", "MIT"),
        ("mit", "MIT"),
        ("cc0-1.0 and CC-BY-4.0", "CC0-1.0 AND CC-BY-4.0"),
        ("(MIT OR apache-2.0) AND CC0-1.0", "(MIT OR Apache-2.0) AND CC0-1.0"),
        ("GPL-2.0+", "GPL-2.0-or-later"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-only WITH Classpath-exception-2.0"),
        ("LicenseRef-my.own", "LicenseRef-my.own"),
        ("NOASSERTION", None),
    ],
)
def test_known_licences(written: str, meant: str | None) -> None:
    assert check_licence(written, "here") == meant


@pytest.mark.parametrize(
    ("written", "name", "near"),
    [
        ("ODC-BY", "ODC-BY", "ODC-By-1.0"),
        ("CC BY-SA 4.0", "CC BY-SA 4.0", "CC-BY-SA-4.0"),
        ("Apache 2.0", "Apache 2.0", "Apache-2.0"),
        ("MIT AND nonsense-9", "nonsense-9", COMMON),
        ("MIT AND", "MIT AND", COMMON),
        ("", "", COMMON),
    ],
)
def test_unknown_licences_are_refused_by_name_with_the_nearest(written: str, name: str, near: str) -> None:
    with pytest.raises(IngotError) as caught:
        check_licence(written, "corpus.jsonl:3")
    assert caught.value.code == "unknown-licence"
    assert caught.value.details == {"name": name, "place": "corpus.jsonl:3", "nearest": near}


def test_licences_of_a_whole() -> None:
    assert join_licences(["MIT", "CC0-1.0 AND MIT", "MIT OR Apache-2.0"]) == "CC0-1.0 AND MIT AND (MIT OR Apache-2.0)"
    assert join_licences(["MIT", None]) is None
    assert join_licences(["MIT", "NOASSERTION"]) is None
    assert join_licences([]) is None


def test_a_plain_folder_gets_a_manifest_with_true_counts(folder: Path, tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path / "tok")
    summary = ingot.data_manifest(folder, source="from me", tokenizer=tokenizer).summary()
    manifest = Manifest.read(folder)
    assert manifest is not None
    first, second = manifest.sets
    assert (first.file, first.role, first.licence, first.source) == ("a.jsonl", "corpus", None, "from me")
    assert (second.file, second.licence) == ("sub/b.jsonl", "CC-BY-4.0 AND MIT")
    assert first.digest == file_digest(folder / "a.jsonl")
    assert first.documents == 3
    assert first.characters == sum(map(len, TEXTS))
    assert first.bytes == sum(len(text.encode()) for text in TEXTS)
    opened = Tokenizer.open(tokenizer)
    assert first.tokens == sum(len(opened.encode(text)) for text in TEXTS)
    assert manifest.tokenizer == opened.digest
    assert summary["documents"] == 5
    assert summary["licences"] == {"unknown": 1, "CC-BY-4.0 AND MIT": 1}


def test_statements_are_kept_and_only_missing_ones_filled(folder: Path) -> None:
    ingot.data_manifest(folder, licence="CC0-1.0", source="one")
    before = (folder / "manifest.json").read_bytes()
    ingot.data_manifest(folder, licence="MIT", source="two")
    assert (folder / "manifest.json").read_bytes() == before
    ingot.data_manifest(folder, licence="MIT", file=["a*"])
    manifest = Manifest.read(folder)
    assert manifest is not None
    assert [entry.licence for entry in manifest.sets] == ["MIT", "CC0-1.0"]
    assert [entry.source for entry in manifest.sets] == ["one", "one"]


def test_new_files_are_told_of_and_added_by_name(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    ingot.data_manifest(folder, licence="CC0-1.0")
    (folder / "c.txt").write_text("held out")
    with caplog.at_level(logging.WARNING, logger="ingot"):
        assert len(ingot.data_manifest(folder).manifest.sets) == 2
    assert "c.txt" in caplog.text
    found = ingot.data_manifest(folder, file=["c.txt"], role="heldout", licence="MIT").manifest
    assert (found.sets[2].file, found.sets[2].role, found.sets[2].licence) == ("c.txt", "heldout", "MIT")
    assert [entry.licence for entry in found.sets[:2]] == ["CC0-1.0", "CC0-1.0"]


def test_all_roles_are_counted(tmp_path: Path) -> None:
    world = ingot.world(tmp_path / "world", people=4, places=2, copies=2).path
    found = ingot.data_manifest(world).manifest
    lines = {entry.file: len((world / entry.file).read_text("utf-8").splitlines()) for entry in found.sets}
    assert {entry.file: entry.documents for entry in found.sets} == lines
    assert [entry.characters is None for entry in found.sets] == [False, False, True, True]


def test_conversations_have_the_licence_that_all_of_them_state(tmp_path: Path) -> None:
    folder = tmp_path / "chats"
    folder.mkdir()
    chat = {"prompt": "who?", "completion": "me"}
    for licences, expected in (["MIT", "CC0-1.0"], "CC0-1.0 AND MIT"), (["MIT", None], None):
        write_lines(folder / "a.jsonl", [chat | ({"licence": one} if one else {}) for one in licences])
        (entry,) = ingot.data_manifest(folder, file=["a.jsonl"], role="chat").manifest.sets
        assert (entry.licence, entry.documents) == (expected, 2)
        (folder / "manifest.json").unlink()
    write_lines(folder / "a.jsonl", [chat, chat | {"license": "Public Domain"}])
    assert refused("unknown-licence", folder, file=["a.jsonl"], role="chat")["place"].endswith("a.jsonl:2")


def test_refusals(folder: Path, tmp_path: Path) -> None:
    refused("manifest-not-a-folder", folder / "a.jsonl")
    refused("manifest-not-a-folder", tmp_path / "nothing")
    refused("manifest-role-needs-file", folder, role="heldout")
    assert refused("manifest-no-match", folder, file=["a.jsnl"])["nearest"] == "a.jsonl"
    assert refused("unknown-licence", folder, licence="CC-BY-4")["nearest"] == "CC-BY-4.0"
    refused("bad-option", folder, role="train")
    assert not (folder / "manifest.json").exists()
    write_lines(folder / "a.jsonl", [{"text": "fine", "licence": "MIT"}, {"text": "no", "licence": "Public Domain"}])
    assert refused("unknown-licence", folder)["place"].endswith("a.jsonl:2")
    (folder / "manifest.json").write_text(
        json.dumps({"format": 1, "sets": [{"file": "a.jsonl", "role": "corpus", "licence": "ODC-BY"}]})
    )
    assert refused("unknown-licence", folder)["nearest"] == "ODC-By-1.0"
