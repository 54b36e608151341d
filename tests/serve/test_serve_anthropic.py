"""The real `anthropic` client: messages, streams, tools, counting, and each class of error."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from serving import HELLO, Running, ScriptedEngine, running, until

from ingot.guard.guard import Guard
from ingot.guard.policy import Policy
from ingot.serve.gate import Keys
from ingot.text.tokenizer import Tokenizer

anthropic = partial(pytest.importorskip, "anthropic")  # when a test first asks
pytestmark = pytest.mark.peers

SCRIPT = "the cat 天空 sat"
ASKED: dict[str, Any] = {"model": "tiny", "messages": HELLO, "max_tokens": 100}


@pytest.fixture(scope="module")
def server(tokenizer: Tokenizer) -> Iterator[Running]:
    guard = Guard(Policy("test", {"card": "block"}))
    engine = ScriptedEngine(tokenizer, SCRIPT)
    with running(engine, tokenizer, slots=4, waiting=4, keys=Keys(["sk-test"]), guard=guard, max_length=200) as found:
        yield found


def client_of(server: Running, key: str = "sk-test") -> Any:
    return anthropic().Anthropic(base_url=server.url, api_key=key, max_retries=0)


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[Any]:
    with client_of(server) as found:
        yield found


def shown(message: Any) -> list[Any]:
    """All but the names that are made afresh."""
    content = [block.text if block.type == "text" else (block.name, block.input) for block in message.content]
    return [content, message.stop_reason, message.stop_sequence, message.usage, message.model]


def test_create(client: Any) -> None:
    answer = client.messages.create(
        **ASKED, system="be kind", metadata={"user_id": "u"}, extra_body={"temperature": 0.5}
    )
    assert [(block.type, block.text) for block in answer.content] == [("text", SCRIPT)]
    assert (answer.type, answer.role, answer.stop_reason, answer.stop_sequence) == (
        "message", "assistant", "end_turn", None
    )  # fmt: skip
    assert answer.usage.input_tokens > 0
    assert answer.usage.output_tokens > 0
    assert answer.usage.cache_read_input_tokens == 0
    assert answer._request_id.startswith("req-")
    again = client.messages.create(
        **ASKED | {"messages": [*HELLO, {"role": "assistant", "content": answer.content}, *HELLO]}
    )
    assert again.content[0].text == SCRIPT
    stopped = client.messages.create(**ASKED, stop_sequences=[" sat"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", " sat")


def test_streams(client: Any) -> None:
    whole = client.messages.create(**ASKED)
    raw = list(client.messages.create(**ASKED, stream=True))
    kinds = [event.type for event in raw]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    with client.messages.stream(**ASKED) as stream:
        assert "".join(stream.text_stream) == SCRIPT
        final = stream.get_final_message()
    assert shown(final) == shown(whole)


def test_the_asynchronous_client(server: Running) -> None:
    async def ask() -> str:
        asynchronous = anthropic().AsyncAnthropic(base_url=server.url, auth_token="sk-test", max_retries=0)
        async with asynchronous as found, found.messages.stream(**ASKED) as stream:
            return str(await stream.get_final_text())

    assert asyncio.run(ask()) == SCRIPT


TOOL = {"name": "look", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}
LOOKED = 'So. <tool_call>\n{"name": "look", "arguments": {"at": "天空"}}\n</tool_call>'


@pytest.fixture(scope="module")
def caller(qwen: Tokenizer) -> Iterator[tuple[Any, ScriptedEngine]]:
    """A client of a server whose model calls the same tool twice."""
    engine = ScriptedEngine(qwen, LOOKED * 2)
    with running(engine, qwen, max_length=4000) as server, client_of(server) as found:
        yield found, engine


def test_tools(caller: tuple[Any, ScriptedEngine]) -> None:
    client, engine = caller
    asked = {**ASKED, "max_tokens": 1000, "tools": [TOOL]}
    answer = client.messages.create(**asked)
    assert [block.type for block in answer.content] == ["text", "tool_use"] * 2
    calls = [block for block in answer.content if block.type == "tool_use"]
    assert [(call.name, call.input) for call in calls] == [("look", {"at": "天空"})] * 2
    assert answer.stop_reason == "tool_use"
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "blue"} for call in calls]
    said = [*HELLO, {"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]
    again = client.messages.create(**asked | {"messages": said})
    assert again.stop_reason == "tool_use"
    assert engine.tokenizer.decode(engine.prompts[-1]).count("blue") == 2
    alone = client.messages.create(**asked, tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    assert [block.type for block in alone.content] == ["text", "tool_use"]
    for choice in ({"type": "any"}, {"type": "tool", "name": "look"}):
        assert client.messages.create(**asked, tool_choice=choice).stop_reason == "tool_use"
        assert engine.samplings[-1].constraint is not None
    assert client.messages.create(**asked, tool_choice={"type": "none"}).stop_reason == "end_turn"


def test_streamed_tools(caller: tuple[Any, ScriptedEngine]) -> None:
    client, _ = caller
    asked = {**ASKED, "max_tokens": 1000, "tools": [TOOL]}
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert kinds.count("content_block_stop") == 4
    assert kinds.count("input_json") == 2
    assert shown(final) == shown(whole)


def test_count_tokens(client: Any, caller: tuple[Any, ScriptedEngine]) -> None:
    for found, more in ((client, {"system": "be kind"}), (caller[0], {"tools": [TOOL]})):
        counted = found.messages.count_tokens(model="tiny", messages=HELLO, **more)
        assert counted.input_tokens == found.messages.create(**ASKED, **more).usage.input_tokens


def test_classes_of_errors(client: Any, server: Running) -> None:
    cases: list[tuple[Any, dict[str, Any], str, str]] = [
        (anthropic().NotFoundError, {"model": "other"}, "not_found_error", "model_not_found"),
        (anthropic().BadRequestError, {"extra_body": {"temperature": 9}}, "invalid_request_error", "invalid_value"),
        (anthropic().BadRequestError, {"thinking": {"type": "enabled", "budget_tokens": 1024}}, "invalid_request_error",
         "unsupported_parameter"),
        (anthropic().BadRequestError, {"tools": [TOOL]}, "invalid_request_error", "invalid_value"),
        (anthropic().BadRequestError, {"max_tokens": 10_000}, "invalid_request_error", "context_length_exceeded"),
        (anthropic().BadRequestError, {"extra_body": {"topk": 3}}, "invalid_request_error", "unknown_parameter"),
        (anthropic().BadRequestError, {"system": "4111 1111 1111 1111"}, "invalid_request_error", "content_filter"),
    ]  # fmt: skip
    for kind, body, named, code in cases:
        for stream in (True, False):
            with pytest.raises(kind) as refused:
                client.messages.create(**{**ASKED, "stream": stream, **body})
            error = refused.value.body["error"]
            assert (error["type"], error["details"]["error_code"]) == (named, code)
            assert refused.value.response.headers["request-id"].startswith("req-")
    with client_of(server, "sk-wrong") as stranger, pytest.raises(anthropic().AuthenticationError):
        stranger.messages.create(**ASKED)
    with pytest.raises(anthropic().NotFoundError):
        client.messages.count_tokens(model="other", messages=HELLO)


def test_overload_and_an_error_inside_a_stream(tokenizer: Tokenizer) -> None:
    engine = ScriptedEngine(tokenizer, SCRIPT, paced=True)
    with running(engine, tokenizer, slots=1, waiting=0) as server, client_of(server) as client:
        engine.allow(2)
        stream = client.messages.create(**ASKED, stream=True)
        assert next(stream).type == "message_start"
        with pytest.raises(anthropic().RateLimitError) as refused:
            client.messages.create(**ASKED)
        assert refused.value.response.headers["retry-after"] == "1"
        until(lambda: len(engine.running[0].tokens) == 2)
        engine.fail_next = 1
        engine.allow(1)
        with pytest.raises(anthropic().APIStatusError) as failed:
            list(stream)
        assert failed.value.body["error"]["type"] == "api_error"
        assert failed.value.body["error"]["details"]["error_code"] == "engine_failed"


def test_leaving_a_stream_cancels_it(tokenizer: Tokenizer) -> None:
    engine = ScriptedEngine(tokenizer, SCRIPT * 50, paced=True)
    with running(engine, tokenizer) as server, client_of(server) as client:
        engine.allow(3)
        with client.messages.create(**ASKED, stream=True) as stream:
            next(stream)
        until(server.idle)
        assert server.metric("ingot_cancelled_total", reason="disconnected") == 1
