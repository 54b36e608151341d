"""Every field of the Messages API acts or is refused by name: the tables here are walked against the schema."""

from __future__ import annotations

from typing import Any

import pytest
from serving import HELLO, Running, ScriptedEngine, until
from test_serve_messages import ADD, CALL, LOOK, RESULT, TOOLS, ask, text_block, turn

from ingot.serve.errors import ANTHROPIC_TYPES, KINDS
from ingot.serve.messages.schema import CountBody, MessagesBody
from ingot.serve.schema.refused import MESSAGES_REFUSED

COUNT = "/v1/messages/count_tokens"
CONTROLS: dict[str, tuple[Any, str, Any]] = {
    "max_tokens": (7, "max_tokens", 7),
    "temperature": (0.25, "temperature", 0.25),
    "top_p": (0.5, "top_p", 0.5),
    "top_k": (3, "top_k", 3),
    "stop_sequences": (["zz"], "stop", ["zz"]),
}
"""Fields that the engine gets: a value, the engine's name, and what it gets."""
ELSEWHERE = {
    "model": "test_serve_messages",
    "messages": "test_serve_messages",
    "system": "test_serve_messages",
    "tools": "test_serve_messages",
    "tool_choice": "test_serve_messages",
    "stream": "test_serve_messages",
    "metadata": "test_the_user_stands_in_the_log",
}
"""Fields that act in another place, and the test, or its file, that shows it."""

IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
OUT_OF_RANGE: dict[str, list[Any]] = {
    "model": [1, None],
    "messages": [
        [],
        "hello",
        [1],
        [{}],
        [{"role": "user"}],
        [{"role": "system", "content": "x"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": 5}],
        [{"role": "user", "content": "x", "name": "bob"}],
        [turn("user", 5)],
        [turn("user", {})],
        [turn("user", IMAGE)],
        [turn("user", CALL)],
        [turn("user", {"type": "text"})],
        [turn("user", {**text_block("x"), "colour": "red"})],
        [turn("user", {**text_block("x"), "citations": [{"a": 1}]})],
        [turn("user", {**text_block("x"), "cache_control": {"type": "ephemeral", "ttl": "1h"}})],
        [*HELLO, turn("assistant", {"type": "thinking", "thinking": "x", "signature": "y"}), *HELLO],
        [*HELLO, turn("assistant", CALL)],
        [*HELLO, turn("assistant", *[{**CALL, "id": str(at)} for at in range(129)]), *HELLO],
        [*HELLO, turn("assistant", {**CALL, "input": "{}"}), *HELLO],
        [*HELLO, turn("assistant", {**CALL, "name": "a b"}), *HELLO],
        [turn("user", RESULT)],
        [*HELLO, turn("assistant", CALL), turn("user", {**RESULT, "tool_use_id": "other"})],
        [*HELLO, turn("assistant", CALL), turn("user", text_block("x"), RESULT)],
        [*HELLO, turn("assistant", CALL), turn("user", {**RESULT, "content": [IMAGE]})],
        [*HELLO, turn("assistant", CALL), turn("user", {**RESULT, "is_error": "no"})],
    ],
    "system": [5, [IMAGE], ["x"], {"type": "text", "text": "x"}],
    "tools": [
        5,
        [5],
        [{}],
        [{"name": "look"}],
        [{**LOOK, "name": "a b"}],
        [{**LOOK, "input_schema": []}],
        [{"type": "web_search_20250305", "name": "web_search"}],
        [{**LOOK, "strict": True}],
        [{**LOOK, "defer_loading": True}],
        [{**LOOK, "eager_input_streaming": True}],
        [{**LOOK, "input_examples": []}],
        [ADD, ADD],
        [{**ADD, "name": f"t{number}"} for number in range(129)],
    ],
    "tool_choice": [
        "auto",
        {},
        {"type": "required"},
        {"type": "tool"},
        {"type": "auto", "name": "look"},
        {"type": "any"},
        {"type": "tool", "name": "look"},
        {"type": "auto", "disable_parallel_tool_use": "yes"},
    ],
    "max_tokens": [0, -1, "5", 2.5, True, None],
    "stream": ["yes", 1],
    "temperature": [-0.1, 1.1, "hot", True],
    "top_p": [0, 1.1, "1"],
    "top_k": [-1, 0.5],
    "stop_sequences": ["a", [""], [3], ["a"] * 65],
    "metadata": [5, {"user_id": 5}, {"user_id": "x" * 257}, {"other": 1}],
}


def last(server: Running) -> ScriptedEngine:
    engine = server.worker.engine
    assert isinstance(engine, ScriptedEngine)
    return engine


def routes(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Those that have a field, with what their bodies need changed."""
    found: list[tuple[str, dict[str, Any]]] = [("/v1/messages", {})]
    if name not in MessagesBody.model_fields or name in CountBody.model_fields:
        found.append((COUNT, {"max_tokens": ...}))
    return found


def test_the_tables_cover_the_schema() -> None:
    assert MessagesBody.model_fields.keys() == CONTROLS.keys() | ELSEWHERE.keys() == OUT_OF_RANGE.keys()
    assert not MessagesBody.model_fields.keys() & MESSAGES_REFUSED.keys()


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_reaches_the_engine(server: Running, name: str) -> None:
    value, control, read = CONTROLS[name]
    assert ask(server).status_code == 200
    without = getattr(last(server).samplings[-1], control)
    assert ask(server, **{name: value}).status_code == 200
    assert getattr(last(server).samplings[-1], control) == read != without


def test_the_user_stands_in_the_log(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="ingot"):
        assert ask(server, metadata={"user_id": "u-1"}).status_code == 200
        until(lambda: any("/v1/messages" in record.message and "'u-1'" in record.message for record in caplog.records))
    assert not any("hello" in record.message for record in caplog.records)


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_a_wrong_value_is_refused_by_name(server: Running, name: str) -> None:
    for value in OUT_OF_RANGE[name]:
        for path, more in routes(name):
            response = ask(server, path, **more, **{name: value})
            error = response.json()["error"]
            assert (response.status_code, error["type"]) == (400, "invalid_request_error"), (value, error)
            assert str(error["details"]["param"]).startswith(name), (value, error)
            assert str(error["details"]["param"]) in error["message"], (value, error)
    assert server.idle()


def test_places_in_messages_are_named_as_they_were_sent(server: Running) -> None:
    called = [*HELLO, turn("assistant", CALL)]
    places = [
        ([turn("user", text_block("x"), IMAGE)], "messages[0].content[1]", "only text and tool_result"),
        ([turn("user", text_block("x"), {"type": "text", "text": 5})], "messages[0].content[1].text", "string"),
        ([*called, turn("user", {**RESULT, "tool_use_id": "9"})], "messages[2].content[0].tool_use_id", "'9'"),
        ([*called, turn("user", {**RESULT, "content": [IMAGE]})], "messages[2].content[0].content[0].type", "image"),
        ([{"role": "system", "content": "x"}], "messages[0].role", "system"),
    ]
    for messages, param, said in places:
        error = ask(server, messages=messages).json()["error"]
        assert error["details"]["param"] == param
        assert said in error["message"]


@pytest.mark.parametrize("name", MESSAGES_REFUSED)
def test_an_unsupported_field_is_refused_unless_it_asks_for_what_happens_anyway(server: Running, name: str) -> None:
    for path, more in routes(name):
        for value in ({"type": "enabled", "budget_tokens": 5}, "high", True, [{"a": 1}], 7):
            error = ask(server, path, **more, **{name: value}).json()["error"]
            assert (error["details"]["param"], error["details"]["error_code"]) == (name, "unsupported_parameter")
        for value in (None, *MESSAGES_REFUSED[name]):
            assert ask(server, path, **more, **{name: value}).status_code == 200


def test_unknown_fields_and_empty_keys_of_blocks(server: Running) -> None:
    error = ask(server, max_token=5).json()["error"]
    assert "mean max_tokens?" in error["message"]
    for name in ("seed", "n", "response_format"):
        assert ask(server, **{name: 1}).json()["error"]["details"]["param"] == name
    assert ask(server, COUNT).json()["error"]["details"]["param"] == "max_tokens"
    cached = {"cache_control": {"type": "ephemeral"}}
    said = [turn("user", {**text_block("x"), **cached, "citations": None})]
    said += [turn("assistant", {**CALL, **cached, "caller": None}), turn("user", {**RESULT, **cached})]
    tools = [{**tool, **cached} for tool in TOOLS]
    answer = ask(server, messages=said, system=[{**text_block("x"), **cached}], tools=tools)
    assert answer.status_code == 200, answer.text


def test_statuses_and_types_of_errors(server: Running) -> None:
    with server.client as client:
        for path in ("/v1/messages", COUNT):
            unknown = ask(server, path, model="other", **({"max_tokens": ...} if path == COUNT else {}))
            assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "not_found_error")
            assert "other" in unknown.json()["error"]["message"]
            wrong = client.get(path)
            assert (wrong.status_code, wrong.json()["type"]) == (405, "error")
        missing = client.post("/v1/messages/batches", json={})
        assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")
        assert "type" not in client.post("/v1/messages2", json={}).json()
    long = ask(server, max_tokens=5000).json()["error"]
    assert (long["type"], long["details"]["error_code"]) == ("invalid_request_error", "context_length_exceeded")
    assert ANTHROPIC_TYPES.keys() <= {kind.status for kind in KINDS.values()}
