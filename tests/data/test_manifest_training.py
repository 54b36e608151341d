"""Licences and tokens where training reads them: what is refused, what the person is told, and counts that agree."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

import ingot
from ingot.core.errors import IngotError
from ingot.data.manifest import Manifest
from ingot.text.tokenizer import Tokenizer
from tiny import write_tokenizer

pytestmark = pytest.mark.slow

SMALL: dict[str, Any] = {
    "depth": 1,
    "length": 16,
    "batch_tokens": 64,
    "max_steps": 2,
    "loop": {"compile": "off", "precision": "fp32"},
}
LINES = [f"the cat number {n} sat on the mat and the dog ran. 天空是藍色的{n}。" for n in range(60)]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    return write_tokenizer(tmp_path / "tok")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "notes.txt").write_text("\n".join(LINES), encoding="utf-8")
    return folder


def train(data: Path, tokenizer: Path, **options: Any) -> Any:
    return ingot.pretrain(data, tokenizer=tokenizer, out=tokenizer.parent / "model", **SMALL | options)


def refused(code: str, data: Path, tokenizer: Path) -> IngotError:
    with pytest.raises(IngotError) as caught:
        train(data, tokenizer)
    assert caught.value.code == code
    assert not list(tokenizer.parent.glob(".model*"))
    return caught.value


def test_a_plain_folder_is_refused_once_with_both_ways_on(folder: Path, tokenizer: Path) -> None:
    told = str(refused("no-licence", folder, tokenizer))
    assert "notes.txt:1" in told
    assert f"ingot data manifest {folder} --licence" in told
    assert "--corpus.allow-unknown-licence" in told
    step = train(folder, tokenizer, corpus={"allow_unknown_licence": True}).hallmark.step
    assert [source.licence for source in step.data] == [None]


def test_the_manifest_command_that_the_refusal_names_is_enough(folder: Path, tokenizer: Path) -> None:
    ingot.data_manifest(folder, licence="CC0-1.0")
    assert [source.licence for source in train(folder, tokenizer).hallmark.step.data] == ["CC0-1.0"]


def test_one_file_of_a_folder_with_a_manifest(folder: Path, tokenizer: Path) -> None:
    ingot.data_manifest(folder, licence="CC-BY-4.0")
    assert [source.licence for source in train(folder / "notes.txt", tokenizer).hallmark.step.data] == ["CC-BY-4.0"]


def test_one_document_without_a_licence_is_found(tmp_path: Path, tokenizer: Path) -> None:
    records = [{"text": line, "licence": "CC0-1.0"} for line in LINES]
    del records[40]["licence"]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert "mine.jsonl:41" in str(refused("no-licence", path, tokenizer))
    records[40]["licence"] = "NOASSERTION"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    refused("no-licence", path, tokenizer)
    records[40]["licence"] = "CC BY 4.0"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert refused("unknown-licence", path, tokenizer).details["nearest"] == "CC-BY-4.0"


def test_a_changed_file_is_not_what_its_manifest_says(folder: Path, tokenizer: Path) -> None:
    ingot.data_manifest(folder, licence="CC0-1.0")
    with (folder / "notes.txt").open("a") as stream:
        stream.write("\none line more.\n")
    refused("stale-manifest", folder, tokenizer)


def test_files_that_the_manifest_does_not_name_are_told_of(
    folder: Path, tokenizer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ingot.data_manifest(folder, licence="CC0-1.0")
    (folder / "later.md").write_text("# later\nwritten after the manifest")
    with caplog.at_level(logging.WARNING, logger="ingot"):
        train(folder, tokenizer)
    assert "later.md" in caplog.text


@pytest.mark.parametrize("length", [16, 256])
def test_every_token_is_accounted_for(length: int, folder: Path, tokenizer: Path) -> None:
    """Rows shorter and longer than the documents; counted here with the tokenizer alone."""
    ingot.data_manifest(folder, licence="CC0-1.0", tokenizer=tokenizer)
    step = train(folder, tokenizer, length=length, corpus={"heldout": 0.2}).hallmark.step
    numbers, opened = step.numbers, Tokenizer.open(tokenizer)
    expected = sum(len(opened.encode(line)) for line in LINES)
    manifest = Manifest.read(folder)
    assert manifest is not None
    assert manifest.sets[0].tokens == numbers["corpus_tokens"] == expected
    assert 0 < numbers["corpus_heldout_documents"] < numbers["corpus_documents"] == 60
    kept = 60 - numbers["corpus_heldout_documents"]
    assert numbers["corpus_separators"] == kept * (1 + len(opened.start_ids))
    packed = expected - numbers["corpus_heldout_tokens"] + numbers["corpus_separators"]
    assert numbers["tokens_in_data"] == packed
    proofs = {proof.check: proof.difference for proof in step.proof}
    assert proofs["tokens lost or counted twice"] == 0
    assert proofs["tokens beside those of the manifest"] == 0


def test_a_false_count_in_the_manifest_is_found(folder: Path, tokenizer: Path) -> None:
    ingot.data_manifest(folder, licence="CC0-1.0", tokenizer=tokenizer)
    content = json.loads((folder / "manifest.json").read_text())
    content["sets"][0]["tokens"] += 1
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(IngotError) as caught:
        train(folder, tokenizer)
    assert caught.value.code == "not-proven"
