"""What training is given that cannot be trained on: one sentence naming the place, a status that is not 0, nothing
half-written, and nothing of it read as something else.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

import ingot
from ingot.cli import main
from ingot.core.errors import IngotError
from ingot.data.pack import pack_documents
from ingot.model.weights import spec_of, write_tensors
from ingot.train.tune import TuneOptions
from tiny import BERT, GPT2, LLAMA, make_random_network, write_model, write_tokenizer

pytestmark = pytest.mark.slow

LOOP = {"compile": "off", "precision": "fp32"}
TUNE: dict[str, Any] = {"batch_tokens": 128, "max_steps": 3, "loop": LOOP}
PRETRAIN: dict[str, Any] = TUNE | {"depth": 1, "length": 32}
TEXTS = [f"the cat number {n} sat on the mat and the dog ran." for n in range(60)]
CHAT = {"messages": [{"role": "user", "content": "who?"}, {"role": "assistant", "content": "the cat"}]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with a mask token, a model of two kinds, text and conversations."""
    from tokenizers import Tokenizer

    path = tmp_path_factory.mktemp("bad")
    tokenizer = Tokenizer.from_file(str(write_tokenizer(path / "tok") / "tokenizer.json"))
    tokenizer.add_special_tokens(["<|mask|>"])
    tokenizer.save(str(path / "tok" / "tokenizer.json"))
    for name, config in (("llama", LLAMA), ("gpt2", GPT2), ("bert", BERT)):
        write_model(path / name, config | {"vocab_size": 321}, tokenizer=path / "tok")
    write_jsonl(path / "text.jsonl", *({"text": text, "licence": "MIT"} for text in TEXTS))
    write_jsonl(path / "chats.jsonl", *[CHAT] * 8)
    return path


def write_jsonl(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def refused(code: str, verb: Callable[..., Any], *args: Any, out: Path, **options: Any) -> str:
    """The sentence; nothing is left behind."""
    with pytest.raises(IngotError) as caught:
        verb(*args, out=out, **options)
    assert caught.value.code == code
    assert not out.exists()
    assert not list(out.parent.glob(f".{out.name}*"))
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "code", "told"),
    [
        (b"", "empty-corpus", "data.jsonl"),
        (b'{"text": " "}\n{"text": "\\n"}\n', "blank-corpus", "all 2 documents"),
        ('{"text": "ok"}\n{"text": "caf\xe9"}\n'.encode("latin-1"), "not-utf8", "line 2"),
        (b'{"text": "ok"}\n{"txt": "no"}\n', "missing-text", "line 2"),
        (b'{"text": "ok"\n', "bad-record", "line 1"),
    ],
)
@pytest.mark.parametrize("verb", ["pretrain", "tune"])
def test_text_that_is_none(verb: str, content: bytes, code: str, told: str, folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_bytes(content)
    common: dict[str, Any] = {"out": tmp_path / "m", "corpus": {"allow_unknown_licence": True, "heldout": 0}}
    if verb == "pretrain":
        sentence = refused(code, ingot.pretrain, data, tokenizer=folder / "tok", **PRETRAIN, **common)
    else:
        sentence = refused(code, ingot.tune, str(folder / "llama"), data=data, as_text=True, **TUNE, **common)
    assert told in sentence


def test_documents_longer_than_the_window_lose_no_token(folder: Path, tmp_path: Path) -> None:
    """All of them: each becomes several pieces, and every token is trained on."""
    data = write_jsonl(tmp_path / "long.jsonl", *({"text": text * 9, "licence": "MIT"} for text in TEXTS))
    numbers = ingot.pretrain(data, tokenizer=folder / "tok", out=tmp_path / "m", **PRETRAIN | {"length": 16}).hallmark
    assert numbers is not None
    found = numbers.step.numbers
    assert found["corpus_documents"] == 60
    assert (
        found["tokens_in_data"] == found["corpus_tokens"] - found["corpus_heldout_tokens"] + found["corpus_separators"]
    )
    assert found["tokens_in_data"] > 16 * 60


def test_conversations_longer_than_the_window_are_refused_by_line(folder: Path, tmp_path: Path) -> None:
    long = {"messages": [CHAT["messages"][0], {"role": "assistant", "content": "the cat " * 200}]}
    data = write_jsonl(tmp_path / "chats.jsonl", CHAT, long)
    sentence = refused("chat-too-long", ingot.tune, str(folder / "llama"), data=data, out=tmp_path / "m", **TUNE)
    assert "on line 2" in sentence
    assert "128" in sentence


def test_nothing_to_learn_is_refused(folder: Path, tmp_path: Path) -> None:
    """A template whose own tags mark no answer; a share so small that nothing is ever asked."""
    model = write_model(tmp_path / "llama", LLAMA | {"vocab_size": 321}, tokenizer=folder / "tok")
    tags = "{% for m in messages %}{{ m.content }}{% generation %}{% endgeneration %}{% endfor %}"
    (model / "chat_template.jinja").write_text(tags)
    chats = {"data": folder / "chats.jsonl", "out": tmp_path / "m"}
    assert "on line 1" in refused("no-target", ingot.tune, str(model), **chats, **TUNE)
    data = {"data": folder / "text.jsonl", "as_text": True, "method": "full"}
    with pytest.raises(IngotError, match="all 3 steps") as caught:
        ingot.tune(str(folder / "bert"), objective="masked-lm", objectives={"mask_rate": 1e-4}, out=tmp_path / "m",
                   **data, **TUNE)  # fmt: skip
    assert caught.value.code == "nothing-asked"
    assert not (tmp_path / "m").exists()


def test_weights_that_are_no_numbers_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "llama", LLAMA | {"vocab_size": 321}, tokenizer=folder / "tok")
    state = dict(make_random_network(LLAMA | {"vocab_size": 321}).state_dict())
    state["model.norm.weight"][3] = torch.nan
    write_tensors(model / "model.safetensors", spec_of(state), state.items())
    data = {"data": folder / "chats.jsonl", "out": tmp_path / "m"}
    assert "model.norm.weight" in refused("not-finite", ingot.tune, str(model), **data, **TUNE)


def test_a_tokenizer_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "small", LLAMA | {"vocab_size": 300}, tokenizer=folder / "tok")
    data = {"data": folder / "chats.jsonl", "out": tmp_path / "m"}
    assert "300" in refused("tokenizer-too-large", ingot.tune, str(model), **data, **TUNE)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_window_beyond_the_learned_positions_is_refused(family: str, folder: Path, tmp_path: Path) -> None:
    data = {"data": folder / "chats.jsonl", "out": tmp_path / "m", "length": 129}
    assert "128" in refused("window-too-long", ingot.tune, str(folder / family), **data, **TUNE)


def test_rotary_heads_of_odd_width_are_refused(folder: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "odd", LLAMA | {"vocab_size": 321}, tokenizer=folder / "tok")
    (model / "config.json").write_text(json.dumps(LLAMA | {"vocab_size": 321, "head_dim": 7}))
    data = {"data": folder / "chats.jsonl", "out": tmp_path / "m"}
    assert "head_dim" in refused("config-does-not-fit", ingot.tune, str(model), **data, **TUNE)


@pytest.mark.parametrize("rate", [0, -1e-3])
def test_a_learning_rate_that_is_not_above_0_is_refused(rate: float, folder: Path, tmp_path: Path) -> None:
    text = {"tokenizer": folder / "tok", "out": tmp_path / "m", "lr": rate}
    assert "lr" in refused("bad-option", ingot.pretrain, folder / "text.jsonl", **PRETRAIN, **text)
    chats = {"data": folder / "chats.jsonl", "out": tmp_path / "m", "lr": rate}
    assert "lr" in refused("bad-option", ingot.tune, str(folder / "llama"), **TUNE, **chats)


@pytest.mark.parametrize("file", ["ids.bin", "begins.bin"])
def test_a_disk_that_fills_up_while_rows_are_packed(
    file: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def full(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        stream: BinaryIO = real(path, mode, *args, **kwargs)  # type: ignore[call-overload]
        if path.name == file and mode == "ab" and path.stat().st_size:
            stream.close()
            raise OSError(errno.ENOSPC, "No space left on device")
        return stream

    monkeypatch.setattr(Path, "open", full)
    documents = [[number] * 9 for number in range(50)]
    with pytest.raises(IngotError) as caught:
        pack_documents(documents, 16, eos=0, directory=tmp_path / "rows", buffer_tokens=60)
    assert caught.value.code == "disk-full"
    monkeypatch.setattr("ingot.data.pack.BUFFER_TOKENS", 60)
    if file == "begins.bin":  # its first number is there before any row
        data = {"data": folder / "text.jsonl", "out": tmp_path / "m", "as_text": True}
        refused("disk-full", ingot.tune, str(folder / "llama"), **TUNE, **data)


def test_a_refusal_on_the_command_line_is_a_sentence_and_a_status(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tune", str(folder / "llama"), "--data", str(folder / "chats.jsonl"), "--out", str(tmp_path / "m")]
    assert main([*words, "--length", "129"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


CHANGES: dict[str, dict[str, Any]] = {
    "method": {"method": "full", "lr": 1e-3},
    "rank": {"rank": 2},
    "lora": {"lora": {"alpha": 1.0}},
    "prompt": {"method": "prompt", "prompt": {"tokens": 3}},
    "objective": {"objective": "prefix-lm", "as_text": True, "data": "text.jsonl"},
    "objectives": {"objectives": {"split": "answer"}},
    "as_text": {"as_text": True, "data": "text.jsonl"},
    "length": {"length": 40, "batch_tokens": 40},
    "corpus": {"as_text": True, "data": "text.jsonl", "corpus": {"heldout": 0.5}},
    "epochs": {"epochs": 3.0, "max_steps": None},
    "max_steps": {"max_steps": 5},
    "max_minutes": {"max_minutes": 1e-4, "max_steps": 10_000},
    "batch_tokens": {"batch_tokens": 256},
    "lr": {"lr": 1e-5},
    "seed": {"seed": 9},
    "loop": {"loop": LOOP | {"clip": 0.01}},
}
ELSEWHERE = {"model", "data", "out", "resume", "chats", "search", "forgetting"}
"""Options of `tune` with tests of their own."""


def test_every_option_of_tune_is_walked() -> None:
    assert set(CHANGES) | ELSEWHERE == set(TuneOptions.model_fields)


@pytest.mark.parametrize("name", CHANGES)
def test_each_option_of_tune_changes_what_is_learnt_or_is_refused(name: str, folder: Path, tmp_path: Path) -> None:
    def tune(out: str, **options: Any) -> str:
        given = {"data": "chats.jsonl", "lr": 1e-2} | options
        given["data"] = folder / given["data"]
        made = ingot.tune(str(folder / "llama"), out=tmp_path / out, **TUNE | given)
        return next(digest for file, digest in made.files.items() if file.endswith(".safetensors"))

    changed = CHANGES[name]
    without = {key: value for key, value in changed.items() if key != name and name != "max_minutes"}
    if name == "objectives":
        with pytest.raises(IngotError) as caught:
            tune("changed", **changed)
        assert caught.value.code == "objective-option-unused"
        return
    if name == "as_text":  # the file is read as text, not as conversations
        with pytest.raises(IngotError) as caught:
            tune("plain", **without)
        assert caught.value.code == "unknown-chat-format"
        assert tune("changed", **changed)
        return
    assert tune("plain", **without) != tune("changed", **changed)
