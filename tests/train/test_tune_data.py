"""What `tune` trains on: text as pre-training reads it, conversations with their masks; streamed, licensed, counted."""

from __future__ import annotations

import json
import logging
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ingot
from ingot.adapt.load import load
from ingot.core.errors import IngotError
from ingot.data.chats import read_chats, render_chat
from ingot.data.manifest import DataSet, Manifest
from ingot.data.objectives.catalogue import make_objective
from ingot.data.objectives.options import ObjectiveOptions
from ingot.data.pack import Rows, pack_chats
from ingot.data.read import Document, is_heldout
from ingot.text.tokenizer import Tokenizer
from ingot.train import corpus as reading
from ingot.train.account import Account
from ingot.train.corpus import prepare
from ingot.train.reading import ConversationOptions, read_conversations
from tiny import GPT2, LLAMA, write_model, write_tokenizer

pytestmark = pytest.mark.slow

SMALL: dict[str, Any] = {"batch_tokens": 128, "max_steps": 2, "loop": {"compile": "off", "precision": "fp32"}}
LICENCES = ["CC0-1.0", "cc-by-4.0", "LicenseRef-mine"]
TEXTS = [f"the cat number {n} sat on the mat and the dog ran. 天空是藍色的{n}。" for n in range(120)]
CHAT = {"messages": [{"role": "user", "content": "who?"}, {"role": "assistant", "content": "the cat"}]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    return write_model(path / "base", LLAMA, tokenizer=write_tokenizer(path / "tok"))


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def write_text(path: Path, licensed: bool = True) -> Path:
    licences = [{"licence": LICENCES[number % 3]} if licensed else {} for number in range(len(TEXTS))]
    return write(path, [{"text": text} | licence for text, licence in zip(TEXTS, licences, strict=True)])


def tune(model: Path, data: Path, out: Path, **options: Any) -> Any:
    return ingot.tune(str(model), data=data, out=out, **SMALL | options)


def refused(code: str, model: Path, data: Path, out: Path, **options: Any) -> IngotError:
    with pytest.raises(IngotError) as caught:
        tune(model, data, out, **options)
    assert caught.value.code == code
    assert not list(out.parent.glob(f".{out.name}*"))
    assert not out.exists()
    return caught.value


@pytest.mark.parametrize("method", ["full", "lora"])
def test_text_is_held_out_counted_and_measured(method: str, model: Path, tmp_path: Path) -> None:
    """Counted here with the tokenizer alone."""
    data = write_text(tmp_path / "text.jsonl")
    made = tune(model, data, tmp_path / "t", as_text=True, method=method, corpus={"heldout": 0.2}, seed=3)
    numbers, tokenizer = made.hallmark.step.numbers, Tokenizer.open(model)
    encode = tokenizer.encode
    held = [text for text in TEXTS if is_heldout(text, 0.2, 3)]
    trained = Counter(dict.fromkeys(("CC0-1.0", "CC-BY-4.0", "LicenseRef-mine"), 0))
    for number, text in enumerate(TEXTS):
        if text not in held:
            trained[list(trained)[number % 3]] += len(encode(text))
    assert numbers["corpus_licences"] == dict(sorted(trained.items()))
    assert numbers["corpus_heldout_documents"] == len(held) > 5
    assert numbers["corpus_heldout_tokens"] == sum(len(encode(text)) for text in held)
    assert numbers["corpus_tokens"] == sum(trained.values()) + numbers["corpus_heldout_tokens"]
    assert numbers["tokens_in_data"] == sum(trained.values()) + (len(TEXTS) - len(held)) * (
        1 + len(tokenizer.start_ids)
    )
    assert numbers["heldout_loss"] > 0
    assert numbers["bits_per_byte"] > 0
    proofs = {proof.check: proof.difference for proof in made.hallmark.step.proof}
    assert proofs["tokens lost or counted twice"] == 0
    assert made.hallmark.step.data[0].licence == "CC-BY-4.0 AND CC0-1.0 AND LicenseRef-mine"


def test_nothing_is_held_out_where_nothing_is_to_be(model: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "one.jsonl", [{"text": TEXTS[0] * 4, "licence": "CC0-1.0"}])
    assert "--corpus.heldout 0" in str(refused("bad-heldout-share", model, data, tmp_path / "t", as_text=True))
    numbers = tune(model, data, tmp_path / "t", as_text=True, corpus={"heldout": 0}).hallmark.step.numbers
    assert numbers["corpus_heldout_documents"] == 0
    assert "heldout_loss" not in numbers


def test_text_of_unknown_licence_is_refused_as_by_pretrain(model: Path, tmp_path: Path) -> None:
    data = write_text(tmp_path / "text.jsonl", licensed=False)
    told = str(refused("no-licence", model, data, tmp_path / "t", as_text=True))
    with pytest.raises(IngotError) as caught:
        ingot.pretrain(data, tokenizer=model, out=tmp_path / "p", depth=1, length=32, **SMALL)
    assert told == str(caught.value)
    step = tune(model, data, tmp_path / "t", as_text=True, corpus={"allow_unknown_licence": True}).hallmark.step
    assert list(step.numbers["corpus_licences"]) == ["NOASSERTION"]
    assert step.data[0].licence is None


def test_ones_own_conversations_are_tuned_on_with_a_warning(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "own").mkdir()
    data = write(tmp_path / "own" / "chats.jsonl", [CHAT] * 5)
    with caplog.at_level(logging.WARNING, logger="ingot"):
        step = tune(model, data, tmp_path / "t").hallmark.step
    assert "5 of the conversations" in caplog.text
    assert step.data[0].licence is None
    tokens = 5 * len(render_chat(next(iter(read_chats(data))), Tokenizer.open(model)).ids)
    assert step.numbers["corpus_licences"] == {"NOASSERTION": tokens}
    assert step.numbers["tokens_in_data"] == tokens
    command = caplog.text.partition("`ingot ")[2].partition("`")[0].replace("NAME", "LicenseRef-mine")
    command = command.replace("FOLDER", str(data.parent))
    from ingot.cli import main

    assert main(command.split()) == 0
    caplog.clear()
    step = tune(model, data, tmp_path / "u").hallmark.step
    assert step.data[0].licence == "LicenseRef-mine"
    assert step.numbers["corpus_licences"] == {"LicenseRef-mine": tokens}
    assert "nobody has said" not in caplog.text


def test_conversations_somebody_spoke_of_must_have_a_licence(model: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "chats.jsonl", [CHAT, CHAT | {"licence": "NOASSERTION"}])
    assert "chats.jsonl:2" in str(refused("no-licence", model, data, tmp_path / "t"))
    write(data, [CHAT, CHAT | {"licence": "CC BY 4.0"}])
    assert refused("unknown-licence", model, data, tmp_path / "t").details["nearest"] == "CC-BY-4.0"
    write(data, [CHAT, CHAT | {"license": "MIT"}])
    licences = tune(model, data, tmp_path / "mixed").hallmark.step.numbers["corpus_licences"]
    assert len(set(licences.values())) == 1
    assert set(licences) == {"MIT", "NOASSERTION"}
    for stated in (None, "NOASSERTION"):
        Manifest(sets=[DataSet(file="chats.jsonl", role="chat", licence=stated)]).write(tmp_path)
        for path in (data, tmp_path):
            assert "chats.jsonl:1" in str(refused("no-licence", model, path, tmp_path / "t"))
    allowed = tune(model, data, tmp_path / "allowed", corpus={"allow_unknown_licence": True})
    assert allowed.hallmark.step.data[0].licence is None


def test_conversations_other_than_their_manifest_says_are_refused(model: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "chats.jsonl", [CHAT])
    Manifest(sets=[DataSet(file="chats.jsonl", role="chat", licence="MIT", digest="0" * 64)]).write(tmp_path)
    refused("stale-manifest", model, data, tmp_path / "t")


def test_a_share_of_conversations_is_not_held_out_in_silence(model: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "chats.jsonl", [CHAT])
    with pytest.raises(IngotError, match="acts only on plain text"):
        tune(model, data, tmp_path / "t", corpus={"heldout": 0.5})


def test_conversations_in_files_are_those_in_memory(model: Path, tmp_path: Path) -> None:
    answers = ["the cat", "sat", "on the mat and ran " * 3]
    records = [{"prompt": f"what of {n}?", "completion": answers[n % 3]} for n in range(40)]
    data, opened = write(tmp_path / "chats.jsonl", records), load(model)
    objective = make_objective("next-token", opened.tokenizer, 128)
    options = ObjectiveOptions()
    account = Account.of_chats(data, allow_unknown_licence=False)
    found = read_conversations(account, opened, objective, options, 128, tmp_path / "rows", ConversationOptions())
    rendered = [render_chat(chat, opened.tokenizer) for chat in read_chats(data)]
    expected = pack_chats(rendered, 128, pad=opened.tokenizer.pad_id or 0)
    for name in ("ids", "segments", "targets"):
        assert isinstance(getattr(found.rows, name), np.memmap)
        assert np.array_equal(getattr(found.rows, name), getattr(expected, name))
    assert [found.rows.documents(row) for row in range(len(expected))] == [
        expected.documents(row) for row in range(len(expected))
    ]
    assert found.names(7) == "chats.jsonl:8"


@pytest.mark.parametrize(("words", "expected"), [(3, 256), (150, 512), (270, 600)])
def test_rows_are_as_short_as_the_longest_conversation_allows(words: int, expected: int, tmp_path: Path) -> None:
    """Unless a window was asked for."""
    config = LLAMA | {"max_position_embeddings": 600}
    opened = load(write_model(tmp_path / "model", config, tokenizer=write_tokenizer(tmp_path / "tok")))
    records = [{"prompt": f"what of {n}?", "completion": "the cat " * (words if n == 3 else 1)} for n in range(9)]
    data = write(tmp_path / "chats.jsonl", records)
    objective = make_objective("next-token", opened.tokenizer, 600)

    def packed(name: str, shorter: bool) -> Rows:
        account = Account.of_chats(data, allow_unknown_licence=False)
        return read_conversations(account, opened, objective, ObjectiveOptions(), 600, tmp_path / name,
                                  ConversationOptions(), shorter).rows  # fmt: skip

    short, whole = packed("short", shorter=True), packed("whole", shorter=False)
    assert (short.length, whole.length) == (expected, 600)
    assert short.num_targets == whole.num_targets
    assert not (tmp_path / "short" / "wide").exists()


@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_held_out_text_leaves_room_for_what_stands_in_front(method: str, tmp_path: Path) -> None:
    """GPT-2 has no position beyond its window, which the sixteen tokens in front are part of."""
    model = write_model(tmp_path / "gpt2", GPT2, tokenizer=write_tokenizer(tmp_path / "tok"))
    text = write(tmp_path / "text.jsonl", [{"text": line * 8, "licence": "CC0-1.0"} for line in TEXTS])
    made = tune(model, text, tmp_path / "t", as_text=True, method=method, corpus={"heldout": 0.3})
    assert made.hallmark.step.numbers["heldout_loss"] > 0


def test_a_corpus_streams_by(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many documents there are, few of them are in memory at a time."""
    alive, peak = Counter[str](), 0

    def read(path: Path) -> Iterator[Document]:
        nonlocal peak
        for number in range(4000):
            document = Document(f"text {number}", path.name, number + 1, "MIT")
            alive["now"] += 1
            weakref.finalize(document, alive.subtract, {"now": 1})
            peak = max(peak, alive["now"])
            yield document

    monkeypatch.setattr(reading, "read_documents", read)
    monkeypatch.setattr(reading, "BATCH_DOCUMENTS", 50)
    tokenizer = Tokenizer.open(model)
    account = Account(write_text(tmp_path / "text.jsonl"), False)
    objective = make_objective("next-token", tokenizer, 32)
    found = prepare(account, tokenizer, objective, 32, 0.1, 0, tmp_path / "rows")
    assert account.documents == 4000
    assert account.heldout_documents > 300
    assert found.rows.num_tokens == account.tokens + account.separators - account.heldout_tokens
    assert peak < 110
    held = {number for number in range(4000) if is_heldout(f"text {number}", 0.1, 0)}
    named = [int(found.names(number).partition(":")[2]) - 1 for number in range(4000 - len(held))]
    assert sorted(named) == sorted(set(range(4000)) - held)
