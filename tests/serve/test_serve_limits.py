"""Deadlines, the queue's bounds in number, tokens and time, and readers that are too slow: each has its own error, and
nothing of what was stopped goes on."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from serving import HELLO, Running, ScriptedEngine, events, running, until

from ingot.infer.options import Sampling
from ingot.infer.reader import Prompt
from ingot.serve.admission import FIRST_GUESS, Admission
from ingot.serve.errors import ApiError, refuse
from ingot.serve.job import Job
from ingot.text.tokenizer import Tokenizer

LONG = "the cat sat on the mat and the dog ran to the man " * 8


def in_background(call: Callable[[], httpx.Response]) -> tuple[threading.Thread, list[httpx.Response]]:
    found: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    return thread, found


def told(response: httpx.Response) -> tuple[int, str]:
    """Status and code of an error, before a stream or in it."""
    if response.status_code != 200:
        return response.status_code, response.json()["error"]["code"]
    return 200, json.loads(events(response.text)[-1])["error"]["code"]


@pytest.mark.slow
@pytest.mark.parametrize("stream", [True, False])
def test_a_request_past_its_deadline_makes_no_further_token(tokenizer: Tokenizer, stream: bool) -> None:
    engine = ScriptedEngine(tokenizer, LONG, paced=True)
    with running(engine, tokenizer) as server:
        engine.allow(3)
        response = server.chat(stream=stream, deadline_ms=1500)
        assert told(response) == (200 if stream else 504, "deadline_exceeded")
        until(lambda: server.idle() and not engine.running)
        assert server.metric("ingot_cancelled_total", reason="deadline") == 1
        made = server.metric("ingot_tokens_total", kind="completion")
        assert made == 3
        engine.allow()
        assert server.chat(max_tokens=2, deadline_ms=20_000).status_code == 200
        assert server.metric("ingot_tokens_total", kind="completion") == made + 2
        assert server.metric("ingot_errors_total", code="deadline_exceeded") == 1


def test_a_deadline_beyond_the_servers_own_limit_changes_nothing(tokenizer: Tokenizer) -> None:
    with running(ScriptedEngine(tokenizer, LONG, paced=True), tokenizer, timeout=0.2) as server:
        assert told(server.chat(deadline_ms=60_000)) == (504, "timeout")
        assert told(server.chat(deadline_ms=20)) == (504, "deadline_exceeded")


def test_what_is_late_before_it_has_a_slot_is_never_begun(tokenizer: Tokenizer) -> None:
    engine = ScriptedEngine(tokenizer, "the cat", paced=True)
    with running(engine, tokenizer, slots=1) as server:
        thread, found = in_background(lambda: server.chat())
        until(lambda: len(engine.running) == 1)
        assert told(server.chat(deadline_ms=50)) == (504, "deadline_exceeded")
        engine.allow()
        thread.join()
        assert found[0].status_code == 200
        until(server.idle)
        assert len(engine.prompts) == 1


def test_the_engines_thread_begins_nothing_late(tokenizer: Tokenizer) -> None:
    """Even where nobody has noticed yet."""
    engine = ScriptedEngine(tokenizer, "the cat")
    with running(engine, tokenizer) as server:
        made: list[Job] = []

        def submit() -> None:
            job = Job([(Prompt.of([5]), Sampling())], expires=time.monotonic(), late=refuse("http-timeout"))
            made.append(job)
            server.worker.submit(job)

        server.server._loop.call_soon_threadsafe(submit)
        until(lambda: bool(made) and made[0].error is not None and server.idle())
        assert made[0].error is not None
        assert made[0].error.name == "http-timeout"
        assert engine.prompts == []
        assert server.metric("ingot_cancelled_total", reason="timeout") == 1


@pytest.mark.parametrize("stream", [True, False])
def test_waiting_for_a_slot_has_a_limit_of_its_own(tokenizer: Tokenizer, stream: bool) -> None:
    engine = ScriptedEngine(tokenizer, "the cat", paced=True)
    with running(engine, tokenizer, slots=1, limits={"queue_timeout": 0.2}) as server:
        thread, found = in_background(lambda: server.chat())
        until(lambda: len(engine.running) == 1)
        response = server.chat(stream=stream)
        assert told(response) == (503, "queue_timeout")
        assert response.headers["retry-after"] == "5"
        until(lambda: server.worker.outstanding == 1)
        assert server.metric("ingot_cancelled_total", reason="queue-timeout") == 1
        engine.allow()
        thread.join()
        assert found[0].status_code == 200, "what has a slot may take longer"


def test_tokens_bound_the_queue(tokenizer: Tokenizer) -> None:
    engine = ScriptedEngine(tokenizer, "the cat", paced=True)
    with running(engine, tokenizer, slots=1, waiting=20, limits={"queue_tokens": 60}) as server:
        thread, found = in_background(lambda: server.complete(max_tokens=100))
        until(lambda: len(engine.running) == 1)
        refused = server.complete(max_tokens=5)
        assert told(refused) == (429, "queue_full")
        assert int(refused.headers["retry-after"]) >= 1
        embedding = server.post("/v1/embeddings", {"model": "tiny", "input": "the cat"})
        assert told(embedding) == (429, "queue_full")
        engine.allow()
        thread.join()
        assert found[0].status_code == 200, "one request alone is never too many"
        until(server.idle)
        assert server.metric("ingot_outstanding_tokens") == 0
        assert server.complete(max_tokens=5).status_code == 200


def test_an_answer_of_unknown_length_counts_as_those_before_it(tokenizer: Tokenizer) -> None:
    engine = ScriptedEngine(tokenizer, "the cat", paced=True)
    with running(engine, tokenizer, slots=1, waiting=20, max_length=10_000) as server:
        thread, _ = in_background(lambda: server.chat())
        until(lambda: len(engine.running) == 1)
        assert server.metric("ingot_outstanding_tokens") == len(engine.prompts[0]) + FIRST_GUESS
        engine.allow(1)
        until(lambda: server.metric("ingot_outstanding_tokens") == FIRST_GUESS - 1)
        engine.allow()
        thread.join()
        until(server.idle)
        assert server.worker.admission.answer_length < FIRST_GUESS
        assert server.metric("ingot_outstanding_tokens") == 0


def test_when_to_come_back_follows_from_the_measured_speed() -> None:
    admission = Admission(1, 1, 1000)
    admission.take(1, 600)
    admission.take(1, 300)
    for tokens, words in ((50, "runs and queues 2"), (200, "runs and queues 2")):
        with pytest.raises(ApiError) as refused:
            admission.take(1, tokens)
        assert words in refused.value.message
        assert refused.value.headers == {"retry-after": "1"}, "nothing was measured yet"
    admission._since = 100.0
    for second in range(1, 11):
        admission.measure(20, 100.0 + second)
    assert admission.speed == pytest.approx(20)
    with pytest.raises(ApiError) as refused:
        admission.take(1, 50)
    assert refused.value.headers == {"retry-after": "23"}, "one of two sequences, 450 tokens, at 20 a second"
    admission.end(300)
    with pytest.raises(ApiError) as refused:
        admission.take(1, 490)
    assert refused.value.headers == {"retry-after": "5"}, "90 tokens too many"
    with pytest.raises(ApiError) as refused:
        admission.take(1, 10**6)
    assert refused.value.headers == {"retry-after": "60"}
    admission.work(600)
    admission.end(0)
    assert (admission.sequences, admission.tokens) == (0, 0)
    admission.take(1, 10**6)


@pytest.mark.slow
def test_a_reader_of_one_byte_at_a_time_is_bounded_and_slows_nobody(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingot.serve.worker.MAX_UNREAD", 200)
    engine = ScriptedEngine(tokenizer, LONG)
    with running(engine, tokenizer, max_length=10**9, limits={"queue_tokens": 10**10}) as server:
        fat = {"logprobs": True, "top_logprobs": 20}
        raw = _open(server, {"stream": True, "ignore_eos": True, "max_tokens": 10**8, **fat})
        stop = threading.Event()

        def trickle() -> None:
            while not stop.wait(0.01) and raw.recv(1):
                pass

        reading = threading.Thread(target=trickle, daemon=True)
        reading.start()
        most = 0
        while server.metric("ingot_cancelled_total", reason="slow-reader") == 0:
            most = max(most, *(len(job.pieces) for job in list(server.worker.jobs)), 0)
            assert server.chat(max_tokens=3).status_code == 200
        assert most <= 201
        until(server.idle)
        stop.set()
        reading.join()
        raw.close()


def _open(server: Running, body: dict[str, Any]) -> Any:
    content = json.dumps({"model": "tiny", "messages": HELLO, **body}).encode()
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(server.server.listener.getsockname()[:2])
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    raw.sendall(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
    return raw
