"""Deadlines, the queue's bounds in number, tokens and time, and readers that are too slow: each has its own error, and
nothing of what was stopped goes on."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import httpx
import pytest
from serving import ScriptedEngine, events, in_background, open_request, running, until

from ingot.adapt.generation import Generation
from ingot.adapt.load import load
from ingot.infer.engine import Engine
from ingot.infer.options import Sampling
from ingot.infer.reader import Prompt, Reader, Start
from ingot.infer.sequence import Sequence
from ingot.serve.admission import FIRST_GUESS, Admission
from ingot.serve.errors import ApiError, refuse
from ingot.serve.job import Job
from ingot.serve.prepare import Adapters
from ingot.text.tokenizer import Tokenizer
from tiny import write_model

LONG = "the cat sat on the mat and the dog ran to the man " * 8


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


class Guided(ScriptedEngine):
    """Pairs guided texts, as the engine does."""

    def submit(self, prompt: Prompt, sampling: Sampling, salt: str = "", adapters: Adapters = None) -> Sequence:
        sequence = super().submit(prompt, sampling, salt, adapters)
        if sampling.is_guided:
            start = Start(prompt.ids, prompt.ids)
            Sequence(sequence.id, start, sampling, Generation(frozenset()), 9, None).accompany(sequence)
        return sequence


def test_a_guided_request_takes_two_slots_and_waits_for_both(tokenizer: Tokenizer) -> None:
    engine = Guided(tokenizer, "the cat", paced=True)
    with running(engine, tokenizer, slots=3, waiting=9, limits={"queue_timeout": 0.3}) as server:
        first, found = in_background(lambda: server.chat(guidance_scale=2))
        until(lambda: len(engine.running) == 1)
        second, late = in_background(lambda: server.chat(guidance_scale=2))
        until(lambda: server.metric("ingot_queue_depth") == 1)
        second.join()
        assert told(late[0]) == (503, "queue_timeout")
        third, beside = in_background(lambda: server.chat())
        until(lambda: len(engine.running) == 2)
        engine.allow()
        first.join()
        third.join()
        assert [found[0].status_code, beside[0].status_code] == [200, 200]
        until(server.idle)


@pytest.mark.parametrize("stream", [True, False])
def test_one_slot_is_too_few_for_guidance_and_the_client_is_told(
    tmp_path: Path, tokenizer_dir: Path, stream: bool
) -> None:
    model = load(write_model(tmp_path / "tiny", tokenizer=tokenizer_dir))
    with running(Engine(model, 1), model.tokenizer, slots=1, reader=Reader.of(model), model=model) as server:
        refused = server.chat(guidance_scale=2, max_tokens=4, stream=stream)
        assert refused.status_code == 400
        assert "two slots" in refused.json()["error"]["message"]
        assert server.chat(max_tokens=2).status_code == 200


def test_the_text_to_move_away_from_has_to_fit_too(tokenizer: Tokenizer) -> None:
    with running(ScriptedEngine(tokenizer), tokenizer) as server:
        for name, text in (("negative_prompt", "天空" * 30), ("negative_prompt_ids", [5] * 20)):
            asked = {"guidance_scale": 2, name: text}
            assert server.complete(**asked, max_tokens=60).status_code == 200
            error = server.complete(**asked, max_tokens=110).json()["error"]
            assert (error["param"], error["code"]) == (name, "context_length_exceeded")
        assert server.complete(max_tokens=110).status_code == 200
        assert server.complete(guidance_scale=2, negative_prompt="").json()["error"]["param"] == "negative_prompt"


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
        raw = open_request(server, {"stream": True, "ignore_eos": True, "max_tokens": 10**8, **fat})
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
