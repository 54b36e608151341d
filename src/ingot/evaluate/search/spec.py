"""What a search varies and looks at, from the recipe's own `search:` or from a file, checked before anything runs.

search:
  space:
    depth: [2, 4]                                  # an input of the recipe
    base.lr: {low: 0.001, high: 0.01, log: true}   # an option of a step
    base.lora.rank: {low: 4, high: 32}             # whole numbers stay whole
  objectives: ["report.bits_per_byte:min", "report.weight_bytes:min"]
  test: {report.data: other.jsonl}                 # default: the other half of what each evaluate step measures on
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ingot.core import yaml_lines
from ingot.core.errors import IngotError, fail, nearest
from ingot.core.options import Options, option, required
from ingot.core.recipe_plan import Changes, FindVerb, Plan, plan
from ingot.train.search.space import Among, Between, Choice, Space, Value

Direction = Literal["minimize", "maximize"]
DIRECTIONS: dict[str, Direction] = {"min": "minimize", "max": "maximize"}


class SearchFile(Options):
    """What `search:` holds."""

    space: dict[str, Any] = required("step.option or input -> a list of values, or low and high", min_length=1)
    objectives: list[str] = option(
        ["bits_per_byte:min", "weight_bytes:min"], "numbers of the steps, each with :min or :max", min_length=1
    )
    test: dict[str, Any] = option({}, "step.option -> its value when the winner is measured again")


@dataclass(frozen=True)
class Objective:
    """A number of a step ("report.bits_per_byte"), or of the last step that has it ("bits_per_byte")."""

    name: str
    direction: Direction

    @property
    def sign(self) -> int:
        """Times this, less is better."""
        return 1 if self.direction == "minimize" else -1


@dataclass(frozen=True)
class Spec:
    """A checked search of a recipe. `searching`, `testing`: what all trials, and the winner's last run, change."""

    recipe: Path
    settings: list[str]
    space: Space
    objectives: list[Objective]
    searching: Changes
    testing: Changes

    def changes(self, values: Mapping[str, Value], testing: bool = False) -> tuple[list[str], Changes]:
        """A trial as settings of inputs and as changes of steps."""
        settings = [f"{name}={value}" for name, value in values.items() if "." not in name]
        found: dict[str, dict[str, Any]] = {}
        common = self.testing if testing else self.searching
        for step, options in common.items():
            found.setdefault(step, {}).update(options)
        for name, value in values.items():
            step, _, rest = name.partition(".")
            if rest:
                found.setdefault(step, {})[rest] = value
        return [*self.settings, *settings], found


def read_spec(
    recipe: Path, space: Path | None, settings: list[str], objectives: list[str], out: Path, find: FindVerb
) -> Spec:
    """Raises IngotError naming the option or the objective: `search-no-space`, `search-unknown-name`,
    `search-bad-choice`, `search-bad-value`, `search-bad-objective`, `search-no-test`, and what a plan raises."""
    planned = plan(recipe, out, settings, find)
    file = _file(recipe, space)
    choices = {str(name): _choice(str(name), found, planned) for name, found in file.space.items()}
    test = _by_step(file.test, planned)
    evaluates = [step.name for step in planned.steps if step.verb_name == "evaluate"]
    if not test and not evaluates:
        raise fail("search-no-test", path=recipe)
    halves = {part: {name: {"items.part": part} for name in evaluates} for part in ("search", "test")}
    searching, testing = ({}, test) if test else (halves["search"], halves["test"])
    wanted = [_objective(word, planned) for word in objectives or file.objectives]
    spec = Spec(recipe, settings, choices, wanted, searching, testing)
    _try_values(spec, out, find)
    return spec


def _file(recipe: Path, space: Path | None) -> SearchFile:
    path = space or recipe
    content, lines = yaml_lines.read(path)
    found = content if space is not None else content.get("search")
    if not found or not isinstance(found, Mapping):
        raise fail("search-no-space", path=path)
    try:
        return SearchFile.of(**{str(key): value for key, value in found.items()})
    except IngotError as error:
        located = fail("gating-place", path=path, line=1 if space else lines.at("search"), reason=str(error))
        located.code = error.code
        raise located from None


def _choice(name: str, found: object, planned: Plan) -> Choice:
    default = _default(name, planned)
    if isinstance(found, list):
        if len(found) < 2 or len({str(value) for value in found}) < len(found) or not all(
            isinstance(value, str | int | float) for value in found
        ):  # fmt: skip
            raise fail("search-bad-choice", name=name, found=found)
        return Among(tuple(found), next((value for value in found if str(value) == str(default)), None))
    if not isinstance(found, dict) or not {"low", "high"} <= set(found) <= {"low", "high", "log"}:
        raise fail("search-bad-choice", name=name, found=found)
    low, high, log = found["low"], found["high"], found.get("log", False)
    numbers = all(
        isinstance(end, int | float) and not isinstance(end, bool) and math.isfinite(end) for end in (low, high)
    )
    if not numbers or not isinstance(log, bool) or not low < high or (log and low <= 0):
        raise fail("search-bad-choice", name=name, found=found)
    whole = isinstance(low, int) and isinstance(high, int)
    inside = isinstance(default, int | float) and low <= default <= high and (not whole or default == int(default))
    return Between(low, high, default if inside else None, log, whole)  # type: ignore[arg-type]


def _default(name: str, planned: Plan) -> object:
    """The recipe's own value. Raises `search-unknown-name` for what is neither an input nor an option of a step."""
    step, _, rest = name.partition(".")
    steps = {one.name: one for one in planned.steps}
    if not rest:
        if name not in planned.inputs:
            raise fail("search-unknown-name", name=name, nearest=nearest(name, [*planned.inputs, *_names(planned)]))
        return planned.inputs[name]
    found: Any = steps[step].options if step in steps else None
    for part in rest.split("."):
        if not isinstance(found, Options) or part not in type(found).model_fields or part == "out":
            raise fail("search-unknown-name", name=name, nearest=nearest(name, [*planned.inputs, *_names(planned)]))
        found = getattr(found, part)
    return found


def _names(planned: Plan) -> list[str]:
    """All that could be varied."""
    return [name for step in planned.steps for name in _fields(step.options, step.name)]


def _fields(options: Options, before: str) -> list[str]:
    found = []
    for name in type(options).model_fields:
        value = getattr(options, name)
        inner = _fields(value, f"{before}.{name}") if isinstance(value, Options) else [f"{before}.{name}"]
        found += [] if name == "out" else inner
    return found


def _by_step(test: Mapping[str, Any], planned: Plan) -> Changes:
    """`test:` by step. Raises `search-test-same` for a value that the search itself looks at."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in test.items():
        if str(_default(str(name), planned)) == str(value):
            raise fail("search-test-same", name=name, value=value)
        step, _, rest = str(name).partition(".")
        found.setdefault(step, {})[rest] = value
    return found


def _objective(word: str, planned: Plan) -> Objective:
    name, separator, direction = word.strip().rpartition(":")
    if not separator or direction not in DIRECTIONS or not name:
        raise fail("search-bad-objective", found=word)
    step = name.partition(".")[0]
    steps = [one.name for one in planned.steps]
    if "." in name and step not in steps and nearest(step, steps) in steps:
        raise fail("search-unknown-step", found=word, step=step, nearest=nearest(step, steps))
    return Objective(name, DIRECTIONS[direction])


def _try_values(spec: Spec, out: Path, find: FindVerb) -> None:
    """Each value by itself, as a plan: what a step would refuse is refused now."""
    for name, choice in spec.space.items():
        for value in choice.values if isinstance(choice, Among) else (choice.low, choice.high):
            settings, changes = spec.changes({name: value})
            try:
                plan(spec.recipe, out, settings, find, changes)
            except IngotError as error:
                raise fail("search-bad-value", name=name, value=value, reason=str(error)) from None
    plan(spec.recipe, out, *spec.changes({}, testing=True)[:1], find, spec.testing)
