"""`tune-temperature` from the file of questions to the directory that states a temperature, and what it refuses."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from evaluating import QUESTIONS, write_lines

import ingot
from ingot.adapt.load import LanguageModel, load
from ingot.cli import main
from ingot.core.errors import IngotError
from ingot.core.model_dir import ModelDir
from ingot.core.report import Report
from ingot.evaluate.task import Row
from ingot.evaluate.temperature import asking, verb
from ingot.evaluate.temperature.asking import Job
from ingot.evaluate.temperature.items import Item
from ingot.evaluate.temperature.verb import Tuned
from ingot.infer.options import Sampling
from ingot.infer.prompts import Asked

GRID = "0,0.4,0.8,1.2,1.6"
Ask = Callable[..., list[Row]]


@pytest.fixture
def task(tmp_path: Path) -> Path:
    questions = [{"prompt": f"the cat {number}", "answer": ["mat", "墊子"]} for number in range(60)]
    return write_lines(tmp_path / "task.jsonl", questions)


def planted(chances: dict[float, float], seed: int = 0) -> Ask:
    """A model that is right this often at each temperature."""

    def ask(
        model: LanguageModel, items: Sequence[Item], prompts: Sequence[Asked], wanted: Sequence[Job],
        sampling: Callable[[Job], Sampling], slots: int, keep: Callable[[list[Row]], None],
    ) -> list[Row]:  # fmt: skip
        rows = []
        for job in wanted:
            right = random.Random(f"{seed} {job.item} {job.sample}").random() < chances[job.temperature]
            reply = random.Random(str(job)).choice(["It is the mat.", "是墊子"]) if right else f"dog {job.sample}"
            rows.append({"id": items[job.item].id, "temperature": job.temperature, "sample": job.sample,
                         "seed": sampling(job).seed, "reply": reply, "tokens": 3, "finish_reason": "stop",
                         "entropy": job.temperature})  # fmt: skip
        keep(rows)
        return rows

    return ask


PEAK = {0.0: 0.3, 0.4: 0.9, 0.8: 0.5, 1.2: 0.2, 1.6: 0.0}
FLAT = dict.fromkeys(PEAK, 0.6)


def tuned(monkeypatch: pytest.MonkeyPatch, chances: dict[float, float], model: Path, task: Path, **words: Any) -> Tuned:
    monkeypatch.setattr(verb, "ask", planted(chances))
    found = ingot.tune_temperature(str(model), task=task, grid=GRID, samples=4, **words)
    assert isinstance(found, Tuned)
    return found


def test_the_planted_temperature_is_written_and_followed(
    monkeypatch: pytest.MonkeyPatch, base_dir: Path, task: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(base_dir, tmp_path / "model"))
    own = {"top_p": 0.8, "repetition_penalty": 1.1, "eos_token_id": 3, "temperature": 0.9, "do_sample": True}
    (model / "generation_config.json").write_text(json.dumps(own))
    found = tuned(monkeypatch, PEAK, model, task, out=tmp_path / "out", report=tmp_path / "report")
    assert found.temperature == 0.4
    written = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    evidence = written.pop("temperature_evidence")
    assert written == {"eos_token_id": 3, "do_sample": True, "temperature": 0.4, "top_k": 0, "top_p": 1.0}
    assert evidence["not_told_apart"] == [0.4]
    assert evidence["questions"] == [30, 30]
    assert evidence["accuracy"][1] == pytest.approx(0.9, abs=0.1)
    again = load(tmp_path / "out")
    assert (again.generation.temperature, again.generation.undrawn) == (0.4, ())
    assert load(model).generation.undrawn == ("top_p", "repetition_penalty")
    step = ModelDir.open(tmp_path / "out").hallmark
    assert step is not None
    assert step.step.verb == "tune-temperature"
    assert step.step.numbers["replaced"] == {key: value for key, value in own.items() if key != "eos_token_id"}
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    report = Report.open(tmp_path / "report")
    assert report.numbers == found.decision.numbers
    assert not list(tmp_path.glob(".*.samples"))


@pytest.mark.slow
def test_greedy_is_written_as_no_sampling(
    monkeypatch: pytest.MonkeyPatch, base_dir: Path, task: Path, tmp_path: Path
) -> None:
    chances = {0.0: 0.9, 0.4: 0.6, 0.8: 0.4, 1.2: 0.2, 1.6: 0.0}
    found = tuned(monkeypatch, chances, base_dir, task, out=tmp_path / "out")
    assert found.temperature == 0.0
    written = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert written["do_sample"] is False
    assert "temperature" not in written
    assert load(tmp_path / "out").generation.temperature == 0.0


@pytest.mark.peers
@pytest.mark.parametrize("best", [0.0, 0.4])
def test_transformers_reads_what_is_written(
    monkeypatch: pytest.MonkeyPatch, base_dir: Path, task: Path, tmp_path: Path, best: float
) -> None:
    from transformers import GenerationConfig

    tuned(monkeypatch, dict.fromkeys(PEAK, 0.1) | {best: 0.9}, base_dir, task, out=tmp_path / "out")
    read = GenerationConfig.from_pretrained(str(tmp_path / "out"))
    assert read.do_sample is (best > 0)
    if best:
        assert (read.temperature, read.top_k, read.top_p) == (best, 0, 1.0)


def test_flat_says_that_it_cannot_tell(
    monkeypatch: pytest.MonkeyPatch, base_dir: Path, task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verb, "ask", planted(FLAT))
    words = ["tune-temperature", str(base_dir), "--task", str(task), "--grid", GRID, "--out", str(tmp_path / "out")]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "cannot tell" in said
    assert "was not written" in said
    assert not (tmp_path / "out").exists()
    assert json.loads(said.splitlines()[-1])["can_tell"] is False


def test_a_choice_that_does_not_hold_is_none(
    monkeypatch: pytest.MonkeyPatch, base_dir: Path, task: Path, tmp_path: Path
) -> None:
    """On the half that chooses there is a peak, on the other half the chosen temperature is the worst."""
    from ingot.evaluate.temperature.items import halves, read_items

    first = set(halves(read_items(task, 1000, 0), 0)[0])
    good, bad = planted(PEAK), planted(dict.fromkeys(PEAK, 0.8) | {0.4: 0.1})

    def ask(*given: Any) -> list[Row]:
        rows = []
        for which, part in ((good, True), (bad, False)):
            rows += which(*given[:3], [job for job in given[3] if (job.item in first) is part], *given[4:])
        return rows

    monkeypatch.setattr(verb, "ask", ask)
    found = ingot.tune_temperature(str(base_dir), task=task, grid=GRID, samples=4)
    assert found.temperature is None
    assert "on the 30 others it is not better" in found.decision.sentence


def test_majority_counts_votes(monkeypatch: pytest.MonkeyPatch, base_dir: Path, task: Path) -> None:
    """Wrong samples disagree with each other, so that one right pair in four wins the vote."""
    chances = {0.0: 0.3, 0.4: 0.6, 0.8: 0.6, 1.2: 0.1, 1.6: 0.0}
    found = tuned(monkeypatch, chances, base_dir, task, aim="majority")
    assert found.temperature == 0.4
    assert found.decision.evidence["aim"] == "majority"
    single = tuned(monkeypatch, chances, base_dir, task)
    assert found.decision.evidence["accuracy"][1] > single.decision.evidence["accuracy"][1]


def test_chinese(
    monkeypatch: pytest.MonkeyPatch, base_dir: Path, task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INGOT_LANG", "zh-TW")
    monkeypatch.setattr(verb, "ask", planted(FLAT))
    assert main(["tune-temperature", str(base_dir), "--task", str(task), "--grid", GRID]) == 0
    assert "無法判斷" in capsys.readouterr().out


def rows_of(report: Path) -> list[Row]:
    return [json.loads(line) for line in (report / "samples.jsonl").read_text(encoding="utf-8").splitlines()]


SMALL: dict[str, Any] = {"grid": "0,0.5,1", "samples": 2, "max_tokens": 4}


@pytest.fixture
def short(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "short.jsonl", [{"prompt": f"the cat {n}", "answer": n} for n in range(20)])


@pytest.mark.slow
def test_samples_are_those_of_the_engine(base_dir: Path, short: Path, tmp_path: Path) -> None:
    """Each sample is what `generate` gives for its seed; the entropy is the definition; slots change nothing."""
    for slots in (3, 32):
        ingot.tune_temperature(str(base_dir), task=short, report=tmp_path / f"r{slots}", slots=slots, **SMALL)
    rows = rows_of(tmp_path / "r3")
    assert len(rows) == 20 * (1 + 2 + 2)
    others = rows_of(tmp_path / "r32")
    assert [row | {"entropy": 0} for row in rows] == [row | {"entropy": 0} for row in others]
    assert [row["entropy"] for row in rows] == pytest.approx([row["entropy"] for row in others], rel=1e-4)
    model = load(base_dir)
    seeds = {(row["id"], row["sample"]): row["seed"] for row in rows}
    for row in rows[::17]:
        assert row["seed"] == seeds[row["id"], row["sample"]]  # the same at every temperature
        prompt = f"the cat {int(row['id']) - 1}"
        (answer,) = ingot.generate(str(base_dir), prompt=prompt, temperature=row["temperature"], seed=row["seed"],
                                   max_tokens=4).sequences  # fmt: skip
        assert (answer.text, len(answer.tokens)) == (row["reply"], row["tokens"])
        if row["temperature"]:
            begin = len(answer.start.ids)
            logits_TV = model.logits([[*answer.start.ids, *answer.tokens]])[0, begin - 1 : -1].double()
            shares_TV = (logits_TV / row["temperature"]).softmax(-1)
            entropy = float(-(shares_TV * shares_TV.log()).sum(-1).mean())
            assert row["entropy"] == pytest.approx(entropy, rel=1e-4)


@pytest.mark.slow
def test_a_stopped_run_goes_on(monkeypatch: pytest.MonkeyPatch, base_dir: Path, short: Path, tmp_path: Path) -> None:
    """Interrupted twice, the second time inside a line, it ends with the samples of a run that was not."""
    monkeypatch.setattr(asking, "AT_ONCE", 10)
    ingot.tune_temperature(str(base_dir), task=short, report=tmp_path / "whole", **SMALL)
    add, calls = asking.Kept.add, [0]

    def stops(kept: asking.Kept, rows: Sequence[Row]) -> None:
        add(kept, rows)
        calls[0] += 1
        if calls[0] in (3, 5):
            raise KeyboardInterrupt

    monkeypatch.setattr(asking.Kept, "add", stops)
    place = tmp_path / ".parts.samples"
    for resume in (False, True):
        with pytest.raises(KeyboardInterrupt):
            ingot.tune_temperature(str(base_dir), task=short, report=tmp_path / "parts", resume=resume, **SMALL)
        whole = (place / "samples.jsonl").read_bytes()
        (place / "samples.jsonl").write_bytes(whole[:-20])
    with pytest.raises(IngotError) as error:
        ingot.tune_temperature(str(base_dir), task=short, report=tmp_path / "parts", **SMALL)
    assert error.value.code == "temperature-unfinished"
    with pytest.raises(IngotError, match="seed") as error:
        ingot.tune_temperature(str(base_dir), task=short, report=tmp_path / "parts", resume=True, seed=1, **SMALL)
    assert error.value.code == "resume-differs"
    ingot.tune_temperature(str(base_dir), task=short, report=tmp_path / "parts", resume=True, **SMALL)
    first, second = rows_of(tmp_path / "whole"), rows_of(tmp_path / "parts")
    assert [row | {"entropy": 0} for row in first] == [row | {"entropy": 0} for row in second]
    assert not place.exists()


def test_a_world_is_a_task(monkeypatch: pytest.MonkeyPatch, base_dir: Path, tmp_path: Path) -> None:
    """Questions nobody was told the answer of are right where the model says so."""
    questions = [one | {"question": f"{one['question']} {number}"} for number, one in enumerate(QUESTIONS)]
    write_lines(tmp_path / "questions.jsonl", questions)
    monkeypatch.setattr(verb, "ask", planted(FLAT))
    found = ingot.tune_temperature(str(base_dir), task=tmp_path, grid=GRID, samples=2)
    assert {row["id"] for row in found.rows} == {one["id"] for one in QUESTIONS}


GOOD = {"prompt": "a", "answer": "b"}


@pytest.mark.parametrize(
    ("records", "words", "code"),
    [([], {}, "temperature-task"), ([GOOD] * 3, {}, "temperature-few"),
     ([{"answer": 1}], {}, "bad-record"), ([{"prompt": "a", "question": "b"}], {}, "bad-record"),
     ([{"prompt": " "}], {}, "bad-record"), ([{"messages": "a"}], {}, "bad-record"),
     ([{"prompt": "a", "answer": []}], {}, "bad-record"), ([{"prompt": "a", "answer": ["b", " "]}], {}, "bad-record"),
     ([{"prompt": "a", "answer": True}], {}, "bad-record"), ([{"prompt": "a", "answer": {"x": 1}}], {}, "bad-record"),
     ([GOOD, {"prompt": "c"}], {}, "temperature-no-label"), ([GOOD, {"prompt": "c"}], {"method": "labels"},
      "temperature-no-label"),
     ([{"prompt": str(n)} for n in range(9)], {"aim": "single"}, "temperature-aim"),
     ([{"prompt": str(n)} for n in range(9)], {"grid": "0,0.5,1"}, "temperature-grid"),
     ([GOOD], {"resume": True}, "temperature-nothing-kept"), ([GOOD], {"grid": "0,1"}, "bad-option"),
     ([GOOD], {"grid": "0,1,1"}, "bad-option"), ([GOOD], {"grid": "0,x,1"}, "bad-option"),
     ([GOOD], {"grid": "-1,0,1"}, "bad-option"), ([GOOD], {"grid": "0,1,inf"}, "bad-option"),
     ([GOOD], {"samples": 1}, "bad-option"),
     ([{"prompt": "the cat " * 200 + str(n), "answer": 1} for n in range(20)], {}, "bad-record")],
)  # fmt: skip
def test_refusals(
    base_dir: Path, tmp_path: Path, records: list[dict[str, Any]], words: dict[str, Any], code: str
) -> None:
    path = write_lines(tmp_path / "t.jsonl", records)
    with pytest.raises(IngotError) as error:
        ingot.tune_temperature(str(base_dir), task=path, **words)
    assert error.value.code == code
    if code in ("bad-record", "temperature-no-label"):
        assert f"line {2 if len(records) == 2 else 1}" in str(error.value)


def test_places_are_refused(base_dir: Path, task: Path, tmp_path: Path) -> None:
    given: list[tuple[str, dict[str, Any], str]] = [
        (str(base_dir), {"out": tmp_path}, "out-not-empty"),
        (str(base_dir), {"report": task}, "out-not-empty"),
        (str(base_dir), {"out": tmp_path / "o", "report": tmp_path / "o"}, "temperature-one-place"),
        (f"{base_dir}+{tmp_path}/adapter", {"out": tmp_path / "o"}, "temperature-adapter"),
    ]
    for model, words, code in given:
        with pytest.raises(IngotError) as error:
            ingot.tune_temperature(model, task=task, **words)
        assert error.value.code == code


def test_what_is_asked_twice_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, base_dir: Path, tmp_path: Path, heard: pytest.LogCaptureFixture
) -> None:
    records = [{"prompt": f"the cat {n % 25}", "answer": "mat"} for n in range(60)]
    found = tuned(monkeypatch, FLAT, base_dir, write_lines(tmp_path / "t.jsonl", records))
    assert len({row["id"] for row in found.rows}) == 25
    assert "35 questions are asked more than once" in heard.text
