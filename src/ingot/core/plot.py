"""Plots as inline SVG: drawn by matplotlib, coloured and lettered by the page.

matplotlib draws with sentinel colours, which become CSS variables, so one picture follows light and dark. Text stays
text in the page's own font (Chinese renders wherever the page does), therefore margins are computed here from an
estimate of its width instead of from matplotlib's font. Strings are never read as mathematics, and ids are made
unique, so that several plots live in one page. The same plot always gives the same bytes.
"""

from __future__ import annotations

import io
import math
import re
import unicodedata
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from ingot.core.format import decimals_of, show, visible
from ingot.core.report import Language, Plot, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NUM_COLOURS = 8
INK, MUTED, GRID = "#0b0b01", "#0b0b02", "#0b0b03"
COLOURS = [f"#0b0c{index:02x}" for index in range(NUM_COLOURS)]
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid"} | {c: f"--series-{i}" for i, c in enumerate(COLOURS)}
MARKERS = "os^Dv<>P"
GLYPHS = "●■▲◆▼◀▶✚"
"""Marks of matplotlib and the letters that look like them in the legend."""
WIDTH, FONT = 840.0, 13.0
"""Size of the drawing and of its letters in CSS pixels."""
MAX_POINTS = 1000
"""A longer line is drawn through this many of its points; report.json keeps them all."""


def svg(plot: Plot, number: int, language: Language = "en") -> str:
    """The plot as an `<svg>` element. `number` makes its ids unique in the page."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: dict[Any, object] = {"svg.fonttype": "none", "svg.hashsalt": str(number), "text.parse_math": False,
             "font.size": FONT * 0.75,
             "axes.edgecolor": MUTED, "axes.labelcolor": INK, "xtick.color": MUTED, "ytick.color": MUTED,
             "text.color": INK, "axes.unicode_minus": True, "path.simplify": False}  # fmt: skip
    with rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the page's font draws it, not matplotlib's
        names = categories(plot)
        sideways = plot.kind == "bar" and _crowded(plot, names)
        height = 26 * _num_bars(plot, names) + 24 * len(names) + 100 if sideways else 340
        figure = Figure(figsize=(WIDTH / 96, height / 96), dpi=96)
        axes = figure.add_axes(_frame(plot, names, sideways, height))
        _draw(axes, plot, names, sideways, language)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _clean(stream.getvalue(), plot, number)


def categories(plot: Plot) -> list[str]:
    """The names on x, each once, in order of appearance; empty when x are numbers."""
    found = [str(x) for series in plot.series for x in series.x if x is not None]
    return list(dict.fromkeys(found)) if plot.kind == "bar" else []


def text_width(text: str, size: float = FONT) -> float:
    """About how many pixels a line of text takes: an em for a wide character, 0.56 em for another."""
    return sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.56 for c in text) * size


def shorten(text: str, width: float, size: float = FONT) -> str:
    """The text, or as much of its beginning as fits the width; the whole stands in a table."""
    while text_width(text, size) > width:
        text = text.removesuffix("…")[:-1] + "…"
    return text


def _num_bars(plot: Plot, names: list[str]) -> int:
    return max(1, len(names) * len(plot.series))


def _crowded(plot: Plot, names: list[str]) -> bool:
    """Whether upright bars would have no room for their names or values."""
    room = (WIDTH - 90) / max(1, len(names))
    return max(map(text_width, names), default=0) > room - 8 or _num_bars(plot, names) > 14


def _frame(plot: Plot, names: list[str], sideways: bool, height: float) -> tuple[float, float, float, float]:
    """Where the axes lie in the figure: left, bottom, width, height as shares of it."""
    left = (
        min(WIDTH * 0.42, max(map(text_width, names), default=0) + 18)
        if sideways
        else 66.0
        if plot.unit in {"number", "percent"}
        else 104.0
    )
    right, top = (74.0 if sideways else 18.0), 14.0
    bottom = 56.0 if (plot.y_label if sideways else plot.x_label) else 34.0
    return left / WIDTH, bottom / height, (WIDTH - left - right) / WIDTH, (height - bottom - top) / height


def _draw(axes: Axes, plot: Plot, names: list[str], sideways: bool, language: Language) -> None:
    for index, series in enumerate(plot.series):
        if plot.kind == "bar":
            _bars(axes, plot, index, names, sideways, language)
        else:
            _points(axes, series, index, plot.kind == "line")
    axes.spines[["top", "right", "left" if not sideways else "bottom"]].set_visible(False)
    axes.grid(axis="x" if sideways else "y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6)
    x_label, y_label = (plot.y_label, plot.x_label) if sideways else (plot.x_label, plot.y_label)
    if plot.unit != "number":
        (axes.xaxis if sideways else axes.yaxis).set_major_formatter(
            lambda value, _: show(value, plot.unit, language, 0)
        )
    axes.set_xlabel(visible(x_label), labelpad=8)
    axes.set_ylabel("" if sideways else visible(y_label), labelpad=8)
    if plot.kind == "bar":
        _category_axis(axes, names, sideways)


def _category_axis(axes: Axes, names: list[str], sideways: bool) -> None:
    (axes.set_yticks if sideways else axes.set_xticks)(
        range(len(names)), [shorten(visible(name), WIDTH * 0.42 - 18) for name in names]
    )
    low, high = axes.get_xlim() if sideways else axes.get_ylim()
    wide = high + 0.06 * (high - low)
    (axes.set_xlim if sideways else axes.set_ylim)(low - (0.06 * (high - low) if low < 0 else 0), wide)
    if sideways:
        axes.invert_yaxis()


def _bars(axes: Axes, plot: Plot, index: int, names: list[str], sideways: bool, language: Language) -> None:
    series, count = plot.series[index], len(plot.series)
    width = min(0.8 / count, 0.5)
    points = [(names.index(str(x)) + (index - (count - 1) / 2) * width, y, at)
              for at, (x, y) in enumerate(zip(series.x, series.y, strict=True)) if y is not None]  # fmt: skip
    at, values = [point[0] for point in points], [point[1] for point in points]
    error = _errors(series, [point[2] for point in points])
    whiskers: dict[str, Any] = {"error_kw": {"ecolor": INK, "elinewidth": 1.2, "capsize": 3}}
    if error:
        whiskers["xerr" if sideways else "yerr"] = error
    draw = axes.barh if sideways else axes.bar
    bars = draw(at, values, width * 0.9, color=COLOURS[index % NUM_COLOURS], **whiskers)
    decimals = _decimals(plot)
    axes.bar_label(
        bars,
        [show(value, plot.unit, language, decimals) for value in values],
        padding=4,
        fontsize=FONT * 0.7,
        color=INK,
    )


def _decimals(plot: Plot) -> int:
    """Decimals of the values beside bars: none where all of them are whole."""
    values = [y for series in plot.series for y in series.y if y is not None]
    whole = plot.unit == "number" and all(value.is_integer() for value in values)
    return 0 if whole else decimals_of([*values], plot.unit)


def _points(axes: Axes, series: Series, index: int, joined: bool) -> None:
    colour = COLOURS[index % NUM_COLOURS]
    kept = _thinned(len(series.y))
    x, y = _floats(series.x, kept), _floats(series.y, kept)
    marked = not joined or len(kept) <= 40
    axes.plot(x, y, color=colour, linewidth=2 if joined else 0, markersize=6, markeredgewidth=0,
              marker=MARKERS[index % len(MARKERS)] if marked else "")  # fmt: skip
    if series.low is None or series.high is None:
        return
    low, high = _floats(series.low, kept), _floats(series.high, kept)
    if joined:
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    else:
        axes.vlines(x, low, high, color=colour, linewidth=1.2)


def _floats(values: Sequence[float | str | None], kept: list[int]) -> list[float]:
    """The kept values, a gap as NaN, which matplotlib leaves out."""
    return [math.nan if (value := values[at]) is None else float(value) for at in kept]


def _thinned(count: int) -> list[int]:
    """Which points to draw: all, or MAX_POINTS evenly spread with the first and the last."""
    if count <= MAX_POINTS:
        return list(range(count))
    return sorted({round(at * (count - 1) / (MAX_POINTS - 1)) for at in range(MAX_POINTS)})


def _errors(series: Series, kept: list[int]) -> list[list[float]]:
    """Distances from y down to low and up to high, as matplotlib wants them; 0 where an end is missing."""
    if series.low is None or series.high is None:
        return []
    y = _floats(series.y, kept)
    ends = (_floats(series.low, kept), _floats(series.high, kept))
    return [[0.0 if math.isnan(a - b) else abs(a - b) for a, b in zip(y, end, strict=True)] for end in ends]


def _clean(source: str, plot: Plot, number: int) -> str:
    """matplotlib's file as an element of the page: CSS colours, unique ids, the page's font, a name to be read out.

    Works on the parsed tree, so that nothing in a label can pass for markup, an id or a colour.
    """
    root = ElementTree.fromstring(source)  # noqa: S314  (matplotlib wrote it)
    used = {value.split("#")[1].rstrip(")") for element in root.iter() for value in _references(element)}
    for element in root.iter():
        for child in [child for child in element if _local(child.tag) in {"metadata", "style"}]:
            element.remove(child)
        element.tag = _local(element.tag)
        element.attrib = _attributes(element.attrib, used, number)
        element.tail = None
    view = root.attrib["viewBox"]
    root.attrib = {"class": "plot", "role": "img", "aria-label": visible(plot.title), "viewBox": view}
    return ElementTree.tostring(root, encoding="unicode")


def _references(element: ElementTree.Element) -> list[str]:
    return [value for name, value in element.attrib.items() if _local(name) in {"href", "clip-path"}]


def _attributes(attributes: dict[str, str], used: set[str], number: int) -> dict[str, str]:
    kept = {}
    for name, value in ((_local(name), value) for name, value in attributes.items()):
        if name == "id" and value in used:
            kept[name] = f"p{number}-{value}"
        elif name in {"href", "clip-path"}:
            kept[name] = value.replace("#", f"#p{number}-", 1)
        elif name == "style":
            style = re.sub(r"font-family: [^;]*;?\s*", "", value)
            kept[name] = re.sub("#0b0[bc][0-9a-f]{2}", lambda match: f"var({VARIABLES[match[0]]})", style)
        elif name not in {"id", "space"}:
            kept[name] = value
    return kept


def _local(name: str) -> str:
    return name.rpartition("}")[2]
