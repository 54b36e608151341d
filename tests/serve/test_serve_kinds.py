"""Models that read in both directions behind the server: encoder-decoders and prefix-LMs answer as they do offline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import HELLO, Running, running

from ingot.adapt.load import LanguageModel, load
from ingot.infer.engine import Engine, generate
from ingot.infer.options import Sampling
from ingot.infer.reader import Prompt, Reader
from tiny import BART, LLAMA, T5, write_model, write_sentinel_tokenizer

IDS = {"vocab_size": 340, "eos_token_id": 0, "pad_token_id": 1}
KINDS = {
    "t5": T5 | IDS | {"decoder_start_token_id": 1, "n_positions": 64},
    "bart": BART | IDS | {"decoder_start_token_id": 0, "forced_bos_token_id": 9, "forced_eos_token_id": 0},
    "prefix": LLAMA | IDS | {"prefix_lm": True, "max_position_embeddings": 64},
}
TALK = [*HELLO, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "天空"}]
CONTROLS = {"seed": 5, "max_tokens": 9}


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder: Path = tmp_path_factory.mktemp(request.param)
    return load(write_model(folder / "m", KINDS[request.param], 0, write_sentinel_tokenizer(folder / "tok")))


@pytest.fixture(scope="module")
def server(model: LanguageModel) -> Iterator[Running]:
    with running(Engine(model, 3), model.tokenizer, slots=3, waiting=20, reader=Reader.of(model)) as found:
        yield found


def offline(model: LanguageModel, prompt: Prompt) -> tuple[str, str | None, int]:
    (found,) = generate(model, [prompt], Sampling(**CONTROLS))
    return found.text, found.finish_reason, len(prompt.ids)


@pytest.mark.parametrize("messages", [HELLO, TALK])
def test_chats_are_answered_as_offline(server: Running, model: LanguageModel, messages: list[dict[str, str]]) -> None:
    prompt = Reader.of(model).conversation(model.tokenizer, messages)
    body = server.chat(messages=messages, **CONTROLS).json()
    choice = body["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"], body["usage"]["prompt_tokens"]) == offline(
        model, prompt
    )


@pytest.mark.parametrize("text", ["the cat", "the <extra_id_0> cat"])
def test_texts_are_completed_as_offline(server: Running, model: LanguageModel, text: str) -> None:
    prompt = Reader.of(model).text(model.tokenizer, text)
    for asked in (text, prompt.ids):
        body = server.complete(prompt=asked, **CONTROLS).json()
        choice = body["choices"][0]
        assert (choice["text"], choice["finish_reason"], body["usage"]["prompt_tokens"]) == offline(model, prompt)


def test_an_encoder_decoder_has_a_window_for_each_side(server: Running, model: LanguageModel) -> None:
    """And a decoder one for both."""
    two = Reader.of(model).has_source
    longest, room = (64, 63) if two else (1, 63)
    fits = server.complete(prompt=[5] * longest, max_tokens=room, ignore_eos=True).json()
    assert (fits["usage"]["prompt_tokens"], fits["usage"]["completion_tokens"]) == (longest, room)
    for prompt, wanted, words in ((65, 1, "has 65"), (3, 64, "can write 63 more" if two else "67 together")):
        response = server.complete(prompt=[5] * prompt, max_tokens=wanted)
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", "prompt")
        assert words in error["message"]
