"""The verb with a real model: what is served equals what is generated; the probe; the port; the signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import HELLO, Running, events, running, until

from ingot import IngotError
from ingot.adapt.load import LanguageModel, load
from ingot.infer.engine import Engine, generate
from ingot.infer.likelihood import token_logprobs
from ingot.infer.options import Sampling
from ingot.serve.serve import serve
from ingot.serve.server import Server, Session, listen
from ingot.text.chat import render
from tiny import write_model

SAMPLINGS: list[dict[str, Any]] = [
    {"temperature": 0.0, "max_tokens": 20},
    {"temperature": 1.0, "seed": 5, "max_tokens": 20},
    {"temperature": 1.5, "seed": 6, "top_k": 20, "top_p": 0.9, "max_tokens": 30, "presence_penalty": 1.0},
    {"temperature": 0.8, "seed": 7, "min_p": 0.02, "max_tokens": 10, "stop": ["e", "a"]},
]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    return write_model(tmp_path_factory.mktemp("served") / "tiny", tokenizer=tokenizer_dir)


@pytest.fixture(scope="module")
def model(model_dir: Path) -> LanguageModel:
    return load(model_dir)


@pytest.fixture(scope="module")
def server(model: LanguageModel) -> Iterator[Running]:
    with running(Engine(model, 3), model.tokenizer, slots=3, waiting=20, vocab_size=model.config.vocab_size) as found:
        yield found


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_served_equals_generated_whole_and_streamed(
    server: Running, model: LanguageModel, sampling: dict[str, Any]
) -> None:
    ids = render(HELLO, model.tokenizer, add_generation_prompt=True).ids
    (expected,) = generate(model, [ids], Sampling(**sampling))
    body = server.chat(**sampling).json()
    assert body["choices"][0]["message"]["content"] == expected.text
    assert body["choices"][0]["finish_reason"] == expected.finish_reason
    assert body["usage"]["completion_tokens"] == len(expected.tokens)
    *found, done = list(events(server.chat(stream=True, **sampling).text))
    choices = [json.loads(line)["choices"][0] for line in found]
    assert "".join(choice["delta"].get("content", "") for choice in choices) == expected.text
    assert choices[-1]["finish_reason"] == expected.finish_reason
    assert done == "[DONE]"


def test_many_at_once_equal_each_alone(server: Running, model: LanguageModel) -> None:
    prompts = ["the cat", "hello world", "天空", "1 + 2", "the dog ran to the man"] * 3
    sampling = {"temperature": 1.0, "max_tokens": 15}
    expected = [generate(model, [text], Sampling(**sampling, seed=n))[0].text for n, text in enumerate(prompts)]
    found: dict[int, str] = {}

    def ask(number: int) -> None:
        response = server.complete(prompt=prompts[number], seed=number, **sampling)
        found[number] = response.json()["choices"][0]["text"]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(len(prompts))] == expected


def test_logprobs_of_the_engine(server: Running, model: LanguageModel) -> None:
    sampling = {"temperature": 0.0, "max_tokens": 5}
    ids = render(HELLO, model.tokenizer, add_generation_prompt=True).ids
    (expected,) = generate(model, [ids], Sampling(**sampling, logprobs=3))
    content = server.chat(**sampling, logprobs=True, top_logprobs=3).json()["choices"][0]["logprobs"]["content"]
    assert expected.logprobs is not None
    assert [entry["logprob"] for entry in content] == [entry.logprob for entry in expected.logprobs]
    best = [[other["logprob"] for other in entry["top_logprobs"]] for entry in content]
    assert best == [[value for _, value in entry.alternatives] for entry in expected.logprobs]


@pytest.mark.parametrize("stream", [False, True])
def test_controls_that_leave_no_token_end_in_an_error(server: Running, model: LanguageModel, stream: bool) -> None:
    """Its own rules are at fault, not the engine, and no other request feels it."""
    only_end = {"allowed_token_ids": [model.tokenizer.eos_id], "min_tokens": 3, "max_tokens": 5}
    response = server.complete(**only_end, stream=stream)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "no_token_left")
    assert server.complete(max_tokens=2).status_code == 200
    until(server.idle)


def test_samplers_act_as_offline(server: Running, model: LanguageModel) -> None:
    ids = model.tokenizer.encode("the cat")
    for own in (
        {"typical_p": 0.5},
        {"mirostat": 2, "mirostat_tau": 2.0},
        {"dry_multiplier": 2.0, "dry_allowed_length": 1},
        {"logit_bias": {"5": 50}},
        {"stop_token_ids": list(range(20, 60))},
    ):
        sampling = {"seed": 3, "max_tokens": 12, **own}
        (expected,) = generate(model, [ids], Sampling.of(**sampling))
        found = server.complete(prompt=ids, **sampling).json()
        assert found["choices"][0]["text"] == expected.text
        assert found["usage"]["completion_tokens"] == len(expected.tokens)


@pytest.mark.parametrize("stream", [False, True])
def test_an_echoed_prompt_has_its_log_probabilities(server: Running, model: LanguageModel, stream: bool) -> None:
    """As if it had been written: each token's from those before it, the first one's unknown."""
    text = "the cat sat"
    ids = model.tokenizer.encode(text)
    asked = {"prompt": text, "echo": True, "logprobs": 2, "max_tokens": 3, "temperature": 0, "ignore_eos": True}
    response = server.complete(**asked, stream=stream)
    if stream:
        chunks = [json.loads(line)["choices"][0] for line in events(response.text)[:-1]]
        found: dict[str, list[Any]] = {}
        for chunk in chunks:
            for name, values in (chunk["logprobs"] or {}).items():
                found.setdefault(name, []).extend(values)
        said = "".join(chunk["text"] for chunk in chunks)
    else:
        (choice,) = response.json()["choices"]
        found, said = choice["logprobs"], choice["text"]
    assert said.startswith(text)
    assert len(found["tokens"]) == len(found["top_logprobs"]) == len(ids) + 3
    assert (found["token_logprobs"][0], found["top_logprobs"][0]) == (None, None)
    assert found["tokens"][: len(ids)] == [model.tokenizer.decode([token]) for token in ids]
    assert found["token_logprobs"][1 : len(ids)] == pytest.approx(token_logprobs(model, ids).tolist(), abs=1e-4)
    (plain,) = generate(model, [ids], Sampling(temperature=0, max_tokens=3, ignore_eos=True, logprobs=2))
    assert plain.logprobs is not None
    assert found["token_logprobs"][len(ids) :] == pytest.approx([entry.logprob for entry in plain.logprobs], abs=1e-4)
    assert found["text_offset"][:3] == [0, *accumulate(len(token) for token in found["tokens"][:2])]


def test_probe(model_dir: Path, model: LanguageModel, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("sk-one")
    outcome = serve(model=str(model_dir), port=0, probe="hello", probe_tokens=12, name="mine", api_key_file=keys)
    ids = render(HELLO, model.tokenizer, add_generation_prompt=True).ids
    (expected,) = generate(model, [ids], Sampling(temperature=0, max_tokens=12))
    summary = outcome.summary()
    assert summary["answer"] == expected.text
    assert summary["answer_tokens"] == len(expected.tokens)
    assert summary["passed"] is summary["equal"] is True
    assert summary["name"] == "mine"
    assert summary["requests"] == 2
    assert 0 < summary["seconds_to_first_token"] < 30


def test_the_vocabulary_is_ready_for_forms_before_requests_come(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made at the first such request it would hold up every answer."""
    made: list[bool] = []

    async def look(server: Server, question: object) -> Session:
        made.append("trie" in vars(server.api.served.tokenizer))
        return Session(server.url, "tiny", 0, 0, 0.0)

    monkeypatch.setattr(Server, "run", look)
    serve(model=str(model_dir), port=0)
    assert made == [True]


def test_a_probe_that_is_refused_says_why(model_dir: Path) -> None:
    with pytest.raises(IngotError) as refused:
        serve(model=str(model_dir), port=0, probe="my card is 4111 1111 1111 1111", policy="strict")
    assert refused.value.code == "serve-probe-failed"
    assert "card" in str(refused.value)


def test_cheap_mistakes_are_found_before_the_model_is_loaded(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "none")
    with listen("127.0.0.1", 0) as taken, pytest.raises(IngotError) as refused:
        serve(model=nowhere, port=taken.getsockname()[1])
    assert refused.value.code == "serve-port-taken"
    with pytest.raises(IngotError) as refused:
        serve(model=nowhere, port=0, policy="no-such-policy")
    assert refused.value.code == "no-such-policy"
    with pytest.raises(IngotError) as refused:
        serve(model=nowhere, port=0, api_key_file=tmp_path / "no-keys")
    assert refused.value.code == "no-such-file"
    with pytest.raises(IngotError) as refused:
        serve(model=nowhere, port=0)
    assert refused.value.code == "no-such-directory"


def start(model_dir: Path, *words: str) -> tuple[subprocess.Popen[str], str]:
    """`ingot serve` in a process of its own; returns it and its address."""
    command = [sys.executable, "-m", "ingot.cli", "serve", str(model_dir), "--port", "0", *words]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "INGOT_LANG": "en"}
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert " at http://127.0.0.1:" in line, line
    return process, line.split(" at ")[1].split("/v1")[0]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_with_zero(model_dir: Path, number: int) -> None:
    process, url = start(model_dir)
    body = {"model": "tiny", "prompt": "the cat", "max_tokens": 100, "ignore_eos": True, "stream": True}
    try:
        with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=30) as response:
            lines = response.iter_lines()
            assert next(lines).startswith("data: ")
            process.send_signal(number)
            rest = list(lines)
        assert rest[-2:] == ["data: [DONE]", ""] or rest[-1] == "data: [DONE]"
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, output
    assert "Traceback" not in output
    summary = json.loads(output.splitlines()[-1])
    assert summary["requests"] == 1
    assert summary["name"] == "tiny"


@pytest.mark.slow
def test_a_second_signal_aborts(tmp_path: Path, tokenizer_dir: Path) -> None:
    long = write_model(tmp_path / "long", tokenizer=tokenizer_dir, max_position_embeddings=100_000)
    process, url = start(long, "--request-timeout", "60")
    body = {"model": "long", "prompt": "the cat", "max_tokens": 50_000, "ignore_eos": True, "stream": True}
    try:
        with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=30) as response:
            lines = response.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            until(lambda: httpx.get(f"{url}/ready").status_code == 503)
            process.send_signal(signal.SIGTERM)
            last = [line for line in lines if line][-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "aborted"
        process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0


@pytest.mark.slow
def test_a_taken_port_ends_the_command_with_one_line(model_dir: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "ingot.cli", "serve", str(model_dir), "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert port in done.stderr
    assert len(done.stderr.splitlines()) == 1
