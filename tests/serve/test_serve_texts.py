"""Routes that make no tokens: vectors, tokens, templates; and prompts that end with the beginning of an answer."""

from __future__ import annotations

import base64
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from serving import HELLO, Running, ScriptedEngine, running, until

from ingot.adapt.load import LanguageModel, load
from ingot.guard.guard import Guard
from ingot.guard.policy import Policy
from ingot.infer.embed import embed
from ingot.infer.engine import Engine, generate
from ingot.infer.options import Sampling
from ingot.infer.reader import Reader
from ingot.text.chat import render
from ingot.text.tokenizer import Tokenizer
from tiny import LLAMA, T5, write_model, write_sentinel_tokenizer

IDS = {"vocab_size": 340, "eos_token_id": 0, "pad_token_id": 1}
KINDS = {
    "decoder": LLAMA | IDS,
    "prefix": LLAMA | IDS | {"prefix_lm": True, "max_position_embeddings": 64},
    "t5": T5 | IDS | {"decoder_start_token_id": 1, "n_positions": 64},
}
TEXTS = ["the cat", "天空", "hello world, hello dog"]
BEGUN = [*HELLO, {"role": "assistant", "content": "the cat sat"}]


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder: Path = tmp_path_factory.mktemp(request.param)
    return load(write_model(folder / "m", KINDS[request.param], 0, write_sentinel_tokenizer(folder / "tok")))


@pytest.fixture(scope="module")
def server(model: LanguageModel) -> Iterator[Running]:
    reader = Reader.of(model)
    with running(Engine(model, 3), model.tokenizer, slots=3, waiting=9, reader=reader, model=model) as found:
        yield found


@pytest.fixture(scope="module")
def fake(tokenizer: Tokenizer) -> Iterator[Running]:
    with running(ScriptedEngine(tokenizer), tokenizer) as found:
        yield found


def vectors(response: Any) -> torch.Tensor:
    assert response.status_code == 200, response.text
    data = response.json()["data"]
    assert [item["index"] for item in data] == list(range(len(data)))
    return torch.tensor([item["embedding"] for item in data])


def test_vectors_are_those_of_the_function(server: Running, model: LanguageModel) -> None:
    response = server.post("/v1/embeddings", {"model": "tiny", "input": TEXTS})
    torch.testing.assert_close(vectors(response), embed(model, TEXTS), rtol=1e-5, atol=1e-6)
    body = response.json()
    reader = Reader.of(model)
    size = sum(len(reader.text(model.tokenizer, text).ids) for text in TEXTS)
    assert body["usage"] == {"prompt_tokens": size, "total_tokens": size}
    assert (body["object"], body["model"]) == ("list", "tiny")
    one = vectors(server.post("/v1/embeddings", {"model": "tiny", "input": TEXTS[0]}))
    torch.testing.assert_close(one, embed(model, TEXTS[:1]), rtol=1e-5, atol=1e-6)


def test_forms_of_input_and_output(server: Running, model: LanguageModel) -> None:
    ids = [Reader.of(model).text(model.tokenizer, text).ids for text in TEXTS]
    expected = embed(model, TEXTS)
    for given in (ids, [TEXTS[0], *ids[1:]]):
        found = vectors(server.post("/v1/embeddings", {"model": "tiny", "input": given}))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    found = vectors(server.post("/v1/embeddings", {"model": "tiny", "input": ids[0], "encoding_format": "float"}))
    torch.testing.assert_close(found, expected[:1], rtol=1e-5, atol=1e-6)
    coded = server.post("/v1/embeddings", {"model": "tiny", "input": TEXTS, "encoding_format": "base64"}).json()
    raw = [base64.b64decode(item["embedding"]) for item in coded["data"]]
    read = torch.tensor([struct.unpack(f"<{len(part) // 4}f", part) for part in raw])
    torch.testing.assert_close(read, expected, rtol=1e-5, atol=1e-6)
    longer = vectors(server.post("/v1/embeddings", {"model": "tiny", "input": TEXTS, "normalize": False}))
    torch.testing.assert_close(longer, embed(model, TEXTS, normalize=False), rtol=1e-5, atol=1e-6)
    width = model.config.hidden_size
    assert server.post("/v1/embeddings", {"model": "tiny", "input": "x", "dimensions": width}).status_code == 200
    assert server.metric("ingot_tokens_total", kind="embedding") > 0
    assert server.idle()


BAD = [
    ({}, "model"), ({"model": "tiny"}, "input"), ({"model": "other", "input": "x"}, "model"),
    ({"input": ""}, "input[0]"), ({"input": ["x", ""]}, "input[1]"), ({"input": []}, "input"),
    ({"input": [[]]}, "input"), ({"input": ["x"] * 2049}, "input"), ({"input": 5}, "input"),
    ({"input": [[99_999]]}, "input"), ({"input": [[-1]]}, "input"), ({"input": [[5] * 2000]}, "input[0]"),
    ({"input": ["x", "x " * 2000]}, "input[1]"), ({"input": "x", "dimensions": 7}, "dimensions"),
    ({"input": "x", "dimensions": 0}, "dimensions"), ({"input": "x", "encoding_format": "int8"}, "encoding_format"),
    ({"input": "x", "user": 5}, "user"), ({"input": "x", "temperature": 1}, "temperature"),
    ({"input": "x", "truncate_prompt_tokens": 5}, "truncate_prompt_tokens"),
    ({"input": "x", "deadline_ms": 0}, "deadline_ms"), ({"input": "x", "normalize": "yes"}, "normalize"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "param"), BAD)
def test_bad_embedding_requests_are_refused_by_name(fake: Running, body: dict[str, Any], param: str) -> None:
    response = fake.post("/v1/embeddings", {"model": "tiny", **body} if body else {})
    error = response.json()["error"]
    assert response.status_code in {400, 404}
    assert error["param"] == param
    assert fake.idle()


def test_a_text_that_is_too_long_is_told_with_the_counts(fake: Running) -> None:
    error = fake.post("/v1/embeddings", {"model": "tiny", "input": [[5] * 200]}).json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert "200" in error["message"]
    assert "128" in error["message"]


def test_running_answers_go_on_beside_vectors(tokenizer: Tokenizer) -> None:
    """A piece of work is done between two steps, never several."""
    engine = ScriptedEngine(tokenizer, "the cat sat on the mat " * 5, paced=True)
    with running(engine, tokenizer) as server:
        chat: list[Any] = []
        thread = threading.Thread(target=lambda: chat.append(server.chat()))
        thread.start()
        until(lambda: len(engine.running) == 1)
        found: list[Any] = []
        asking = threading.Thread(
            target=lambda: found.append(server.post("/v1/embeddings", {"model": "tiny", "input": ["x"] * 10}))
        )
        asking.start()
        until(lambda: server.worker.outstanding == 2)
        engine.allow()
        asking.join()
        thread.join()
        assert len(vectors(found[0])) == 10
        assert chat[0].status_code == 200
        until(server.idle)


def test_an_embedding_request_that_leaves_or_is_late_frees_its_place(tokenizer: Tokenizer) -> None:
    gate = threading.Event()

    def slow(rows: Any, normalize: bool, adapters: Any) -> Iterator[Any]:
        for place in range(len(rows)):
            gate.wait(5)
            yield [place], [[0.0]]

    with running(ScriptedEngine(tokenizer), tokenizer, slots=1, waiting=0) as server:
        object.__setattr__(server.api.served.embedder, "vectors", slow)
        asked = {"model": "tiny", "input": ["x"] * 3, "deadline_ms": 50}
        late = server.post("/v1/embeddings", asked)
        assert late.status_code == 504
        assert late.json()["error"]["code"] == "deadline_exceeded"
        gate.set()
        until(server.idle)
        assert server.post("/v1/embeddings", {"model": "tiny", "input": "x"}).status_code == 200
        assert server.chat().status_code == 200


def test_the_guard_reads_inputs(tokenizer: Tokenizer) -> None:
    guard = Guard(Policy("test", {"email": "redact", "card": "block"}))
    with running(ScriptedEngine(tokenizer), tokenizer, guard=guard) as server:
        response = server.post("/v1/embeddings", {"model": "tiny", "input": "bob@example.com"})
        assert response.headers["x-ingot-guard"] == "redacted=email"
        assert response.json()["data"][0]["embedding"][1] == len(tokenizer.encode("[email]"))
        for path, body in (
            ("/v1/embeddings", {"input": "4111 1111 1111 1111"}),
            ("/tokenize", {"prompt": "4111 1111 1111 1111"}),
            ("/apply-template", {"messages": [{"role": "user", "content": "4111 1111 1111 1111"}]}),
        ):
            error = server.post(path, {"model": "tiny", **body}).json()["error"]
            assert error["code"] == "content_filter"


def test_tokens_are_those_that_the_routes_read(server: Running, model: LanguageModel) -> None:
    reader = Reader.of(model)
    for text in TEXTS:
        body = server.post("/tokenize", {"prompt": text, "return_token_strs": True}).json()
        assert body["tokens"] == reader.text(model.tokenizer, text).ids
        assert body["count"] == len(body["tokens"]) == len(body["token_strs"])
        assert body["max_model_len"] == reader.window
        plain = server.post("/tokenize", {"prompt": text, "add_special_tokens": False}).json()
        assert plain["tokens"] == model.tokenizer.encode(text)
        assert server.post("/detokenize", {"tokens": plain["tokens"]}).json() == {"prompt": text}
    for messages in (HELLO, [*BEGUN, {"role": "user", "content": "<|im_end|>"}]):
        body = server.post("/tokenize", {"messages": messages}).json()
        assert body["tokens"] == reader.conversation(model.tokenizer, messages).ids
        assert server.chat(messages=messages, max_tokens=1).json()["usage"]["prompt_tokens"] == body["count"]
        text = server.post("/apply-template", {"messages": messages}).json()["prompt"]
        assert text == render(messages, model.tokenizer, add_generation_prompt=True).text


def test_prompts_without_a_prompt_for_an_answer_and_with_its_beginning(server: Running, model: LanguageModel) -> None:
    start = "<|im_start|>user\nhello<|im_end|>\n"
    begun = f"{start}<|im_start|>assistant\nthe cat sat"
    cases = [
        (HELLO, {"add_generation_prompt": False}, start),
        (BEGUN, {"add_generation_prompt": False}, f"{begun}<|im_end|>\n"),
        (BEGUN, {"continue_final_message": True}, begun),
        (BEGUN, {"continue_final_message": True, "add_generation_prompt": False}, begun),
    ]  # fmt: skip
    for messages, flags, expected in cases:
        assert server.post("/apply-template", {"messages": messages, **flags}).json()["prompt"] == expected
        ids = server.post("/tokenize", {"messages": messages, **flags}).json()["tokens"]
        ends = {id for id in ids if id == model.tokenizer.eos_id} if Reader.of(model).has_source else set()
        assert [id for id in ids if id not in ends] == model.tokenizer.encode(expected, special=True)
        answer = server.chat(messages=messages, **flags, temperature=0, max_tokens=5).json()
        assert answer["usage"]["prompt_tokens"] == len(ids)


def test_an_answer_that_was_begun_goes_on(server: Running, model: LanguageModel) -> None:
    """As offline behind the same tokens; the beginning is not said again."""
    prompt = Reader.of(model).conversation(model.tokenizer, BEGUN, go_on=True)
    (expected,) = generate(model, [prompt], Sampling(seed=3, max_tokens=9))
    found = server.chat(messages=BEGUN, continue_final_message=True, seed=3, max_tokens=9).json()["choices"][0]
    assert (found["message"]["content"], found["finish_reason"]) == (expected.text, expected.finish_reason)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "x", "messages": HELLO}, "prompt"),
        ("/tokenize", {"prompt": "x", "tools": []}, "tools"),
        ("/tokenize", {"prompt": "x", "add_generation_prompt": True}, "add_generation_prompt"),
        ("/tokenize", {"messages": HELLO, "add_special_tokens": True}, "add_special_tokens"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"prompt": 5}, "prompt"),
        ("/tokenize", {"prompt": "x", "model": "other"}, "model"),
        ("/tokenize", {"prompt": "x", "colour": 1}, "colour"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens[0]"),
        ("/detokenize", {"tokens": [99_999]}, "tokens"),
        ("/detokenize", {"tokens": "x"}, "tokens"),
        ("/apply-template", {}, "messages"),
        ("/apply-template", {"messages": [{"role": "user"}]}, "messages[0].content"),
        ("/apply-template", {"messages": [{"role": "robot", "content": ""}]}, "messages[0].role"),
        ("/apply-template", {"messages": HELLO, "continue_final_message": True}, "continue_final_message"),
        ("/apply-template", {"messages": BEGUN, "continue_final_message": True, "add_generation_prompt": True},
         "continue_final_message"),
        ("/apply-template", {"messages": BEGUN[1:], "continue_final_message": True}, "messages"),
        ("/apply-template", {"messages": HELLO, "chat_template": "x"}, "chat_template"),
    ],
)  # fmt: skip
def test_bad_requests_for_tokens_are_refused_by_name(
    fake: Running, path: str, body: dict[str, Any], param: str
) -> None:
    response = fake.post(path, body)
    assert response.status_code in {400, 404}
    assert response.json()["error"]["param"] == param


def test_a_template_that_leaves_calls_out_is_refused(fake: Running) -> None:
    """A model that is not shown what was called cannot make sense of the results."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}
    talk = [*HELLO, {"role": "assistant", "content": "so", "tool_calls": [call]}]
    for path in ("/tokenize", "/apply-template"):
        response = fake.post(path, {"messages": talk})
        assert (response.status_code, response.json()["error"]["param"]) == (400, "messages")
    assert fake.chat(messages=talk).json()["error"]["param"] == "messages"


def test_detokenize_writes_special_tokens_out(fake: Running, tokenizer: Tokenizer) -> None:
    ids = render(HELLO, tokenizer, add_generation_prompt=True).ids
    assert fake.post("/detokenize", {"tokens": ids}).json()["prompt"].startswith("<|im_start|>user\nhello<|im_end|>")
    assert fake.post("/detokenize", {"tokens": []}).json() == {"prompt": ""}
