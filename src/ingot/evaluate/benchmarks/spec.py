"""A task as its file says it: where its documents lie, how they are asked, what counts.

Shipped tasks lie in `tasks/`, one file each; a path opens a user's own, which may `extends` a shipped one. Everything
is checked when it is read: an unknown key is refused with the nearest name, a template or pattern that does not
compile with its line.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

import jinja2
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ingot.core.errors import fail, nearest
from ingot.core.language import language
from ingot.core.yaml_lines import Lines, read
from ingot.evaluate.benchmarks import templates
from ingot.evaluate.benchmarks.extract import EXTRACTORS

SUFFIX = ".yaml"


def _compiles_template(source: str) -> str:
    return _compiled(templates.template, source)


def _compiles_expression(source: str) -> str:
    return _compiled(templates.expression, source)


def _compiled(compile: Any, source: str) -> str:
    try:
        compile(source)
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"{error.message} in {source!r:.80}") from None
    return source


def _is_pattern(source: str) -> str:
    try:
        re.compile(source)
    except re.error as error:
        raise ValueError(f"{error} in {source!r:.80}") from None
    return source


Template = Annotated[str, AfterValidator(_compiles_template)]
Expression = Annotated[str, AfterValidator(_compiles_expression)]
Pattern = Annotated[str, AfterValidator(_is_pattern)]
ChoiceMetric = Literal["acc", "acc_norm", "acc_bytes", "acc_mutual_info", "mc2"]


class Part(BaseModel):
    """Base of the parts of a task file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Layout(Part):
    """One way in which the files of a set lie. `asked` and `shots`: patterns of file names, tried in `folders` below
    what the user gives and there itself. `document`: what is taken of a record, by expressions over its keys,
    `record` itself, `file` and `line`. `columns`: of a csv without a head; `records`: the key of a JSON file under
    which they stand. `known`: digests of copies that were seen."""

    name: str
    folders: tuple[str, ...] = ()
    asked: str
    shots: str | None = None
    columns: tuple[str, ...] | None = None
    records: str | None = None
    document: dict[str, Expression]
    known: dict[str, str] = Field(default_factory=dict)


class Shots(Part):
    """How many solved examples, and which: the `first` of the group's, or drawn for each `document` by its id. From
    a layout's `shots`, or the documents `asked`, the asked one left out. `spare`: lm-eval draws one more than it shows
    (it does where a task names no split of examples and none to test)."""

    count: int = Field(default=0, ge=0)
    rule: Literal["first", "document"] = "document"
    source: Literal["shots", "asked"] = "shots"
    spare: bool = False


class Answer(Part):
    """How an answer is found in what was written, and when it is right. `ignore`: patterns that are taken out of both
    sides before they are compared."""

    extract: Literal["text", "regex", "letter", "number"] = "text"
    pattern: Pattern | None = None
    pick: int = 0
    ignore: tuple[Pattern, ...] = ()
    ignore_case: bool = False

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if (self.extract == "regex") != (self.pattern is not None):
            raise ValueError("a pattern goes with extract: regex, and only there")
        return self


class Spec(Part):
    """A whole task. `folder`: where its data lies below the user's (default: its name, or that of what it extends).
    `output`: choice scores the choices, generate lets the model write. `prompt`: the question as it is
    asked; `target`: its answer as an example shows it (default: the right choice). `preamble` stands before all
    examples; `preamble_file`: or a file beside the data, from behind `preamble_after`. `preamble_example` finds the
    worked examples in it: its named groups are what `prompt` and `target` read. `contexts` and `continuation`: where
    the choices differ in what stands before what is scored."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$")
    folder: str = ""
    version: str
    title: str
    language: str = Field(pattern=r"^[^\s.]+$")
    licence: str
    source: str
    place: str
    place_zh: str = ""
    lm_eval: str = ""
    output: Literal["choice", "generate", "program"] = "choice"
    layouts: tuple[Layout, ...] = Field(min_length=1)
    prompt: Template = ""
    choices: Expression = "choices"
    num_choices: int | None = Field(default=None, ge=2)
    target: Template | None = None
    contexts: Expression | None = None
    continuation: Template | None = None
    delimiter: str = " "
    separator: str = "\n\n"
    preamble: Template = ""
    preamble_file: Template | None = None
    preamble_after: str = ""
    preamble_example: Pattern | None = None
    shots: Shots = Shots()
    metrics: tuple[ChoiceMetric, ...] = ("acc",)
    stop: tuple[str, ...] = ()
    max_tokens: int = Field(default=256, ge=1)
    answers: dict[str, Answer] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _own_folder(cls, found: Any) -> Any:
        return {"folder": found.get("name", ""), **found} if isinstance(found, dict) else found

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.output != "choice" and not self.answers and self.output == "generate":
            raise ValueError("output: generate needs answers, which say how an answer is found")
        if (self.contexts is None) != (self.continuation is None):
            raise ValueError("contexts and continuation go together")
        if self.contexts is not None and self.metrics != ("acc",):
            raise ValueError("where contexts differ the same text is scored behind each, and the metric is acc alone")
        if not self.prompt and self.contexts is None:
            raise ValueError("prompt is missing: how a document is asked")
        if self.preamble_example is not None and (self.preamble_file is None or self.target is None):
            raise ValueError("preamble_example goes with preamble_file and target")
        return self

    @cached_property
    def digest(self) -> str:
        """sha256 of what the task says, whatever its file looks like."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    @property
    def preamble_pattern(self) -> str:
        """The names of its preamble files: "cot-prompts/*.txt"."""
        return re.sub(r"\{\{.*?\}\}", "*", self.preamble_file or "")

    @property
    def placing(self) -> str:
        """How to place the data, in the user's language."""
        return self.place_zh if language() == "zh" and self.place_zh else self.place

    @property
    def headline(self) -> str:
        """The name of the number that stands for the task."""
        return self.metrics[0] if self.output == "choice" else f"exact_match.{next(iter(self.answers))}"


def shipped() -> list[str]:
    """Names of the tasks that come with the package."""
    files = resources.files(__package__).joinpath("tasks").iterdir()
    return sorted(file.name.removesuffix(SUFFIX) for file in files if file.name.endswith(SUFFIX))


def is_task_file(name: str) -> bool:
    """Is it a path to a task, not a name?"""
    return name.endswith((SUFFIX, ".yml"))


def open_spec(name: str) -> Spec:
    """A shipped task by name, or one by its path. Raises `bench-bad-task`, `bench-unknown-key`, `no-such-file`."""
    path = Path(name) if is_task_file(name) else _shipped_path(name)
    content, lines = _content(path)
    _refuse_unknown(content, lines, path)
    try:
        return Spec.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = problem["loc"]
        reason = f"{'.'.join(map(str, place)) or 'task'}: {problem['msg'].removeprefix('Value error, ')}"
        raise fail("bench-bad-task", path=path, line=lines.at(*place), reason=reason) from None


def _shipped_path(name: str) -> Path:
    return Path(str(resources.files(__package__).joinpath("tasks", f"{name}{SUFFIX}")))


def _content(path: Path) -> tuple[dict[str, Any], Lines]:
    """What a file says, on top of what it extends."""
    content, lines = read(path)
    if not isinstance(content, dict):
        raise fail("bench-bad-task", path=path, line=1, reason="expected keys such as name, layouts and prompt")
    base = content.pop("extends", None)
    if base is None:
        return content, lines
    if base not in shipped() or base == path.stem:
        near = nearest(str(base), shipped())
        raise fail("bench-bad-task", path=path, line=lines.at("extends"), reason=f"extends: no task {base!r} ({near})")
    return {"folder": base, **_content(_shipped_path(base))[0], **content}, lines


def _refuse_unknown(value: Any, lines: Lines, path: Path, form: Any = Spec, place: tuple[str | int, ...] = ()) -> None:
    """Raises `bench-unknown-key` for a key that no part of a task has, the parts inside included. `form`: what the
    value is annotated with."""
    if isinstance(form, type) and issubclass(form, Part) and isinstance(value, dict):
        for key, inner in value.items():
            if key not in form.model_fields:
                near = nearest(str(key), form.model_fields)
                raise fail("bench-unknown-key", path=path, line=lines.at(*place, key), key=key, nearest=near)
            _refuse_unknown(inner, lines, path, form.model_fields[key].annotation, (*place, key))
    elif get_origin(form) is dict and isinstance(value, dict):
        for key, inner in value.items():
            _refuse_unknown(inner, lines, path, get_args(form)[1], (*place, key))
    elif get_origin(form) is tuple and isinstance(value, list):
        for number, inner in enumerate(value):
            _refuse_unknown(inner, lines, path, get_args(form)[0], (*place, number))


assert set(get_args(Answer.model_fields["extract"].annotation)) == set(EXTRACTORS)
