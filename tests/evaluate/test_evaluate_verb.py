"""The verb from end to end on tiny models: the report, its numbers, scoring again, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from evaluating import TEXTS

import ingot
from ingot.cli import main
from ingot.core.errors import IngotError
from ingot.core.gate import parse
from ingot.core.report import Interval, Plot, Prose, Report, Table
from ingot.evaluate.entrants import entrant_names
from ingot.evaluate.evaluate import TASKS, chosen_tasks, evaluate, rescore
from ingot.evaluate.options import EvaluateOptions
from tiny import LLAMA, write_model


@pytest.fixture(scope="module")
def both(base_dir: Path, other_dir: Path, world_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    out = tmp_path_factory.mktemp("both") / "report"
    return evaluate(models=[base_dir, other_dir], tasks="perplexity,world", data=world_dir, out=out, max_tokens=4)


def place(report: Report) -> Path:
    assert report.path is not None
    return report.path


def test_report_of_two_models(both: Report, base_dir: Path) -> None:
    numbers = both.numbers
    for key in ("bits_per_byte", "told.en", "told.zh", "told-asked.en", "told-prose.zh", "arithmetic.en"):
        assert numbers[key] == numbers[f"base.{key}"]
        assert f"other.{key}" in numbers
    assert "never-told.abstained.en" in numbers
    assert isinstance(numbers["bits_per_byte"], Interval)
    assert isinstance(numbers["other.bits_per_byte.change"], Interval)
    assert numbers["weight_bytes"] == (base_dir / "model.safetensors").stat().st_size
    kinds = [type(section) for section in both.sections]
    assert kinds[0] is Prose
    assert kinds[1] is Table
    assert kinds.count(Plot) == 3
    verdict = both.sections[0]
    assert isinstance(verdict, Prose)
    assert "other" in verdict.text
    assert "base" in verdict.text


def test_what_lies_on_disk(both: Report) -> None:
    out = place(both)
    names = {file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()}
    rows = {f"raw/{kind}-{model}.jsonl" for kind in ("answers", "documents") for model in ("base", "other")}
    assert names == rows | {"raw/models.json", "report.json", "report.html"}
    assert json.loads((out / "report.json").read_text(), parse_constant=pytest.fail)["verb"] == "evaluate"
    answers = [json.loads(line) for line in (out / "raw/answers-base.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {"question", "reply", "accept", "finish_reason"} <= answers[0].keys()


def test_the_report_says_what_the_weights_were(both: Report) -> None:
    """Not what was asked for: "auto"."""
    models = json.loads((place(both) / "raw/models.json").read_text(encoding="utf-8"))
    assert [model["weights"] for model in models] == ["dense", "dense"]
    method = both.sections[-1]
    assert isinstance(method, Prose)
    assert "base: dense; other: dense" in method.text


def test_rescoring_gives_the_same_report(both: Report) -> None:
    again = rescore(place(both))
    assert again.numbers == both.numbers
    assert again.sections == both.sections
    assert again.units == both.units


def test_rescoring_refuses_what_is_not_its_own(both: Report, tmp_path: Path) -> None:
    raw = shutil.copytree(place(both), tmp_path / "report") / "raw" / "answers-base.jsonl"
    raw.write_text(raw.read_text(encoding="utf-8").replace("Tarn", "Oke"), encoding="utf-8")
    with pytest.raises(IngotError, match=r"answers-base\.jsonl"):
        rescore(tmp_path / "report")
    Report(title="t", verb="compare").write(tmp_path / "other")
    with pytest.raises(IngotError, match="compare"):
        rescore(tmp_path / "other")


def test_gates_can_read_the_summary(both: Report) -> None:
    summary = both.summary()
    json.dumps(summary, allow_nan=False)
    for gate in ("bits_per_byte <= 100", "other.bits_per_byte.change < 5", "told.en >= 0%", "base.arithmetic.zh <= 1"):
        assert parse(gate).check(summary).holds


@pytest.mark.slow
def test_seed_and_repeat(base_dir: Path, world_dir: Path, tmp_path: Path) -> None:
    def numbers(name: str, **changes: Any) -> dict[str, Any]:
        return evaluate(models=[base_dir], data=world_dir, out=tmp_path / name, **changes).numbers

    first = numbers("a")
    assert numbers("b") == first
    assert numbers("c", seed=1) != first
    assert numbers("e", window=16)["bits_per_byte"] != first["bits_per_byte"]
    assert numbers("f", window=16, stride=1)["bits_per_byte"] != numbers("g", window=16)["bits_per_byte"]
    assert numbers("h", limit=2)["documents"] == 2


@pytest.mark.slow
def test_baseline_by_name_and_number(base_dir: Path, other_dir: Path, world_dir: Path, tmp_path: Path) -> None:
    for number, baseline in enumerate(("other", "2", 2, str(other_dir))):
        options = {"models": [base_dir, other_dir], "data": world_dir, "out": tmp_path / str(number)}
        report = evaluate(**options, baseline=baseline)
        assert "base.bits_per_byte.change" in report.numbers
        assert "other.bits_per_byte.change" not in report.numbers
    for baseline in ("0", "3", "bse"):
        with pytest.raises(IngotError) as error:
            evaluate(**(options | {"out": tmp_path / "x"}), baseline=baseline)
        assert error.value.code == "evaluate-unknown-baseline"


@pytest.mark.slow
def test_a_model_against_itself_is_not_told_apart(base_dir: Path, world_dir: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(base_dir, tmp_path / "twin")
    report = evaluate(
        models=[base_dir, copy], tasks="perplexity,world", data=world_dir, out=tmp_path / "r", max_tokens=3
    )
    change = report.numbers["twin.bits_per_byte.change"]
    assert isinstance(change, Interval)
    assert (change.value, change.low, change.high) == (0, 0, 0)
    verdict = report.sections[0]
    assert isinstance(verdict, Prose)
    assert verdict.text.count("cannot be told apart") == 2


def test_names() -> None:
    assert entrant_names(["runs/chat", "runs/chat-int8/"]) == ["chat", "chat-int8"]
    assert entrant_names(["a/chat", "b/chat"]) == ["a-chat", "b-chat"]
    assert entrant_names(["base+lora", "base"]) == ["base+lora", "base"]
    assert len(set(entrant_names(["chat", "chat"]))) == 2


def refused(code: str, *words: str, **options: Any) -> None:
    with pytest.raises(IngotError) as error:
        evaluate(**options)
    assert error.value.code == code
    assert all(word in str(error.value) for word in words), str(error.value)
    assert not Path(options["out"]).exists() or code == "out-not-empty"


def test_refusals(base_dir: Path, world_dir: Path, tmp_path: Path, tokenizer_dir: Path) -> None:
    good = {"models": [base_dir], "data": world_dir, "out": tmp_path / "out"}
    refused("evaluate-unknown-task", "worlds", "world", **good, tasks="perplexity,worlds")
    refused("evaluate-no-data", **(good | {"data": None}))
    refused("no-such-directory", "nowhere", **(good | {"models": [tmp_path / "nowhere"]}))
    refused("evaluate-window-too-long", "128", **good, window=129)
    refused("evaluate-stride-too-long", **good, window=8, stride=9)
    refused("bad-place", "nonsense", **good, place="nonsense")
    refused("not-a-model", **(good | {"models": [tokenizer_dir]}))
    refused("bad-option", "tasks", **good, tasks=[])
    refused("bad-option", "limit", **good, limit=0)
    refused("unknown-option", "stride", **good, strid=3)
    refused("evaluate-option-unused", "slots", "world", **good, slots=2)
    refused("evaluate-option-unused", "cloze", **good, cloze={"fillers": 3})
    refused("evaluate-option-unused", "window", "perplexity", **good, tasks="world", window=8)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    refused("out-not-empty", **(good | {"out": tmp_path / "full"}))


@pytest.mark.slow
def test_models_that_lack_something(
    base_dir: Path, tokenizer_dir: Path, world_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is refused before the first model is loaded."""
    good = {"data": world_dir, "out": tmp_path / "out", "tasks": "perplexity,world"}
    bare = write_model(tmp_path / "bare", LLAMA)
    monkeypatch.setattr("ingot.evaluate.evaluate.open_model", lambda *_, **__: pytest.fail("loaded a model"))
    refused("no-tokenizer", "bare", models=[bare], **good)
    mute = shutil.copytree(base_dir, tmp_path / "mute")
    (mute / "chat_template.jinja").unlink()
    refused("no-chat-template", "mute", models=[base_dir, mute], **good)
    small = write_model(tmp_path / "small", LLAMA, tokenizer=tokenizer_dir, vocab_size=300)
    refused("tokenizer-too-large", "small", models=[base_dir, small], **good)
    monkeypatch.undo()
    report = evaluate(models=[mute], data=world_dir, out=tmp_path / "fine", tasks="perplexity")
    assert report.numbers["documents"] == len(TEXTS)


@pytest.mark.slow
def test_warns_of_measuring_on_training_data(
    base_dir: Path, heldout: Path, tmp_path: Path, heard: pytest.LogCaptureFixture
) -> None:
    from ingot.core.files import file_digest
    from ingot.core.hallmark import Hallmark, Source, Step

    trained = shutil.copytree(base_dir, tmp_path / "trained")
    step = Step(verb="pretrain", options={}, data=[Source(name="heldout.jsonl", digest=file_digest(heldout))])
    Hallmark(digest="d", files={}, step=step).write(trained)
    evaluate(models=[base_dir, trained], data=heldout, out=tmp_path / "out")
    assert "trained was trained on" in heard.text
    assert "base was trained on" not in heard.text


@pytest.mark.slow
def test_speaks_chinese(
    base_dir: Path, other_dir: Path, world_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGOT_LANG", "zh-TW")
    report = evaluate(
        models=[base_dir, other_dir], tasks="perplexity,world", data=world_dir, out=tmp_path / "r", max_tokens=2
    )
    assert report.title == "base, other 的評量"
    assert report.sections[0].title == "結論"
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    for word in ("每位元組位元數", "告知過的事實", "信賴區間", "從未告知：承認不知道"):
        assert word in page


@pytest.mark.slow
def test_command_line(base_dir: Path, world_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(base_dir), "--tasks", "perplexity,world", "--data", str(world_dir)]
    assert main([*words, "--out", str(tmp_path / "r"), "--max-tokens", "2"]) == 0
    last = json.loads(capfd.readouterr().out.strip().splitlines()[-1])
    assert last["bits_per_byte"] > 0
    assert last["report"].endswith("report.html")
    assert main([*words, "--out", str(tmp_path / "s"), "--task", "x"]) == 2
    assert "--tasks" in capfd.readouterr().err


def test_options_accept_what_people_write() -> None:
    assert EvaluateOptions.of("a", "b", out="r").models == ["a", "b"]
    assert EvaluateOptions.of(models="a+lora", out="r", tasks=["perplexity, world", "world"]).tasks == [
        "perplexity",
        "world",
    ]
    assert EvaluateOptions.of(Path("a"), out="r", baseline=1).baseline == "1"
    with pytest.raises(IngotError):
        EvaluateOptions.of(models=[], out="r")
    with pytest.raises(IngotError):
        EvaluateOptions.of(models=3, out="r")


def test_tasks_are_a_table() -> None:
    assert list(TASKS) == ["perplexity", "wikitext", "world", "cloze", "humaneval", "mbpp"]
    assert list(chosen_tasks(["world"])) == ["world"]
    assert ingot.evaluate is not None
