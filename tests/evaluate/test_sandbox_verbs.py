"""`ingot evaluate --tasks humaneval` and `ingot code`: from a model or a file of programs to a report and back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from evaluating import write_lines
from sandboxing import LINUX

import ingot
from ingot.core.errors import IngotError
from ingot.core.report import Report
from ingot.evaluate.evaluate import rescore
from ingot.evaluate.sandbox import asking
from ingot.evaluate.sandbox.asking import Answer
from ingot.evaluate.sandbox.options import CodeOptions
from tiny import LLAMA, write_model

pytestmark = LINUX

PROBLEMS: list[dict[str, Any]] = [
    {"task_id": f"T/{n}", "prompt": f"def f{n}():\n", "entry_point": f"f{n}", "canonical_solution": f"    return {n}\n",
     "test": f"def check(candidate):\n    assert candidate() == {n}\n"}
    for n in range(4)
]  # fmt: skip


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "problems.jsonl", PROBLEMS)


def samples(path: Path, right: dict[int, list[bool]], key: str = "completion") -> Path:
    """For each problem right and wrong programs, in this order."""
    begin = {n: PROBLEMS[n]["prompt"] if key == "solution" else "" for n in right}
    return write_lines(path, [
        {"task_id": f"T/{n}", key: f"{begin[n]}    return {n if good else -1}\n"}
        for n, found in right.items() for good in found
    ])  # fmt: skip


@pytest.mark.slow
def test_programs_from_a_file(tmp_path: Path, problems: Path) -> None:
    right = {0: [True, True], 1: [True, False], 2: [False, True], 3: [False, False]}
    first = samples(tmp_path / "first.jsonl", right)
    second = samples(tmp_path / "second.jsonl", {n: [True, True] for n in range(4)}, key="solution")
    report = ingot.code(first, second, task="humaneval", data=problems, out=tmp_path / "out", k=[1, 2])
    summary = report.summary()
    assert summary["humaneval.pass@1"] == summary["first.humaneval.pass@1"] == 0.5
    assert summary["humaneval.pass@2"] == 0.75
    assert summary["second.humaneval.pass@1"] == summary["second.humaneval.pass@2"] == 1.0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "full" in page or "partial" in page
    assert "seccomp" in page
    rows = [json.loads(line) for line in (tmp_path / "out" / "raw" / "samples-first.jsonl").read_text().splitlines()]
    assert [[one["verdict"] for one in row["samples"]] for row in rows][1] == ["passed", "wrong"]
    assert {row["reference"] for row in rows} == {"passed"}


@pytest.mark.parametrize(
    ("records", "changes", "code", "words"),
    [([{"task_id": "T/0", "completion": "x"}], {}, "sandbox-unanswered", "3 of 4 problems, T/1"),
     ([{"task_id": "T/9", "completion": "x"}], {}, "sandbox-unknown-problem", "line 1.*'T/9'"),
     ([{"task_id": "T/0", "completion": 7}], {}, "sandbox-bad-sample", "line 1"),
     ([{"task_id": "T/0", "completion": "x"}], {"subset": True, "k": [2]}, "sandbox-few-samples", "1 samples of T/0"),
     ([], {"subset": True}, "sandbox-unanswered", "4 of 4"),
     ([{"task_id": "T/0", "completion": "x"}], {"k": "0"}, "bad-option", "whole numbers"),
     ([{"task_id": "T/0", "completion": "x"}], {"task": "apps"}, "bad-option", "humaneval")],
)  # fmt: skip
def test_bad_samples_are_named_before_anything_runs(
    tmp_path: Path, problems: Path, records: list[dict[str, Any]], changes: dict[str, Any], code: str, words: str
) -> None:
    path = write_lines(tmp_path / "samples.jsonl", records)
    given: dict[str, Any] = {"task": "humaneval", "data": problems, "out": tmp_path / "out"} | changes
    with pytest.raises(IngotError, match=words) as error:
        ingot.code(path, **given)
    assert error.value.code == code
    assert not (tmp_path / "out").exists()


def test_files_that_are_compared_solve_the_same(tmp_path: Path, problems: Path) -> None:
    first = samples(tmp_path / "first.jsonl", {0: [True], 1: [True]})
    second = samples(tmp_path / "second.jsonl", {0: [True]})
    with pytest.raises(IngotError, match=r"second\.jsonl has no sample for T/1"):
        ingot.code(first, second, task="humaneval", data=problems, out=tmp_path / "out", subset=True)


@pytest.mark.slow
def test_a_subset_is_scored_as_such(tmp_path: Path, problems: Path) -> None:
    path = samples(tmp_path / "some.jsonl", {2: [True], 1: [False]})
    found = ingot.code(path, task="humaneval", data=problems, out=tmp_path / "out", subset=True).summary()
    assert (found["humaneval.pass@1"], found["humaneval.problems"]) == (0.5, 2)


def evaluated(model: Path, problems: Path, out: Path, **changes: Any) -> Report:
    code = {"max_tokens": 8, "style": "raw"} | changes.pop("code", {})
    return ingot.evaluate(str(model), tasks=["humaneval"], data=problems, out=out, code=code, **changes)


@pytest.mark.slow
def test_a_model_writes_and_its_programs_run(tmp_path: Path, base_dir: Path, problems: Path) -> None:
    code = {"samples": 2, "k": [1, 2]}
    first = evaluated(base_dir, problems, tmp_path / "first", code=code)
    assert first.summary()["humaneval.pass@1"] == 0.0
    assert first.summary()["humaneval.programs"] == 8
    again = evaluated(base_dir, problems, tmp_path / "again", code=code, slots=1)
    rows = [json.loads(next((tmp_path / name / "raw").glob("humaneval-*")).read_text().splitlines()[0])
            for name in ("first", "again")]  # fmt: skip
    texts = [[one["completion"] for one in row["samples"]] for row in rows]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) == 2
    assert again.summary()["humaneval.pass@2"] == 0.0
    assert {path.name for path in tmp_path.iterdir()} == {"first", "again", "problems.jsonl"}


@pytest.mark.slow
def test_a_model_with_a_template_is_asked_in_a_conversation(
    tmp_path: Path, tokenizer_dir: Path, problems: Path
) -> None:
    """The same model, raw and by its template: other words, and the report says which."""
    model = write_model(tmp_path / "model", {**LLAMA, "max_position_embeddings": 512}, seed=1, tokenizer=tokenizer_dir)
    found = {}
    for style in ("auto", "raw"):
        evaluated(model, problems, tmp_path / style, code={"style": style})
        rows = (tmp_path / style / "raw" / "humaneval-model.jsonl").read_text().splitlines()
        found[style] = [json.loads(row) for row in rows]
    assert [found[style][0]["style"] for style in ("auto", "raw")] == ["chat", "raw"]
    assert found["auto"][0]["samples"][0]["completion"] != found["raw"][0]["samples"][0]["completion"]


@pytest.mark.slow
def test_rescoring_needs_no_model(tmp_path: Path, base_dir: Path, problems: Path) -> None:
    model = Path(shutil.copytree(base_dir, tmp_path / "model"))
    report = evaluated(model, problems, tmp_path / "out")
    shutil.rmtree(model)
    assert rescore(tmp_path / "out").numbers == report.numbers


def test_right_answers_count(tmp_path: Path, base_dir: Path, problems: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that writes two right programs of four, scored by the whole chain."""

    def written(model: object, task: str, asked: list[Any], options: object) -> list[list[Answer]]:
        return [[Answer(f"    return {n % 2}\n", "stop", 5)] for n in range(len(asked))]

    monkeypatch.setattr("ingot.evaluate.sandbox.task.write_answers", written)
    found = evaluated(base_dir, problems, tmp_path / "out").summary()
    assert (found["humaneval.pass@1"], found["humaneval.references_failed"]) == (0.5, 0)


@pytest.mark.slow
def test_what_was_written_is_kept_when_running_fails(
    tmp_path: Path, base_dir: Path, problems: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object) -> None:
        raise RuntimeError("no more")

    monkeypatch.setattr("ingot.evaluate.sandbox.task.rows_of", broken)
    with pytest.raises(RuntimeError, match="no more"):
        evaluated(base_dir, problems, tmp_path / "out")
    (kept,) = tmp_path.glob("out.humaneval-*.samples.jsonl")
    found = ingot.code(kept, task="humaneval", data=problems, out=tmp_path / "scored").summary()
    assert found["humaneval.programs"] == 4


@pytest.mark.slow
def test_a_reference_that_fails_is_told(tmp_path: Path, base_dir: Path, heard: pytest.LogCaptureFixture) -> None:
    broken = [PROBLEMS[0], {**PROBLEMS[1], "canonical_solution": "    return 5\n"}]
    report = evaluated(base_dir, write_lines(tmp_path / "broken.jsonl", broken), tmp_path / "out")
    assert report.summary()["humaneval.references_failed"] == 1
    assert "1 of 2 reference solutions" in heard.text
    assert "T/1 (wrong)" in heard.text


@pytest.mark.parametrize(
    ("given", "words"),
    [({"k": [1, 5]}, "pass@5 needs at least 5 samples"), ({"samples": 4, "temperature": 0}, "all 4 samples"),
     ({"k": []}, "whole numbers"), ({"k": [1.5]}, "whole numbers"), ({"samples": 0}, "greater than or equal to 1"),
     ({"style": "poem"}, "raw")],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(IngotError, match=words):
        CodeOptions.of(**given)


def test_options_act() -> None:
    assert (CodeOptions.of(samples=10, k="1,10").k, CodeOptions.of(samples=10).heat, CodeOptions.of().heat) == (
        [1, 10], 0.8, 0.0)  # fmt: skip
    with pytest.raises(IngotError, match=r"0\.25 GiB"):
        ingot.evaluate("m", out="o", sandbox={"memory": 0.1})


@pytest.mark.slow
def test_memory_and_workers_are_what_was_asked_for(tmp_path: Path, problems: Path) -> None:
    body = "    return 0 if len(bytearray(700 << 20)) else 1\n"
    path = write_lines(tmp_path / "some.jsonl", [{"task_id": "T/0", "completion": body}])
    for memory, share in ((2.0, 1.0), (0.5, 0.0)):
        sandbox = {"memory": memory, "workers": 1}
        out = tmp_path / str(memory)
        found = ingot.code(path, task="humaneval", data=problems, out=out, subset=True, sandbox=sandbox).summary()
        assert found["humaneval.pass@1"] == share


@pytest.mark.slow
def test_a_conversation_begins_the_answer(tmp_path: Path, tokenizer_dir: Path) -> None:
    """Where there is a chat template, `auto` uses it; where there is none, asking for it is refused."""
    from ingot.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.open(tokenizer_dir)
    styles = [asking.style_of(tokenizer, style) for style in ("auto", "raw", "chat")]
    assert styles == ["chat" if tokenizer.chat_template else "raw", "raw", "chat"]
    plain = Path(shutil.copytree(tokenizer_dir, tmp_path / "plain"))
    (plain / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((plain / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (plain / "tokenizer_config.json").write_text(json.dumps(config))
    model = write_model(tmp_path / "model", LLAMA, seed=1, tokenizer=plain)
    problems = write_lines(tmp_path / "p.jsonl", PROBLEMS)
    assert asking.style_of(Tokenizer.open(plain), "auto") == "raw"
    with pytest.raises(IngotError) as error:
        evaluated(model, problems, tmp_path / "out", code={"style": "chat"})
    assert error.value.code == "no-chat-template"
