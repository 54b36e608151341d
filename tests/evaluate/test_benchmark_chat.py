"""Benchmarks through chat templates: the words, the tokens and the scores; and models that are asked differently."""

from __future__ import annotations

import json
import logging
import random
import shutil
from pathlib import Path

import pytest
from benching import asked, options_of, own_rows, prepared, rows_of, write_hellaswag, write_mmlu, write_task
from benching import write_winogrande as winogrande
from evaluating import write_lines
from test_benchmark_branches import naive, scores

from ingot.adapt.load import LanguageModel, load
from ingot.core.errors import IngotError
from ingot.evaluate.benchmarks.ask import Asking
from ingot.evaluate.benchmarks.chat import Chat, Style, style_of
from ingot.evaluate.benchmarks.encode import Encoded, encode_items
from ingot.evaluate.benchmarks.prompts import Item
from ingot.evaluate.benchmarks.task import identity
from ingot.evaluate.options import BenchmarkOptions
from ingot.infer.engine import Engine
from ingot.infer.options import Sampling
from ingot.infer.reader import Prompt
from ingot.infer.sequence import Sequence
from ingot.text.chat import render
from tiny import LLAMA, write_model

NO_SYSTEM = """\
{%- for message in messages %}
{%- if message['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}
{{- message['role'] + ': ' + message['content'] + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ 'assistant:' }}{% endif %}
"""


@pytest.fixture(scope="module")
def wide(tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A window that examples fit in, and ChatML."""
    config = LLAMA | {"max_position_embeddings": 1024}
    return load(write_model(tmp_path_factory.mktemp("wide") / "m", config, seed=3, tokenizer=tokenizer_dir))


@pytest.fixture
def plain_dir(base_dir: Path, tmp_path: Path) -> Path:
    """A model without a chat template."""
    path = shutil.copytree(base_dir, tmp_path / "plain")
    (path / "chat_template.jinja").unlink()
    return path


def encoded_of(model: LanguageModel, items: list[Item], style: Style) -> list[Encoded]:
    chat = Chat(model.tokenizer, style)
    return list(encode_items(model.tokenizer, items, model.max_length, True, chat))


def turns(*said: tuple[str, str]) -> str:
    """ChatML, to be answered."""
    return "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in said) + "<|im_start|>assistant\n"


def text_of(chat: Chat, item: Item) -> str:
    written = {id: token.content for id, token in chat.tokenizer.added_tokens.items()}
    return "".join(piece if isinstance(piece, str) else written[piece] for piece in chat.pieces(item, 0))


def test_the_words_are_those_of_lm_eval(wide: LanguageModel, tmp_path: Path) -> None:
    """The description is the system's; each example is two turns, or all stand in one message."""
    _, items = prepared(write_mmlu(tmp_path / "d", 1), "mmlu", benchmark={"shots": 1})
    opening = "The following are multiple choice questions (with answers) about anatomy.\n\n"
    question = "anatomy the 0 the?\nA. the 0\nB. cat 1\nC. sat 2\nD. on 3\nAnswer:"
    assert text_of(Chat(wide.tokenizer, "turns"), items[0]) == turns(
        ("system", opening), ("user", question), ("assistant", "A"), ("user", question)
    )
    assert text_of(Chat(wide.tokenizer, "message"), items[0]) == turns(
        ("system", opening), ("user", f"{question} A\n\n{question}")
    )


@pytest.mark.parametrize("style", ["turns", "message"])
@pytest.mark.parametrize(("task", "write"), [("mmlu", write_mmlu), ("hellaswag", write_hellaswag),
                                             ("winogrande", winogrande)])  # fmt: skip
@pytest.mark.parametrize("shots", [0, 2])
def test_scores_are_the_naive_sums(
    style: Style, task: str, write: object, shots: int, wide: LanguageModel, tmp_path: Path
) -> None:
    """The whole rendered text with its choice, encoded at once; the space at the prompt's end belongs to the choice."""
    assert callable(write)
    _, items = prepared(write(tmp_path / "d"), task, benchmark={"shots": shots})
    chat, tokenizer = Chat(wide.tokenizer, style), wide.tokenizer
    encoded = encoded_of(wide, items, style)
    found = scores(wide, encoded)
    for each in encoded:
        for number, choice in enumerate(each.choices):
            messages = chat.messages(each.item, number)
            text = render(messages, tokenizer, add_generation_prompt=True).text + each.item.parts.choices[number]
            assert [*choice.context, *choice.tokens] == tokenizer.encode(text, special=True)
            assert tokenizer.decode(choice.tokens) == "\n" + each.item.parts.choices[number]
        assert found[each.item.id] == pytest.approx([naive(wide, choice) for choice in each.choices], abs=1e-4)


@pytest.mark.parametrize("style", ["turns", "message"])
def test_what_is_shared_is_read_once_and_changes_no_bit(style: Style, wide: LanguageModel, tmp_path: Path) -> None:
    _, items = prepared(write_mmlu(tmp_path / "d"), "mmlu", benchmark={"shots": 1})
    encoded = encoded_of(wide, items, style)
    for each in encoded:
        begins = zip(each.shared, each.choices[0].context, strict=False)
        same = next(number for number, (one, other) in enumerate(begins) if one != other)
        assert same > len(wide.tokenizer.encode(each.item.before))
    mixed = list(encoded)
    random.Random(3).shuffle(mixed)
    forward = scores(wide, encoded)
    assert scores(wide, mixed) == forward
    assert {each.item.id: scores(wide, [each])[each.item.id] for each in encoded} == forward


def test_special_tokens_in_a_question_stay_text(wide: LanguageModel, tmp_path: Path) -> None:
    rows = own_rows(2)
    rows[0]["question"] = "<|im_end|> what?"
    write_lines(tmp_path / "own.jsonl", rows)
    _, items = prepared(tmp_path, str(write_task(tmp_path / "own.yaml")))
    first, second = encoded_of(wide, items, "turns")
    end = wide.tokenizer.id("<|im_end|>")
    assert first.choices[0].context.count(end) == second.choices[0].context.count(end) == 1  # type: ignore[arg-type]


def test_a_template_without_a_system_keeps_the_opening(
    base_dir: Path, tmp_path: Path, heard: pytest.LogCaptureFixture
) -> None:
    path = shutil.copytree(base_dir, tmp_path / "m")
    (path / "chat_template.jinja").write_text(NO_SYSTEM)
    _, items = prepared(write_mmlu(tmp_path / "d", 1), "mmlu", benchmark={"shots": 1})
    with heard.at_level(logging.WARNING):
        text = text_of(Chat(load(path).tokenizer, "turns"), items[0])
    assert text.startswith("user: The following are multiple choice questions (with answers) about anatomy.\n\nanatomy")
    assert text.count("The following") == 1
    assert "shows no system message" in heard.text


def test_auto_follows_the_template(model: LanguageModel, plain_dir: Path) -> None:
    plain = load(plain_dir).tokenizer
    for chat, examples, with_one, without in (
        ("off", None, "off", "off"), ("auto", None, "turns", "off"), ("auto", "message", "message", "off"),
        ("on", "message", "message", "message"),
    ):  # fmt: skip
        wished = BenchmarkOptions.of(chat=chat, **({} if examples is None else {"examples": examples}))
        assert (style_of(wished, model.tokenizer), style_of(wished, plain)) == (with_one, without)


def test_on_refuses_a_model_without_a_template(plain_dir: Path, tmp_path: Path) -> None:
    data = write_mmlu(tmp_path / "d", 1)
    with pytest.raises(IngotError) as error:
        asked(plain_dir, data, "mmlu", tmp_path / "r", benchmark={"shots": 0, "chat": "on"})
    assert error.value.code == "no-chat-template"
    assert not (tmp_path / "r").exists()


def test_the_place_of_examples_is_refused_without_a_conversation(tmp_path: Path) -> None:
    with pytest.raises(IngotError, match="give --chat auto or on"):
        options_of(tmp_path, "mmlu", benchmark={"examples": "message"})


@pytest.mark.slow
def test_models_that_are_asked_differently_are_named(base_dir: Path, plain_dir: Path, tmp_path: Path) -> None:
    data, wished = write_mmlu(tmp_path / "d", 2), {"shots": 0, "chat": "auto"}
    report = asked([base_dir, plain_dir], data, "mmlu", tmp_path / "r", benchmark=wished)
    chat, off = (rows_of(report, f"mmlu-{name}.jsonl") for name in ("base", "plain"))
    assert {row["chat"] for row in chat} == {"turns"}
    assert {row["chat"] for row in off} == {"off"}
    assert not {row["prompt_hash"] for row in chat} & {row["prompt_hash"] for row in off}
    page = (tmp_path / "r" / "report.html").read_text()
    assert page.count("The models were not asked in the same way") == 2
    assert "plain: Asked as plain text" in page
    alone = asked(base_dir, data, "mmlu", tmp_path / "s", benchmark={"shots": 0, "chat": "on"})
    assert rows_of(alone, "mmlu-base.jsonl") == chat
    assert "Asked through the chat template, with examples as earlier turns." in (
        tmp_path / "s" / "report.html"
    ).read_text()  # fmt: skip


def test_rows_of_another_way_of_asking_are_not_taken(tmp_path: Path) -> None:
    data = write_mmlu(tmp_path / "d", 1)
    keys = set()
    for wished in ({}, {"chat": "on"}, {"chat": "auto"}, {"chat": "on", "examples": "message"}):
        spec, items = prepared(data, "mmlu", benchmark={"shots": 1, **wished})
        options = options_of(data, "mmlu", benchmark={"shots": 1, **wished})
        keys.add(json.dumps(identity(spec, items, options), sort_keys=True))
    assert len(keys) == 4


def test_hashes_tell_the_ways_of_asking_apart_and_templates_not(wide: LanguageModel, tmp_path: Path) -> None:
    spec, items = prepared(write_mmlu(tmp_path / "d", 1), "mmlu", benchmark={"shots": 1})
    styles: tuple[Style, ...] = ("off", "turns", "message")
    found = {
        Asking(spec, wide, None if style == "off" else Chat(wide.tokenizer, style), 1.0).common(items[0])["prompt_hash"]
        for style in styles
    }
    assert len(found) == 3
    assert items[0].hash in found


def test_written_answers_end_with_their_turn(base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt is the renderer's; the token that ends a turn ends the answer, though the directory does not name
    it."""
    submit, endings = Engine.submit, []

    def watched(self: Engine, prompt: Prompt, sampling: Sampling) -> Sequence:
        endings.append(sampling.stop_token_ids)
        return submit(self, prompt, sampling)

    monkeypatch.setattr(Engine, "submit", watched)
    (tmp_path / "gsm8k").mkdir()
    rows = [{"question": f"the cat {n}", "answer": f"the man.\n#### {n}"} for n in range(2)]
    write_lines(tmp_path / "gsm8k" / "test.jsonl", rows)
    write_lines(tmp_path / "gsm8k" / "train.jsonl", rows)
    report = asked(base_dir, tmp_path, "gsm8k", tmp_path / "r", benchmark={"shots": 1, "chat": "on"}, max_tokens=5)
    tokenizer = load(base_dir).tokenizer
    assert endings == [[tokenizer.id("<|im_end|>")]] * 2
    _, items = prepared(tmp_path, "gsm8k", benchmark={"shots": 1})
    for row, item in zip(rows_of(report, "gsm8k-base.jsonl"), items, strict=True):
        messages = [
            {"role": "user", "content": item.parts.examples[0][0]},
            {"role": "assistant", "content": item.parts.examples[0][1]},
            {"role": "user", "content": item.questions[0]},
        ]
        assert row["context_tokens"] == len(render(messages, tokenizer, add_generation_prompt=True).ids)
        assert row["cut"] == 0
