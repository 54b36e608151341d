"""A report: typed numbers, tables and plots in `report.json`, and one self-contained `report.html` made from it.

`report.json` is the truth; the page is a pure function of it. `write` re-opens both and compares before the directory
gets its name, so a page never shows what the JSON does not say. Raw outputs (`raw`) are kept beside it, with their
digests, so that a report can be scored again. A number that is not finite is kept as the word it is ("nan", "inf"),
because JSON has none and dropping it would hide a broken model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import to_json

from ingot.core.errors import fail
from ingot.core.files import new_directory, path_digest, write_file
from ingot.core.hallmark import now, versions
from ingot.core.language import language

JSON_NAME, HTML_NAME = "report.json", "report.html"
TAKEN = ("path", "report", "passed")
"""Keys of `summary()` that no number may take."""

Language = Literal["en", "zh-TW"]
Unit = Literal["number", "percent", "bytes", "seconds", "text"]
"""How a number is shown; a share of one is a "percent". Without a unit, its name decides (see format.unit_of)."""


def _text(value: object) -> object:
    """Lone surrogates, which no UTF-8 file can hold, become U+FFFD."""
    return value.encode("utf-8", "replace").decode("utf-8", "replace") if isinstance(value, str) else value


def _value(value: object) -> object:
    """A number of numpy or torch as Python's own; one that is not finite as its word."""
    value = value.item() if hasattr(value, "item") else _text(value)
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _point(value: object) -> object:
    """The same for plots, where a number that is not finite is a gap."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: object) -> object:
    """Options as JSON holds them: a path is its string."""
    return json.loads(to_json(value, fallback=str, inf_nan_mode="strings"))


Text = Annotated[str, BeforeValidator(_text)]
Number = Annotated[float | None, BeforeValidator(_point)]
Position = Annotated[float | str | None, BeforeValidator(_point)]


class Part(BaseModel):
    """Base of everything in a report: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Interval(Part):
    """A measured value with its confidence interval, both ends in the unit of the value."""

    value: float
    low: float
    high: float


Cell = Annotated[bool | int | float | Interval | str | None, BeforeValidator(_value)]


class Table(Part):
    """Rows of cells. `units` names the unit of a column; strings may be long and are shown as they are."""

    kind: Literal["table"] = "table"
    title: Text
    columns: list[Text]
    rows: list[list[Cell]]
    note: Text = ""
    units: dict[Text, Unit] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _rectangular(self) -> Table:
        for number, row in enumerate(self.rows, start=1):
            if len(row) != len(self.columns):
                raise ValueError(f"row {number} of {self.title!r} has {len(row)} cells for {len(self.columns)} columns")
        if unknown := set(self.units) - set(self.columns):
            raise ValueError(f"units of {self.title!r} name no column: {sorted(unknown)}")
        return self


class Series(Part):
    """Points of one line, one colour of bars or one cloud; `low` and `high` draw an interval around each `y`."""

    name: Text
    x: list[Position]
    y: list[Number]
    low: list[Number] | None = None
    high: list[Number] | None = None

    @model_validator(mode="after")
    def _equal_lengths(self) -> Series:
        lengths = {len(values) for values in (self.x, self.y, self.low, self.high) if values is not None}
        if len(lengths) != 1 or (self.low is None) != (self.high is None):
            raise ValueError(f"series {self.name!r} needs x, y (and low with high) of equal length")
        return self


class Plot(Part):
    """A picture of numbers. Bars take names on x, lines and clouds take numbers; `unit` is that of y."""

    title: Text
    kind: Literal["bar", "line", "scatter"]
    series: list[Series]
    x_label: Text = ""
    y_label: Text = ""
    unit: Unit = "number"
    note: Text = ""

    @model_validator(mode="after")
    def _numbers_on_x(self) -> Plot:
        if self.kind != "bar" and any(isinstance(x, str) for series in self.series for x in series.x):
            raise ValueError(f"{self.title!r}: names on x need bars")
        return self


class HeatMap(Part):
    """A matrix of numbers with names on both sides, coloured from `low` (default: the least) to `high` (the most)."""

    kind: Literal["heat"] = "heat"
    title: Text
    columns: list[Text]
    rows: list[Text]
    values: list[list[Number]]
    x_label: Text = ""
    y_label: Text = ""
    low: float | None = None
    high: float | None = None
    unit: Unit = "number"
    note: Text = ""

    @model_validator(mode="after")
    def _rectangular(self) -> HeatMap:
        sizes = {len(row) for row in self.values}
        if len(self.values) != len(self.rows) or sizes - {len(self.columns)}:
            raise ValueError(f"{self.title!r} needs {len(self.rows)} rows of {len(self.columns)} values")
        return self


class Map(Part):
    """One small picture of a matrix of shares, in a group (a layer) of others."""

    group: Text
    name: Text
    values: list[list[Number]]


class Maps(Part):
    """Many matrices of shares (0 to 1) with the same names on both sides, drawn small; groups fold."""

    kind: Literal["maps"] = "maps"
    title: Text
    rows: list[Text]
    columns: list[Text]
    maps: list[Map]
    note: Text = ""

    @model_validator(mode="after")
    def _rectangular(self) -> Maps:
        size = (len(self.rows), {len(self.columns)})
        if any((len(one.values), {len(row) for row in one.values}) != size for one in self.maps):
            raise ValueError(f"every map of {self.title!r} needs {len(self.rows)} rows of {len(self.columns)} values")
        return self


class Prose(Part):
    """Paragraphs of plain text, separated by empty lines; no markup is read."""

    kind: Literal["prose"] = "prose"
    title: Text
    text: Text


class Piece(Part):
    """A stretch of written text: is it learnt, and is it one special token?"""

    text: Text
    learnt: bool = False
    special: bool = False


class Written(Part):
    """A text in pieces under a heading, and the first of its `num_tokens` tokens; a `half` stands beside the next."""

    title: Text
    pieces: list[Piece]
    tokens: list[Piece] = Field(default_factory=list)
    num_tokens: int = 0
    half: bool = False


class Sample(Part):
    """One record as a model reads it."""

    title: Text
    texts: list[Written]


class Samples(Part):
    """Records as a model reads them, with what is learnt of them marked; `names` say what the marks mean."""

    kind: Literal["samples"] = "samples"
    title: Text
    samples: list[Sample]
    names: tuple[Text, Text, Text, Text]
    note: Text = ""


class FlowInput(Part):
    """One thing that goes into a step: the step it comes from and the option it is given to."""

    source: Text
    option: Text


class FlowNode(Part):
    """One step of a life: what it is called, what it does, what it makes, what it said, and what went in."""

    name: Text
    verb: Text
    makes: Literal["data", "tokenizer", "model", "adapter", "report", "nothing"]
    detail: Text = ""
    inputs: list[FlowInput] = Field(default_factory=list)


class Flow(Part):
    """The steps of a life in their order, and what flows between them; drawn as one picture."""

    kind: Literal["flow"] = "flow"
    title: Text
    nodes: list[FlowNode]
    note: Text = ""


Section = Annotated[Table | Plot | HeatMap | Maps | Prose | Samples | Flow, Field(discriminator="kind")]


class Report(Part):
    """What a step measured. `numbers` stand on top as cards and in the summary; `passed` is the verdict, if any."""

    format: Literal[1] = 1
    title: Text
    verb: Text
    options: Annotated[dict[str, Any], BeforeValidator(_plain)] = Field(default_factory=dict)
    numbers: dict[Text, Cell] = Field(default_factory=dict)
    sections: list[Section] = Field(default_factory=list)
    passed: bool | None = None
    units: dict[Text, Unit] = Field(default_factory=dict)
    language: Language = Field(default_factory=lambda: "zh-TW" if language() == "zh" else "en")
    created: str = Field(default_factory=now)
    versions: dict[str, str] = Field(default_factory=versions)
    files: dict[str, str] = Field(default_factory=dict)
    path: Path | None = Field(default=None, exclude=True)

    @model_validator(mode="after")
    def _free_names(self) -> Report:
        if taken := set(self.numbers) & set(TAKEN):
            raise ValueError(f"numbers may not be named {sorted(taken)}")
        return self

    def write(self, out: Path, raw: Mapping[str, bytes | str] | None = None) -> Report:
        """Write report.json, report.html and the raw files as a new directory; returns what lies there, re-opened."""
        raw = raw or {}
        with new_directory(out) as partial:
            for name, content in raw.items():
                _write_raw(partial, name, content)
            files = {name: path_digest(partial / name) for name in raw}
            self.model_copy(update={"files": files}).save(partial)
        return Report.open(out)

    def save(self, directory: Path) -> None:
        """Write the JSON, re-open and compare it, and write the page from what was re-opened.

        The directory exists. Raises `report-not-proven`.
        """
        from ingot.core.page import page

        write_file(directory / JSON_NAME, self.model_dump_json(indent=2) + "\n")
        again = Report.open(directory)
        if again.model_dump() != self.model_dump():
            raise fail("report-not-proven", path=directory / JSON_NAME)
        html = page(again)
        write_file(directory / HTML_NAME, html)
        if (directory / HTML_NAME).read_bytes() != html.encode():
            raise fail("report-not-proven", path=directory / HTML_NAME)

    @classmethod
    def open(cls, path: str | Path) -> Report:
        """Read a report directory (or its report.json). Raises `no-such-file` or `bad-report`."""
        directory = Path(path).parent if Path(path).name == JSON_NAME else Path(path)
        try:
            content = (directory / JSON_NAME).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise fail("no-such-file", path=directory / JSON_NAME) from None
        try:
            return cls.model_validate_json(content).model_copy(update={"path": directory})
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            place = ".".join(map(str, problem["loc"])) or "report"
            raise fail("bad-report", path=directory / JSON_NAME, place=place, reason=problem["msg"]) from None

    @classmethod
    def open_raw(cls, path: str | Path, verb: str, *names: str) -> tuple[Report, dict[str, str]]:
        """A verb's report and its raw files, `names` among them. Raises what `open` does, `report-other-verb`,
        `report-altered`."""
        found = cls.open(path)
        found.require_verb(verb)
        return found, {name: found.raw_text(name) for name in dict.fromkeys((*names, *found.files))}

    def require_verb(self, verb: str) -> None:
        """Raises `report-other-verb`."""
        if self.verb != verb:
            raise fail("report-other-verb", path=self.path or self.title, verb=verb, found=self.verb)

    def raw_text(self, name: str) -> str:
        """A raw file as it was saved. Raises `report-altered` where it is not that file any more."""
        assert self.path is not None
        path = self.path / name
        if not path.is_file() or path_digest(path) != self.files.get(name):
            raise fail("report-altered", path=path)
        return path.read_bytes().decode()

    def summary(self) -> dict[str, Any]:
        """The numbers, the verdict and where the page is."""
        place = {"path": str(self.path), "report": str(self.path / HTML_NAME)} if self.path else {}
        numbers = {name: value.value if isinstance(value, Interval) else value for name, value in self.numbers.items()}
        return {**place, **({} if self.passed is None else {"passed": self.passed}), **numbers}


def _write_raw(directory: Path, name: str, content: bytes | str) -> None:
    plain = PurePosixPath(name)
    outside = plain.is_absolute() or ".." in plain.parts
    assert not outside, f"raw file outside the report: {name!r}"
    assert name not in (JSON_NAME, HTML_NAME), f"{name!r} is the report itself"
    target = directory / plain
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content.encode() if isinstance(content, str) else content)


def unique_names(names: list[str]) -> list[str]:
    """The same names, with a number behind those that repeat."""
    return [
        name if names.index(name) == at else f"{name} ({names[: at + 1].count(name)})" for at, name in enumerate(names)
    ]


def plain_number(value: object) -> float | None:
    """The number in a cell, None where there is none."""
    if isinstance(value, Interval):
        return value.value
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
