"""Task `wikitext`: WikiText as lm-eval counts it, to compare with figures published from there.

Pages in WikiText's spaced-out form are given ("page" in a .jsonl, or the plain file, whose pages begin at "= Title =").
The model is asked for the page after some of the spaces were taken back, while words and bytes are counted in the page
as it was given, words as pieces between runs of white space, an empty first or last piece among them. Windows do not
overlap, each begins with one token of context, the last one is filled up from the left, and before the page stands BOS,
else EOS. Figures have no intervals there; here they draw whole pages. Bits per byte of task `perplexity` are the honest
count of the text that was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ingot.adapt.load import LanguageModel
from ingot.core.errors import fail
from ingot.core.language import text
from ingot.core.report import Cell, Section, Table
from ingot.data.files import kind, read_lines, read_records
from ingot.data.read import Document
from ingot.evaluate.entrants import Entrant
from ingot.evaluate.item_values import ItemValues, text_ids
from ingot.evaluate.options import EvaluateOptions
from ingot.evaluate.perplexity import BITS, text_digest
from ingot.evaluate.statistics import clustered_ratio
from ingot.evaluate.subset import stratified
from ingot.evaluate.task import Comparison, Row, Task, TaskResult, cell, word_if_infinite
from ingot.infer.likelihood import Query, following, query_logprobs

TITLE = re.compile(r"\s*= [^=].* =\s*")
REWRITES: tuple[tuple[str, str], ...] = (
    (r"s '", "s'"), (r"/' [0-9]/", "/'[0-9]/"), (r" @-@ ", "-"), (r" @,@ ", ","), (r" @\.@ ", "."),
    *((f" {re.escape(mark)} ", f"{mark} ") for mark in ":;.!?,"),
    (r"\(\s*([^\)]*?)\s*\)", r"(\1)"), (r"\[\s*([^\]]*?)\s*\]", r"[\1]"), (r"{\s*([^}]*?)\s*}", r"{\1}"),
    (r"\"\s*([^\"]*?)\s*\"", r'"\1"'), (r"'\s*([^']*?)\s*'", r"'\1'"),
    (r"= = = =", "===="), (r"= = =", "==="), (r"= =", "=="), (r" ° ", "°"), (r" \n", "\n"), (r"\n ", "\n"),
    (r" N ", " 1 "), (r" 's", "'s"),
)  # fmt: skip
"""In this order; what lm-eval's task does before a model sees a page (version 2.0)."""


def unspaced(page: str) -> str:
    """The page as the model is asked for it."""
    for pattern, replacement in REWRITES:
        page = re.sub(pattern, replacement, page)
    return page


def prepare(options: EvaluateOptions) -> list[Document]:
    """The pages. Raises `evaluate-no-data`, `evaluate-no-pages`."""
    if options.data is None:
        raise fail("evaluate-no-data")
    pages = list(_pages(options.data))
    if not pages:
        raise fail("evaluate-no-pages", path=options.data)
    return stratified(pages, options.limit, options.seed, lambda page: page.source, lambda page: page.text)


def _pages(path: Path) -> Iterator[Document]:
    if kind(path) in (".jsonl", ".json", ".parquet"):
        for place, record in read_records(path):
            if not isinstance(record.get("page"), str):
                raise fail("evaluate-no-pages", path=path)
            yield Document(record["page"], path.name, place)
        return
    gathered: list[str] = []
    first = 1
    for number, line in enumerate(read_lines(path), start=1):
        if TITLE.fullmatch(line) and any(one.strip() for one in gathered):
            yield Document("".join(gathered), path.name, first)
            gathered, first = [], number
        gathered.append(line)
    if any(one.strip() for one in gathered):
        yield Document("".join(gathered), path.name, first)


def measure(model: LanguageModel, pages: Sequence[Document], options: EvaluateOptions) -> list[Row]:
    """One row a page: nats of the page asked for, words and bytes of the page given."""
    assert options.window is not None
    tokenizer = model.tokenizer
    start = tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.eos_id
    if start is None:
        raise fail("evaluate-no-start-token", path=model.model_dir.path)
    rows = [[start, *tokenizer.encode(unspaced(page.text))] for page in pages]
    queries = [list(windows(row, options.window)) for row in rows]
    found = iter(query_logprobs(model, [query for one in queries for query in one], text("evaluate-wikitext")))
    nats = [-sum(float(next(found).double().sum()) for _ in one) for one in queries]
    return [
        {
            "document": f"{page.source}:{page.line}",
            "digest": text_digest(page.text),
            "words": len(re.split(r"\s+", page.text)),
            "bytes": len(page.text.encode()),
            "tokens": len(row) - 1,
            "nats": word_if_infinite(one),
        }
        for page, row, one in zip(pages, rows, nats, strict=True)
    ]


def windows(ids: Sequence[int], size: int) -> Iterator[Query]:
    """Disjoint windows of `size` predicted tokens; the last one reads as much to its left as fits."""
    scored = 0
    while scored < len(ids) - 1:
        count = min(size, len(ids) - 1 - scored)
        end = scored + count
        begin = 0 if scored == 0 else end - size
        yield following(ids[begin : end + 1], scored + 1 - begin)
        scored = end


def score(comparison: Comparison) -> TaskResult:
    """Word and byte perplexity and bits per byte of the pages as given."""
    comparison.require_same_items("document", "words", "bytes")
    numbers = [_numbers(comparison, index) for index in range(len(comparison.entrants))]
    return TaskResult(numbers, [*_sections(comparison, numbers)], "evaluate-method-wikitext")


def _numbers(comparison: Comparison, index: int) -> dict[str, Cell]:
    nats, words, size = (
        np.array([float(value) for value in comparison.column(index, name)]) for name in ("nats", "words", "bytes")
    )
    by_word, by_byte = (clustered_ratio(nats, below, comparison.seed) for below in (words, size))
    return {
        "wikitext.word_perplexity": cell(by_word.exponential()),
        "wikitext.byte_perplexity": cell(by_byte.exponential()),
        "wikitext.bits_per_byte": cell(by_byte.scaled(BITS)),
        "wikitext.pages": len(nats),
    }


def _sections(comparison: Comparison, numbers: Sequence[dict[str, Cell]]) -> Iterator[Section]:
    columns = [text("evaluate-model"), text("evaluate-by-word"), text("evaluate-by-byte"),
               text("evaluate-bits-per-byte"), text("evaluate-pages")]  # fmt: skip
    rows = [[entrant.name, *found.values()] for entrant, found in zip(comparison.entrants, numbers, strict=True)]
    yield Table(title=text("evaluate-wikitext"), columns=columns, rows=rows, note=text("evaluate-wikitext-note"))


def values(rows: Sequence[Row], entrant: Entrant, options: Mapping[str, Any]) -> dict[str, ItemValues]:
    """Pages by their text. Raises `evaluate-rows-old`."""
    if not all("digest" in row for row in rows):
        raise fail("evaluate-rows-old", model=entrant.name)
    ids = text_ids([row["document"] for row in rows], [row["digest"] for row in rows])
    nats = np.array([float(row["nats"]) for row in rows], np.float64)

    def figure(weight: str, scale: float) -> ItemValues:
        weights = np.array([row[weight] for row in rows], np.float64)
        return ItemValues(
            ids, ids, nats, weights, ids, is_share=False, higher_is_better=False, primary=weight == "bytes",
            scale=scale, conditions={"window": str(options["window"])}, questions=[row["document"] for row in rows],
            places=[row["document"] for row in rows],
            replies=[f"{scale * n / w:.4f}" for n, w in zip(nats, weights, strict=True)],
        )  # fmt: skip

    return {"wikitext.bits_per_byte": figure("bytes", BITS), "wikitext.nats_per_word": figure("words", 1.0)}


TASK = Task(raw="pages", prepare=prepare, measure=measure, score=score, values=values, options=("window",))
