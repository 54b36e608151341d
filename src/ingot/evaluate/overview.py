"""The page that compares: the verdict in words, one table and one plot of everything, then what each task shows.

Also the flat numbers that recipe gates read: `bits_per_byte`, `told.en`... of the first model, and the same behind
every model's name (`chat-int8.bits_per_byte`). The headline ones come first, because they become the page's cards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ingot.core.language import text
from ingot.core.progress import say
from ingot.core.report import Cell, Plot, Prose, Report, Section, Series, Table, Unit, plain_number
from ingot.evaluate.entrants import Entrant
from ingot.evaluate.task import TaskResult, bounds

HEADLINES = (
    "bits_per_byte", "bits_per_byte.change", "told", "told.en", "told.zh", "arithmetic", "never-told.abstained",
    "cloze", "cloze.before", "cloze.after", "cloze_guessing", "perplexity",
)  # fmt: skip
COLUMNS: dict[str, tuple[str, Unit]] = {
    "weight_bytes": ("evaluate-size", "bytes"),
    "bits_per_byte": ("evaluate-bits-per-byte", "number"),
    "bits_per_byte.change": ("evaluate-change", "percent"),
    "told": ("evaluate-told", "percent"),
    "arithmetic": ("evaluate-arithmetic", "percent"),
    "never-told.abstained": ("evaluate-never-told-abstained", "percent"),
    "cloze": ("evaluate-gaps-right", "percent"),
    "cloze.before": ("evaluate-gaps-before", "percent"),
    "cloze.after": ("evaluate-gaps-after", "percent"),
}
"""Of the table of all models, where there is such a number."""

Results = Mapping[str, TaskResult]


def all_numbers(entrants: Sequence[Entrant], results: Results) -> list[dict[str, Cell]]:
    """Each entrant's numbers of all tasks, headlines first, then its size."""
    found = []
    for index, entrant in enumerate(entrants):
        numbers = {key: value for result in results.values() for key, value in result.numbers[index].items()}
        first = {key: numbers[key] for key in HEADLINES if key in numbers}
        found.append({**first, **numbers, "weight_bytes": entrant.byte_size})
    return found


def flat_numbers(entrants: Sequence[Entrant], results: Results) -> dict[str, Cell]:
    """The first model's numbers by their own names, then everyone's behind `<model>.`."""
    each = all_numbers(entrants, results)
    named = {
        f"{e.name}.{key}": value for e, numbers in zip(entrants, each, strict=True) for key, value in numbers.items()
    }
    return {**each[0], **named}


def flat_units(entrants: Sequence[Entrant], results: Results) -> dict[str, Unit]:
    """Units of the same names."""
    units: dict[str, Unit] = {key: unit for result in results.values() for key, unit in result.units.items()}
    return {**units, **{f"{entrant.name}.{key}": unit for entrant in entrants for key, unit in units.items()}}


def overview(entrants: Sequence[Entrant], baseline: int, results: Results, options: Mapping[str, Any]) -> list[Section]:
    """All sections, the verdict first."""
    numbers = all_numbers(entrants, results)
    sentences = [*_size_sentences(entrants, baseline), *(s for result in results.values() for s in result.verdict)]
    sections: list[Section] = [Prose(title=text("evaluate-verdict"), text="\n\n".join(sentences))]
    if len(entrants) > 1:
        sections.append(_table(entrants, baseline, numbers, results))
        sections.extend(_plots(entrants, numbers))
    for result in results.values():
        sections.extend(result.sections)
    return [*sections, Prose(title=text("evaluate-method"), text=_method(entrants, options, results))]


def _size_sentences(entrants: Sequence[Entrant], baseline: int) -> Iterator[str]:
    base = entrants[baseline]
    for index, entrant in enumerate(entrants):
        if index != baseline and base.byte_size:
            share = f"{100 * entrant.byte_size / base.byte_size:.0f}"
            yield text("evaluate-verdict-size", model=entrant.name, baseline=base.name, share=share)


def _table(entrants: Sequence[Entrant], baseline: int, numbers: Sequence[dict[str, Cell]], results: Results) -> Table:
    keys = [key for key in COLUMNS if any(key in found for found in numbers)]
    heads = {key: text(COLUMNS[key][0]) for key in keys}
    own = {key: head for result in results.values() for key, head in result.columns.items()}
    known = {key: unit for result in results.values() for key, unit in result.units.items()}
    heads, keys = {**heads, **own}, [*keys, *own]
    rows = [[e.name, *(found.get(key) for key in keys)] for e, found in zip(entrants, numbers, strict=True)]
    units = {heads[key]: known[key] if key in own else COLUMNS[key][1] for key in keys}
    note = text("evaluate-overview-note")
    if "bits_per_byte.change" in keys:
        note = f"{text('evaluate-overview-change', baseline=entrants[baseline].name)} {note}"
    columns = [text("evaluate-model"), *heads.values()]
    return Table(title=text("evaluate-overview"), columns=columns, rows=rows, units=units, note=note)


def _plots(entrants: Sequence[Entrant], numbers: Sequence[dict[str, Cell]]) -> Iterator[Plot]:
    """Size against bits per byte: quantised and merged siblings at a glance."""
    if all(plain_number(found.get("bits_per_byte")) is None for found in numbers):
        return
    series = []
    for entrant, found in zip(entrants, numbers, strict=True):
        y, low, high = bounds([found["bits_per_byte"]])
        series.append(Series(name=entrant.name, x=[entrant.byte_size / 1e6], y=y, low=low, high=high))
    title, x_label, y_label = text("evaluate-size-plot"), text("evaluate-size-axis"), text("evaluate-bits-per-byte")
    yield Plot(title=title, kind="scatter", series=series, x_label=x_label, y_label=y_label, note=text("evaluate-95"))


def _method(entrants: Sequence[Entrant], options: Mapping[str, Any], results: Results) -> str:
    """How it was measured, so that a reader can repeat it."""
    parts = list(dict.fromkeys(text(result.method, **options) for result in results.values()))
    ran = [f"{entrant.name}: {entrant.weights}" for entrant in entrants if entrant.weights is not None]
    if ran:
        parts.append(text("evaluate-method-weights", each="; ".join(ran)))
    if options.get("heldout"):
        parts.append(text("evaluate-method-heldout"))
    if options["limit"] is not None:
        parts.append(text("evaluate-method-limit", **options))
    return "\n\n".join([*parts, text("evaluate-method-intervals", **options)])


def tell_verdict(report: Report) -> None:
    """The verdict, as it stands on the page, and where the page is."""
    verdict = report.sections[0]
    assert isinstance(verdict, Prose)
    for sentence in verdict.text.split("\n\n"):
        say("evaluate-said", sentence=sentence)
    say("evaluate-written", path=report.summary()["report"])
