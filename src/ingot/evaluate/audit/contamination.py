"""Check `contamination`: which items of a benchmark stand in the corpus, word for word or changed a little.

Rows are the items; the same rows, without their texts, are written as `contamination.jsonl`, by which the scores of an
`ingot evaluate` report can be split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ingot.adapt.load import LanguageModel
from ingot.core.language import text
from ingot.core.progress import progress, warn
from ingot.core.report import Cell, Plot, Section, Series, Table, Unit
from ingot.data.read import read_documents
from ingot.evaluate.audit.check import Check, Result, Row, Setting
from ingot.evaluate.audit.items import Item, read_items
from ingot.evaluate.audit.options import AuditOptions
from ingot.evaluate.audit.scan import Copied, scan
from ingot.evaluate.audit.shown import copied_samples
from ingot.evaluate.audit.units import Units
from ingot.evaluate.statistics import wilson
from ingot.evaluate.task import cell

VERBATIM, EDITED, CLEAN, SHORT = "verbatim", "edited", "clean", "short"
DIRTY = (VERBATIM, EDITED)
VERDICTS = {VERBATIM: "audit-verbatim", EDITED: "audit-edited", CLEAN: "audit-clean", SHORT: "audit-short"}
LEAST_UNITS = 8
"""An item with fewer units that can be looked for is not judged: short phrases stand everywhere."""

SHOWN = 20


def lacks(setting: Setting) -> str | None:
    return None if setting.options.against else "against"


def prepare(setting: Setting) -> list[Item]:
    return read_items(setting.options.against)


def measure(model: LanguageModel | None, items: Sequence[Item], setting: Setting) -> list[Row]:
    """One row an item: its verdict, and the part of it that most of was found."""
    settings = setting.options.contamination
    owners, texts, names = _different(items)
    with progress("contamination", 1) as advance:
        index, found = scan(texts, read_documents(setting.options.corpus), settings.ngram, settings.share,
                            settings.common)  # fmt: skip
        advance(1)
    best: list[tuple[int, str] | None] = [None] * len(items)
    judged = [False] * len(items)
    for number, holders in enumerate(owners):
        if index.coverable[number] >= LEAST_UNITS:
            for item in holders:
                judged[item] = True
                before = best[item]
                if before is None or found[number].share > found[before[0]].share:
                    best[item] = number, names[number][item]
    return [_row(item, judged[at], best[at], texts, found, settings.share) for at, item in enumerate(items)]


def _different(items: Sequence[Item]) -> tuple[list[list[int]], list[Units], list[dict[int, str]]]:
    """Each different text once: the items that hold it, itself, and by item the name of the part that it is."""
    numbers: dict[bytes, int] = {}
    owners: list[list[int]] = []
    texts: list[Units] = []
    names: list[dict[int, str]] = []
    for at, item in enumerate(items):
        for name, units in item.parts.items():
            number = numbers.setdefault(units.hashes.tobytes(), len(texts))
            if number == len(texts):
                owners.append([])
                texts.append(units)
                names.append({})
            if at not in names[number]:
                owners[number].append(at)
                names[number][at] = name
    return owners, texts, names


def _row(item: Item, judged: bool, best: tuple[int, str] | None, texts: Sequence[Units], found: Sequence[Copied],
         threshold: float) -> Row:  # fmt: skip
    row: Row = {"id": item.id, "file": item.file, "line": item.line, "verdict": CLEAN if judged else SHORT}
    if best is None:
        return {**row, "share": 0.0}
    number, part = best
    one, units = found[number], texts[number]
    if one.share >= threshold:
        row["verdict"] = VERBATIM if one.longest == len(units) else EDITED
    spans = [[int(units.begins[begin]), int(units.ends[end - 1])] for begin, end in one.spans]
    place = None if one.place is None else str(one.place)
    return {**row, "share": round(one.share, 4), "part": part, "place": place, "documents": one.documents,
            "longest": one.longest, "text": units.text, "spans": spans}  # fmt: skip


def listed(rows: Sequence[Row]) -> list[Row]:
    """What `contamination.jsonl` says of each item."""
    kept = ("id", "file", "line", "verdict", "share", "part", "place", "documents", "longest")
    return [{name: row[name] for name in kept if name in row} for row in rows]


def score(rows: list[Row], options: AuditOptions) -> Result:
    """Shares by file, the longest copies, and the items found with what was copied marked."""
    counts = Counter(row["verdict"] for row in rows)
    judged = len(rows) - counts[SHORT]
    dirty = counts[VERBATIM] + counts[EDITED]
    if counts[SHORT]:
        warn("audit-short-items", count=f"{counts[SHORT]:,}", items=f"{len(rows):,}", least=LEAST_UNITS)
    numbers: dict[str, Cell] = {
        "contaminated": cell(wilson(dirty, judged)),
        "contaminated_verbatim": cell(wilson(counts[VERBATIM], judged)),
        "contaminated_edited": cell(wilson(counts[EDITED], judged)),
        "items": len(rows),
        "items_short": counts[SHORT],
    }
    units: dict[str, Unit] = {name: "percent" for name in numbers if name.startswith("contaminated")}
    told = {name: f"{counts[name]:,}" for name in (VERBATIM, EDITED, SHORT)}
    verdict = text("audit-verdict-contamination", dirty=f"{dirty:,}", judged=f"{judged:,}", **told)
    sections: list[Section] = [_files(rows), _histogram(rows, options)]
    if found := sorted((row for row in rows if row["verdict"] in DIRTY), key=lambda row: -row["longest"]):
        entries = [
            (f"{row['id']} · {text(VERDICTS[row['verdict']])} · {row['place']}", row["text"], row["spans"])
            for row in found
        ]
        note = text("audit-shown-note", shown=min(SHOWN, len(found)), count=len(found), file="contamination.jsonl")
        sections.append(copied_samples(text("audit-found-items"), entries[:SHOWN], options.policy, note))
    return Result(numbers, sections, [verdict], text("audit-method-contamination", **options.contamination.model_dump(),
                  least=LEAST_UNITS), units)  # fmt: skip


def _files(rows: Sequence[Row]) -> Table:
    names = list(dict.fromkeys(row["file"] for row in rows))
    table = []
    for name in names:
        counts = Counter(row["verdict"] for row in rows if row["file"] == name)
        judged = sum(counts.values()) - counts[SHORT]
        share = cell(wilson(counts[VERBATIM] + counts[EDITED], judged))
        table.append(
            [name, sum(counts.values()), share, counts[VERBATIM], counts[EDITED], counts[CLEAN], counts[SHORT]]
        )
    heads = ("audit-file", "audit-items", "audit-found-share", *VERDICTS.values())
    columns = [text(code) for code in heads]
    return Table(title=text("audit-by-file"), columns=columns, rows=table, units={columns[2]: "percent"},
                 note=text("audit-interval-note"))  # fmt: skip


def _histogram(rows: Sequence[Row], options: AuditOptions) -> Plot:
    """How much of each item was found: a gap between the heap on the left and the one on the right is a good sign."""
    counts = Counter(min(9, int(10 * row["share"])) for row in rows if row["verdict"] != SHORT)
    series = Series(name=text("audit-items"), x=[f"{10 * bin}-{10 * bin + 10}%" for bin in range(10)],
                    y=[counts[bin] for bin in range(10)])  # fmt: skip
    note = text("audit-share-note", share=f"{options.contamination.share:.0%}")
    return Plot(title=text("audit-share-plot"), kind="bar", series=[series], x_label=text("audit-share-axis"),
                y_label=text("audit-items"), note=note)  # fmt: skip


CHECK = Check("contamination", False, ("against", "contamination", "report"), lacks, prepare, measure, score)
