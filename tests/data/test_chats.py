"""Conversations: every format becomes the same messages; what is wrong is named by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ingot.core.errors import IngotError
from ingot.data import chats
from ingot.data.manifest import DataSet, Manifest

EXPECTED = [{"role": "user", "content": "問 q"}, {"role": "assistant", "content": "答 a"}]
SYSTEM = {"role": "system", "content": "s"}


def read_chats(path: Path) -> list[tuple[Any, int]]:
    return [(chat.messages, chat.line) for chat in chats.read_chats(path)]


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"messages": EXPECTED}, EXPECTED),
        ({"messages": [SYSTEM, *EXPECTED], "kind": "x"}, [SYSTEM, *EXPECTED]),
        ({"conversations": [{"from": "human", "value": "問 q"}, {"from": "gpt", "value": "答 a"}]}, EXPECTED),
        ({"conversations": [{"from": "user", "value": "問 q"}, {"from": "assistant", "value": "答 a"}], "system": "s"},
         [SYSTEM, *EXPECTED]),
        ({"instruction": "問 q", "input": "", "output": "答 a"}, EXPECTED),
        ({"instruction": "問 q", "output": "答 a"}, EXPECTED),
        ({"prompt": "問 q", "completion": "答 a"}, EXPECTED),
        ({"instruction": "a", "input": "b", "output": "c"},
         [{"role": "user", "content": "a\n\nb"}, {"role": "assistant", "content": "c"}]),
    ],
)  # fmt: skip
def test_every_format_becomes_messages(record: Any, expected: Any, tmp_path: Path) -> None:
    assert read_chats(write(tmp_path / "a.jsonl", record, record)) == [(expected, 1), (expected, 2)]
    (tmp_path / "a.json").write_text(json.dumps([record]))
    assert read_chats(tmp_path / "a.json") == [(expected, 1)]


@pytest.mark.parametrize(
    ("record", "code", "word"),
    [
        ({"text": "a"}, "unknown-chat-format", "text"),
        ({"messages": "hello"}, "bad-chat", "not a list"),
        ({"messages": []}, "bad-chat", "no messages"),
        ({"messages": EXPECTED[:1]}, "bad-chat", "no assistant message"),
        ({"messages": EXPECTED[1:]}, "bad-chat", "message 1: an assistant message follows nothing"),
        ({"messages": [EXPECTED[0], EXPECTED[0], EXPECTED[1]]}, "bad-chat", "message 2: two user"),
        ({"messages": [*EXPECTED, EXPECTED[1]]}, "bad-chat", "message 3: two assistant"),
        ({"messages": [*EXPECTED, SYSTEM]}, "bad-chat", "message 3"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "bad-chat", "robot"),
        ({"messages": [{"role": "user"}, EXPECTED[1]]}, "bad-chat", "no content"),
        ({"conversations": [{"from": "alien", "value": "x"}]}, "bad-chat", "alien"),
        ({"conversations": [{"from": "human"}]}, "bad-chat", "no content"),
        ({"instruction": 3, "output": "x"}, "bad-chat", "content"),
        ({"prompt": "a", "completion": "\ud800"}, "bad-record", "surrogate"),
    ],
)
def test_wrong_conversations_are_refused_by_line(record: Any, code: str, word: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"messages": EXPECTED}, record)
    with pytest.raises(IngotError, match=word) as caught:
        read_chats(path)
    assert (caught.value.code, caught.value.details["line"]) == (code, 2)


def test_a_directory_needs_a_manifest(tmp_path: Path) -> None:
    write(tmp_path / "chat.jsonl", {"messages": EXPECTED})
    with pytest.raises(IngotError) as caught:
        read_chats(tmp_path)
    assert caught.value.code == "no-chat-files"
    Manifest(sets=[DataSet(file="chat.jsonl", role="chat")]).write(tmp_path)
    assert read_chats(tmp_path) == [(EXPECTED, 1)]


@pytest.mark.parametrize(
    ("name", "code"), [("gone.jsonl", "no-such-data"), ("a.txt", "unknown-chat-type"), ("e.jsonl", "empty-chats")]
)
def test_files_without_conversations_are_refused(name: str, code: str, tmp_path: Path) -> None:
    write(tmp_path / "e.jsonl")
    write(tmp_path / "a.txt")
    with pytest.raises(IngotError) as caught:
        read_chats(tmp_path / name)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("llamafactory/identity.json", 91),
        ("fastchat/dummy_conversation.json", 500),
        ("llamafactory/oaast_sft_zh.json", 689),
    ],
)
def test_real_conversations_are_read(name: str, count: int, real_data: Path) -> None:
    assert len(read_chats(real_data / "03_instruct" / name)) == count


def test_conversations_are_rendered_and_errors_name_the_line(tmp_path: Path) -> None:
    from ingot.data.chats import Chat, render_chat
    from ingot.data.tokenizer_verb import tokenizer_train
    from ingot.text.chat import render
    from ingot.text.tokenizer import Tokenizer

    (tmp_path / "a.txt").write_text("hello there.\n")
    own = "{% for m in messages %}{{ raise_exception('too rude') if 'x' in m.content }}{{ m.content }}{% endfor %}"
    (tmp_path / "own.jinja").write_text(own)
    given = [Chat(EXPECTED, 3), Chat([EXPECTED[0], {"role": "assistant", "content": "x"}], 8)]
    tokenizer = Tokenizer.open(tokenizer_train(tmp_path / "a.txt", out=tmp_path / "tok", vocab_size=260).path)
    for chat in given:
        assert render_chat(chat, tokenizer) == render(chat.messages, tokenizer)
    template = tmp_path / "own.jinja"
    out = tmp_path / "picky"
    (tmp_path / "tok/chat_template.jinja").write_text(template.read_text())
    (tmp_path / "tok").rename(out)
    with pytest.raises(IngotError, match=r"line 8.*too rude"):
        render_chat(given[1], Tokenizer.open(out))
