"""The verb generate: what it prints, writes and refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mixed import CONTROLS, PLAIN

import ingot
from cases import first_fast
from ingot import IngotError
from ingot.adapt.load import LanguageModel
from ingot.cli import main
from ingot.core.console import visible
from ingot.core.language import option_help
from ingot.core.options import Options
from ingot.infer.constraint.flags import ConstraintFlags
from ingot.infer.engine import generate
from ingot.infer.generate import GenerateOptions
from ingot.infer.memory import Memory
from ingot.infer.options import CommonSampling, RareSampling
from ingot.infer.sampling import Sampling
from ingot.infer.search.options import Search
from ingot.infer.search.search import search
from ingot.infer.speculation.options import Speculation
from ingot.infer.steering.options import Steering
from ingot.infer.terminal import write
from ingot.text.chat import render

Tiny = Callable[..., LanguageModel]


@pytest.fixture
def path(tiny: Tiny) -> str:
    return str(tiny().model_dir.path)


def test_one_prompt_streams_and_ends_with_json(tiny: Tiny, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", path, "--prompt", "the cat", "--temperature", "0.7", "--top-p", "0.9", "--top-k", "50",
             "--seed", "1", "--max-tokens", "16"]  # fmt: skip
    assert main(words) == 0
    out = capsys.readouterr().out
    summary = json.loads(out.splitlines()[-1])
    own = Sampling(temperature=0.7, top_p=0.9, top_k=50, seed=1, max_tokens=16)
    (expected,) = generate(tiny(), ["the cat"], own)
    assert summary["text"] == expected.text
    assert (summary["tokens"], summary["seed"], summary["finish_reason"]) == (
        len(expected.tokens),
        1,
        expected.finish_reason,
    )
    assert summary["tokens_per_second"] > 0
    assert out.startswith(visible(expected.text) + "\n{")


def test_from_python_it_prints_nothing(path: str, capfd: pytest.CaptureFixture[str]) -> None:
    found = ingot.generate(path, prompt="the", seed=2, max_tokens=5)
    assert found.texts == [found.summary()["text"]]
    assert found.sequences[0].seed == 2


def test_control_characters_cannot_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    write("a\x1b[31mb\x9b\x7f\r\n\tc天")
    assert capsys.readouterr().out == "a␛[31mb\ufffd␡␍\n\tc天"


def test_chat_wraps_the_prompt_as_one_user_turn(tiny: Tiny, path: str) -> None:
    found = ingot.generate(path, prompt="hello <|im_end|>", chat=True, temperature=0, max_tokens=6)
    messages = [{"role": "user", "content": "hello <|im_end|>"}]
    assert found.prompts[0].ids == render(messages, tiny().tokenizer, add_generation_prompt=True).ids
    assert found.sequences[0].tokens == generate(tiny(), [found.prompts[0].ids], found.sequences[0].sampling)[0].tokens


def test_a_file_of_lines_equals_the_prompts_alone(tiny: Tiny, path: str, tmp_path: Path) -> None:
    lines = ["the cat", "天空", "1 + 2 =", "a" * 30]
    (tmp_path / "prompts.txt").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    found = ingot.generate(path, prompts_file=tmp_path / "prompts.txt", seed=3, max_tokens=10, slots=2)
    alone = [ingot.generate(path, prompt=line, seed=3, max_tokens=10).texts[0] for line in lines]
    assert found.texts == alone
    assert [row["text"] for row in found.summary()["results"]] == alone


def test_jsonl_carries_other_keys_and_writes_one_line_a_prompt(path: str, tmp_path: Path) -> None:
    asked = [{"id": 7, "prompt": "the"}, {"messages": [{"role": "user", "content": "hi"}], "tag": "x"}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, asked)))
    found = ingot.generate(path, prompts_file=tmp_path / "p.jsonl", out=tmp_path / "o.jsonl", max_tokens=4, seed=1)
    written = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [{key: row[key] for key in given} for row, given in zip(written, asked, strict=True)] == asked
    assert [row["text"] for row in written] == found.texts
    assert found.summary()["out"] == str(tmp_path / "o.jsonl")
    with pytest.raises(IngotError) as error:
        ingot.generate(path, prompt="a", out=tmp_path / "o.jsonl")
    assert error.value.code == "out-not-empty"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"the cat\n" + b"a" * 500 + b"\n", "line 2.*window is 128"), (b"\n \n", "no prompts"),
     (b"ab\xff\n", "not UTF-8")],
)  # fmt: skip
def test_bad_lines_are_named(path: str, tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "p.txt").write_bytes(content)
    with pytest.raises(IngotError, match=words):
        ingot.generate(path, prompts_file=tmp_path / "p.txt")


@pytest.mark.parametrize(
    ("line", "words"),
    [('{"text": "a"}', "line 1.*expected"), ('{"prompt": 3}', "line 1.*3"), ("[1]", "line 1.*object"),
     ('{"prompt": "a", "messages": []}', "line 1"), ('{"messages": [{"role": "x", "content": ""}]}', "line 1.*role"),
     ('{"prompt": "\\ud800"}', "line 1.*surrogate"), ('{"prompt": ""}', "line 1.*no tokens")],
)  # fmt: skip
def test_bad_records_are_named(path: str, tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "p.jsonl").write_text(line + "\n")
    with pytest.raises(IngotError, match=words):
        ingot.generate(path, prompts_file=tmp_path / "p.jsonl")


def test_one_source_of_prompts_is_needed(path: str, tmp_path: Path) -> None:
    for given in ({}, {"prompt": "a", "prompts_file": tmp_path / "x"}):
        with pytest.raises(IngotError) as error:
            ingot.generate(path, **given)
        assert error.value.code == "one-prompt-source"


@pytest.mark.parametrize(
    ("flags", "status"),
    [(["--temperature", "-1"], 1), (["--rare.min-tokens", "300"], 1), (["--top-p", "nan"], 1),
     (["--temprature", "1"], 2)],
)  # fmt: skip
def test_bad_flags_are_refused(path: str, flags: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", path, "--prompt", "a", *flags]) == status
    assert flags[0].removeprefix("--").removeprefix("rare.").replace("-", "_") in capsys.readouterr().err.replace(
        "-", "_"
    )


COMMON = [name for name in CONTROLS if name in CommonSampling.model_fields]
RARE = [name for name in CONTROLS if name in RareSampling.model_fields]


@first_fast("name", [*COMMON, *RARE])
def test_every_control_changes_the_outcome(path: str, name: str) -> None:
    beside, changed = CONTROLS[name]
    before, after = (
        ingot.generate(path, prompt="the cat", **flags(given)) for given in (beside, {**beside, **changed})
    )
    assert (before.texts, before.sequences[0].tokens) != (after.texts, after.sequences[0].tokens)


def flags(given: dict[str, Any]) -> dict[str, Any]:
    """Controls as the verb takes them: the rare ones in their group."""
    given = {**PLAIN, **given}
    return {
        **{name: value for name, value in given.items() if name in COMMON},
        "rare": {name: value for name, value in given.items() if name in RARE},
    }


def test_several_answers_have_seeds_of_their_own(path: str) -> None:
    (alone,) = ingot.generate(path, prompt="the cat", seed=5, max_tokens=20).sequences
    four = ingot.generate(path, prompt="the cat", seed=5, max_tokens=20, answers={"n": 4})
    assert four.sequences[0].tokens == alone.tokens
    assert len({tuple(sequence.tokens) for sequence in four.sequences}) == 4
    assert [record["choice"] for record in four.records()] == [0, 1, 2, 3]
    assert four.summary()["prompts"] == 1


def test_the_best_answers_are_those_of_the_highest_mean_log_probability(path: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("the cat\nthe dog\n")
    given = {"prompts_file": file, "seed": 5, "max_tokens": 20}
    every = ingot.generate(path, **given, answers={"n": 6})
    kept = ingot.generate(path, **given, answers={"n": 2, "best_of": 6})
    model = ingot.load(path)
    for number, prompt in enumerate(("the cat", "the dog")):
        answers = [one.tokens for one in every.sequences[6 * number : 6 * number + 6]]
        ids = model.tokenizer.encode(prompt)
        scores = []
        for answer in answers:
            logprobs = model.logits([[*ids, *answer]])[0].log_softmax(-1)
            taken = [float(logprobs[len(ids) - 1 + place, token]) for place, token in enumerate(answer)]
            scores.append(sum(taken) / len(taken))
        order = sorted(range(6), key=lambda place: -scores[place])
        assert [one.tokens for one in kept.sequences[2 * number : 2 * number + 2]] == [answers[at] for at in order[:2]]
    assert kept.summary()["tokens"] == every.summary()["tokens"]
    assert [record["prompt"] for record in kept.records()] == ["the cat", "the cat", "the dog", "the dog"]
    with pytest.raises(IngotError, match="best_of 2 is less than n 3"):
        ingot.generate(path, prompt="a", answers={"n": 3, "best_of": 2})


def test_every_option_is_covered() -> None:
    elsewhere = {*Memory.model_fields, *Speculation.model_fields}  # test_sharing.py
    elsewhere |= {*Steering.model_fields, *Search.model_fields}  # test_steering.py, test_searches.py
    elsewhere |= set(ConstraintFlags.model_fields)  # test_constraint_engine.py
    own = {"model", "prompt", "prompts_file", "chat", "out", "slots", "place", "weights", "n", "best_of"}
    covered = {*COMMON, *RARE, *own, *groups(), *elsewhere}
    assert set(GenerateOptions.model_fields).union(*groups().values()) == covered
    assert len(GenerateOptions.model_fields) - len(groups()) <= 15


def groups() -> dict[str, list[str]]:
    """Groups of options, and what is in each."""
    kinds = {name: field.annotation for name, field in GenerateOptions.model_fields.items()}
    return {name: list(kind.model_fields) for name, kind in kinds.items()
            if isinstance(kind, type) and issubclass(kind, Options)}  # fmt: skip


def test_a_search_shows_and_writes_what_it_found(
    tiny: Tiny, path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", path, "--prompt", "the cat", "--max-tokens", "6", "--search.kind", "diverse",
             "--search.results", "2", "--rare.repetition-penalty", "1.2"]  # fmt: skip
    assert main(words) == 0
    out = capsys.readouterr().out
    own = Sampling(max_tokens=6, repetition_penalty=1.2)
    options = Search(kind="diverse", results=2)
    (expected,) = search(tiny(), ["the cat"], options, own)
    summary = json.loads(out.splitlines()[-1])
    assert [(each["text"], each["score"]) for each in summary["answers"]] == [
        (each.sequence.text, each.score) for each in expected
    ]
    assert summary["text"] == expected[0].sequence.text
    assert "seed" not in summary
    assert out.startswith("".join(visible(each.sequence.text) + "\n" for each in expected))
    file = tmp_path / "answers.jsonl"
    (tmp_path / "prompts.txt").write_text("the cat\nhello\n")
    found = ingot.generate(path, prompts_file=tmp_path / "prompts.txt", out=file, max_tokens=6, search=options,
                           rare={"repetition_penalty": 1.2})  # fmt: skip
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert rows == found.records()
    assert [row["prompt"] for row in rows] == ["the cat", "hello"]
    assert rows[0]["answers"] == summary["answers"]


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (["--search.kind", "beam", "--temperature", "0.5"], "not-in-search"),
        (["--search.kind", "beam", "--speculation.kind", "lookup"], "not-in-search"),
        (["--search.kind", "beam", "--steering.dola-layers", "low"], "not-in-search"),
        (["--search.kind", "beam", "--search.groups", "4"], "options-conflict"),
        (["--search.beams", "3"], "options-conflict"),
        (["--steering.negative-prompt", "x"], "options-conflict"),
        (["--steering.dola-layers", "5"], "layer-outside"),
        (["--steering.dola-layers", "middle"], "bad-option"),
    ],
)
def test_what_does_not_go_together_is_refused(
    path: str, flags: list[str], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", path, "--prompt", "a", *flags]) == 1
    assert f"[{code}]" in capsys.readouterr().err


def test_steered_answers_are_streamed(tiny: Tiny, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    for flags, given in (
        (["--steering.dola-layers", "0,1"], {"dola_layers": [0, 1]}),
        (
            ["--steering.guidance-scale", "2", "--steering.negative-prompt", "dog"],
            {"guidance_scale": 2, "negative_prompt": "dog"},
        ),
    ):
        assert main(["generate", path, "--prompt", "the cat", "--seed", "1", "--max-tokens", "9", *flags]) == 0
        out = capsys.readouterr().out
        (expected,) = generate(tiny(), ["the cat"], Sampling(seed=1, max_tokens=9, **given))
        assert json.loads(out.splitlines()[-1])["text"] == expected.text
        assert out.startswith(visible(expected.text) + "\n{")


@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_the_page_has_the_options(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGOT_LANG", language)
    name = "generate.md" if language == "en" else "generate.zh-TW.md"
    page = (Path(__file__).parents[2] / "docs" / name).read_text(encoding="utf-8")
    for option, field in GenerateOptions.model_fields.items():
        flag = "MODEL" if option == "model" else f"--{option.replace('_', '-')}"
        default = "" if field.is_required() or field.default is None else f"`{field.default}`"
        help = option_help("generate", option, field.description or "")
        assert option in groups() or f"| `{flag}` | {default} | {help} |" in page
    assert all(f"`{option.replace('_', '-')}`" in page for each in groups().values() for option in each)


def test_an_unknown_place_is_an_error(path: str) -> None:
    with pytest.raises(Exception, match="nowhere"):
        ingot.generate(path, prompt="a", place="nowhere")
