"""Disconnects, overload, slow readers, time limits, failing engines, draining: nothing stays, no end is silent."""

from __future__ import annotations

import json
import time

import pytest
from serving import ScriptedEngine, events, in_background, open_request, running, until

from ingot import IngotError
from ingot.infer.options import Sampling
from ingot.infer.reader import Prompt
from ingot.serve.job import Job
from ingot.serve.server import listen
from ingot.text.tokenizer import Tokenizer

pytestmark = pytest.mark.slow

LONG = "the cat sat on the mat and the dog ran to the man " * 8


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_a_client_that_leaves_frees_its_slots_at_once(tokenizer: Tokenizer, stream: bool, steps: int) -> None:
    engine = ScriptedEngine(tokenizer, LONG, paced=True)
    with running(engine, tokenizer, slots=2, waiting=4) as server:
        raw = open_request(server, {"stream": stream, "n": 3})
        until(lambda: len(engine.running) == 2 and server.metric("ingot_queue_depth") == 1)
        if steps:
            engine.allow(steps)
            until(lambda: bool(engine.running) and len(engine.running[0].tokens) == steps)
        began = time.monotonic()
        raw.close()
        until(lambda: server.idle() and not engine.running)
        assert time.monotonic() - began < 0.5
        assert server.metric("ingot_cancelled_total", reason="disconnected") == 3
        engine.allow()
        assert server.chat().status_code == 200


def test_a_client_that_leaves_does_not_touch_its_neighbour(tokenizer: Tokenizer) -> None:
    engine = ScriptedEngine(tokenizer, LONG, paced=True)
    with running(engine, tokenizer) as server:
        thread, found = in_background(lambda: server.chat(max_tokens=40))
        until(lambda: len(engine.running) == 1)
        raw = open_request(server, {"stream": True})
        until(lambda: len(engine.running) == 2)
        raw.close()
        until(lambda: len(engine.running) == 1)
        engine.allow()
        thread.join()
        assert found[0].json()["choices"][0]["message"]["content"] == tokenizer.decode(engine.script[:40])


def test_what_comes_while_another_leaves_is_not_lost(tokenizer: Tokenizer) -> None:
    """A request that is handed over before a cancelled one is taken out of the queue stays in it."""
    engine = ScriptedEngine(tokenizer, LONG, paced=True)
    with running(engine, tokenizer, slots=1, waiting=4) as server:
        thread, _ = in_background(lambda: server.chat(max_tokens=2))
        until(lambda: len(engine.running) == 1)

        def cross() -> None:
            leaving, staying = (Job([(Prompt.of([5]), Sampling(max_tokens=1))]) for _ in range(2))
            server.worker.submit(leaving)
            server.worker.cancel(leaving, "disconnected")
            server.worker.submit(staying)

        server.server._loop.call_soon_threadsafe(cross)
        until(lambda: server.worker.outstanding >= 2)
        engine.allow()
        thread.join()
        until(server.idle)
        assert [len(prompt) for prompt in engine.prompts[1:]] == [1]


def test_a_full_queue_answers_429_and_recovers(tokenizer: Tokenizer) -> None:
    engine = ScriptedEngine(tokenizer, "the cat", paced=True)
    with running(engine, tokenizer, slots=1, waiting=2) as server:
        waiting = [in_background(lambda: server.chat()) for _ in range(3)]
        until(lambda: server.worker.outstanding == 3)
        began = time.monotonic()
        refused = server.chat()
        assert time.monotonic() - began < 0.5
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["code"] == "queue_full"
        too_many = server.chat(n=4)
        assert too_many.status_code == 400
        assert too_many.json()["error"]["param"] == "n"
        engine.allow()
        for thread, found in waiting:
            thread.join()
            assert found[0].status_code == 200
        assert engine.most_running == 1
        assert server.chat().status_code == 200


@pytest.mark.slow
def test_a_request_that_takes_too_long_ends_with_an_error(tokenizer: Tokenizer) -> None:
    engine = ScriptedEngine(tokenizer, LONG, paced=True)
    with running(engine, tokenizer, timeout=0.4) as server:
        for stream in (True, False):
            response = server.chat(stream=stream)
            assert response.status_code == 504
            assert response.json()["error"]["code"] == "timeout"
            until(server.idle)
        thread, found = in_background(lambda: server.chat(stream=True))
        until(lambda: bool(engine.running))
        engine.allow(3)
        thread.join()
        assert found[0].status_code == 200
        last = events(found[0].text)[-1]
        assert json.loads(last)["error"]["code"] == "timeout"
        until(server.idle)


def test_a_reader_that_stops_reading_is_bounded(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingot.serve.worker.MAX_UNREAD", 200)
    engine = ScriptedEngine(tokenizer, LONG)
    with running(engine, tokenizer, max_length=10**9) as server:
        fat = {"logprobs": True, "top_logprobs": 20}
        with open_request(server, {"stream": True, "ignore_eos": True, "max_tokens": 10**8, **fat}):
            until(lambda: server.metric("ingot_cancelled_total", reason="slow-reader") == 1, 60)
            until(server.idle)
            assert server.chat(max_tokens=3).status_code == 200


def test_a_failed_step_ends_its_requests_and_no_others(tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    engine = ScriptedEngine(tokenizer, "the cat", paced=True)
    with running(engine, tokenizer, slots=1) as server:
        streamed, found_stream = in_background(lambda: server.chat(stream=True))
        until(lambda: len(engine.running) == 1)
        waiting, found_waiting = in_background(lambda: server.chat())
        until(lambda: server.worker.outstanding == 2)
        engine.allow(1)
        until(lambda: bool(engine.running) and len(engine.running[0].tokens) == 1)
        engine.fail_next = 1
        engine.allow()
        streamed.join()
        waiting.join()
        last = json.loads(events(found_stream[0].text)[-1])
        assert last["error"]["code"] == "engine_failed"
        assert found_waiting[0].status_code == 200
        assert server.idle()
    logged = [record.getMessage() for record in caplog.records]
    assert any("RuntimeError" in line for line in logged)
    assert not any("secret" in line for line in logged)


def test_an_engine_that_keeps_failing_ends_the_server(tokenizer: Tokenizer) -> None:
    engine = ScriptedEngine(tokenizer)
    engine.fail_next = 3
    with running(engine, tokenizer) as server:
        waiting = [in_background(lambda: server.chat()) for _ in range(4)]
        for thread, found in waiting:
            thread.join()
            assert found[0].status_code in {500, 503}
            assert found[0].json()["error"]["type"] == "server_error"
        while server.thread.is_alive() and server.worker.failure is None:
            server.chat()
        server.thread.join(10)
        (error,) = server.ended
        assert isinstance(error, IngotError)
        assert error.code == "serve-engine-died"
        assert "secret" not in str(error)


def test_a_request_that_the_engine_chokes_on_ends_alone(
    tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = ScriptedEngine(tokenizer)

    def choke(*_: object) -> None:
        raise OverflowError("secret words of a prompt")

    with running(engine, tokenizer) as server:
        with monkeypatch.context() as broken:
            broken.setattr(engine, "submit", choke)
            response = server.chat(n=2)
        assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
        assert server.chat().status_code == 200
        until(server.idle)
    logged = [record.getMessage() for record in caplog.records]
    assert any("OverflowError" in line for line in logged)
    assert not any("secret" in line for line in logged)


def test_an_engines_thread_that_ends_ends_the_server(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a thread that is no more."""
    engine = ScriptedEngine(tokenizer, LONG, paced=True)
    with running(engine, tokenizer) as server:
        waiting, found = in_background(lambda: server.chat())
        until(lambda: len(engine.running) == 1)
        monkeypatch.delattr(ScriptedEngine, "cancel")
        with open_request(server, {"stream": True}):
            until(lambda: len(engine.running) == 2)
        waiting.join()
        assert found[0].json()["error"]["code"] == "engine_failed"
        server.thread.join(10)
        (error,) = server.ended
        assert isinstance(error, IngotError)
        assert error.code == "serve-engine-died"


def test_draining_refuses_new_work_and_finishes_old(tokenizer: Tokenizer) -> None:
    engine = ScriptedEngine(tokenizer, "the cat", paced=True)
    with running(engine, tokenizer) as server:
        thread, found = in_background(lambda: server.chat(stream=True))
        until(lambda: len(engine.running) == 1)
        server.server.stop_soon()
        until(lambda: server.api.gate.draining)
        with server.client as client:
            assert client.get("/ready").status_code == 503
            assert client.get("/health").status_code == 200
        refused = server.chat()
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "draining"
        assert refused.headers["retry-after"] == "5"
        engine.allow()
        thread.join()
        assert events(found[0].text)[-1] == "[DONE]"
        server.thread.join(10)
        (session,) = server.ended
        assert session.summary()["requests"] == 4


@pytest.mark.parametrize("twice", [True, False])
def test_what_does_not_finish_is_aborted_with_an_error_event(tokenizer: Tokenizer, twice: bool) -> None:
    engine = ScriptedEngine(tokenizer, LONG, paced=True)
    with running(engine, tokenizer, drain=30.0 if twice else 0.2) as server:
        begun, found_begun = in_background(lambda: server.chat(stream=True))
        until(lambda: len(engine.running) == 1)
        engine.allow(2)
        until(lambda: len(engine.running[0].tokens) == 2)
        unbegun, found_unbegun = in_background(lambda: server.chat())
        until(lambda: len(engine.running) == 2)
        began = time.monotonic()
        server.server.stop_soon()
        if twice:
            server.server.stop_soon()
        begun.join()
        unbegun.join()
        assert json.loads(events(found_begun[0].text)[-1])["error"]["code"] == "aborted"
        assert found_unbegun[0].status_code == 503
        assert found_unbegun[0].json()["error"]["code"] == "aborted"
        server.thread.join(10)
        assert time.monotonic() - began < 5
        assert engine.running == []


def test_a_taken_port_is_refused(tokenizer: Tokenizer) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(IngotError) as refused, listen("127.0.0.1", port):
            pass
        assert refused.value.code == "serve-port-taken"
        assert str(port) in str(refused.value)
    with listen("127.0.0.1", port):
        pass
    with pytest.raises(IngotError) as refused, listen("no.such.host.invalid", 0):
        pass
    assert refused.value.code == "serve-cannot-listen"
