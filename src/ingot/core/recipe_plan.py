"""From a recipe file to a plan: every step's options built and checked, before anything runs.

A recipe has `title`, optional `description`, `inputs` (name: default; null means that it must be given), `steps` and
`next` (commands to suggest at the end). A step has a `verb`, the verb's options, and optional `gates`. `$name` or
`${name}` stands for an input or for the output of an earlier step, `$$` for a dollar sign. The output of a step is
always OUT/NAME, so `out` is not an option here. Nothing in a recipe is code.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yaml import YAMLError

from ingot.core import yaml_lines
from ingot.core.errors import IngotError, fail, nearest
from ingot.core.gate import Gate, parse
from ingot.core.language import read_yaml
from ingot.core.options import Options, Verb, option, required

Scalar = str | int | float | bool | None
FindVerb = Callable[[str], Verb[Any, Any]]
REFERENCE = re.compile(r"\$\$|\$\{([^{}]*)\}|\$([^\W\d][\w-]*)")
NAME = re.compile(r"[^\W\d][\w-]*")
OWN_KEYS = ("verb", "gates")
"""Keys of a step that belong to the recipe and not to the verb."""

AT_OPTION = {"unknown-option", "bad-option", "recipe-no-path"}
"""Errors whose `name` is a key of the file."""


class RecipeFile(Options):
    """What the file holds, before its steps are looked into."""

    title: str = required("what this life is called")
    description: str = option("", "a sentence or two on what it shows")
    inputs: dict[str, Scalar] = option({}, "what --set may change, with its default; null: must be given")
    steps: dict[str, dict[str, Any]] = required("the steps, in the order in which they run", min_length=1)
    search: dict[str, Any] = option({}, "what ingot search varies; ingot run uses the values in the steps")
    next: list[str] = option([], "commands to try afterwards")


@dataclass(frozen=True)
class PlannedStep:
    """A step ready to run. `flows` are (earlier step, option it is given to); `out` is None where the verb has none."""

    name: str
    verb_name: str
    verb: Verb[Any, Any]
    options: Options
    gates: list[Gate]
    flows: list[tuple[str, str]]
    out: Path | None


@dataclass(frozen=True)
class Plan:
    """A checked recipe."""

    title: str
    description: str
    inputs: dict[str, Scalar]
    steps: list[PlannedStep]
    next: list[str]


Changes = Mapping[str, Mapping[str, Any]]
"""Step -> option ("lora.rank" where it is in a group) -> the value it has instead of the recipe's."""


def plan(path: Path, out: Path, settings: list[str], find: FindVerb, changes: Changes | None = None) -> Plan:
    """Read and check a recipe. Raises IngotError naming the file, the line and the step."""
    content, lines = yaml_lines.read(path)
    if not isinstance(content, dict):
        raise fail("recipe-not-a-mapping", path=path)
    with _at(path, lines):
        recipe = RecipeFile.of(**{str(key): value for key, value in content.items()})
    inputs = _inputs(recipe, settings, path, lines)
    reader = _Reader(path, lines, out, find, dict(inputs), {}, set(recipe.steps))
    steps = [reader.step(name, changed(values, (changes or {}).get(name, {}))) for name, values in recipe.steps.items()]
    commands = [str(reader.fill(command, ("next",))) for command in recipe.next]
    if unused := [name for name in inputs if name not in reader.used]:
        raise fail("recipe-unused-input", path=path, line=lines.at("inputs", unused[0]), name=unused[0])
    return Plan(recipe.title, recipe.description, inputs, steps, commands)


def changed(content: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """What a step holds, with some options set to other values."""
    found = dict(content)
    for name, value in values.items():
        group, _, inner = name.partition(".")
        before = found.get(group)
        found[group] = changed(before if isinstance(before, dict) else {}, {inner: value}) if inner else value
    return found


def _inputs(recipe: RecipeFile, settings: list[str], path: Path, lines: yaml_lines.Lines) -> dict[str, Scalar]:
    """The recipe's inputs after `NAME=VALUE` settings."""
    found = dict(recipe.inputs)
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not separator:
            raise fail("recipe-bad-set", found=setting)
        if name not in found:
            raise fail("recipe-unknown-input", name=name, nearest=nearest(name, found) or "-")
        found[name] = _scalar(value)
    for name, given in found.items():
        if given is None:
            raise fail("recipe-missing-input", name=name)
        if name in recipe.steps or not NAME.fullmatch(name):
            raise fail("recipe-bad-name", path=path, line=lines.at("inputs", name), name=name)
    return found


def _scalar(word: str) -> Scalar:
    """A setting's value as YAML would read it; anything that is not a plain scalar stays the text it is."""
    try:
        value = read_yaml(word)
    except (YAMLError, ValueError):
        return word
    return value if isinstance(value, str | int | float | bool) else word


@dataclass
class _Reader:
    """What is known while the steps are read in order."""

    path: Path
    lines: yaml_lines.Lines
    out: Path
    find: FindVerb
    values: dict[str, Scalar]
    outputs: dict[str, Path | None]
    all_steps: set[str]

    def __post_init__(self) -> None:
        self.used: set[str] = set()

    def step(self, name: str, content: dict[str, Any]) -> PlannedStep:
        """Check one step. Its name is known to the steps after it."""
        with _at(self.path, self.lines, "steps", name):
            if not NAME.fullmatch(name):
                raise fail("recipe-bad-name", path=self.path, line=self.lines.at("steps", name), name=name)
            if "verb" not in content:
                raise fail("missing-option", name="verb")
            verb_name = str(content["verb"])
            if verb_name == "run":
                raise fail("recipe-in-recipe")
            verb = self.find(verb_name)
            gates = [parse(gate) for gate in self._list(content.get("gates", []))]
            flows: list[tuple[str, str]] = []
            options = {key: self.fill(value, ("steps", name, key), flows) for key, value in content.items()
                       if key not in OWN_KEYS}  # fmt: skip
            planned = self._planned(name, verb_name, verb, options, gates, list(dict.fromkeys(flows)))
        self.outputs[name] = planned.out
        return planned

    def _list(self, gates: object) -> list[object]:
        if not isinstance(gates, list):
            raise fail("bad-gate", gate=str(gates), reason="gates is a list")
        return gates

    def _planned(self, name: str, verb_name: str, verb: Verb[Any, Any], values: dict[str, Any], gates: list[Gate],
                 flows: list[tuple[str, str]]) -> PlannedStep:  # fmt: skip
        writes = "out" in verb.options.model_fields
        if "out" in values:
            raise fail("recipe-out", found=values["out"], used=self.out / name)
        out = self.out / name if writes else None
        options = verb.options.of(**values, **({"out": out} if out else {}))
        self._refuse_missing_paths(options)
        return PlannedStep(name, verb_name, verb, options, gates, flows, out)

    def _refuse_missing_paths(self, options: Options) -> None:
        """A path given to a step must exist now, unless an earlier step is to write it."""
        for field, value in options:
            for path in value if isinstance(value, list) else [value]:
                made_here = isinstance(path, Path) and path.is_relative_to(self.out)
                if isinstance(path, Path) and field in options.model_fields_set and not made_here and not path.exists():
                    raise fail("recipe-no-path", name=field, path=path)

    def fill(self, value: Any, place: yaml_lines.Place, flows: list[tuple[str, str]] | None = None) -> Any:
        """The value with its references replaced; a lone reference to an input keeps the input's type."""
        if isinstance(value, dict):
            return {str(key): self.fill(inner, (*place, str(key)), flows) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.fill(inner, (*place, at), flows) for at, inner in enumerate(value)]
        if not isinstance(value, str):
            return value
        whole = REFERENCE.fullmatch(value)
        if whole and value != "$$":
            return self._meaning(whole, place, flows)
        return REFERENCE.sub(lambda match: str(self._meaning(match, place, flows)), value)

    def _meaning(self, match: re.Match[str], place: yaml_lines.Place, flows: list[tuple[str, str]] | None) -> Scalar:
        if match[0] == "$$":
            return "$"
        name = match[1] if match[1] is not None else match[2]
        self.used.add(name)
        if name in self.values:
            return self.values[name]
        if name not in self.outputs:
            code = "recipe-later-step" if name in self.all_steps else "recipe-unknown-name"
            known = [*self.values, *self.outputs]
            raise fail(code, path=self.path, line=self.lines.at(*place), name=name, nearest=nearest(name, known) or "-")
        output = self.outputs[name]
        if output is None:
            raise fail("recipe-no-output", path=self.path, line=self.lines.at(*place), name=name)
        if flows is not None:
            flows.append((name, str(place[2])))
        return str(output)


@contextlib.contextmanager
def _at(path: Path, lines: yaml_lines.Lines, *place: str) -> Iterator[None]:
    """Put the file and the line before what went wrong, and keep its code."""
    try:
        yield
    except IngotError as error:
        if "line" in error.details:
            raise
        key = tuple(str(error.details.get("name", "")).split("."))
        line = lines.at(*place, *key) if error.code in AT_OPTION else lines.at(*place)
        located = fail("recipe-place", path=path, line=line, step=place[-1] if place else "-", reason=str(error))
        located.code = error.code
        raise located from None
