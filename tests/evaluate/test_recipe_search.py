"""Search over a recipe: what is tried, reused, resumed, measured again, and refused. Its verbs are small stand-ins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparing import documents, said, write_report

from ingot.core.errors import IngotError, fail, nearest
from ingot.core.files import new_directory
from ingot.core.options import Options, Verb, argument, option, required, verb
from ingot.core.report import Plot, Report, Table
from ingot.evaluate.options import ItemsOptions
from ingot.evaluate.search import verb as module
from ingot.evaluate.search.spec import Objective
from ingot.evaluate.search.study import Study, Trial
from ingot.evaluate.search.verb import search
from ingot.evaluate.subset import in_part
from ingot.train.search.space import Among, Between

pytestmark = pytest.mark.slow

RECIPE = """
title: A life
inputs: {people: 3}
steps:
  world: {verb: make, people: $people}
  base: {verb: train, data: $world, depth: 2, lr: 0.01}
  report: {verb: evaluate, models: [$base]}
search:
  space:
    base.depth: [1, 2, 3, 4]
    base.lr: {low: 0.001, high: 0.1, log: true}
  objectives: ["bits:min", "report.size:min"]
"""


class Said(dict[str, Any]):
    def summary(self) -> dict[str, Any]:
        return dict(self)


class MakeOptions(Options):
    out: Path = argument("where")
    people: int = option(3, "how many", ge=1)


class TrainOptions(Options):
    data: Path = required("what")
    out: Path = required("where")
    depth: int = option(2, "layers", ge=1, le=4)
    lr: float = option(0.01, "rate", gt=0)


class MeasureOptions(Options):
    models: list[str] = argument("what")
    out: Path = required("where")
    items: ItemsOptions = option(ItemsOptions(), "which")


class Shop:
    """The verbs, what was called, and where to stop."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.stop_after = 10**9

    def find(self, name: str) -> Verb[Any, Any]:
        verbs: dict[str, Any] = {
            "make": (self.make, MakeOptions),
            "train": (self.train, TrainOptions),
            "evaluate": (self.evaluate, MeasureOptions),
        }
        if name not in verbs:
            raise fail("unknown-verb", name=name, nearest=nearest(name, verbs))
        return verb(verbs[name][1])(verbs[name][0])

    def note(self, name: str) -> None:
        self.calls.append(name)
        if len(self.calls) > self.stop_after:
            raise KeyboardInterrupt

    def make(self, options: MakeOptions) -> Said:
        self.note("make")
        with new_directory(options.out) as place:
            (place / "corpus.txt").write_text("word " * options.people)
        return Said()

    def train(self, options: TrainOptions) -> Said:
        self.note("train")
        if options.depth == 3:
            raise fail("no-such-file", path="depth 3")
        with new_directory(options.out) as place:
            (place / "weights").write_text(json.dumps({"depth": options.depth, "lr": options.lr}))
        return Said(path=str(options.out))

    def evaluate(self, options: MeasureOptions) -> Report:
        """Deeper is better and larger; the best rate is 0.03; the halves differ."""
        self.note(f"evaluate-{options.items.part}")
        found = json.loads((Path(options.models[0]) / "weights").read_text())
        bits = 2 / found["depth"] + abs(np.log(found["lr"] / 0.03)) / 10
        hard = 1.1 if options.items.part == "test" else 1.0
        nats = [100 * bits * hard * (1 + n / 100) for n in range(20)]
        write_report(options.out, base={"documents": documents(nats)})
        numbers = {"bits": bits * hard, "size": float(found["depth"])}
        report = Report.open(options.out).model_copy(update={"numbers": numbers})
        report.save(options.out)
        return Report.open(options.out)


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop = Shop()
    monkeypatch.setattr(module, "find_verb", shop.find)
    monkeypatch.setattr("ingot.core.recipe_state.source_digest", lambda: "this code")
    monkeypatch.setattr("ingot.core.page.page", lambda report: "drawing takes a second")
    return shop


def go(folder: Path, recipe: str = RECIPE, **options: Any) -> Report:
    folder.mkdir(exist_ok=True)
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
    return search(folder / "recipe.yaml", **({"out": folder / "out", "trials": 10} | options))


def trials(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out/trials.jsonl").read_text().splitlines()]


def test_it_finds_the_front_and_measures_the_winner_again(tmp_path: Path, shop: Shop) -> None:
    report = go(tmp_path, trials=12)
    found = trials(tmp_path)
    assert found[0]["values"] == {"base.depth": 2, "base.lr": 0.01}  # the recipe as it stands
    done = [one["figures"] for one in found if one["state"] == "done"]
    best = min(done, key=lambda one: one["bits"])
    assert best["bits"] < done[0]["bits"]
    assert report.numbers["search.bits"] == best["bits"]
    assert report.numbers["test.bits"] == pytest.approx(1.1 * best["bits"])
    failed = [one for one in found if one["state"] == "failed"]
    assert failed
    assert all(one["values"]["base.depth"] == 3 for one in failed)
    again = report.sections[1]
    assert isinstance(again, Table)
    assert again.rows[0][-1] == pytest.approx(0.1)  # the drop
    assert any(isinstance(section, Plot) and section.kind == "scatter" for section in report.sections)
    assert "better than the recipe as it stands" in said(report)


def test_no_trial_sees_the_other_half_and_the_winner_is_looked_at_once(tmp_path: Path, shop: Shop) -> None:
    go(tmp_path, trials=6)
    last = max(at for at, name in enumerate(shop.calls) if name == "evaluate-search")
    assert "evaluate-test" not in shop.calls[:last]
    assert shop.calls[last + 1 :].count("evaluate-test") in (1, 2)  # the winner, and the recipe as it stands


def test_steps_that_did_not_change_are_done_once(tmp_path: Path, shop: Shop) -> None:
    go(tmp_path, trials=6)
    assert shop.calls.count("make") == 1
    assert shop.calls.count("train") == len({json.dumps(one["values"]) for one in trials(tmp_path)})
    second = tmp_path / "out/trials/002/world/corpus.txt"
    assert second.samefile(tmp_path / "out/trials/001/world/corpus.txt")  # linked, not copied


def test_an_altered_step_is_not_reused(tmp_path: Path, shop: Shop) -> None:
    go(tmp_path, trials=2)
    world = tmp_path / "out/trials/001/world/corpus.txt"
    for number in ("001", "002"):
        (tmp_path / f"out/trials/{number}/world/corpus.txt").unlink()
        (tmp_path / f"out/trials/{number}/world/corpus.txt").write_text("altered")
    assert world.read_text() == "altered"
    go(tmp_path, trials=3)
    assert (tmp_path / "out/trials/003/world/corpus.txt").read_text() == "word " * 3


@pytest.mark.parametrize("stop", [1, 4, 9])
def test_stopped_anywhere_it_ends_as_if_it_had_not_been(tmp_path: Path, shop: Shop, stop: int) -> None:
    whole = go(tmp_path / "whole", trials=6)
    shop.calls.clear()
    shop.stop_after = stop
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "cut", trials=6)
    shop.stop_after = 10**9
    again = go(tmp_path / "cut", trials=6)
    assert [one["values"] for one in trials(tmp_path / "cut")] == [one["values"] for one in trials(tmp_path / "whole")]
    assert again.numbers | {"total_seconds": 0} == whole.numbers | {"total_seconds": 0}
    more = go(tmp_path / "cut", trials=8)
    assert more.numbers["trials"] == 8


def test_another_search_is_not_mixed_in(tmp_path: Path, shop: Shop) -> None:
    go(tmp_path, trials=2)
    for change in ({"seed": 1}, {"objectives": "bits:min"}, {"recipe": RECIPE.replace("0.1,", "0.2,")}):
        with pytest.raises(IngotError) as error:
            go(tmp_path, **change)
        assert error.value.code == "search-other"
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").write_text("mine")
    with pytest.raises(IngotError) as error:
        go(tmp_path, out=tmp_path / "other")
    assert error.value.code == "out-not-empty"


def test_inputs_can_be_varied_and_the_space_may_lie_in_a_file(tmp_path: Path, shop: Shop) -> None:
    space = "space: {people: [3, 5], base.depth: {low: 1, high: 2}}\nobjectives: [bits:min]"
    (tmp_path / "space.yaml").write_text(space)
    go(tmp_path, space=tmp_path / "space.yaml", trials=9)
    found = [one["values"] for one in trials(tmp_path)]
    assert {one["people"] for one in found} == {3, 5}
    assert len(found) == 4  # there are no more than four settings
    assert shop.calls.count("make") == 2


BAD = {
    "search-unknown-name": (("base.depth:", "base.detph:"), "base.depth"),
    "search-bad-choice": (("[1, 2, 3, 4]", "[1]"), "at least two"),
    "search-bad-value": (("[1, 2, 3, 4]", "[1, 9]"), "base.depth cannot be 9"),
    "search-bad-objective": (('"bits:min"', '"bits:least"'), "bits:least"),
    "search-unknown-step": (("report.size", "reprot.size"), "report"),
    "search-unknown-number": (('"bits:min"', '"bist:min"'), "bits"),
    "search-no-space": (("search:", "next: []\nignored:"), "--space"),
    "unknown-option": (("  objectives:", "  objectvies:"), "line 8.*objectives"),
    "search-no-test": (("verb: evaluate, models: [$base]", "verb: train, data: $world"), "evaluate"),
    "search-test-same": (("  objectives:", "  test: {base.lr: 0.01}\n  objectives:"), "0.01"),
}


@pytest.mark.parametrize("code", BAD)
def test_bad_spaces_are_refused_by_name(tmp_path: Path, shop: Shop, code: str) -> None:
    (old, new), shown = BAD[code]
    recipe = RECIPE.replace(old, new)
    if code == "search-no-space":
        recipe = RECIPE.split("search:")[0]
    with pytest.raises(IngotError, match=shown) as error:
        go(tmp_path, recipe)
    assert error.value.code == code
    assert code == "search-unknown-number" or shop.calls == []  # before anything ran


def test_a_recipe_that_does_not_run_is_no_trial(tmp_path: Path, shop: Shop) -> None:
    with pytest.raises(IngotError) as error:
        go(tmp_path, RECIPE.replace("depth: 2", "depth: 3"))
    assert error.value.code == "no-such-file"


def test_the_front_is_what_nothing_beats() -> None:
    objectives = [Objective("a", "minimize"), Objective("b", "maximize")]
    study = Study(Path("x"), {}, objectives, 0)
    for a, b in ((1, 1), (2, 3), (3, 3), (1, 1), (0, 0)):
        study.trials.append(Trial({}, "done", {"a": float(a), "b": float(b)}, 0.0))
    study.trials.append(Trial({}, "failed", {}, 0.0))
    assert study.front == [0, 1, 3, 4]
    assert study.winner == 4


def test_settings_are_drawn_from_the_space_and_from_the_seed(tmp_path: Path) -> None:
    space = {"a": Between(1, 9, 4, log=False, whole=True), "b": Between(0.1, 10, None), "c": Among(("x", "y"), "y")}
    objectives = [Objective("f", "minimize")]
    first = Study.open(tmp_path / "t", space, objectives, 0).ask()
    assert first is not None
    assert (first["a"], first["c"]) == (4, "y")  # what the recipe has; b has no value of its own
    assert 0.1 <= float(first["b"]) <= 10
    assert Study.open(tmp_path / "t", space, objectives, 0).ask() == first
    assert Study.open(tmp_path / "t", space, objectives, 1).ask() != first


def test_halves_are_disjoint_complete_and_do_not_move() -> None:
    items = [f"item {n}" for n in range(200)]
    halves = {part: set(in_part(items, part, "t")) for part in ("search", "test")}  # type: ignore[arg-type]
    assert halves["search"] | halves["test"] == set(items)
    assert not halves["search"] & halves["test"]
    assert 70 < len(halves["test"]) < 130
    assert set(in_part(items[::-2], "test", "t")) == halves["test"] & set(items[::-2])
    assert in_part(items, "all", "t") is items
    with pytest.raises(IngotError, match="none of the 1 items"):
        in_part([min(halves["search"])], "test", "t")
