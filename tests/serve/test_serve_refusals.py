"""What is refused before a model sees it, in OpenAI's or Anthropic's shape; and that nothing leaks into logs."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import HELLO, Running, ScriptedEngine, running, until

from ingot import IngotError
from ingot.serve.errors import ANTHROPIC_TYPES
from ingot.serve.gate import Keys
from ingot.serve.limits import LimitOptions
from ingot.serve.schema import REFUSED, ChatBody, CompletionBody
from ingot.text.tokenizer import Tokenizer

GOOD = {"model": "tiny", "messages": HELLO}
ROUTES = ("/v1/chat/completions", "/v1/completions")
ANTHROPIC = ("/v1/messages", "/v1/messages/count_tokens")
EVERY = (*ROUTES, *ANTHROPIC, "/v1/embeddings", "/tokenize", "/detokenize", "/apply-template")


@pytest.fixture(scope="module")
def server(tokenizer: Tokenizer) -> Iterator[Running]:
    with running(ScriptedEngine(tokenizer), tokenizer, slots=2, waiting=2) as found:
        yield found


def send(server: Running, content: bytes, path: str = ROUTES[0], **headers: str) -> tuple[int, dict[str, Any]]:
    with server.client as client:
        response = client.post(path, content=content, headers={"content-type": "application/json", **headers})
    body = response.json()
    if path in ANTHROPIC:
        return response.status_code, in_openai_shape(response.status_code, body)
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return response.status_code, body["error"]


def in_openai_shape(status: int, body: dict[str, Any]) -> dict[str, Any]:
    """An error of Anthropic's routes, after a look at its shape."""
    assert set(body) == {"type", "error"}
    assert body["type"] == "error"
    error = body["error"]
    assert set(error) == {"type", "message", "details"}
    assert error["type"] == ANTHROPIC_TYPES.get(status, "invalid_request_error")
    details = error["details"]
    return {"message": error["message"], "type": "invalid_request_error", "param": details["param"],
            "code": details["error_code"]}  # fmt: skip


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b"[]", 400, "invalid_json"),
        (b"null", 400, "invalid_json"),
        (b'"x"', 400, "invalid_json"),
        (b'{"model": "tiny"', 400, "invalid_json"),
        (b'{"model": NaN}', 400, "invalid_json"),
        (b"{'model': 'tiny'}", 400, "invalid_json"),
        (b'{"model": "\xff\xfe"}', 400, "invalid_json"),
        (b'{"model": "\\ud800"}', 400, "invalid_json"),
        ('{"model": "tiny"}'.encode("utf-16"), 400, "invalid_json"),
        (b"[" * 50_001 + b"]" * 50_000, 413, "request_too_large"),
        (b"[" * 40_000 + b"]" * 40_000, 400, "invalid_json"),
        (b'{"model":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}", 400, "invalid_json"),
        (b'{"model": "tiny"} {}', 400, "invalid_json"),
        (b'{"model": "tiny",}', 400, "invalid_json"),
        (b'{"model": 01}', 400, "invalid_json"),
        (b'{"model": Infinity}', 400, "invalid_json"),
        (b'{"model": "a\x00b"}', 400, "invalid_json"),
        (b'\xef\xbb\xbf{"model": "tiny"}', 400, "invalid_json"),
        (b"\x00", 400, "invalid_json"),
        (b"true", 400, "invalid_json"),
        (b"5", 400, "invalid_json"),
        (b'{"nope": 1}', 400, "unknown_parameter"),
        (b'{"model": {"$ref": "#"}}', 400, "invalid_value"),
        (b'{"model": 5}', 400, "invalid_value"),
        (b'{"model": ["tiny"]}', 400, "invalid_value"),
        (b" " * 100_001, 413, "request_too_large"),
    ],
)  # fmt: skip
def test_malformed_bodies(server: Running, content: bytes, status: int, code: str) -> None:
    for path in EVERY:
        found, error = send(server, content, path)
        assert (found, error["type"]) == (status, "invalid_request_error")
        # Which of several faults is named may differ: a missing field, or the wrong one beside it.
        assert (
            error["code"] in {code, "missing_required_parameter"} if code != "invalid_json" else error["code"] == code
        )
    assert server.idle()


@pytest.mark.parametrize("path", EVERY)
def test_an_empty_object_lacks_something(server: Running, path: str) -> None:
    found, error = send(server, b"{}", path)
    assert (found, error["type"]) == (400, "invalid_request_error")
    assert error["param"]
    assert error["param"] in error["message"]


@pytest.mark.parametrize("path", EVERY)
def test_twenty_megabytes_are_refused_by_the_default_limit(tokenizer: Tokenizer, path: str) -> None:
    """Told beforehand, and found while reading; nothing of it is kept."""
    limit = LimitOptions().max_body
    with running(ScriptedEngine(tokenizer), tokenizer, max_body=limit) as server:
        body = b'{"model": "' + b"x" * 20_000_000 + b'"}'
        assert len(body) > limit

        def parts() -> Iterator[bytes]:
            for at in range(0, len(body), 1 << 16):
                yield body[at : at + (1 << 16)]

        with server.client as client:
            for content in (body, parts()):
                try:
                    response = client.post(path, content=content, headers={"content-type": "application/json"})
                except httpx.WriteError:
                    continue  # the server had answered and closed before all was sent
                assert response.status_code == 413
                told = response.json()
                error = in_openai_shape(413, told) if path in ANTHROPIC else told["error"]
                assert error["code"] == "request_too_large"
        assert server.chat().status_code == 200


def test_a_large_body_without_a_length_is_refused_while_reading(server: Running) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(200):
            yield b" " * 1000

    with server.client as client:
        response = client.post(ROUTES[0], content=parts(), headers={"content-type": "application/json"})
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "request_too_large"


def test_other_media_types_and_compression_are_refused(server: Running) -> None:
    good = json.dumps(GOOD).encode()
    for path in EVERY:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "json"):
            status, error = send(server, good, path, **{"content-type": kind})
            assert (status, error["code"]) == (415, "unsupported_media_type")
    bomb = gzip.compress(b"0" * 50_000_000)
    assert len(bomb) < 100_000
    for path in EVERY:
        for kind in ("gzip", "br", "deflate", "gzip, identity"):
            assert send(server, bomb, path, **{"content-encoding": kind})[1]["code"] == "unsupported_content_encoding"
    assert send(server, bomb)[1]["code"] == "invalid_json", "and without saying so it is no JSON"
    assert server.post(ROUTES[0], GOOD, headers={"content-type": "application/json; charset=utf-8"}).status_code == 200


def test_unknown_model(server: Running) -> None:
    response = server.chat(model="gpt-5")
    error = response.json()["error"]
    assert response.status_code == 404
    assert error["code"] == "model_not_found"
    assert error["param"] == "model"
    assert "gpt-5" in error["message"]
    assert "tiny" in error["message"]
    assert len(server.chat(model="x" * 10_000).json()["error"]["message"]) < 300


def test_context_overflow_names_the_counts(server: Running, tokenizer: Tokenizer) -> None:
    prompt = "the cat " * 100
    size = len(tokenizer.encode(prompt))
    error = server.complete(prompt=prompt).json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert error["param"] == "prompt"
    assert f"{size} and 16 more" in error["message"]
    assert "128 tokens" in error["message"]
    response = server.chat(max_tokens=128)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"
    asked = server.chat().json()["usage"]["prompt_tokens"]
    assert server.chat(max_tokens=128 - asked).status_code == 200
    assert server.chat(max_tokens=129 - asked).status_code == 400


def test_wrong_method_and_unknown_route(server: Running) -> None:
    with server.client as client:
        for method, path in (
            ("GET", ROUTES[0]),
            ("DELETE", "/v1/models"),
            ("POST", "/health"),
            ("PUT", "/v1/models/tiny"),
            ("GET", "/v1/embeddings"),
            ("PATCH", "/tokenize"),
            ("POST", "/metrics"),
            ("POST", "/openapi.json"),
        ):
            response = client.request(method, path)
            assert response.status_code == 405
            assert response.json()["error"]["code"] == "method_not_allowed"
            assert response.headers["allow"]
        for path in ("/", "/v1", "/v1/audio/speech", "/v1/chat/completions/", "/%2e%2e/etc/passwd", "/\N{SNOWMAN}"):
            response = client.post(path, json=GOOD)
            assert response.status_code == 404
            assert response.json()["error"]["code"] == "unknown_url"
        preflight = {"origin": "http://evil", "access-control-request-method": "POST"}
        assert client.options(ROUTES[0], headers=preflight).status_code == 405


def test_what_is_not_http_is_refused_in_the_same_shape(server: Running) -> None:
    with socket.create_connection(server.server.listener.getsockname()[:2], timeout=5) as raw:
        raw.sendall(b"HELO example.org\r\n\r\n")
        answer = b""
        while part := raw.recv(4096):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["error"]["code"] == "invalid_http"


def test_a_slow_head_is_cut_off(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingot.serve.protocol.Protocol.head_seconds", 0.2)
    with socket.create_connection(server.server.listener.getsockname()[:2], timeout=5) as raw:
        raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n")
        assert raw.recv(100) == b""


def test_a_slow_body_is_cut_off(tokenizer: Tokenizer) -> None:
    with running(ScriptedEngine(tokenizer), tokenizer, timeout=0.3) as server:
        with socket.create_connection(server.server.listener.getsockname()[:2], timeout=5) as raw:
            lines = ("POST /v1/completions HTTP/1.1", "host: x", "content-type: application/json", "content-length: 50")
            raw.sendall("\r\n".join(lines).encode() + b'\r\n\r\n{"model"')
            with raw.makefile("rb") as stream:
                answer = stream.read()
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"request_timeout" in answer


@pytest.mark.parametrize("path", EVERY)
def test_a_client_that_leaves_inside_its_body_is_no_fault_of_ours(
    tokenizer: Tokenizer, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with running(ScriptedEngine(tokenizer), tokenizer) as server:
        with socket.create_connection(server.server.listener.getsockname()[:2], timeout=5) as raw:
            head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n"
            raw.sendall(head.encode() + b'{"model"')
            until(lambda: server.api.gate.active == 1)
        until(lambda: server.metric("ingot_requests_total", route=path, status="499") == 1)
        assert server.metric("ingot_errors_total", code="client_closed_request") == 1
        assert server.metric("ingot_errors_total", code="internal_error") == 0
    assert not any("failed inside" in record.getMessage() for record in caplog.records)


def test_keys(tokenizer: Tokenizer, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\nsk-one\n\n  sk-鑰匙  \n", encoding="utf-8")
    with running(ScriptedEngine(tokenizer), tokenizer, keys=Keys.read(file)) as server, server.client as client:
        for headers in (
            {},
            {"authorization": "sk-one"},
            {"authorization": "Basic sk-one"},
            {"authorization": "Bearer"},
        ):
            response = client.get("/v1/models", headers=headers)
            assert response.status_code == 401
            assert response.json()["error"]["code"] == "invalid_api_key"
            assert response.headers["www-authenticate"] == "Bearer"
        for key in (b"Bearer sk-two", b"Bearer sk-on", b"Bearer # ours", b"Bearer \xff"):
            assert client.get("/v1/models", headers={"authorization": key}).status_code == 401
        for key in ("Bearer sk-one", "bearer sk-one", "Bearer sk-鑰匙"):
            assert client.get("/v1/models", headers={"authorization": key.encode()}).status_code == 200
        for path in ("/metrics", "/openapi.json", "/nothing", ROUTES[0]):
            assert client.get(path).status_code == 401
        assert client.get("/health").status_code == client.get("/ready").status_code == 200


def test_bad_key_files_are_refused(tmp_path: Path) -> None:
    bad = (("none", None, "no-such-file"), ("empty", b"# x\n", "serve-no-keys"), ("bad", b"\xff", "serve-bad-keys"))
    for name, content, code in bad:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(IngotError) as refused:
            Keys.read(tmp_path / name)
        assert refused.value.code == code
        assert str(tmp_path / name) in str(refused.value)


def test_an_error_inside_tells_the_client_and_the_log_nothing_of_the_prompt(
    server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(body: Any, served: Any) -> None:
        raise RuntimeError(f"secret {body}")

    monkeypatch.setattr("ingot.serve.generation.prepare", broken)
    status, error = send(server, json.dumps(GOOD | {"user": "u", "stop": "secret"}).encode())
    assert status == 500
    assert error["code"] == "internal_error"
    assert "secret" not in str(error)
    until(lambda: any("RuntimeError" in record.getMessage() for record in caplog.records))
    logged = " ".join(record.getMessage() + str(record.exc_info) for record in caplog.records)
    assert "secret" not in logged
    assert "hello" not in logged


NAMES = sorted(ChatBody.model_fields.keys() | CompletionBody.model_fields.keys() | REFUSED.keys())
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(width=64) | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
PARTS = st.fixed_dictionaries({"role": st.sampled_from(["user", "system", "assistant"]) | VALUES, "content": VALUES})
BODIES = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=6), VALUES, max_size=5).flatmap(
    lambda extra: st.fixed_dictionaries(
        {"model": st.just("tiny") | VALUES, "messages": st.just(HELLO) | st.lists(PARTS, max_size=2) | VALUES}
    ).map(lambda base: {**base, **extra})
)


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES, cut=st.none() | st.integers(0, 200), path=st.sampled_from(ROUTES))
def test_no_body_breaks_the_server(server: Running, body: dict[str, Any], cut: int | None, path: str) -> None:
    if path == ROUTES[1]:
        body = {("prompt" if name == "messages" else name): value for name, value in body.items()}
    content = json.dumps(body).encode()[:cut]
    with server.client as client:
        response = client.post(path, content=content, headers={"content-type": "application/json"})
    assert response.status_code in {200, 400, 404}, response.text
    if response.status_code != 200:
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    until(server.idle)
