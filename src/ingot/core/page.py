"""The page of a report: one HTML file with its style and pictures inside, no script, nothing loaded from anywhere.

A pure function of the report: the language, the numbers and the time all come from it. Every value is escaped, and a
content policy forbids scripts and connections, because reports show what models said. Works in light and dark, on a
phone and on paper. The style is `page.css`.
"""

from __future__ import annotations

import html
import json
from functools import partial
from importlib import resources

from ingot.core import heat, life, maps, plot, samples
from ingot.core.format import decimals_of, label, show, unit_of, visible
from ingot.core.language import sentence
from ingot.core.report import (
    Cell,
    Flow,
    HeatMap,
    Interval,
    Language,
    Maps,
    Plot,
    Prose,
    Report,
    Samples,
    Section,
    Table,
    Unit,
)

NUM_CARDS = 8
"""More numbers than this stand in a table."""
LONG_TEXT = 27
"""A cell wider than this many ems gets a column for reading."""
CONTENTS_FROM = 4
"""A page with this many sections gets a table of contents."""


def page(report: Report) -> str:
    """The whole page."""
    say = partial(sentence, language="zh" if report.language == "zh-TW" else "en")
    style = resources.files("ingot.core").joinpath("page.css").read_text(encoding="utf-8")
    language = "zh-Hant-TW" if report.language == "zh-TW" else "en"
    sections = _all_sections(report, say("report-numbers"), say("report-number"), say("report-value"))
    body = "\n".join(_section(section, number, report) for number, section in enumerate(sections, start=1))
    return f"""<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{escape(report.title)}</title>
<style>
{style}</style>
</head>
<body>
<main>
<header>
<p class="kicker"><b>ingot</b> {escape(report.verb)} · <time>{escape(_date(report.created))}</time></p>
<h1>{escape(report.title)}</h1>
{_verdict(report, say("report-passed"), say("report-failed"))}
</header>
{_cards(report)}
{_contents(sections, say("report-contents"))}
{body}
{_provenance(report, say)}
</main>
</body>
</html>
"""


def escape(text: object, keep: str = "") -> str:
    """Text for HTML: markup as letters, control characters as pictures."""
    return html.escape(visible(str(text), keep), quote=True)


def _date(created: str) -> str:
    """2025-01-31T10:20:30+00:00 -> '2025-01-31 10:20 UTC'."""
    return f"{created[:10]} {created[11:16]} UTC" if created.endswith("+00:00") else created


def _verdict(report: Report, passed: str, failed: str) -> str:
    if report.passed is None:
        return ""
    return f'<p class="verdict {"good" if report.passed else "bad"}">{escape(passed if report.passed else failed)}</p>'


def _all_sections(report: Report, title: str, name: str, value: str) -> list[Section]:
    """The report's sections, and behind them a table of its numbers when they are too many for cards."""
    if len(report.numbers) <= NUM_CARDS:
        return list(report.sections)
    rows: list[list[Cell]] = [
        [label(key, report.language), show(number, _unit(report, key), report.language)]
        for key, number in report.numbers.items()
    ]
    return [*report.sections, Table(title=title, columns=[name, value], rows=rows)]


def _unit(report: Report, name: str) -> Unit:
    return report.units.get(name) or unit_of(name)


def _cards(report: Report) -> str:
    cards = [_card(report, name, value) for name, value in list(report.numbers.items())[:NUM_CARDS]]
    return f'<dl class="cards">{"".join(cards)}</dl>' if cards else ""


def _card(report: Report, name: str, value: Cell) -> str:
    unit, below = _unit(report, name), ""
    if isinstance(value, Interval):
        low, high = (show(end, unit, report.language) for end in (value.low, value.high))
        value, below = value.value, f'<dd class="range">{escape(low)} – {escape(high)}</dd>'
    shown = show(value, unit, report.language)
    size = ' class="wordy"' if len(shown) > 8 else ""
    return f"<div><dt>{escape(label(name, report.language))}</dt><dd{size}>{escape(shown)}</dd>{below}</div>"


def _contents(sections: list[Section], title: str) -> str:
    if len(sections) < CONTENTS_FROM:
        return ""
    items = "".join(f'<li><a href="#s{at}">{escape(one.title)}</a></li>' for at, one in enumerate(sections, start=1))
    return f'<nav aria-label="{escape(title)}"><h2>{escape(title)}</h2><ol>{items}</ol></nav>'


def _section(section: Section, number: int, report: Report) -> str:
    if isinstance(section, Table):
        body, note = _table(section, report), section.note
    elif isinstance(section, Plot):
        body, note = _plot(section, number, report.language), section.note
    elif isinstance(section, HeatMap):
        body, note = heat.table(section, report.language), section.note
    elif isinstance(section, Maps):
        body, note = maps.pictures(section), section.note
    elif isinstance(section, Samples):
        body, note = samples.html_of(section), section.note
    elif isinstance(section, Flow):
        body, note = f'<div class="scroll">{life.svg(section)}</div>', section.note
    else:
        body, note = _prose(section), ""
    below = f'<p class="note">{escape(note)}</p>' if note else ""
    return f'<section id="s{number}"><h2>{escape(section.title)}</h2>\n{body}{below}</section>'


def _prose(prose: Prose) -> str:
    paragraphs = [escape(part.strip(), keep="\n") for part in prose.text.split("\n\n") if part.strip()]
    return "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)


def _plot(section: Plot, number: int, language: Language) -> str:
    glyphs = plot.GLYPHS if section.kind != "bar" else "■" * plot.NUM_COLOURS
    entries = [
        f'<li><span style="color:var(--series-{at % plot.NUM_COLOURS})">{glyphs[at % plot.NUM_COLOURS]}</span>'
        f"{escape(series.name)}</li>"
        for at, series in enumerate(section.series)
    ]
    legend = f'<ul class="legend">{"".join(entries)}</ul>' if len(entries) > 1 else ""
    return f'{legend}<div class="scroll">{plot.svg(section, number, language)}</div>'


def _table(table: Table, report: Report) -> str:
    columns = [_column(table, at) for at in range(len(table.columns))]
    head = "".join(
        f'<th scope="col"{_class(kind)}>{escape(label(name, report.language))}</th>'
        for name, (kind, _, _) in zip(table.columns, columns, strict=True)
    )
    rows = "".join(
        "<tr>" + "".join(_cell(cell, *column, report) for cell, column in zip(row, columns, strict=True)) + "</tr>\n"
        for row in table.rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>'


def _column(table: Table, at: int) -> tuple[str, Unit, int]:
    """How a column is set: number, long or text; its unit; and the decimals that line its numbers up."""
    cells = [row[at] for row in table.rows if row[at] is not None]
    unit = table.units.get(table.columns[at]) or unit_of(table.columns[at])
    decimals = decimals_of(cells, unit)
    if cells and all(isinstance(cell, int | float | Interval) for cell in cells):
        return "mark" if all(isinstance(cell, bool) for cell in cells) else "number", unit, decimals
    long = any(isinstance(cell, str) and (plot.text_width(cell, 1) > LONG_TEXT or "\n" in cell) for cell in cells)
    return "long" if long else "", unit, decimals


def _cell(cell: Cell, kind: str, unit: Unit, decimals: int, report: Report) -> str:
    if isinstance(cell, Interval):
        low, high = (show(end, unit, report.language, decimals) for end in (cell.low, cell.high))
        value = show(cell.value, unit, report.language, decimals)
        return f'<td{_class(kind)}>{escape(value)} <span class="range">{escape(low)} – {escape(high)}</span></td>'
    shown = escape(show(cell, unit, report.language, decimals), keep="\n\t")
    if isinstance(cell, bool):
        return f'<td class="{kind or "mark"} {"yes" if cell else "no"}">{shown}</td>'
    if kind == "long":
        return f'<td class="long"><div>{shown}</div></td>'
    return f"<td{_class(kind)}>{shown}</td>"


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _provenance(report: Report, say: partial[str]) -> str:
    """What made the report, folded: options, versions, time, the raw files with their digests."""
    blocks = [
        _definitions(say("report-options"), {key: _plain(value) for key, value in report.options.items()}),
        _definitions(say("report-versions"), report.versions),
        _definitions(say("report-files"), report.files, links=True),
    ]
    made = f"<p>{escape(say('report-made', verb=report.verb, created=report.created))}</p>"
    title = escape(say("report-provenance"))
    return f'<details class="provenance"><summary>{title}</summary>{made}{"".join(blocks)}</details>'


def _definitions(title: str, items: dict[str, str], links: bool = False) -> str:
    if not items:
        return ""
    rows = "".join(
        f"<tr><th>{_link(key) if links else escape(key)}</th><td>{escape(items[key])}</td></tr>" for key in items
    )
    return f'<h3>{escape(title)}</h3><div class="scroll"><table>{rows}</table></div>'


def _link(name: str) -> str:
    from urllib.parse import quote

    return f'<a href="{escape(quote(name))}">{escape(name)}</a>'


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
