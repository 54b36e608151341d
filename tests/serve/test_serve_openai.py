"""The real `openai` client: chat, streams, completions, models, and each class of error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from serving import HELLO, Running, ScriptedEngine, running, until

from ingot.guard.guard import Guard
from ingot.guard.policy import Policy
from ingot.serve.gate import Keys
from ingot.text.tokenizer import Tokenizer

openai = partial(pytest.importorskip, "openai")  # when a test first asks
pytestmark = pytest.mark.peers

SCRIPT = "the cat 天空 sat"


@pytest.fixture(scope="module")
def server(tokenizer: Tokenizer) -> Iterator[Running]:
    guard = Guard(Policy("test", {"card": "block"}))
    engine = ScriptedEngine(tokenizer, SCRIPT)
    with running(engine, tokenizer, slots=4, waiting=4, keys=Keys(["sk-test"]), guard=guard) as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[Any]:
    with openai().OpenAI(base_url=f"{server.url}/v1", api_key="sk-test", max_retries=0) as found:
        yield found


def test_chat(client: Any) -> None:
    answer = client.chat.completions.create(model="tiny", messages=HELLO, seed=1, logprobs=True, top_logprobs=1, n=2)
    assert [choice.message.content for choice in answer.choices] == [SCRIPT] * 2
    assert [choice.finish_reason for choice in answer.choices] == ["stop"] * 2
    assert answer.choices[0].logprobs.content[0].top_logprobs[0].logprob == -1.0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id.startswith("req-")
    again = client.chat.completions.create(model="tiny", messages=[*HELLO, answer.choices[0].message, *HELLO])
    assert again.choices[0].message.role == "assistant"


def test_chat_stream(client: Any) -> None:
    stream = client.chat.completions.create(
        model="tiny", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    found = list(stream)
    assert found[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in found if chunk.choices) == SCRIPT
    assert found[-1].choices == []
    assert found[-1].usage.completion_tokens > 0


def test_the_clients_own_stream_helper(client: Any) -> None:
    with client.chat.completions.stream(model="tiny", messages=HELLO) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert kinds[-1] == "content.done"
    assert final.choices[0].message.content == SCRIPT
    assert final.choices[0].finish_reason == "stop"


def test_completions(client: Any) -> None:
    answer = client.completions.create(model="tiny", prompt=["the", "a"], max_tokens=50, echo=True)
    assert [choice.text for choice in answer.choices] == ["the" + SCRIPT, "a" + SCRIPT]
    stream = client.completions.create(model="tiny", prompt="the", max_tokens=50, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == SCRIPT


TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}},
}
LOOKED = 'So. <tool_call>\n{"name": "look", "arguments": {"at": "天空"}}\n</tool_call>'


@pytest.fixture(scope="module")
def caller(qwen: Tokenizer) -> Iterator[Any]:
    """A client of a server whose model calls the same tool twice."""
    with (
        running(ScriptedEngine(qwen, LOOKED * 2), qwen, max_length=4000) as server,
        openai().OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as found,
    ):
        yield found


def test_tools(caller: Any) -> None:
    asked = {"model": "tiny", "messages": HELLO, "tools": [TOOL]}
    message = caller.chat.completions.create(**asked).choices[0].message
    assert message.content == "So. So."
    assert [call.function.name for call in message.tool_calls] == ["look", "look"]
    assert [json.loads(call.function.arguments) for call in message.tool_calls] == [{"at": "天空"}] * 2
    results = [{"role": "tool", "tool_call_id": call.id, "content": "blue"} for call in message.tool_calls]
    again = caller.chat.completions.create(**asked | {"messages": [*HELLO, message, *results]})
    assert again.choices[0].finish_reason == "tool_calls"
    assert len(caller.chat.completions.create(**asked, parallel_tool_calls=False).choices[0].message.tool_calls) == 1


def test_streamed_tools(caller: Any) -> None:
    asked = {"model": "tiny", "messages": HELLO, "tools": [TOOL]}
    whole = caller.chat.completions.create(**asked).choices[0].message
    with caller.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert kinds.count("tool_calls.function.arguments.done") == 2
    message = final.choices[0].message
    assert message.content == whole.content
    assert [call.function.arguments for call in message.tool_calls] == [
        call.function.arguments for call in whole.tool_calls
    ]
    assert final.choices[0].finish_reason == "tool_calls"
    assert final.usage.prompt_tokens_details.cached_tokens == 0


def test_logprobs_of_a_stream(client: Any) -> None:
    asked = {"model": "tiny", "messages": HELLO, "logprobs": True, "top_logprobs": 2}
    whole = client.chat.completions.create(**asked).choices[0].logprobs.content
    found = [
        entry
        for chunk in client.chat.completions.create(**asked, stream=True)
        for entry in (chunk.choices[0].logprobs.content if chunk.choices[0].logprobs else [])
    ]
    assert found == whole
    assert client.completions.create(model="tiny", prompt="x", logprobs=1).choices[0].logprobs.token_logprobs[0] == -0.5


def test_embeddings(client: Any) -> None:
    """The client asks for base64 by itself and unpacks it."""
    for given in ("the cat", ["the cat", "天空"], [[5, 6, 7]]):
        answer = client.embeddings.create(model="tiny", input=given)
        plain = client.embeddings.create(model="tiny", input=given, encoding_format="float")
        assert [item.embedding for item in answer.data] == [item.embedding for item in plain.data]
        assert len(answer.data) == (1 if isinstance(given, str) else len(given))
        assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0
    with pytest.raises(openai().BadRequestError) as refused:
        client.embeddings.create(model="tiny", input="x", dimensions=3)
    assert refused.value.param == "dimensions"


def test_models(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "ingot"
    with pytest.raises(openai().NotFoundError):
        client.models.retrieve("other")


def test_classes_of_errors(client: Any, server: Running) -> None:
    create = client.chat.completions.create
    cases: list[tuple[Any, dict[str, Any], str, str | None]] = [
        (openai().NotFoundError, {"model": "other"}, "model_not_found", "model"),
        (openai().BadRequestError, {"temperature": 9}, "invalid_value", "temperature"),
        (openai().BadRequestError, {"reasoning_effort": "high"}, "unsupported_parameter", "reasoning_effort"),
        (openai().BadRequestError, {"tools": [TOOL]}, "invalid_value", "tools"),
        (openai().BadRequestError, {"tools": [TOOL], "tool_choice": "required"}, "invalid_value", "tools"),
        (openai().BadRequestError, {"max_tokens": 10_000}, "context_length_exceeded", "messages"),
        (openai().BadRequestError, {"extra_body": {"topk": 3}}, "unknown_parameter", "topk"),
        (
            openai().BadRequestError,
            {"messages": [{"role": "user", "content": "4111 1111 1111 1111"}]},
            "content_filter",
            "messages",
        ),
    ]
    for kind, body, code, param in cases:
        for stream in (True, False):
            with pytest.raises(kind) as refused:
                create(**{"model": "tiny", "messages": HELLO, "stream": stream, **body})
            assert (refused.value.code, refused.value.param) == (code, param)
    with pytest.raises(openai().AuthenticationError):
        client.with_options(api_key="sk-wrong").models.list()


def test_overload_and_an_error_inside_a_stream(tokenizer: Tokenizer) -> None:
    engine = ScriptedEngine(tokenizer, SCRIPT, paced=True)
    with running(engine, tokenizer, slots=1, waiting=0) as server:
        client = openai().OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        engine.allow(2)
        stream = client.chat.completions.create(model="tiny", messages=HELLO, stream=True)
        assert next(stream).choices[0].delta.role == "assistant"
        with pytest.raises(openai().RateLimitError) as refused:
            client.chat.completions.create(model="tiny", messages=HELLO)
        assert refused.value.response.headers["retry-after"] == "1"
        until(lambda: len(engine.running[0].tokens) == 2)
        engine.fail_next = 1
        engine.allow(1)
        with pytest.raises(openai().APIError) as failed:
            list(stream)
        assert failed.value.code == "engine_failed"
        client.close()


def test_leaving_a_stream_cancels_it(tokenizer: Tokenizer, tmp_path: Path) -> None:
    engine = ScriptedEngine(tokenizer, SCRIPT * 50, paced=True)
    with running(engine, tokenizer) as server:
        with openai().OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            engine.allow(3)
            with client.chat.completions.create(model="tiny", messages=HELLO, stream=True) as stream:
                next(stream)
        until(server.idle)
        assert server.metric("ingot_cancelled_total", reason="disconnected") == 1
