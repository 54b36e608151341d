"""Structured output over HTTP: forms that are held, refusals that name field and place, calls that must come."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from serving import Running, events, running, tokenizer_of

from ingot.adapt.load import LanguageModel, load
from ingot.infer.constraint import compile as module
from ingot.infer.engine import Engine
from ingot.infer.reader import Reader
from tiny import LLAMA, write_model

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 3}, "city": {"enum": ["台北", "高雄"]}},
    "required": ["name", "city"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": "look", "parameters": PERSON}},
    {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "additionalProperties": False}}},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    root = tmp_path_factory.mktemp("form")
    tokenizer = tokenizer_of(root / "tok", "qwen2.5")
    return load(write_model(root / "model", LLAMA, 0, tokenizer.path, max_position_embeddings=2048))


@pytest.fixture(scope="module")
def server(model: LanguageModel) -> Iterator[Running]:
    reader = Reader.of(model)
    with running(Engine(model, 4), model.tokenizer, slots=4, waiting=8, reader=reader, model=model) as found:
        yield found


def schema_format(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "person", "schema": schema, **more}}


HOT: dict[str, Any] = {"temperature": 2, "max_tokens": 300}


def test_a_chat_answers_in_json_of_the_schema(server: Running) -> None:
    for seed in range(3):
        body = server.chat(response_format=schema_format(PERSON, strict=True), seed=seed, **HOT).json()
        (choice,) = body["choices"]
        assert choice["finish_reason"] == "stop"
        assert "incomplete" not in choice
        found = json.loads(choice["message"]["content"])
        assert found["city"] in PERSON["properties"]["city"]["enum"]
        assert len(found["name"]) <= 3


def test_streamed_and_whole_are_the_same_text(server: Running) -> None:
    asked = {"response_format": schema_format(PERSON), "seed": 7, **HOT}
    whole = server.chat(**asked).json()["choices"][0]["message"]["content"]
    lines = [json.loads(line) for line in events(server.chat(stream=True, **asked).text)[:-1]]
    assert "".join(line["choices"][0]["delta"].get("content", "") for line in lines) == whole


def test_other_forms_go_by_structured_outputs_on_both_routes(server: Running) -> None:
    for ask in (server.chat, server.complete):
        for form, texts in (
            ({"choice": ["是", "否"]}, {"是", "否"}),
            ({"regex": "[ab]c"}, {"ac", "bc"}),
            ({"grammar": 'start: "x" | "y"'}, {"x", "y"}),
            ({"json": {"enum": [1, "a"]}}, {"1", '"a"'}),
        ):
            (choice,) = ask(structured_outputs=form, **HOT).json()["choices"]
            assert choice.get("text", choice.get("message", {}).get("content")) in texts
    (choice,) = server.chat(response_format={"type": "json_object"}, seed=0, **HOT).json()["choices"]
    assert choice.get("incomplete") or isinstance(json.loads(choice["message"]["content"]), dict)


def test_a_cut_answer_is_marked_whole_and_streamed(server: Running) -> None:
    asked = {"response_format": schema_format(PERSON), "max_tokens": 4, "seed": 1}
    (choice,) = server.chat(**asked).json()["choices"]
    assert (choice["finish_reason"], choice["incomplete"]) == ("length", True)
    last = json.loads(events(server.chat(stream=True, **asked).text)[-2])["choices"][0]
    assert (last["finish_reason"], last["incomplete"]) == ("length", True)
    (plain,) = server.chat(max_tokens=4).json()["choices"]
    assert "incomplete" not in plain


JSON, NOT = {"type": "json_object"}, {"not": {}}
REFUSALS: list[tuple[dict[str, Any], str, str]] = [
    ({"response_format": schema_format({"items": {"not": {}}})}, "response_format", "#/items/not:"),
    ({"response_format": schema_format({"type": "object"}, strict=True)}, "response_format", "#/additionalProperties:"),
    ({"structured_outputs": {"json": {"format": "x"}}}, "structured_outputs", "#/format:"),
    ({"structured_outputs": {"regex": "(?=a)"}}, "structured_outputs", "looking around"),
    ({"structured_outputs": {"grammar": "start: nothing"}}, "structured_outputs", "nothing"),
    ({"structured_outputs": {"choice": [""]}}, "structured_outputs", "an empty text"),
    ({"structured_outputs": {"choice": []}}, "structured_outputs.choice", "at least 1"),
    ({"structured_outputs": {}}, "structured_outputs", "give one of"),
    ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs", "give one of"),
    ({"structured_outputs": {"rgex": "a"}}, "structured_outputs.rgex", "rgex"),
    ({"response_format": {"type": "json_schema"}}, "response_format", "json_schema"),
    ({"response_format": JSON, "structured_outputs": {"regex": "a"}}, "structured_outputs", "response_format"),
    ({"response_format": {"type": "json_object"}, "stop": ["x"]}, "stop", "constraint"),
    ({"response_format": {"type": "json_object"}, "ignore_eos": True}, "ignore_eos", "constraint"),
    ({"tools": TOOLS, "tool_choice": "required", "structured_outputs": {"regex": "a"}}, "tool_choice", "structured"),
    ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "no"}}}, "tool_choice", "look, add"),
    (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": NOT}}], "tool_choice": "required"},
        "tools",
        "#/tools/0/parameters/not:",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("body", "param", "words"), REFUSALS, ids=range(len(REFUSALS)))
def test_refusals_name_the_field_and_the_place(server: Running, body: dict[str, Any], param: str, words: str) -> None:
    reply = server.chat(max_tokens=20, **body)
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, param)
    assert words in error["message"]


def test_deep_and_huge_schemas_are_refused_soon(server: Running) -> None:
    deep: dict[str, Any] = {}
    for _ in range(400):
        deep = {"items": deep}
    for schema in (deep, {"enum": list(range(30_000))}):
        reply = server.post(
            "/v1/chat/completions", {"model": "tiny", "messages": [{"role": "user", "content": "x"}],
                                     "response_format": schema_format(schema)},
        )  # fmt: skip
        assert reply.status_code in (400, 413)


@pytest.mark.slow
def test_a_call_that_must_come_comes(server: Running) -> None:
    for seed in range(3):
        (choice,) = server.chat(
            tools=TOOLS, tool_choice="required", parallel_tool_calls=False, seed=seed, **HOT
        ).json()["choices"]
        assert choice["finish_reason"] == "tool_calls"
        (call,) = choice["message"]["tool_calls"]
        arguments = json.loads(call["function"]["arguments"])
        assert call["function"]["name"] in ("look", "add")
        assert call["function"]["name"] == "add" or arguments["city"] in ("台北", "高雄")
    named = {"type": "function", "function": {"name": "look"}}
    (choice,) = server.chat(tools=TOOLS, tool_choice=named, seed=0, **HOT).json()["choices"]
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["look"]
    lines = events(server.chat(tools=TOOLS, tool_choice=named, seed=0, stream=True, **HOT).text)[:-1]
    assert any('"tool_calls"' in line for line in lines)


def test_an_answer_that_is_not_of_its_form_is_an_error(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole: a status. Streamed: an error event and no [DONE]."""
    monkeypatch.setitem(module.KINDS, "choice", lambda *_: ("start: /[ab]{9}/", lambda text: "not that one"))
    reply = server.chat(structured_outputs={"choice": ["a"]}, max_tokens=12)
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "answer_not_valid")
    lines = events(server.chat(structured_outputs={"choice": ["a"]}, max_tokens=12, stream=True).text)
    assert "must not be used" in json.loads(lines[-1])["error"]["message"]
    assert server.complete(max_tokens=2).status_code == 200
