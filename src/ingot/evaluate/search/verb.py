"""Verb `search`: run a recipe with one setting after another, and show what its numbers allow.

Every setting is a run of the recipe in a folder of its own; a step that another run has done with the same options,
data and code is linked from there. Trials see one half of the items that `evaluate` measures on; when all are done, the
winner and the recipe as it stands are measured once on the other half, so that luck with the first shows as a drop.
Interrupted or killed, the same command goes on with the trial it was at.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import field_validator

from ingot.core import recipe_state as memory
from ingot.core.errors import IngotError, fail, nearest
from ingot.core.files import file_digest, write_file
from ingot.core.gate import flatten
from ingot.core.model_dir import read_json
from ingot.core.options import Options, argument, option, required, verb, words_listed
from ingot.core.progress import hushed, say
from ingot.core.recipe import RunOptions, RunOutcome, run_recipe
from ingot.core.recipe_plan import PlannedStep
from ingot.core.recipe_state import StepState
from ingot.core.report import Report, plain_number
from ingot.core.verbs import find_verb
from ingot.evaluate.search.page import Searched, Tested, search_report
from ingot.evaluate.search.spec import Objective, Spec, read_spec
from ingot.evaluate.search.study import Study, Trial
from ingot.train.search.space import Value, shown

IDENTITY, TRIALS = "search.json", "trials.jsonl"


class SearchOptions(Options):
    """Options of `search`."""

    recipe: Path = argument("the recipe, a YAML file; its `search:` says what is varied")
    out: Path = required("directory for all trials; run again, the search goes on")
    space: Path | None = option(None, "a YAML file that says what is varied, instead of the recipe's `search:`")
    trials: int = option(20, "settings to try, those of the recipe first", ge=2)
    minutes: float | None = option(None, "begin no trial after so long", gt=0)
    objectives: list[str] = option(
        [], "what to look at: step.number:min or :max, comma-separated (default: what the file says)"
    )
    set: list[str] = option([], "change an input of the recipe: NAME=VALUE (may be given several times)")
    seed: int = option(0, "seed of what is proposed", ge=0)

    _objectives = field_validator("objectives", mode="before")(words_listed)


@dataclass(frozen=True)
class Place:
    """The directory of a search."""

    out: Path
    spec: Spec

    def run(self, number: int, values: Mapping[str, Value], testing: bool = False) -> RunOutcome:
        """The recipe with a setting, in a folder of its own."""
        folder = self.out / ("test" if testing else "trials") / f"{number + 1:03d}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        settings, changes = self.spec.changes(values, testing)
        with hushed():
            return run_recipe(RunOptions(recipe=self.spec.recipe, out=folder, set=settings), find_verb, changes,
                              partial(_elsewhere, self.out))  # fmt: skip


def _elsewhere(out: Path, step: PlannedStep, key: str, folder: Path) -> StepState | None:
    """The step as another trial has done it."""
    for states in sorted(out.glob(f"trials/*/{memory.FOLDER}")):
        found = None if states == folder else memory.bring(step, key, folder, states)
        if found is not None:
            return found
    return None


@verb(SearchOptions)
def search(options: SearchOptions) -> Report:
    """Search a recipe's options. Raises what reading the recipe and its space raises, `search-other` for a directory
    of another search, `search-unknown-number` for an objective that no step reports."""
    spec = read_spec(options.recipe, options.space, options.set, options.objectives, options.out / "plan", find_verb)
    _begin(options, spec)
    with memory.locked(options.out):
        study = Study.open(options.out / TRIALS, spec.space, spec.objectives, options.seed)
        place = Place(options.out, spec)
        say("search-recipe-plan", names=", ".join(spec.space), objectives=_objectives(spec), done=len(study.trials))
        while not _is_spent(options, study):
            values = study.ask()
            if values is None:
                say("search-all-tried", count=len(study.trials))
                break
            study.tell(_try(place, len(study.trials), values))
            _tell_trial(study)
            gc.collect()
        if not study.front:
            raise fail("search-all-failed", count=len(study.trials), reason=study.trials[0].reason)
        report = search_report(_measured(place, study), options.model_dump(mode="json"))
        memory.remove_report(options.out)
        report.save(options.out)
    report = report.model_copy(update={"path": options.out})
    say("evaluate-written", path=report.summary()["report"])
    return report


def _begin(options: SearchOptions, spec: Spec) -> None:
    """A new directory, or that of the same search."""
    identity = json.loads(json.dumps({
        "recipe": file_digest(spec.recipe), "settings": spec.settings, "seed": options.seed,
        "space": {name: repr(choice) for name, choice in spec.space.items()},
        "objectives": [f"{one.name}:{one.direction}" for one in spec.objectives], "test": spec.testing,
    }, default=str))  # fmt: skip
    file = options.out / IDENTITY
    if file.exists():
        known = read_json(file)
        if differing := [name for name in identity if known.get(name) != identity[name]]:
            raise fail("search-other", path=options.out, names=", ".join(differing))
        return
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise fail("out-not-empty", path=options.out)
    options.out.mkdir(parents=True, exist_ok=True)
    write_file(file, json.dumps(identity, indent=1, ensure_ascii=False) + "\n")


def _is_spent(options: SearchOptions, study: Study) -> bool:
    late = options.minutes is not None and study.trials != [] and study.seconds >= 60 * options.minutes
    return len(study.trials) >= options.trials or late


def _try(place: Place, number: int, values: dict[str, Value]) -> Trial:
    """One run; what a setting breaks is kept as its reason, but the recipe as it stands must work."""
    begin = time.monotonic()
    figures, reason = dict[str, float](), ""
    try:
        outcome = place.run(number, values)
        if outcome.passed:
            figures = _figures(outcome, place.spec.objectives)
        else:
            reason = _failed_gates(outcome)
    except IngotError as error:
        if number == 0 or error.code == "search-unknown-number":
            raise
        reason = str(error)
    return Trial(values, "done" if figures else "failed", figures, round(time.monotonic() - begin, 3), reason)


def _failed_gates(outcome: RunOutcome) -> str:
    return "; ".join(gate.gate.source for one in outcome.results for gate in one.gates if not gate.holds)


def _figures(outcome: RunOutcome, objectives: list[Objective]) -> dict[str, float]:
    """The objectives' numbers. Raises `search-unknown-number` with the nearest."""
    steps: dict[str, Any] = outcome.summary()["steps"]
    known = {name: value for name, found in flatten(steps).items() if (value := plain_number(found)) is not None}
    figures = {}
    for objective in objectives:
        names = [objective.name, *(f"{step}.{objective.name}" for step in reversed(steps))]
        found = next((name for name in names if name in known), None)
        if found is None:
            words = [*known, *(name.partition(".")[2] for name in known)]
            raise fail("search-unknown-number", name=objective.name, nearest=nearest(objective.name, words))
        figures[objective.name] = known[found]
    return figures


def _measured(place: Place, study: Study) -> Searched:
    """The winner, and the recipe as it stands, on what no trial looked at."""
    tested = {}
    for number in dict.fromkeys((study.winner, 0)):
        trial = study.trials[number]
        if trial.state == "done":
            say("search-testing", number=number + 1, values=shown(trial.values))
            outcome = place.run(number, trial.values, testing=True)
            reports = [one.state.place for one in outcome.results if one.step.verb_name == "evaluate"]
            tested[number] = Tested(_figures(outcome, place.spec.objectives), Path(reports[-1]) if reports else None)
    looks = len(list((place.out / "test").iterdir()))
    return Searched(study, tested, looks)


def _objectives(spec: Spec) -> str:
    return ", ".join(f"{one.name} ({one.direction})" for one in spec.objectives)


def _tell_trial(study: Study) -> None:
    trial = study.trials[-1]
    figures = ", ".join(f"{name} {value:.4g}" for name, value in trial.figures.items()) or trial.reason
    say("search-recipe-trial", number=len(study.trials), values=shown(trial.values), figures=figures,
        front=len(study.front))  # fmt: skip
