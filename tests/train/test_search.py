"""Searching settings before a run: the same trials whenever it is stopped, the best kept, everything told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ingot
from ingot.adapt.load import load
from ingot.core.errors import IngotError
from ingot.core.model_dir import ModelDir
from ingot.core.report import Plot, Report, Table
from ingot.data.divide import divide_rows
from ingot.data.pack import pack_documents
from ingot.train.checkpoint import identity
from ingot.train.loop import Run
from ingot.train.search import search as searching
from ingot.train.search.space import Among, Between, changed, defaults, given_options, search_space, target_choices
from ingot.train.search.study import STARTUP, Study, Trial
from ingot.train.tune import TuneOptions
from tiny import BERT, GPT2, LLAMA, T5, make_random_network, write_model, write_tokenizer

WORDS = ("cat", "dog", "mat", "man", "hello", "world", "天空", "草地")
FAST: dict[str, Any] = {"max_steps": 8, "batch_tokens": 128, "length": 64, "forgetting": {"general": "off"},
                        "loop": {"compile": "off", "precision": "fp32"}}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("search")
    write_model(root / "base", LLAMA, tokenizer=write_tokenizer(root / "tok"))
    chats = [[{"role": "user", "content": f"{a} {b}"}, {"role": "assistant", "content": f"the {a}"}]
             for a in WORDS for b in WORDS]  # fmt: skip
    (root / "chats.jsonl").write_text("".join(json.dumps({"messages": one}) + "\n" for one in chats))
    return root


def searched(root: Path, out: Path, **options: Any) -> ModelDir:
    given = {"data": root / "chats.jsonl", "search": {"trials": 3, "share": 0.5}} | FAST | options
    return ingot.tune(str(root / "base"), out=out, **given)


def trials(made: ModelDir) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (made.path / "trials.jsonl").read_text().splitlines()]


def without_seconds(made: ModelDir) -> list[dict[str, Any]]:
    return [{name: value for name, value in one.items() if name != "seconds"} for one in trials(made)]


@pytest.mark.slow
def test_the_best_is_trained_in_full_and_all_trials_are_told(root: Path, tmp_path: Path) -> None:
    made = searched(root, tmp_path / "out")
    assert made.hallmark is not None
    step, found = made.hallmark.step, trials(made)
    assert len(found) == step.numbers["search_trials"] == 3
    losses = [one["loss"] for one in found]
    best = losses.index(min(losses))
    assert step.numbers["search_best_trial"] == best + 1
    assert step.numbers["search_loss_defaults"] == round(losses[0], 4)
    assert step.numbers["search_loss_best"] == round(losses[best], 4)
    values = found[best]["values"]
    assert step.options["lr"] == values["lr"]
    assert (step.options["rank"], step.options["lora"]["targets"]) == (values["rank"], values["lora.targets"])
    assert (step.numbers["steps"], step.numbers["search_trial_steps"]) == (8, 4)
    same = searched(root, tmp_path / "same", search={}, lr=values["lr"], rank=values["rank"],
                    lora={"targets": values["lora.targets"]})  # fmt: skip
    weights = [(one.path / "adapter_model.safetensors").read_bytes() for one in (made, same)]
    assert weights[0] == weights[1], "the written adapter is not that of the best setting"
    report = Report.open(made.path / "training")
    (table,) = [one for one in report.sections if isinstance(one, Table) and one.title == "Trials of the search"]
    assert [row[-3] for row in table.rows] == losses
    curves = [one for one in report.sections if isinstance(one, Plot) and "within the trials" in one.title]
    assert [series.x for series in curves[0].series] == [[0, 1, 2, 3, 4]] * 3
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interrupted_in_any_trial_it_goes_on_with_the_same(
    error: type[BaseException], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = searched(root, tmp_path / "whole", search={"trials": 4, "share": 0.5})
    out = tmp_path / "stopped"
    go = Run.go
    for left in (1, 2):
        calls = iter(range(left))

        def stop(run: Run, resumed: bool, calls: Iterator[int] = calls) -> Any:
            if next(calls, None) is None:
                raise error
            return go(run, resumed)

        with monkeypatch.context() as patched:
            patched.setattr(Run, "go", stop)
            with pytest.raises(error):
                searched(root, out, search={"trials": 4, "share": 0.5}, resume=True)
        assert (tmp_path / ".stopped.search" / "trials.jsonl").exists()
    with pytest.raises(IngotError) as caught:
        searched(root, out, search={"trials": 4, "share": 0.5})
    assert caught.value.code == "unfinished-run"
    with pytest.raises(IngotError, match="seed") as caught:
        searched(root, out, search={"trials": 4, "share": 0.5}, resume=True, seed=3)
    assert caught.value.code == "resume-differs"
    made = searched(root, out, search={"trials": 4, "share": 0.5}, resume=True)
    assert without_seconds(made) == without_seconds(whole)
    assert made.files["adapter_model.safetensors"] == whole.files["adapter_model.safetensors"]


@pytest.mark.slow
def test_killed_it_goes_on(root: Path, tmp_path: Path) -> None:
    """kill -9 of the real command; then to the end with --resume and more trials than at first."""
    out, study = tmp_path / "out", tmp_path / ".out.search" / "trials.jsonl"
    words = [sys.executable, "-m", "ingot", "tune", str(root / "base"), "--data", str(root / "chats.jsonl"),
             "--out", str(out), "--max-steps", "8", "--batch-tokens", "128", "--length", "64", "--general", "off",
             "--loop.compile", "off", "--loop.precision", "fp32", "--search.share", "0.5"]  # fmt: skip
    process = subprocess.Popen([*words, "--search.trials", "50"], env=os.environ, stdout=subprocess.DEVNULL)
    while not study.exists() or len(study.read_text().splitlines()) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = study.read_text().splitlines()
    count = len(kept) + 1
    subprocess.run([*words, "--search.trials", str(count), "--resume"], check=True, stdout=subprocess.DEVNULL)
    lines = (out / "trials.jsonl").read_text().splitlines()
    assert lines[: len(kept)] == kept
    assert len(lines) == count
    whole = searched(root, tmp_path / "whole", search={"trials": count, "share": 0.5})
    assert without_seconds(ModelDir.open(out)) == without_seconds(whole)


def test_the_defaults_come_first_and_proposals_follow_from_the_file(tmp_path: Path) -> None:
    space = {"lr": Between(1e-3, 1e-1, 1e-2), "rank": Among((4, 8, 16), 16)}
    study = Study.open(tmp_path / "t", space, 7, True)
    assert study.ask().values == defaults(space) == {"lr": 1e-2, "rank": 16}
    for number in range(12):
        values = study.ask().values
        assert values == Study.open(tmp_path / "t", space, 7, True).ask().values
        assert 1e-3 <= values["lr"] <= 1e-1
        assert values["rank"] in (4, 8, 16)
        state = "failed" if number == 3 else "done"
        loss = None if number == 3 else abs(np.log(values["lr"] / 0.02)) + 1 / values["rank"]
        study.tell(Trial(values, state, loss, [[1, 3.0]], 0.5))
    assert study.trials == Study.open(tmp_path / "t", space, 7, True).trials
    assert study.seconds == 6.0
    done = [one.loss for one in study.trials if one.loss is not None]
    assert study.trials[study.best].loss == min(done) < done[0]
    first, second = (Study.open(tmp_path / "t", space, seed, True).ask().values for seed in (7, 8))
    assert first != second


def test_a_trial_worse_than_most_is_ended_early(tmp_path: Path) -> None:
    space = {"lr": Between(1e-3, 1e-1, 1e-2)}
    study = Study.open(tmp_path / "t", space, 0, True)
    for number in range(STARTUP):
        study.tell(Trial({"lr": 1e-2 + number * 1e-3}, "done", 1.0 + number, [[2, 2.0 + number]], 0.0))
    assert study.ask().is_hopeless([[2, 4.1]])
    assert not study.ask().is_hopeless([[2, 3.9]])
    study.prunes = False
    assert not study.ask().is_hopeless([[2, 100.0]])


@pytest.mark.slow
def test_hopeless_and_broken_trials_are_kept_and_never_best(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching.Proposal, "is_hopeless", lambda self, curve: self.values["rank"] != 16)
    made = searched(root, tmp_path / "out", search={"trials": 4, "share": 1.0})
    found = trials(made)
    assert {one["state"] for one in found if one["values"]["rank"] != 16} == {"pruned"}
    assert all(len(one["curve"]) == (1 if one["state"] == "pruned" else 4) for one in found)
    assert made.hallmark is not None
    assert made.hallmark.step.numbers["search_pruned"] == sum(one["state"] == "pruned" for one in found) > 0
    assert made.hallmark.step.options["rank"] == 16
    go = Run.go

    def breaking(run: Run, resumed: bool) -> Any:
        if run.plan.lr != pytest.approx(4e-3 * 2):
            raise IngotError("training-unstable", count=3, steps=9, step=5, reason="loss-spike")
        return go(run, resumed)

    monkeypatch.setattr(Run, "go", breaking)
    made = searched(root, tmp_path / "broken", search={"trials": 2})
    assert [one["state"] for one in trials(made)] == ["done", "failed"]
    assert "went wrong" in trials(made)[1]["reason"]
    with pytest.raises(IngotError, match="went wrong") as caught:
        searched(root, tmp_path / "all", search={"trials": 2}, lr=0.1)
    assert caught.value.code == "search-all-failed"


@pytest.mark.parametrize(
    ("method", "names"),
    [("lora", {"lr", "rank", "lora.targets"}), ("dora", {"lr", "rank", "lora.targets"}), ("ia3", {"lr"}),
     ("full", {"lr"}), ("prefix", {"lr", "prompt.tokens"}), ("prompt", {"lr", "prompt.tokens"})],
)  # fmt: skip
def test_what_is_searched(method: str, names: set[str]) -> None:
    network = make_random_network(LLAMA)
    space = search_space(method, 0.01, network, 16, [])
    assert set(space) == names
    assert space["lr"] == Between(0.001, 0.1, 0.01)
    assert set(search_space(method, 0.01, network, 16, ["lr", "seed"])) == names - {"lr"}
    if method == "lora":
        assert space["rank"] == Among((4, 8, 16), 16), "keys and values have room for 16"
    if method == "prefix":
        assert space["prompt.tokens"] == Among((4, 8, 16), 16)


def test_targets_by_family() -> None:
    assert target_choices(make_random_network(LLAMA)) == (
        "all-linear", "q_proj,k_proj,v_proj,o_proj", "gate_proj,up_proj,down_proj")  # fmt: skip
    assert target_choices(make_random_network(GPT2)) == ("all-linear", "c_attn", "c_fc")
    assert target_choices(make_random_network(T5)) == ("all-linear", "q,k,v,o", "wi,wo")
    for part in target_choices(make_random_network(BERT))[1:]:
        assert "dense" not in part.split(",")


def test_options_changed_and_given() -> None:
    options = TuneOptions.of(model="m", data="d", out="o", rank=4, lora={"alpha": 3.0})
    assert given_options(options) == {"model", "data", "out", "rank", "lora.alpha"}
    values = {"lr": 0.5, "lora.targets": "q_proj", "prompt.tokens": 3, "lora.dropout": 0.1}
    again = changed(options, values)
    assert (again.lr, again.lora.targets, again.lora.alpha, again.lora.dropout) == (0.5, "q_proj", 3.0, 0.1)
    assert (again.prompt.tokens, options.lr) == (3, None)


def test_a_study_may_be_given_more_budget(tmp_path: Path) -> None:
    def same(**budget: Any) -> dict[str, Any]:
        return identity(TuneOptions.of(model="m", data=tmp_path, out=tmp_path, search=budget))

    assert same(trials=3) == same(trials=9) == same(minutes=2.0)
    assert same(trials=3) != same(trials=3, share=0.5)


def test_documents_stand_on_one_side(tmp_path: Path) -> None:
    """Whole, none lost, equal ones together, cut ones together; the share about as asked."""
    rng = np.random.default_rng(0)
    documents = [list(map(int, rng.integers(1, 50, int(rng.integers(3, 40))))) for _ in range(300)]
    documents += documents[:100]
    rows = pack_documents(documents, 16, eos=0)
    sides = divide_rows(rows, 0.2, 5)
    texts: list[dict[int, list[int]]] = []
    for side in sides:
        found: dict[int, list[int]] = {}
        for row in range(len(side)):
            for segment, number in enumerate(side.documents(row)):
                found.setdefault(number, []).extend(side.ids[row][side.segments[row] == segment].tolist())
        texts.append(found)
    assert set(texts[0]) | set(texts[1]) == set(range(400))
    assert not set(texts[0]) & set(texts[1])
    assert {number in texts[0] for number in range(100)} == {True, False}
    assert all((number in texts[0]) == (number + 300 in texts[0]) for number in range(100))
    for number, text in (texts[0] | texts[1]).items():
        assert sorted(text) == sorted([*documents[number], 0])
    assert sum(side.num_targets for side in sides) == rows.num_targets
    assert len(texts[1]) / 400 == pytest.approx(0.2, abs=0.06)
    with pytest.raises(IngotError) as caught:
        divide_rows(pack_documents([[1, 2, 3] * 9], 16), 1e-9, 0)
    assert (caught.value.code, caught.value.details["train"]) == ("bad-judge-share", 1), "pieces are not documents"


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [({"max_minutes": 1.0, "max_steps": None}, "options-conflict", "known length"),
     ({"search": {"share": 0.5}}, "bad-option", "acts only with"),
     ({"search": {"trials": 1}}, "bad-option", "trials"),
     ({"method": "ia3", "lr": 0.1}, "search-nothing-left", "ia3"),
     ({"search": {"trials": 2, "heldout": 1e-9}}, "bad-judge-share", "held")],
)  # fmt: skip
def test_refusals_leave_nothing(options: dict[str, Any], code: str, words: str, root: Path, tmp_path: Path) -> None:
    with pytest.raises(IngotError, match=words) as caught:
        searched(root, tmp_path / "out", **options)
    assert caught.value.code == code
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_tokens_in_front_leave_the_length_that_was_given(root: Path, tmp_path: Path) -> None:
    """Of a window of 128 a length of 112 leaves 16."""
    given = {"method": "prompt", "lr": 0.05, "search": {"trials": 4, "share": 0.25}, "max_steps": 4}
    made = searched(root, tmp_path / "out", **given | {"length": 112})
    assert {one["values"]["prompt.tokens"] for one in trials(made)} <= {4, 8, 16}
    with pytest.raises(IngotError) as caught:
        searched(root, tmp_path / "none", **given | {"prompt": {"tokens": 8}})
    assert caught.value.code == "search-nothing-left"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rslora", "qlora", "ia3", "prefix", "prompt", "full"])
def test_every_method_can_be_searched(method: str, root: Path, tmp_path: Path) -> None:
    made = searched(root, tmp_path / "out", method=method, search={"trials": 2}, max_steps=4)
    assert made.hallmark is not None
    numbers = made.hallmark.step.numbers
    assert numbers["search_trials"] == 2
    assert numbers["search_trial_steps"] == 1
    assert numbers["search_loss_start"] > 0
    assert load(str(made.path) if method == "full" else f"{root / 'base'}+{made.path}").network is not None
