"""Check `novelty`: how much of a text does the corpus not hold, and what is the longest span copied from it?

`ngram_novelty` is the corpus side alone: texts in, for every n the share of their runs of n units that stand nowhere in
the corpus. Texts are indexed and the corpus streams by, so any corpus fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingot.adapt.load import LanguageModel
from ingot.core.language import text
from ingot.core.report import Cell, Plot, Section, Series, Table, Unit
from ingot.data.clean.units import ngrams
from ingot.data.read import Document, read_documents
from ingot.evaluate.audit.check import Check, Result, Row, Setting
from ingot.evaluate.audit.chunks import chunks
from ingot.evaluate.audit.index import Members
from ingot.evaluate.audit.options import AuditOptions
from ingot.evaluate.audit.sample import NEARLY
from ingot.evaluate.audit.scan import scan
from ingot.evaluate.audit.shown import copied_samples
from ingot.evaluate.audit.units import Units, split
from ingot.evaluate.perplexity import start_ids
from ingot.evaluate.statistics import clustered_ratio, wilson
from ingot.evaluate.task import bounds, cell
from ingot.infer.engine import generate
from ingot.infer.options import Sampling

SEED_UNITS = 5
"""Copied spans shorter than this are not looked for: words in a row that any two texts share."""

HEADLINES = (4, 7, 10)
SHOWN = 12


@dataclass(frozen=True)
class Novelty:
    """counts, new (orders, texts): runs of n units of each text, and those of them that the corpus does not hold."""

    orders: list[int]
    counts: NDArray[np.int64]
    new: NDArray[np.int64]


def ngram_novelty(texts: Sequence[Units], documents: Iterable[Document], orders: Sequence[int]) -> Novelty:
    """Look for the runs of n units of every text, for each of `orders`, in all documents."""
    grams = [[ngrams(one.hashes, n) for one in texts] for n in orders]
    members = [Members(np.unique(np.concatenate([np.empty(0, np.uint64), *each]))) for each in grams]
    seen = [np.zeros(len(one.keys), np.bool_) for one in members]
    for chunk in chunks(documents):
        for n, one, flags in zip(orders, members, seen, strict=True):
            places, keys = one.find(ngrams(chunk.units.hashes, n))
            inside = chunk.owner(places) == chunk.owner(places + n - 1)
            flags[keys[inside]] = True
    counts = np.array([[len(found) for found in each] for each in grams], np.int64)
    new = [[int((~flags[np.searchsorted(one.keys, found)]).sum()) for found in each]
           for each, one, flags in zip(grams, members, seen, strict=True)]  # fmt: skip
    return Novelty(list(orders), counts, np.array(new, np.int64))


def lacks(setting: Setting) -> str | None:
    return None if setting.options.model is not None or setting.options.texts is not None else "texts"


def prepare(setting: Setting) -> list[tuple[str, str]]:
    """(name, text) of the texts that were given; none where the model is to write them."""
    if setting.options.texts is None:
        return []
    return [(f"{one.source}:{one.line}", one.text) for one in read_documents(setting.options.texts)]


def measure(model: LanguageModel | None, given: Sequence[tuple[str, str]], setting: Setting) -> list[Row]:
    """One row a text: counts of its runs and of the new ones, and its longest copied span."""
    named = list(given) or _written(model, setting.options)
    texts = [split(words) for _, words in named]
    corpus, longest = setting.options.corpus, setting.options.novelty.longest
    novelty = ngram_novelty(texts, read_documents(corpus), range(1, longest + 1))
    _, found = scan(texts, read_documents(corpus), SEED_UNITS, NEARLY)
    rows = []
    for at, ((name, _), units, copied) in enumerate(zip(named, texts, found, strict=True)):
        begin, end = copied.longest_at, copied.longest_at + copied.longest
        span = [int(units.begins[begin]), int(units.ends[end - 1])] if copied.longest else None
        rows.append({"name": name, "text": units.text, "units": len(units), "counts": novelty.counts[:, at].tolist(),
                     "new": novelty.new[:, at].tolist(), "longest": copied.longest, "span": span,
                     "place": str(copied.longest_place or "-"), "near_share": round(copied.share, 4),
                     "near_place": str(copied.place or "-")})  # fmt: skip
    return rows


def _written(model: LanguageModel | None, options: AuditOptions) -> list[tuple[str, str]]:
    """Texts drawn from the model itself, from nothing but what stands before a document."""
    assert model is not None
    start = list(start_ids(model.tokenizer, model.model_dir.path))
    count, tokens = options.novelty.samples, min(options.novelty.tokens, model.max_length - len(start))
    asked = [Sampling(temperature=1.0, top_p=1.0, top_k=0, max_tokens=tokens, seed=options.seed + number)
             for number in range(count)]  # fmt: skip
    found = generate(model, [start] * count, asked, options.slots, "novelty")
    return [(str(number), sequence.text) for number, sequence in enumerate(found, start=1)]


def score(rows: list[Row], options: AuditOptions) -> Result:
    """Novelty by n, longest spans, near-copies, and the texts that copied most."""
    shares = _shares(rows, options.seed)
    numbers: dict[str, Cell] = {f"novelty.{n}": shares[n - 1] for n in HEADLINES if n <= len(shares)}
    near = sum(row["near_share"] >= NEARLY for row in rows)
    numbers["near_copies"] = cell(wilson(near, len(rows)))
    units: dict[str, Unit] = dict.fromkeys(numbers, "percent")
    longest = np.array([float(row["longest"]) for row in rows])
    numbers["longest_span"] = int(longest.max())
    numbers["longest_span_mean"] = cell(clustered_ratio(longest, np.ones(len(rows)), options.seed))
    ordered = sorted(rows, key=lambda row: -row["longest"])
    verdict = text("audit-verdict-novelty", texts=len(rows), near=near, longest=int(longest.max()),
                   place=ordered[0]["place"], share=f"{NEARLY:.0%}")  # fmt: skip
    entries = [(text("audit-span-of", name=row["name"], longest=row["longest"], units=row["units"], place=row["place"]),
                row["text"], [row["span"]] if row["span"] else []) for row in ordered[:SHOWN]]  # fmt: skip
    sections: list[Section] = [_plot(shares), _longest(ordered), _table(ordered),
                               copied_samples(text("audit-copied-most"), entries, options.policy)]  # fmt: skip
    return Result(numbers, sections, [verdict], text("audit-method-novelty", near=f"{NEARLY:.0%}", least=SEED_UNITS),
                  units)  # fmt: skip


def _shares(rows: Sequence[Row], seed: int) -> list[Cell]:
    """The share of new runs for n = 1, 2, ..; the interval draws whole texts."""
    shares: list[Cell] = []
    for at in range(len(rows[0]["counts"])):
        pairs = np.array([(row["new"][at], row["counts"][at]) for row in rows if row["counts"][at]], np.float64)
        shares.append(cell(clustered_ratio(pairs[:, 0], pairs[:, 1], seed)) if len(pairs) else None)
    return shares


def _plot(shares: Sequence[Cell]) -> Plot:
    y, low, high = bounds(shares)
    series = Series(
        name=text("audit-novelty"), x=[float(n) for n in range(1, len(shares) + 1)], y=y, low=low, high=high
    )
    return Plot(title=text("audit-novelty-plot"), kind="line", series=[series], x_label=text("audit-novelty-axis"),
                y_label=text("audit-novelty"), unit="percent", note=text("audit-novelty-note"))  # fmt: skip


def _longest(ordered: Sequence[Row]) -> Plot:
    x = [100 * (at + 1) / len(ordered) for at in range(len(ordered))]
    series = Series(name=text("audit-longest"), x=list(x), y=[float(row["longest"]) for row in ordered])
    return Plot(title=text("audit-longest-plot"), kind="line", series=[series], x_label=text("audit-span-share"),
                y_label=text("audit-span-axis"))  # fmt: skip


def _table(ordered: Sequence[Row]) -> Table:
    codes = ("audit-text", "audit-units", "audit-longest", "audit-longest-place", "audit-near", "audit-near-place")
    columns = [text(code) for code in codes]
    rows: list[list[Cell]] = [[row["name"], row["units"], row["longest"], row["place"], row["near_share"],
                               row["near_place"]] for row in ordered[: 2 * SHOWN]]  # fmt: skip
    return Table(title=text("audit-novelty-table"), columns=columns, rows=rows, units={columns[4]: "percent"},
                 note=text("audit-novelty-table-note", near=f"{NEARLY:.0%}"))  # fmt: skip


CHECK = Check("novelty", False, ("texts", "novelty"), lacks, prepare, measure, score)
