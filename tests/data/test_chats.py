"""Conversations: every format becomes the same messages; what is wrong is named by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ingot.core.errors import IngotError
from ingot.data import chats
from ingot.data.chats import Chat
from ingot.data.manifest import DataSet, Manifest

EXPECTED = [{"role": "user", "content": "問 q"}, {"role": "assistant", "content": "答 a"}]
SYSTEM = {"role": "system", "content": "s"}


def read_chats(path: Path, **options: bool) -> list[Chat]:
    return list(chats.read_chats(path, **options))


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"messages": EXPECTED}, EXPECTED),
        ({"messages": EXPECTED, "system": "s"}, [SYSTEM, *EXPECTED]),
        ({"messages": [{"from": "human", "value": "問 q"}, {"from": "gpt", "value": "答 a"}]}, EXPECTED),
        ({"conversations": EXPECTED}, EXPECTED),
        ({"messages": [{**message, "name": None} for message in EXPECTED]}, EXPECTED),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "問 "}, {"type": "text", "value": "q"}]},
                       EXPECTED[1]]}, EXPECTED),
        ({"instruction": "問 q", "context": "", "response": "答 a", "category": "qa"}, EXPECTED),
        ({"instruction": "c", "output": "d", "history": [["a", "b"], ["e", "f"]]},
         [{"role": role, "content": said} for role, said in zip(["user", "assistant"] * 3, "abefcd", strict=True)]),
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
    found = read_chats(write(tmp_path / "a.jsonl", record, record))
    assert [(chat.messages, chat.line, chat.learn) for chat in found] == [(expected, 1, None), (expected, 2, None)]
    (tmp_path / "a.json").write_text(json.dumps([record]))
    assert read_chats(tmp_path / "a.json") == [found[0]._replace(source="a.json")]


@pytest.mark.parametrize(
    ("record", "code", "word"),
    [
        ({"text": "a"}, "unknown-chat-format", "text"),
        ({"messages": "hello"}, "bad-chat", "no list"),
        ({"messages": []}, "bad-chat", "no messages"),
        ({"messages": EXPECTED[:1]}, "bad-chat", "no assistant message"),
        ({"messages": EXPECTED[1:]}, "bad-chat", "message 1: an assistant message answers"),
        ({"messages": [EXPECTED[0], EXPECTED[0], EXPECTED[1]]}, "bad-chat", "message 2: two user"),
        ({"messages": [*EXPECTED, EXPECTED[1]]}, "bad-chat", "message 3: two assistant"),
        ({"messages": [*EXPECTED, SYSTEM]}, "bad-chat", "message 3"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "bad-chat", "robot"),
        ({"messages": [{"role": "user"}, EXPECTED[1]]}, "bad-chat", "no content"),
        ({"conversations": [{"from": "alien", "value": "x"}]}, "bad-chat", "alien"),
        ({"conversations": [{"from": "human"}]}, "bad-chat", "no content"),
        ({"instruction": 3, "output": "x"}, "bad-chat", "content"),
        ({"prompt": "a", "completion": "\ud800"}, "bad-record", "surrogate"),
        ({"prompt": "a", "completion": " \n"}, "bad-chat", "message 2: the answer is empty"),
        ({"messages": [SYSTEM, *EXPECTED], "system": "s"}, "bad-chat", "system"),
        ({"messages": [*EXPECTED[:1], {**EXPECTED[1], "weight": 2}]}, "bad-chat", "message 2: weight"),
        ({"messages": [*EXPECTED[:1], {**EXPECTED[1], "weight": 0}]}, "bad-chat", "no assistant message"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}, EXPECTED[1]]}, "bad-chat", "image"),
        ({"instruction": "a", "output": "b", "history": ["c"]}, "bad-chat", "history"),
        ({"messages": EXPECTED, "tools": "[{}]"}, "bad-chat", "tools"),
        ({"messages": EXPECTED, "tools": "[{"}, "bad-chat", "tools"),
        ({"messages": EXPECTED, "label": True}, "other-kind", "labelled"),
        ({"messages": EXPECTED[:1], "chosen": "a", "rejected": "b"}, "other-kind", "preference"),
        ({"instruction": "a", "output": ["b", "c"]}, "other-kind", "preference"),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": "f(3)"}]},
         "bad-chat", "message 2: what it calls"),
        ({"messages": [EXPECTED[0], {"role": "assistant", "tool_calls": [{"name": "f", "arguments": "x"}]}]},
         "bad-chat", "message 2: what it calls"),
    ],
)  # fmt: skip
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
    assert read_chats(tmp_path) == [Chat(EXPECTED, 1, "chat.jsonl")]


@pytest.mark.parametrize(
    ("name", "code"), [("gone.jsonl", "no-such-data"), ("a.txt", "unknown-chat-type"), ("e.jsonl", "empty-chats")]
)
def test_files_without_conversations_are_refused(name: str, code: str, tmp_path: Path) -> None:
    write(tmp_path / "e.jsonl")
    write(tmp_path / "a.txt")
    with pytest.raises(IngotError) as caught:
        read_chats(tmp_path / name)
    assert caught.value.code == code


TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
CALLED = {"role": "assistant", "content": "", "tool_calls": [
    {"id": "call00001", "type": "function", "function": {"name": "f", "arguments": {"a": "臺"}}}]}  # fmt: skip


def test_calls_of_sharegpt_become_tool_calls_with_ids(tmp_path: Path) -> None:
    turns = [("human", "q"), ("function_call", '{"name": "f", "arguments": {"a": "臺"}}'), ("observation", "3"),
             ("gpt", "a"), ("human", "q"),
             ("function_call", '[{"name": "f", "arguments": "{}"}, {"name": "g"}]'),
             ("observation", {"b": 1}), ("observation", "5"), ("gpt", "a")]  # fmt: skip
    record = {"conversations": [{"from": who, "value": said} for who, said in turns],
              "tools": json.dumps([TOOL["function"]])}  # fmt: skip
    (chat,) = read_chats(write(tmp_path / "a.jsonl", record))
    assert chat.tools == [TOOL]
    assert chat.messages[1:3] == [CALLED, {"role": "tool", "content": "3", "tool_call_id": "call00001", "name": "f"}]
    assert [call["function"] for call in chat.messages[5]["tool_calls"]] == [
        {"name": "f", "arguments": {}},
        {"name": "g", "arguments": {}},
    ]
    assert [(m["tool_call_id"], m["name"], m["content"]) for m in chat.messages[6:8]] == [
        ("call00002", "f", '{"b": 1}'),
        ("call00003", "g", "5"),
    ]


def test_calls_in_messages_have_objects_as_arguments_whoever_wrote_them(tmp_path: Path) -> None:
    inner = {"name": "f", "arguments": '{"a": "臺"}'}
    spellings: list[dict[str, Any]] = [
        {"content": None, "tool_calls": [{"id": "call00001", "type": "function", "function": inner}]},
        {"content": "", "tool_calls": [{"id": "call00001", "name": "f", "arguments": {"a": "臺"}}]},
        {"content": [{"type": "tool_call", "value": json.dumps({"id": "call00001", **inner})}]},
    ]
    back = {"role": "tool", "tool_call_id": "call00001", "content": "3"}
    for spelt in spellings:
        turns = [EXPECTED[0], {"role": "assistant", **spelt}, back, EXPECTED[1]]
        record = {"messages": turns, "tools": [TOOL]}
        (chat,) = read_chats(write(tmp_path / "a.jsonl", record))
        assert chat.messages == [EXPECTED[0], CALLED, back, EXPECTED[1]]
        assert chat.tools == [TOOL]
    old = [EXPECTED[0], {"role": "assistant", "content": None, "function_call": inner},
           {"role": "function", "name": "f", "content": "3"}, EXPECTED[1]]  # fmt: skip
    (chat,) = read_chats(write(tmp_path / "a.jsonl", {"messages": old}))
    assert chat.messages[1]["tool_calls"] == [{"type": "function", "function": {"name": "f", "arguments": {"a": "臺"}}}]
    assert chat.messages[2] == {"role": "tool", "name": "f", "content": "3"}


def test_only_some_turns_are_learnt_where_the_record_says_so(tmp_path: Path) -> None:
    turns = [EXPECTED[0], {**EXPECTED[1], "weight": 0}, EXPECTED[0], {**EXPECTED[1], "weight": 1}]
    prompt = {"prompt": [*EXPECTED, EXPECTED[0]], "completion": [EXPECTED[1]]}
    whole = {"prompt": [*EXPECTED, EXPECTED[0]], "completion": "答 a"}
    for record in ({"messages": turns}, prompt, whole):
        (chat,) = read_chats(write(tmp_path / "a.jsonl", record))
        assert (chat.messages, chat.learn) == ([*EXPECTED, *EXPECTED], {3})


def test_a_file_may_mix_forms_and_keys_that_are_not_read_are_known(tmp_path: Path) -> None:
    records = [{"messages": EXPECTED, "id": 7}, {"instruction": "q", "output": "a", "input": ""}]
    found = read_chats(write(tmp_path / "a.jsonl", *records))
    assert [(chat.form, chat.unread) for chat in found] == [("messages", ("id",)), ("alpaca", ())]


def test_all_wrong_records_are_counted_and_can_be_left_out(tmp_path: Path, heard: pytest.LogCaptureFixture) -> None:
    wrong = [{"messages": []}, {"text": "x"}, {"messages": EXPECTED, "label": True}]
    path = write(tmp_path / "a.jsonl", {"messages": EXPECTED}, *wrong, {"messages": EXPECTED})
    with pytest.raises(IngotError, match=r"line 2: .*2 more are wrong: 3, 4;") as caught:
        read_chats(path)
    assert caught.value.details["line"] == 2
    assert read_chats(path, skip_bad=True) == [Chat(EXPECTED, 1, "a.jsonl"), Chat(EXPECTED, 5, "a.jsonl")]
    assert "3 records" in heard.text
    assert "2, 3, 4" in heard.text
    with pytest.raises(IngotError):
        read_chats(write(tmp_path / "b.jsonl", *wrong), skip_bad=True)


def test_conversations_stream_and_know_their_licence(tmp_path: Path) -> None:
    Manifest(sets=[DataSet(file="a.jsonl", role="chat", licence="MIT")]).write(tmp_path)
    records = [{"messages": EXPECTED}, {"messages": EXPECTED, "license": "CC0-1.0"}, {"text": "x"}, {"messages": []}]
    found = chats.read_chats(write(tmp_path / "a.jsonl", *records))
    assert [(one.licence, one.source, one.unread) for one in (next(found), next(found))] == [
        ("MIT", "a.jsonl", ()),
        ("CC0-1.0", "a.jsonl", ()),
    ]
    with pytest.raises(IngotError, match=r"line 3: .*1 more are wrong: 4"):
        next(found)


def test_places_of_a_json_array_are_records(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"messages": EXPECTED}, {"messages": []}]))
    with pytest.raises(IngotError, match="record 2: "):
        read_chats(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("llamafactory/identity.json", 91),
        ("fastchat/dummy_conversation.json", 500),
        ("llamafactory/oaast_sft_zh.json", 689),
        ("llamafactory/glaive_toolcall_en_demo.json", 300),
        ("llamafactory/reason_tool_use_demo_50.jsonl", 50),
        ("litgpt_fixtures/dolly.json", 12),
    ],
)
def test_real_conversations_are_read(name: str, count: int, real_data: Path) -> None:
    found = read_chats(real_data / "03_instruct" / name)
    assert len(found) == count
    if name.endswith("sft_zh.json"):
        assert sum(len(chat.messages) for chat in found) == 2 * (689 + 331 + 2 * 59)  # with the turns of `history`
    if "tool" in name:
        calls = [call for chat in found for message in chat.messages for call in message.get("tool_calls", [])]
        assert len(calls) == (211 if "glaive" in name else 68)
        assert all(isinstance(call["function"]["arguments"], dict) for call in calls)


def test_conversations_are_rendered_and_errors_name_the_line(tmp_path: Path) -> None:
    from ingot.data.chats import render_chat
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
