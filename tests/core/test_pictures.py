"""Plots, the picture of a life, and the formatting of values."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingot.core import life, plot
from ingot.core.format import decimals_of, label, show, show_bytes, show_seconds, unit_of, visible
from ingot.core.report import Flow, FlowInput, FlowNode, Interval, Plot, Series


def bars(names: list[str], num_series: int = 1) -> Plot:
    series = [
        Series(name=f"s{at}", x=list(names), y=[float(n + 1) for n in range(len(names))]) for at in range(num_series)
    ]
    return Plot(title="t", kind="bar", series=series, x_label="x", y_label="y")


def drawn(picture: Plot) -> ElementTree.Element:
    return ElementTree.fromstring(plot.svg(picture, 1))


def texts(picture: Plot) -> list[str]:
    return [element.text or "" for element in drawn(picture).iter("text")]


@pytest.mark.slow
def test_same_plot_same_bytes_and_other_number_other_ids() -> None:
    assert plot.svg(bars(["a"]), 1) == plot.svg(bars(["a"]), 1)
    ids = [set(re.findall(r'id="([^"]+)"', plot.svg(bars(["a"]), number))) for number in (1, 2)]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_text_is_text_and_colours_are_variables() -> None:
    source = plot.svg(bars(["世界", "$x$ <b>"], 2), 1)
    assert {"世界", "$x$ <b>", "1", "2", "x", "y"} <= set(texts(bars(["世界", "$x$ <b>"], 2)))
    assert "var(--series-0)" in source
    assert "var(--series-1)" in source
    assert not re.search(r"#[0-9a-f]{6}|font-family", source)


def test_values_beside_bars_have_decimals_where_one_of_them_is_not_whole() -> None:
    halves = bars(["a", "b"]).model_copy(update={"series": [Series(name="s", x=["a", "b"], y=[1.0, 2.5])]})
    assert {"1.000", "2.500"} <= set(texts(halves))


def test_many_or_long_names_lie_on_their_side() -> None:
    upright, long = drawn(bars(["a", "b"])), drawn(bars(["a" * 60, "b"]))
    assert upright.attrib["viewBox"] != long.attrib["viewBox"]
    labels = texts(bars(["字" * 60, "b"]))
    assert any(text.endswith("…") and text.startswith("字") for text in labels)
    many = drawn(bars([f"n{at}" for at in range(40)]))
    assert float(many.attrib["viewBox"].split()[3]) > 2 * float(upright.attrib["viewBox"].split()[3])


@pytest.mark.parametrize("kind", ["bar", "line", "scatter"])
def test_empty_gaps_and_errors_are_drawn(kind: str) -> None:
    names: list[float | str | None] = ["a", "b", "c"] if kind == "bar" else [1.0, 2.0, 3.0]
    gaps = Series(name="s", x=names, y=[1, None, -3], low=[0, None, -4], high=[2, None, -1])
    for series in ([gaps], [Series(name="s", x=[], y=[])], []):
        assert drawn(Plot(title="t", kind=kind, series=series)).tag == "svg"  # type: ignore[arg-type]


def test_long_lines_are_thinned_evenly() -> None:
    assert plot._thinned(5) == [0, 1, 2, 3, 4]
    kept = plot._thinned(100_000)
    assert (len(kept), kept[0], kept[-1]) == (plot.MAX_POINTS, 0, 99_999)
    assert max(b - a for a, b in itertools.pairwise(kept)) <= 102


def test_units_label_the_bars() -> None:
    picture = Plot(title="t", kind="bar", unit="percent", series=[Series(name="s", x=["a"], y=[0.123])])
    assert "12.3%" in texts(picture)


@st.composite
def flows(draw: st.DrawFn) -> list[FlowNode]:
    nodes: list[FlowNode] = []
    for at in range(draw(st.integers(1, 12))):
        sources = draw(st.lists(st.sampled_from([node.name for node in nodes]), unique=True)) if nodes else []
        inputs = [FlowInput(source=source, option="x") for source in sources]
        nodes.append(FlowNode(name=f"n{at}", verb="v", makes="model", inputs=inputs))
    return nodes


@pytest.mark.slow
@given(flows())
def test_lines_that_live_together_never_share_a_lane(nodes: list[FlowNode]) -> None:
    lanes, ends = life.assign_lanes(nodes), life.last_uses(nodes)
    rows = {node.name: row for row, node in enumerate(nodes)}
    for first in rows:
        for second in rows:
            if first != second and rows[first] <= rows[second] <= ends[first]:
                assert lanes[first] != lanes[second]
    assert max(lanes.values()) < len(nodes)
    ElementTree.fromstring(life.svg(Flow(title="<&>", nodes=nodes)))


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [(0.5, "number", "0.5000"), (12345.678, "number", "12,346"), (0.00001, "number", "1.0e−05"), (0.0, "number", "0"),
     (1234567, "number", "1,234,567"), (-1.5, "number", "−1.500"), (0.9234, "percent", "92.3%"),
     (1, "percent", "100.0%"),
     (1234567, "bytes", "1.2 MB"), (125, "seconds", "2 min 5 s"), (True, "number", "✓"), (False, "number", "✗"),
     (None, "bytes", "–"), ("x", "bytes", "x"),
     (Interval(value=0.5, low=0.25, high=0.75), "percent", "50.0% [25.0%, 75.0%]")],
)  # fmt: skip
def test_show(value: object, unit: str, expected: str) -> None:
    assert show(value, unit) == expected  # type: ignore[arg-type]


@given(st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: value != 0), st.integers(0, 4))
def test_a_number_that_is_not_zero_never_looks_like_zero(value: float, decimals: int) -> None:
    assert re.search("[1-9]", show(value, decimals=decimals))


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_949, "99.9 kB"), (99_960, "100 kB"),
     (999_600, "1.0 MB"), (5e13, "50.0 TB")]
)  # fmt: skip
def test_show_bytes(size: float, expected: str) -> None:
    assert show_bytes(size) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0.0 s"), (0.05, "50.0 ms"), (59.94, "59.9 s"), (59.96, "1 min 0 s"), (3599.6, "1 h 0 min"),
     (3700, "1 h 1 min")],
)  # fmt: skip
def test_show_seconds(seconds: float, expected: str) -> None:
    assert show_seconds(seconds) == expected
    assert show_seconds(125, "zh-TW") == "2 分 5 秒"


def test_columns_line_up() -> None:
    values: list[object] = [1.5, 12.25, 130.0]
    decimals = decimals_of(values)  # type: ignore[arg-type]
    assert [show(value, decimals=decimals) for value in values] == ["1.5", "12.2", "130.0"]  # type: ignore[arg-type]


def test_units_from_names() -> None:
    found = [
        unit_of(name)
        for name in ("size_bytes", "told.accuracy", "total_seconds", "bits_per_byte", "learning_rate", "error_rate")
    ]
    assert found == ["bytes", "percent", "seconds", "number", "number", "percent"]


def test_labels() -> None:
    assert label("told.en", "en") == "told · en"
    assert label("bits_per_byte", "zh-TW") == "每位元組位元數"
    assert label("my_number.en", "zh-TW") == "my number · 英文"


def test_visible() -> None:
    assert visible("a\x00\x1b\n\x7f") == "a␀␛␊␡"
    assert visible("a\n", keep="\n") == "a\n"
