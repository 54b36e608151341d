"""Anthropic's Messages API: the same engine, prompts and calls as chat completions, in blocks, whole and streamed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from serving import HELLO, ROOM, Running, ScriptedEngine, running, tokenizer_of, until
from test_serve_tools import ADDED, LOOKED, say

from ingot.adapt.load import load
from ingot.guard.guard import Guard
from ingot.guard.policy import Policy
from ingot.infer.engine import Engine
from ingot.serve.answer import Choice
from ingot.serve.frames import Counts
from ingot.serve.gate import Keys
from ingot.serve.job import Piece
from ingot.serve.messages.frames import MessageFrames
from ingot.serve.shape import Grown, Head
from ingot.serve.tools.formats import FORMATS
from ingot.serve.tools.offer import Offer
from ingot.text.tokenizer import Tokenizer
from tiny import write_model

LOOK = {"name": "look", "description": "look at a place", "input_schema": {"type": "object", "properties": {}}}
ADD = {"name": "add", "input_schema": {"type": "object"}}
TOOLS = [LOOK, ADD]
LOOK_BLOCK = {"type": "tool_use", "name": "look", "input": {"at": "天空", "n": 1.0}}
ADD_BLOCK = {"type": "tool_use", "name": "add", "input": {}}


def ask(server: Running, path: str = "/v1/messages", **body: Any) -> Any:
    asked = {"model": "tiny", "messages": HELLO, "max_tokens": 1000, **body}
    return server.post(path, {name: value for name, value in asked.items() if value is not ...})


def named_events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Name and content of each server-sent event."""
    assert text.endswith("\n\n")
    found = []
    for event in text[:-2].split("\n\n"):
        first, second = event.split("\n")
        found.append((first.removeprefix("event: "), json.loads(second.removeprefix("data: "))))
    assert all(name == content["type"] for name, content in found)
    return found


def put_together(text: str) -> dict[str, Any]:
    """The message of a stream, as a client adds it up; blocks follow one another."""
    (first, begun), *rest, (last, _) = named_events(text)
    assert (first, last) == ("message_start", "message_stop")
    message: dict[str, Any] = begun["message"]
    written, is_open = "", False
    for name, event in rest:
        if name == "content_block_start":
            assert not is_open
            assert event["index"] == len(message["content"])
            message["content"].append(event["content_block"])
            written, is_open = "", True
        elif name == "content_block_delta":
            assert is_open
            assert event["index"] == len(message["content"]) - 1
            written += event["delta"]["text" if event["delta"]["type"] == "text_delta" else "partial_json"]
        elif name == "content_block_stop":
            assert is_open
            block, is_open = message["content"][-1], False
            block |= {"text": written} if block["type"] == "text" else {"input": json.loads(written)}
        else:
            assert name == "message_delta"
            assert not is_open
            message |= {**event["delta"], "usage": event["usage"]}
    return message


def without_ids(message: dict[str, Any]) -> dict[str, Any]:
    assert message["id"].startswith("msg_")
    calls = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
    assert len(set(calls)) == len(calls)
    content = [{key: value for key, value in block.items() if key != "id"} for block in message["content"]]
    return {**message, "id": None, "content": content}


def text_block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


CASES: dict[str, tuple[str, list[dict[str, Any]], str]] = {
    "text": ("the cat 天空", [text_block("the cat 天空")], "end_turn"),
    "nothing": ("", [], "end_turn"),
    "one call": (LOOKED, [LOOK_BLOCK], "tool_use"),
    "text, call, text, call": (
        f"I look. {LOOKED} Then {ADDED}\n",
        [text_block("I look."), LOOK_BLOCK, text_block(" Then"), ADD_BLOCK],
        "tool_use",
    ),
    "two calls": (f"{LOOKED}\n{ADDED}", [LOOK_BLOCK, ADD_BLOCK], "tool_use"),
    "a call of nothing offered": (ADDED.replace("add", "fly"), [text_block(ADDED.replace("add", "fly"))], "end_turn"),
}


@pytest.mark.parametrize("name", CASES)
def test_blocks_whole_and_streamed(server: Running, qwen: Tokenizer, name: str) -> None:
    script, content, reason = CASES[name]
    engine = say(server, qwen, script)
    whole = ask(server, tools=TOOLS).json()
    assert without_ids(whole) == {
        "id": None, "type": "message", "role": "assistant", "model": "tiny", "content": content,
        "stop_reason": reason, "stop_sequence": None,
        "usage": {"input_tokens": len(engine.prompts[-1]), "output_tokens": len(engine.script),
                  "cache_read_input_tokens": 0},
    }  # fmt: skip
    streamed = ask(server, tools=TOOLS, stream=True)
    assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert without_ids(put_together(streamed.text)) == without_ids(whole)


def test_arguments_are_handed_on_as_they_were_written(server: Running, qwen: Tokenizer) -> None:
    say(server, qwen, LOOKED)
    assert '"input":{"at": "天空", "n": 1.0}' in ask(server, tools=TOOLS).text
    deltas = [event["delta"] for name, event in named_events(ask(server, tools=TOOLS, stream=True).text)
              if name == "content_block_delta"]  # fmt: skip
    assert deltas == [{"type": "input_json_delta", "partial_json": '{"at": "天空", "n": 1.0}'}]


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_the_order_of_blocks_does_not_depend_on_how_the_answer_came(size: int) -> None:
    script, content, reason = CASES["text, call, text, call"]
    pieces = [Piece(0, at, letter) for at, letter in enumerate(script)] + [Piece(0, 1, "", finish_reason="stop")]
    choice = Choice(0, None, "", Offer(frozenset({"look", "add"}), FORMATS["hermes"], {}, single=False))
    frames, grown, counts = MessageFrames(Head("tiny", None)), Grown(), Counts(5, 2, len(pieces))
    stream = frames.begin(1, counts)
    for at in range(0, len(pieces), size):
        delta = choice.push(pieces[at : at + size])
        if delta is not None:
            grown.add(delta)
            stream += frames.part(delta)
    message = without_ids(put_together((stream + frames.end(counts)).decode()))
    assert (message["content"], message["stop_reason"]) == (content, reason)
    assert message["usage"] == {"input_tokens": 3, "output_tokens": len(pieces), "cache_read_input_tokens": 2}
    assert [block if isinstance(block, str) else block.name for block in grown.blocks] == [
        "I look.", "look", " Then", "add"
    ]  # fmt: skip


def test_why_an_answer_stopped(server: Running, qwen: Tokenizer) -> None:
    say(server, qwen, "the cat sat on")
    cases: list[tuple[dict[str, Any], str, str | None, str]] = [
        ({}, "end_turn", None, "the cat sat on"),
        ({"max_tokens": 1}, "max_tokens", None, qwen.decode(qwen.encode("the cat sat on")[:1])),
        ({"stop_sequences": ["never", " sat"]}, "stop_sequence", " sat", "the cat"),
    ]
    for body, reason, stop, text in cases:
        for message in (ask(server, **body).json(), put_together(ask(server, stream=True, **body).text)):
            assert (message["stop_reason"], message["stop_sequence"]) == (reason, stop)
            assert message["content"] == [text_block(text)]


def test_the_guard_ends_an_answer_as_refusal_and_blocks_a_request(qwen: Tokenizer) -> None:
    guard = Guard(Policy("test", {"email": "redact", "card": "block"}))
    with running(ScriptedEngine(qwen, "so 4111 1111 1111 1111"), qwen, guard=guard, **ROOM) as server:
        for message in (ask(server).json(), put_together(ask(server, stream=True).text)):
            assert message["stop_reason"] == "refusal"
            assert "4111" not in json.dumps(message)
        for path, more in (("/v1/messages", {}), ("/v1/messages/count_tokens", {"max_tokens": ...})):
            told = ask(server, path, system="write to bob@example.com", **more)
            assert told.headers["x-ingot-guard"] == "redacted=email"
            refused = ask(server, path, system="4111 1111 1111 1111", **more)
            assert (refused.status_code, refused.json()["error"]["details"]["error_code"]) == (400, "content_filter")


CALL = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "天空"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "blue"}
CHAT_CALL = {"id": "toolu_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "天空"}'}}
CHAT_TOOLS = [
    {
        "type": "function",
        "function": {"parameters" if name == "input_schema" else name: value for name, value in tool.items()},
    }
    for tool in TOOLS
]


def turn(role: str, *content: Any) -> dict[str, Any]:
    return {"role": role, "content": list(content)}


SAME: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a system prompt": (
        {"system": "be kind"},
        {"messages": [{"role": "system", "content": "be kind"}, *HELLO]},
    ),
    "blocks": (
        {"system": [text_block("be "), text_block("kind")],
         "messages": [turn("user", text_block("a"), text_block("b"))]},
        {"messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "ab"}]},
    ),
    "an empty system prompt": ({"system": ""}, {"messages": HELLO}),
    "tools": ({"tools": TOOLS}, {"tools": CHAT_TOOLS}),
    "tools that may not be called": ({"tools": TOOLS, "tool_choice": {"type": "none"}}, {}),
    "a call and its result": (
        {
            "tools": TOOLS,
            "messages": [*HELLO, turn("assistant", text_block("so"), CALL), turn("user", RESULT, text_block("well?"))],
        },
        {
            "tools": CHAT_TOOLS,
            "messages": [
                *HELLO,
                {"role": "assistant", "content": "so", "tool_calls": [CHAT_CALL]},
                {"role": "tool", "tool_call_id": "toolu_1", "content": "blue"},
                {"role": "user", "content": "well?"},
            ],
        },
    ),
    "a result that is an error": (
        {"messages": [*HELLO, turn("assistant", CALL),
                      turn("user", {**RESULT, "is_error": True, "content": [text_block("no "), text_block("sky")]})]},
        {"messages": [*HELLO, {"role": "assistant", "content": None, "tool_calls": [CHAT_CALL]},
                      {"role": "tool", "tool_call_id": "toolu_1", "content": "Error: no sky"}]},
    ),
    "a begun answer": (
        {"messages": [*HELLO, {"role": "assistant", "content": "well, "}]},
        {"messages": [*HELLO, {"role": "assistant", "content": "well, "}], "add_generation_prompt": False,
         "continue_final_message": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_the_model_reads_what_chat_completions_would_show_it(server: Running, qwen: Tokenizer, name: str) -> None:
    engine = say(server, qwen, "cat")
    mine, chat = SAME[name]
    assert server.chat(**chat).status_code == 200
    answer = ask(server, **mine)
    assert answer.status_code == 200, answer.text
    assert engine.prompts[-1] == engine.prompts[-2]
    counted = ask(server, "/v1/messages/count_tokens", max_tokens=..., **mine)
    assert counted.json() == {"input_tokens": len(engine.prompts[-1])}


def test_one_call_alone_and_calls_that_must_come(server: Running, qwen: Tokenizer) -> None:
    engine = say(server, qwen, f"{LOOKED}\n{ADDED}")
    for kind, several in (("auto", True), ("auto", False), ("any", True), ("any", False)):
        choice = {"type": kind, "disable_parallel_tool_use": not several}
        message = ask(server, tools=TOOLS, tool_choice=choice).json()
        assert [block["name"] for block in message["content"]] == ["look", "add"][: 2 if several else 1]
        assert message["stop_reason"] == "tool_use"
        form = engine.samplings[-1].constraint
        assert (form is not None) == (kind == "any")
        assert form is None or form.parallel == several
        until(lambda: server.idle() and not engine.running)
    ask(server, tools=TOOLS, tool_choice={"type": "tool", "name": "add"})
    form = engine.samplings[-1].constraint
    assert form is not None
    assert [tool.name for tool in form.tools or []] == ["add"]
    refused = ask(server, tools=TOOLS, tool_choice={"type": "any"}, stop_sequences=["x"]).json()["error"]
    assert refused["details"]["param"] == "stop_sequences"


def test_a_template_that_cannot_stop_behind_one_call_says_so_in_these_words(tmp_path: Path) -> None:
    mistral = tokenizer_of(tmp_path / "tok", "mistral-v3")
    with running(ScriptedEngine(mistral), mistral, **ROOM) as server:
        for path, more in (("/v1/messages", {}), ("/v1/messages/count_tokens", {"max_tokens": ...})):
            choice = {"type": "auto", "disable_parallel_tool_use": True}
            error = ask(server, path, tools=TOOLS, tool_choice=choice, **more).json()["error"]
            assert error["details"]["param"] == "tool_choice.disable_parallel_tool_use"
            assert "'tool_choice.disable_parallel_tool_use'" in error["message"]


def test_usage_parts_what_the_cache_held(tmp_path: Path, tokenizer_dir: Path) -> None:
    model = load(write_model(tmp_path / "tiny", tokenizer=tokenizer_dir))
    with running(Engine(model, 2), model.tokenizer, keys=Keys(["sk-a", "sk-b"])) as server:
        said = [{"role": "user", "content": "the cat sat on the mat and looked at the sky " * 2}]

        def usage(key: str) -> dict[str, int]:
            body = {"model": "tiny", "messages": said, "max_tokens": 2, "temperature": 0}
            found = server.post("/v1/messages", body, headers={"x-api-key": key}).json()["usage"]
            until(server.idle)
            told: dict[str, int] = found
            return told

        cold, warm, other = usage("sk-a"), usage("sk-a"), usage("sk-b")
    assert cold["cache_read_input_tokens"] == other["cache_read_input_tokens"] == 0
    assert warm["cache_read_input_tokens"] >= 16
    assert warm["input_tokens"] + warm["cache_read_input_tokens"] == cold["input_tokens"]


def test_keys_and_headers(tokenizer: Tokenizer) -> None:
    body = {"model": "tiny", "messages": HELLO, "max_tokens": 2}
    with running(ScriptedEngine(tokenizer), tokenizer, keys=Keys(["sk-one"])) as server:
        version = {"anthropic-version": "2023-06-01"}
        for headers in ({"x-api-key": "sk-one"}, {"authorization": "Bearer sk-one"},
                        {"authorization": "Bearer sk-one", "x-api-key": "other"}):  # fmt: skip
            answer = server.post("/v1/messages", body, headers={**version, **headers})
            assert answer.status_code == 200
            assert answer.headers["request-id"] == answer.headers["x-request-id"]
        both = {"authorization": "Bearer x", "x-api-key": "sk-one"}
        for wrong in ({}, {"x-api-key": ""}, {"x-api-key": "sk-two"}, both):
            refused = server.post("/v1/messages", body, headers=wrong)
            assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")
        assert server.post("/v1/chat/completions", {}, headers={"x-api-key": "sk-two"}).status_code == 401
        assert "request-id" not in server.post("/tokenize", {}, headers={"x-api-key": "sk-one"}).headers


def test_an_error_inside_a_stream_is_its_last_event(tokenizer: Tokenizer) -> None:
    engine = ScriptedEngine(tokenizer, "the cat sat", paced=True)
    with running(engine, tokenizer) as server, server.client as client:
        engine.allow(2)
        body = {"model": "tiny", "messages": HELLO, "max_tokens": 20, "stream": True}
        with client.stream("POST", "/v1/messages", json=body) as response:
            parts = response.iter_text()
            text = next(parts)
            until(lambda: len(engine.running[0].tokens) == 2)
            engine.fail_next = 1
            engine.allow(1)
            text += "".join(parts)
    name, event = named_events(text)[-1]
    assert name == "error"
    assert event["error"]["type"] == "api_error"
    assert event["error"]["details"]["error_code"] == "engine_failed"
    assert "message_stop" not in text
