"""The ladder: what is proposed, going on after a kill without redoing, and the verb from end to end."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scaling_laws import LAWS, made_up

import ingot
from ingot.core.errors import IngotError
from ingot.core.model_dir import Draft, ModelDir
from ingot.core.report import Plot, Report
from ingot.train.pretrain import PretrainOptions, pretrain
from ingot.train.scaling import climb as climbing
from ingot.train.scaling import ladder as ladders
from ingot.train.scaling.climb import Ladder, climb, identity, known_speed, remember, reopen, run_options
from ingot.train.scaling.ladder import MAX_EPOCHS, MIN_STEPS, Rung, Shape, Speed, propose
from ingot.train.scaling.options import LadderOptions
from ingot.train.scaling.sizes import counter
from tiny import write_tokenizer

COUNT = functools.cache(counter("qwen3", 64, None))
SPEED = Speed([1e5, 3e6], [3e10, 6e10], 4.0, 50_000_000)


@given(minutes=st.floats(60, 3000), sizes=st.integers(3, 5), token_counts=st.integers(3, 5))
@settings(deadline=None, max_examples=30)
def test_a_proposed_ladder_is_a_grid_within_its_time(minutes: float, sizes: int, token_counts: int) -> None:
    rungs = propose(SPEED, COUNT, minutes, Shape(sizes, token_counts, 64))
    assert sum(rung.seconds for rung in rungs) <= 60 * minutes * 1.001
    assert len({rung.depth for rung in rungs}) == sizes
    assert len({rung.name for rung in rungs}) == len(rungs) == sizes * token_counts
    assert [rung.flops for rung in rungs] == sorted(rung.flops for rung in rungs)
    assert max(rung.tokens for rung in rungs) <= MAX_EPOCHS * SPEED.tokens_in_data
    for depth in {rung.depth for rung in rungs}:
        own = [rung for rung in rungs if rung.depth == depth]
        assert min(rung.steps for rung in own) >= MIN_STEPS
        for shorter, longer in pairwise(own):
            assert longer.steps == pytest.approx(2 * shorter.steps, rel=0.05)


def test_more_time_gives_larger_models() -> None:
    short, long = (propose(SPEED, COUNT, minutes, Shape(4, 4, 64)) for minutes in (15, 3000))
    assert max(rung.depth for rung in long) > max(rung.depth for rung in short)
    ratios = [np.log(rung.tokens / rung.parameters) for rung in long]
    assert 5 < np.exp(np.mean(ratios)) < 80, "centred near 20 tokens a parameter"


@pytest.mark.parametrize("tokens", [50_000_000, 10_000])
def test_too_little_names_what_would_do(tokens: int) -> None:
    with pytest.raises(IngotError) as caught:
        propose(Speed(SPEED.parameters, SPEED.flops_per_second, 4.0, tokens), COUNT, 0.5, Shape(3, 3, 64))
    assert caught.value.code == "scaling-no-ladder"
    minutes = float(str(caught.value.details["needed_minutes"]))
    needed = int(str(caught.value.details["needed_tokens"]).replace(",", ""))
    enough = Speed(SPEED.parameters, SPEED.flops_per_second, 4.0, needed)
    assert propose(enough, COUNT, minutes, Shape(3, 3, 64))


def test_speed_between_and_beyond_the_probes() -> None:
    assert SPEED.at(1e5) == pytest.approx(3e10)
    assert 3e10 < SPEED.at(5e5) < 6e10
    assert SPEED.at(1e3) == pytest.approx(3e10)
    assert SPEED.at(1e9) == pytest.approx(6e10)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    lines = [f"the cat number {n} sat on the mat and the dog ran. 天空是藍色的{n}。" for n in range(60)]
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": line, "licence": "CC0-1.0"}) + "\n" for line in lines))
    return path


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    return write_tokenizer(tmp_path / "tok")


Base = Callable[..., PretrainOptions]
RUNGS = [Rung(1, 1e4, 64, steps, 1.0) for steps in (2, 3, 4)]


@pytest.fixture
def base(corpus: Path, tokenizer: Path) -> Base:
    options = LadderOptions.of(length=32, allow_unknown_licence=True)
    return functools.partial(run_options, corpus, tokenizer, 0, options, loop={"compile": "off"})


class Killed(BaseException):
    """Stands for a kill: nothing in the code catches it."""


def counted(calls: list[str]) -> Callable[[PretrainOptions], ModelDir]:
    def train(options: PretrainOptions) -> ModelDir:
        calls.append(options.out.name)
        return pretrain(options)

    return train


@pytest.mark.slow
def test_a_killed_ladder_goes_on_and_redoes_nothing(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = climb(Ladder(tmp_path / "whole", SPEED, RUNGS), base)
    ladder, calls = Ladder(tmp_path / "killed", SPEED, RUNGS), list[str]()
    seal = Draft.seal

    def kill_second(draft: Draft, seconds: float) -> None:
        if draft.out.name == RUNGS[1].name:
            raise Killed
        seal(draft, seconds)

    with monkeypatch.context() as patched:
        patched.setattr(Draft, "seal", kill_second)
        with pytest.raises(Killed):
            climb(ladder, base, counted(calls))
    assert calls == [rung.name for rung in RUNGS[:2]]
    assert (ladder.out / "rungs" / f".{RUNGS[1].name}.training").exists(), "the killed run left its state"
    first = (ladder.path(RUNGS[0]) / "hallmark.json").read_bytes()
    calls.clear()
    again = climb(ladder, base, counted(calls))
    assert calls == [rung.name for rung in RUNGS[1:]]
    assert (ladder.path(RUNGS[0]) / "hallmark.json").read_bytes() == first
    assert again.loss.tolist() == whole.loss.tolist()
    assert again.tokens.tolist() == whole.tokens.tolist()
    calls.clear()
    assert climb(ladder, base, counted(calls)).loss.tolist() == whole.loss.tolist()
    assert calls == []


def test_a_changed_rung_is_refused(base: Base, tmp_path: Path) -> None:
    ladder = Ladder(tmp_path / "l", SPEED, RUNGS[:1])
    climb(ladder, base)
    config = ladder.path(RUNGS[0]) / "generation_config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(IngotError) as caught:
        climb(ladder, base)
    assert caught.value.code == "scaling-rung-changed"


def test_another_ladder_in_the_same_place_is_refused(corpus: Path, tokenizer: Path, tmp_path: Path) -> None:
    wanted = identity(corpus, tokenizer, 5.0, 0, LadderOptions())
    remember(Ladder(tmp_path / "l", SPEED, RUNGS), wanted)
    (tmp_path / "l" / "rungs").mkdir()
    found = reopen(tmp_path / "l", wanted)
    assert found == Ladder(tmp_path / "l", SPEED, RUNGS)
    corpus.write_text(corpus.read_text() + json.dumps({"text": "one more"}) + "\n")
    for other in (wanted | {"max_minutes": 6.0}, identity(corpus, tokenizer, 5.0, 0, LadderOptions())):
        with pytest.raises(IngotError) as caught:
            reopen(tmp_path / "l", other)
        assert caught.value.code == "scaling-ladder-differs"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(IngotError) as caught:
        known_speed(tmp_path / "other", wanted)
    assert caught.value.code == "out-not-empty"


def test_a_ladder_not_begun_may_change_and_keeps_its_probe(corpus: Path, tokenizer: Path, tmp_path: Path) -> None:
    wanted = identity(corpus, tokenizer, 5.0, 0, LadderOptions())
    remember(Ladder(tmp_path / "l", SPEED, RUNGS), wanted)
    longer = identity(corpus, tokenizer, 9.0, 0, LadderOptions.of(sizes=3))
    assert reopen(tmp_path / "l", longer) is None
    assert known_speed(tmp_path / "l", longer) == SPEED
    assert known_speed(tmp_path / "l", identity(corpus, tokenizer, 5.0, 0, LadderOptions.of(length=64))) is None
    assert known_speed(tmp_path / "new", wanted) is None


@pytest.fixture
def points(tmp_path: Path) -> Path:
    rows = made_up(LAWS["chinchilla"], 4, 0.003).rows()
    path = tmp_path / "points.jsonl"
    path.write_text("".join(json.dumps(row | {"seconds": row["flops"] / 1e12}) + "\n" for row in rows))
    return path


def texts(report: Report) -> Iterator[str]:
    for section in report.sections:
        yield section.title
        yield from (section.x_label, section.note) if isinstance(section, Plot) else ()


@pytest.mark.slow
def test_points_and_a_budget_give_a_report(points: Path, tmp_path: Path) -> None:
    report = ingot.plan_scale(points=points, out=tmp_path / "r", budget="20usd", usd_per_hour=2.0, resamples=50)
    again, summary = Report.open(tmp_path / "r"), report.summary()
    assert again.model_dump() == report.model_dump()
    assert summary["usd"] == pytest.approx(20, rel=0.05)
    assert summary["hours"] == pytest.approx(10, rel=0.05)
    assert summary["flops"] == pytest.approx(36000 * 1e12)
    assert 6 * summary["parameters"] * summary["tokens"] == pytest.approx(summary["flops"], rel=0.05)
    assert summary["alpha"] == pytest.approx(0.34, abs=0.05)
    assert (tmp_path / "r" / "points.jsonl").read_text().count("\n") == 16
    assert (tmp_path / "r" / "report.html").read_text().count("<svg") == 5


@pytest.mark.slow
def test_the_report_is_chinese_where_asked(points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGOT_LANG", "zh-TW")
    report = ingot.plan_scale(points=points, out=tmp_path / "r", resamples=50)
    assert report.language == "zh-TW"
    latin = [said for said in texts(report) if said and not any("一" <= letter <= "鿿" for letter in said)]
    assert latin == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"budget": "5"}, "scaling-budget"),
        ({"budget": "1e30flops"}, "scaling-too-far"),
        ({"budget": "5usd"}, "scaling-needs-price"),
        ({"usd_per_hour": 2.0}, "scaling-unused-price"),
        ({"law": "chinchila"}, "scaling-no-law"),
        ({"law": "frontier"}, "scaling-no-law"),
        ({"dry_run": True}, "scaling-both"),
        ({"data": "corpus"}, "scaling-both"),
        ({"points": None}, "scaling-nothing"),
        ({"points": None, "data": "corpus"}, "scaling-nothing"),
        ({"max_extrapolation": 0.5}, "bad-option"),
    ],
)
def test_what_cannot_work_is_refused_and_nothing_written(
    points: Path, tmp_path: Path, changes: dict[str, Any], code: str
) -> None:
    with pytest.raises(IngotError) as caught:
        ingot.plan_scale(**{"points": points, "out": tmp_path / "r"} | changes)
    assert caught.value.code == code
    assert not (tmp_path / "r").exists()


def test_hours_need_a_speed(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in made_up(LAWS["chinchilla"], 3, 0.003).rows()))
    with pytest.raises(IngotError) as caught:
        ingot.plan_scale(points=path, out=tmp_path / "r", budget="5h")
    assert caught.value.code == "scaling-needs-speed"


@pytest.mark.slow
def test_runs_in_which_size_does_nothing_buy_nothing(tmp_path: Path) -> None:
    rows = [row | {"loss": 2 + (1e3 / row["tokens"]) ** 0.3} for row in made_up(LAWS["chinchilla"], 3, 0.0).rows()]
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = ingot.plan_scale(points=path, out=tmp_path / "r", budget="1e19flops", resamples=50)
    assert report.passed is False
    assert "parameters" not in report.numbers
    assert report.numbers["reach_flops"] is None


@pytest.mark.slow
def test_a_ladder_from_text_to_report(
    corpus: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With tiny batches and no least number of steps, so that nine runs take seconds."""
    monkeypatch.setattr(ladders, "MIN_STEPS", 1)
    monkeypatch.setattr(climbing, "PROBE_DEPTHS", (1, 2))
    shape = {"sizes": 3, "token_counts": 3, "length": 32, "batch_tokens": 64, "allow_unknown_licence": True}
    given: dict[str, Any] = {"tokenizer": tokenizer, "out": tmp_path / "l", "max_minutes": 3.0, "ladder": shape}
    dry = ingot.plan_scale(corpus, dry_run=True, **given)
    assert dry.summary()["runs"] == 9
    assert not (tmp_path / "l" / "rungs").exists()
    report = ingot.plan_scale(corpus, resamples=50, budget="1h", max_extrapolation=1e6, **given)
    assert len(list((tmp_path / "l" / "rungs").iterdir())) == 9
    assert report.summary()["runs"] == 9
    assert report.summary()["hours"] == pytest.approx(1, rel=0.3)
    hallmarks = [(path / "hallmark.json").stat().st_mtime_ns for path in sorted((tmp_path / "l" / "rungs").iterdir())]
    again = ingot.plan_scale(corpus, resamples=50, **given)
    assert [(path / "hallmark.json").stat().st_mtime_ns for path in sorted((tmp_path / "l" / "rungs").iterdir())] == (
        hallmarks
    )
    assert again.summary()["alpha"] == report.summary()["alpha"]
