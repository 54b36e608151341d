"""The OpenAPI document tells the truth: schemathesis makes requests from it, right and wrong ones, and holds every
answer against it; and real answers fit its schemas, with nothing left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from serving import HELLO, Running, ScriptedEngine, running, until
from test_serve_tools import LOOKED, TOOLS

from ingot.serve.errors import KINDS
from ingot.serve.gate import ROUTES
from ingot.serve.openapi import STREAMED
from ingot.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def server(qwen: Tokenizer) -> Iterator[Running]:
    with running(
        ScriptedEngine(qwen, LOOKED), qwen, slots=8, waiting=256, max_length=4000, max_body=2_000_000
    ) as found:
        yield found


def document(server: Running) -> dict[str, Any]:
    with server.client as client:
        found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def fits(found: dict[str, Any], schema: str, content: Any) -> bool:
    validator = Draft202012Validator({**found, "$ref": f"#/components/schemas/{schema}"})
    return validator.is_valid(content)


def test_every_route_stands_in_the_document(server: Running) -> None:
    found = document(server)
    paths = {path.replace("{name}", "{id}") for path in found["paths"]}
    assert paths == ROUTES - {"/openapi.json"}


def test_every_status_of_an_error_stands_with_a_route(server: Running) -> None:
    found = document(server)
    told = {
        (int(status), code)
        for path in found["paths"].values()
        for operation in path.values()
        for status, answer in operation["responses"].items()
        if status != "200"
        for code in answer["description"].split(", ")
    }
    assert told == {(kind.status, kind.code) for kind in KINDS.values()}


SYSTEM = [{"type": "text", "text": "be kind", "cache_control": {"type": "ephemeral"}}]
TOOLS_OF_MESSAGES = [{"name": tool["function"]["name"], "input_schema": {"type": "object"}} for tool in TOOLS]
ANSWERS: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/chat/completions", {"messages": HELLO}, "ChatCompletion"),
    ("/v1/chat/completions", {"messages": HELLO, "tools": TOOLS, "n": 2}, "ChatCompletion"),
    ("/v1/chat/completions", {"messages": HELLO, "logprobs": True, "top_logprobs": 2}, "ChatCompletion"),
    ("/v1/completions", {"prompt": ["a", "b"], "logprobs": 2}, "Completion"),
    ("/v1/messages", {"messages": HELLO, "max_tokens": 5}, "Message"),
    ("/v1/messages", {"messages": HELLO, "max_tokens": 999, "system": SYSTEM, "tools": TOOLS_OF_MESSAGES}, "Message"),
    ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": SYSTEM}]}, "TokenCount"),
    ("/v1/embeddings", {"input": "a"}, "Embeddings"),
    ("/v1/embeddings", {"input": "a", "encoding_format": "base64"}, "Embeddings"),
    ("/tokenize", {"prompt": "a", "return_token_strs": True}, "Tokens"),
    ("/detokenize", {"tokens": [5]}, "Prompt"),
    ("/apply-template", {"messages": HELLO}, "Prompt"),
]


@pytest.mark.parametrize(("path", "body", "schema"), ANSWERS)
def test_answers_and_errors_fit_their_schemas(server: Running, path: str, body: dict[str, Any], schema: str) -> None:
    found = document(server)
    answer = server.post(path, {"model": "tiny", **body})
    assert answer.status_code == 200
    assert fits(found, schema, answer.json())
    assert not fits(found, schema, {**answer.json(), "more": 1})
    refused = server.post(path, {"model": "tiny", **body, "nope": 1})
    assert fits(found, "MessagesError" if path.startswith("/v1/messages") else "Error", refused.json())


def test_bodies_of_the_tests_fit_the_document(server: Running) -> None:
    """What the server takes is what the document says it takes."""
    found = document(server)
    for path, body, _ in ANSWERS:
        (content,) = found["paths"][path]["post"]["requestBody"]["content"].values()
        name = content["schema"]["$ref"].rpartition("/")[2]
        assert fits(found, name, {"model": "tiny", **body})
        assert not fits(found, name, {"model": "tiny", **body, "nope": 1})


def test_the_document_names_the_model_and_what_messages_need(server: Running) -> None:
    found = document(server)
    talk = {"model": "tiny", "messages": HELLO}
    assert fits(found, "ChatBody", talk)
    assert not fits(found, "ChatBody", talk | {"model": "other"})
    assert not fits(found, "ChatBody", talk | {"messages": [{"role": "assistant", "content": None}]})
    assert fits(found, "TokenizeBody", {"prompt": "x", "model": None})
    assert not fits(found, "TokenizeBody", {"prompt": "x", "messages": HELLO})
    assert server.chat(max_tokens=2.0, temperature=1).status_code == 200, "2.0 is an integer of JSON Schema"
    assert server.complete(prompt=[5.0, 6], max_tokens=2).status_code == 200
    assert server.post("/detokenize", {"tokens": [5.0]}).status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("method_path", [
    "POST /v1/chat/completions", "POST /v1/completions", "POST /v1/embeddings", "POST /tokenize", "POST /detokenize",
    "POST /apply-template", "POST /v1/messages", "POST /v1/messages/count_tokens",
    "GET /v1/models", "GET /v1/models/{name}", "GET /health", "GET /ready", "GET /metrics",
])  # fmt: skip
def test_schemathesis(server: Running, method_path: str, tmp_path: Path) -> None:
    """Requests that fit the schema are answered or refused as the document says; those that do not are refused."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, reject, settings
    from hypothesis import strategies as st
    from schemathesis.checks import not_a_server_error
    from schemathesis.core.errors import InvalidSchema
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi import checks as known

    method, path = method_path.split(" ")
    found = document(server)
    schema = schemathesis.openapi.from_dict(found)
    operation = schema[path][method]
    checks = [
        not_a_server_error,
        known.status_code_conformance,
        known.content_type_conformance,
        known.response_schema_conformance,
        known.negative_data_rejection,
    ]
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        if mode is GenerationMode.NEGATIVE and method == "GET":
            continue

        @settings(max_examples=40, deadline=None, derandomize=True, phases=[Phase.generate],
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(data=st.data(), mode=st.just(mode), cases=st.just(operation.as_strategy(generation_mode=mode)))
        def ask(data: Any, mode: GenerationMode, cases: Any) -> None:
            try:
                case = data.draw(cases)
            except InvalidSchema:  # a schema it made wrong on purpose, and could then not fill
                assert mode is GenerationMode.NEGATIVE
                reject()
            if mode is GenerationMode.POSITIVE and isinstance(case.body, dict):
                case.body.pop("deadline_ms", None)  # one that is too short is a 504, rightly
                if path in STREAMED:
                    case.body["stream"] = data.draw(st.booleans())
            response = case.call(base_url=server.url)
            case.validate_response(response, checks=checks)

        ask()
    until(server.idle)
