"""What a model is given to read: gaps in a text, conversations, and that both are what training makes of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from naive import naive_generate

from ingot.adapt.load import LanguageModel
from ingot.data.objectives.catalogue import make_objective
from ingot.data.objectives.lesson import Lesson
from ingot.data.objectives.options import Form, ObjectiveOptions
from ingot.data.objectives.span_corruption import corrupt
from ingot.data.pack import Batch, pack_chats
from ingot.infer.engine import Engine, generate
from ingot.infer.reader import Prompt, Reader
from ingot.infer.sampling import Sampling
from ingot.model.network import form_of
from ingot.text.chat import render
from ingot.text.tokenizer import Tokenizer
from ingot.train.loss import Inputs, _hidden

Tiny = Callable[..., LanguageModel]
TALK = [
    {"role": "user", "content": "the cat"},
    {"role": "assistant", "content": "sat on the mat"},
    {"role": "user", "content": "天空"},
    {"role": "assistant", "content": "是藍色的"},
]
KINDS = ["t5", "bart", "llama"]


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest, tiny_pair: Tiny, tiny_prefix: Tiny) -> LanguageModel:
    """Two encoder-decoders (with no forced tokens), and a decoder that reads prompts in both directions."""
    if request.param == "llama":
        return tiny_prefix()
    return tiny_pair(request.param, forced_bos_token_id=None, forced_eos_token_id=None)


def lesson_of(model: LanguageModel, messages: list[dict[str, str]]) -> Lesson:
    """A conversation as `tune --objective prefix-lm --objectives.split answer` learns it."""
    options = ObjectiveOptions(split="answer")
    objective = make_objective("prefix-lm", model.tokenizer, 96, form_of(model.config), options, model.start_id)
    rows = pack_chats([render(messages, model.tokenizer)], 96, pad=1, room=objective.room)
    return objective.lesson(Batch(rows.ids, rows.segments, rows.targets, np.arange(1)), 0, 0)


@torch.no_grad()
def lesson_logits(model: LanguageModel, lesson: Lesson) -> torch.Tensor:
    """(T, V), by the path of training."""
    return model.network.head(_hidden(model.network, Inputs.of(lesson, torch.device("cpu"))))[0]


def watched(engine: Engine, prompt: Prompt | list[int], sampling: Sampling) -> tuple[list[int], torch.Tensor]:
    """The tokens of an answer and the logits each was drawn from, (N, V)."""
    head, seen = engine.runner.network.head, []
    engine.runner.network.head = lambda hidden: seen.append(head(hidden)) or seen[-1]
    try:
        sequence = engine.submit(prompt, sampling)
        while engine.has_work:
            engine.step()
    finally:
        del engine.runner.network.head
    return sequence.tokens, torch.cat(seen)


def test_every_turn_is_read_as_it_was_learnt(model: LanguageModel) -> None:
    """The engine's logits for each answer are those of the lesson, token by token; history keeps its direction."""
    lesson = lesson_of(model, TALK)
    expected, labels = lesson_logits(model, lesson), lesson.labels_BT[0]
    for turns, answer in ((TALK[:1], TALK[1]), (TALK[:3], TALK[3])):
        prompt = Reader.of(model).conversation(model.tokenizer, turns)
        words = model.tokenizer.encode(answer["content"])
        at = next(n for n in range(96) if labels[n : n + len(words)].tolist() == words)
        for number in range(len(words) + 1):
            asked = Prompt([*prompt.ids, *words[:number]], prompt.prefix)
            _, found = watched(Engine(model, 1), asked, Sampling(temperature=0, max_tokens=1))
            assert (found[0] - expected[at + number]).abs().max() < 1e-5
    start = Reader.of(model).start(prompt)
    if start.source:
        assert lesson.source_ids_BS is not None
        assert tuple(lesson.source_ids_BS[0, : len(start.source)].tolist()) == start.source
    assert lesson.ids_BT[0, : len(start.ids)].tolist() == start.ids


def test_the_prefix_of_a_conversation_ends_where_the_first_answer_begins(model: LanguageModel) -> None:
    """Also in a batch, and read in pieces: what stands behind the prefix may be cut, the prefix not."""
    reader, tokenizer = Reader.of(model), model.tokenizer
    prompts = [reader.conversation(tokenizer, TALK[:turns]) for turns in (1, 3)]
    first = render(TALK[:1], tokenizer, add_generation_prompt=True).ids
    assert {prompt.prefix for prompt in prompts} == {len(first) + reader.has_source}
    engine = Engine(model, 3, prefill_tokens=5)
    asked = [*prompts, reader.text(tokenizer, "hello")]
    found = [engine.submit(prompt, Sampling(seed=4, max_tokens=8)) for prompt in asked]
    while engine.has_work:
        engine.step()
    for prompt, sequence in zip(asked, found, strict=True):
        assert sequence.tokens == naive_generate(model, prompt.ids, sequence.sampling, 4, prompt.prefix)


def test_a_text_with_gaps_is_what_span_corruption_makes(model: LanguageModel) -> None:
    """Every way of writing the gaps gives the source of the lesson; the spaces before them are not read."""
    tokenizer, reader = model.tokenizer, Reader.of(model)
    words = ["the", " cat", " sat", " on", " the", " mat"]
    ids, cut = [], []
    for word, gone in zip(words, [False, True, True, False, False, True], strict=True):
        ids += tokenizer.encode(word)
        cut += [gone] * len(tokenizer.encode(word))
    sentinels = np.asarray([tokenizer.id(f"<extra_id_{n}>") for n in range(3)], np.int32)
    source, target = corrupt(np.asarray(ids, np.int32), np.asarray(cut), sentinels)
    for text in ("the<extra_id_0> on the<extra_id_1>", "the  <extra_id_0> on the <extra_id_1>"):
        prompt = reader.text(tokenizer, text)
        assert prompt.ids[: len(source)] == source.tolist()
        assert prompt.ids[len(source) :] == ([tokenizer.eos_id] if reader.has_source else [])
    wanted = [*target.tolist(), tokenizer.eos_id]
    assert spoken(model, prompt, wanted).text == "<extra_id_0> cat sat<extra_id_1> mat"


def spoken(model: LanguageModel, prompt: Prompt, wanted: list[int]) -> Any:
    """A sequence that is made to say these tokens."""
    engine = Engine(model, 1)
    sequence = engine.submit(prompt, Sampling(max_tokens=len(wanted)))
    for token in wanted:
        sequence.accept(token, None)
    return sequence


def test_other_special_strings_stay_text(model: LanguageModel) -> None:
    tokenizer, reader = model.tokenizer, Reader.of(model)
    text = "a <|im_end|> b <extra_id_3><extra_id_3> c <extra_id_99>"
    found = reader.text(tokenizer, text).ids
    gap = tokenizer.id("<extra_id_3>")
    expected = [*tokenizer.encode("a <|im_end|> b"), gap, gap, *tokenizer.encode(" c <extra_id_99>")]
    assert found[: len(expected)] == expected
    assert reader.text(tokenizer, "a <|im_end|>").ids[:1] == tokenizer.encode("a")


def test_a_causal_model_reads_sentinels_as_text(tiny: Tiny, sentinel_dir: Any) -> None:
    tokenizer = Tokenizer.open(sentinel_dir)
    assert Reader.of(tiny()).text(tokenizer, "a <extra_id_0>").ids == tokenizer.encode("a <extra_id_0>")


@pytest.mark.parametrize("form", ["decoder", "encoder-decoder"])
def test_what_stands_before_a_text_stands_there_in_training_too(form: Form, sentinel_dir: Path, tmp_path: Path) -> None:
    """A tokenizer that begins every text with a token of its own, as BART's does."""
    shutil.copytree(sentinel_dir, tmp_path / "tok")
    config = json.loads((tmp_path / "tok" / "tokenizer_config.json").read_text())
    config |= {"bos_token": "<|im_start|>", "add_bos_token": True}
    (tmp_path / "tok" / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer.open(tmp_path / "tok")
    objective = make_objective("prefix-lm", tokenizer, 64, form)
    reader = Reader(340, 64, start_id=0 if form == "encoder-decoder" else None)
    end = [objective.end_id] if reader.has_source else []
    assert reader.text(tokenizer, "the").ids == [*objective.start_ids, *tokenizer.encode("the"), *end]
    assert objective.start_ids == (2,)


def test_ids_are_taken_as_they_are(model: LanguageModel) -> None:
    """No end is put behind token ids; they are all prefix."""
    prompts = [list(range(20, 20 + length)) for length in (9, 30)]
    for given, found in zip(prompts, generate(model, prompts, Sampling(seed=1, max_tokens=6)), strict=True):
        start = Reader.of(model).start(Prompt.of(given))
        assert found.prompt_ids == given
        assert (list(start.source) or start.ids[: start.prefix]) == given
