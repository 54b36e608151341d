"""Task `perplexity`: how well a model predicts text, as bits per byte and as perplexity of its own tokens.

Each document stands alone. Before it goes what the tokenizer itself puts before a document, else BOS, else EOS: context
that is never scored; no end token is scored either. Every token of the text is scored exactly once, in windows when the
document is longer than one. Bits per byte divide by the UTF-8 bytes of the raw text and compare any two models; token
perplexities compare only models with one tokenizer, and others are never subtracted. Where a tokenizer loses text, the
share is shown and the figure is withheld, because the model was not asked to predict what got lost.

Perplexity by word counts what stands between spaces, and is withheld for text that is written without them: a Chinese
article would be a handful of words. Perplexities by byte and character are bits per byte and character to the power.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ingot.adapt.load import LanguageModel
from ingot.core.errors import fail
from ingot.core.language import text
from ingot.core.progress import progress, warn
from ingot.core.report import Cell, Plot, Section, Series, Table, plain_number
from ingot.data.manifest import heldout_files
from ingot.data.read import Document, read_documents
from ingot.evaluate.entrants import Entrant
from ingot.evaluate.heldout import held_out
from ingot.evaluate.item_values import ItemValues, text_ids
from ingot.evaluate.metrics.tokens import LETTER, UNSPACED_LETTER
from ingot.evaluate.options import EvaluateOptions
from ingot.evaluate.statistics import Interval, Values, clustered_ratio
from ingot.evaluate.subset import stratified
from ingot.evaluate.task import Comparison, Row, Task, TaskResult, bounds, cell, word_if_infinite
from ingot.infer.likelihood import batch_logprobs, sliding_window
from ingot.text.tokenizer import Encoded, Tokenizer

BITS = 1 / math.log(2)
LOSSY = 0.001
"""Above this share of lost characters a figure is withheld; below, the share is shown beside it."""

TOKENS_AT_ONCE = 8192
"""Tokens of short documents handed over together; the result does not depend on it."""

UNSPACED = 0.01
"""Above this share of letters that are written without spaces, nobody can say what a word is."""

WORD = re.compile(r"\S+")

FIGURES = ("bits_per_byte", "bits_per_character", "nats_per_token")
"""What is compared item by item."""

BLOCK = 1000
"""Characters of a block."""

MIN_DOCUMENTS = 10
"""With fewer documents the bootstrap draws blocks: neighbours are not quite independent, but one long file gets an
interval at all (Kuensch 1989, fixed blocks)."""

COLUMNS = {
    "bits_per_byte": "evaluate-bits-per-byte",
    "bits_per_character": "evaluate-bits-per-character",
    "perplexity": "evaluate-perplexity",
    "tokens": "evaluate-tokens",
    "lost_share": "evaluate-lost",
}
UNITS = {
    "byte_perplexity": "evaluate-by-byte",
    "character_perplexity": "evaluate-by-character",
    "word_perplexity": "evaluate-by-word",
    "perplexity": "evaluate-by-token",
}
"""The same nats over other units."""


def prepare(options: EvaluateOptions) -> list[Document]:
    """The documents to measure on: `data`, the held-out files of a world, or what training held out. Raises
    `evaluate-no-data`, `evaluate-no-heldout`, `evaluate-heldout-empty`."""
    if options.data is None:
        raise fail("evaluate-no-data")
    documents = [document for path in heldout_files(options.data) for document in read_documents(path)]
    if options.heldout:
        documents = held_out(documents, options.data, options.models)
    return stratified(documents, options.limit, options.seed, lambda d: d.source, lambda d: d.text)


def measure(model: LanguageModel, documents: Sequence[Document], options: EvaluateOptions) -> list[Row]:
    """One row a block of a document: its bytes, characters and tokens, the characters lost, and -log p in nats."""
    assert options.window is not None
    context = start_ids(model.tokenizer, model.model_dir.path)
    encoded = [model.tokenizer.encode_pieces([document.text]) for document in documents]
    rows = [[*context, *found.ids] for found in encoded]
    scored = dict(document_logprobs(model, rows, len(context), options.window, options.stride))
    return [
        {"document": f"{document.source}:{document.line}", "digest": text_digest(document.text), **row}
        for number, (document, found) in enumerate(zip(documents, encoded, strict=True))
        for row in block_rows(document.text, found, scored[number], model.tokenizer)
    ]


def block_rows(document: str, encoded: Encoded, logprobs: Values, tokenizer: Tokenizer) -> Iterator[Row]:
    """The rows of one document, cut every BLOCK characters; a token belongs where its first character stands.

    Characters that the tokenizer loses are counted in the first block.
    """
    block_of = np.minimum(np.array(encoded.begins, dtype=np.int64), len(document) - 1) // BLOCK
    lost = lost_characters(tokenizer, document, encoded.ids)
    words = Counter(found.start() // BLOCK for found in WORD.finditer(document))
    for block, begin in enumerate(range(0, len(document), BLOCK)):
        written, inside = document[begin : begin + BLOCK], block_of == block
        yield {
            "block": block,
            "bytes": len(written.encode()),
            "characters": len(written),
            "tokens": int(inside.sum()),
            "words": words[block],
            "letters": len(LETTER.findall(written)),
            "unspaced": len(UNSPACED_LETTER.findall(written)),
            "lost": lost if block == 0 else 0,
            "nats": word_if_infinite(-float(logprobs[inside].sum())),
        }


def text_digest(written: str) -> str:
    """What tells documents apart wherever their files lie."""
    return hashlib.sha256(written.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def start_ids(tokenizer: Tokenizer, path: Path) -> tuple[int, ...]:
    """What stands before a document, unscored. Raises `evaluate-no-start-token` where the tokenizer has nothing."""
    if not tokenizer.start_ids:
        raise fail("evaluate-no-start-token", path=path)
    return tokenizer.start_ids


def document_logprobs(
    model: LanguageModel, rows: Sequence[Sequence[int]], num_context: int, window: int, stride: int | None
) -> Iterator[tuple[int, Values]]:
    """(number, log p of ids[num_context:] in float64) of every row; short rows together, long ones in windows."""
    order = sorted(range(len(rows)), key=lambda number: (len(rows[number]), number))
    total, done = sum(map(len, rows)), 0
    with progress(text("evaluate-reading", model=model.name), total) as advance:
        for group in _groups(order, rows, window):
            if len(rows[group[0]]) - 1 <= window:
                found = batch_logprobs(model, [rows[number] for number in group])
            else:
                found = [sliding_window(model, rows[number], window, stride) for number in group]
            for number, logprobs in zip(group, found, strict=True):
                assert len(logprobs) == len(rows[number]) - 1, "a token was scored twice or not at all"
                yield number, logprobs[num_context - 1 :].double().numpy()
                done += len(rows[number])
            advance(done)


def _groups(order: Sequence[int], rows: Sequence[Sequence[int]], window: int) -> Iterator[list[int]]:
    """Neighbours in length, at most TOKENS_AT_ONCE together; a row longer than the window alone."""
    group: list[int] = []
    for number in order:
        full = group and len(rows[number]) * (len(group) + 1) > TOKENS_AT_ONCE
        if group and (full or len(rows[number]) - 1 > window):
            yield group
            group = []
        group.append(number)
    if group:
        yield group


def lost_characters(tokenizer: Tokenizer, document: str, ids: Sequence[int]) -> int:
    """How many characters do not come back when the ids are decoded (unknown tokens, normalisation)."""
    again = tokenizer.decode(ids, skip_special=False)
    if again == document:
        return 0
    return sum((Counter(document) - Counter(again)).values())


@dataclass(frozen=True)
class Columns:
    """The rows of one entrant as arrays, one entry a unit that the bootstrap draws: a document, or a block of one."""

    nats: Values
    bytes: Values
    characters: Values
    tokens: Values
    words: Values | None
    lost: float
    documents: int

    @classmethod
    def of(cls, comparison: Comparison, entrant: int) -> Columns:
        """Blocks stay apart where there are fewer than MIN_DOCUMENTS documents to draw from."""
        numbering: dict[str, int] = {}
        document = [numbering.setdefault(name, len(numbering)) for name in comparison.column(entrant, "document")]
        unit = np.array(document if len(numbering) >= MIN_DOCUMENTS else range(len(document)))
        nats, size, characters, tokens, lost = (
            np.bincount(unit, [float(value) for value in comparison.column(entrant, name)]).astype(np.float64)
            for name in ("nats", "bytes", "characters", "tokens", "lost")
        )
        share = float(lost.sum() / characters.sum())
        return cls(nats, size, characters, tokens, _words(comparison, entrant, unit), share, len(numbering))

    @property
    def valid(self) -> bool:
        return self.lost <= LOSSY


def _words(comparison: Comparison, entrant: int, unit: npt.NDArray[np.int64]) -> Values | None:
    """Words of each unit; None for text without spaces, and for rows that were saved before words were counted."""
    rows = comparison.rows[entrant]
    words, letters, unspaced = (
        np.array([row.get(name, 0) for row in rows], np.float64) for name in ("words", "letters", "unspaced")
    )
    if words.sum() == 0 or unspaced.sum() > UNSPACED * letters.sum():
        return None
    return np.bincount(unit, words).astype(np.float64)


def score(comparison: Comparison) -> TaskResult:
    """Figures with intervals that draw whole documents, differences to the baseline on the same draws."""
    comparison.require_same_items("document", "block", "bytes", "characters")
    columns = [Columns.of(comparison, index) for index in range(len(comparison.entrants))]
    numbers = [_numbers(comparison, columns, index) for index in range(len(columns))]
    for entrant, column, found in zip(comparison.entrants, columns, numbers, strict=True):
        if not column.valid:
            warn("evaluate-lossy", model=entrant.name, share=f"{100 * column.lost:.2g}")
        elif "inf" in {str(found[name]) for name in (*UNITS, "bits_per_byte")}:
            warn("evaluate-overflow", model=entrant.name)
    return TaskResult(
        numbers=numbers,
        method="evaluate-method-perplexity",
        sections=[*_sections(comparison, columns, numbers)],
        verdict=_verdicts(comparison, numbers),
        units={"bits_per_byte.change": "percent", "lost_share": "percent", "bytes": "bytes"},
    )


def _numbers(comparison: Comparison, columns: Sequence[Columns], index: int) -> dict[str, Cell]:
    own, base = columns[index], columns[comparison.baseline]
    numbers: dict[str, Cell] = dict.fromkeys(("bits_per_byte", "bits_per_character", *reversed(UNITS)))
    if own.valid:
        numbers["bits_per_byte"] = cell(_ratio(comparison, own.nats, own.bytes).scaled(BITS))
        numbers["bits_per_character"] = cell(_ratio(comparison, own.nats, own.characters).scaled(BITS))
        each = own.bytes, own.characters, own.words, own.tokens
        for name, below in zip(UNITS, each, strict=True):
            if below is not None:
                numbers[name] = cell(_ratio(comparison, own.nats, below).exponential())
    if own.valid and base.valid and index != comparison.baseline:
        numbers["bits_per_byte.change"] = cell(relative_change(comparison, own, base))
    sizes = {"documents": own.documents, "bytes": int(own.bytes.sum()), "tokens": int(own.tokens.sum())}
    return {**numbers, **sizes, "lost_share": own.lost}


def relative_change(comparison: Comparison, own: Columns, base: Columns) -> Interval:
    """Bits per byte over the baseline's, minus one. The bytes cancel, so that it is a ratio of nats."""
    if not (np.isfinite(base.nats).all() and (base.nats > 0).all()):
        return Interval(None)
    return _ratio(comparison, own.nats, base.nats).scaled(1.0, -1.0)


def _ratio(comparison: Comparison, numerators: Values, denominators: Values) -> Interval:
    counted = denominators > 0  # a document may have no token left where the tokenizer lost all of it
    return clustered_ratio(numerators[counted], denominators[counted], comparison.seed)


def _sections(
    comparison: Comparison, columns: Sequence[Columns], numbers: Sequence[dict[str, Cell]]
) -> Iterator[Section]:
    names = [entrant.name for entrant in comparison.entrants]
    heads = {key: text(code) for key, code in COLUMNS.items()}
    rows = [
        [name, *(found[key] for key in heads), own.bytes.sum() / max(1.0, own.tokens.sum())]
        for name, found, own in zip(names, numbers, columns, strict=True)
    ]
    columns_shown = [text("evaluate-model"), *heads.values(), text("evaluate-bytes-per-token")]
    drawn = text("evaluate-drawn-documents") if columns[0].documents >= MIN_DOCUMENTS else text("evaluate-drawn-blocks")
    size = {"documents": columns[0].documents, "size": f"{columns[0].bytes.sum():,.0f}"}
    note = f"{text('evaluate-perplexity-note', **size)} {drawn}"
    if len({entrant.tokenizer for entrant in comparison.entrants}) > 1:
        note = f"{note} {text('evaluate-tokenizers-differ')}"
    yield Table(
        title=text("evaluate-text"), columns=columns_shown, rows=rows, units={heads["lost_share"]: "percent"}, note=note
    )
    units = [text(code) for code in UNITS.values()]
    by_unit = [[name, *(found[key] for key in UNITS)] for name, found in zip(names, numbers, strict=True)]
    note = text("evaluate-words-spaced" if columns[0].words is not None else "evaluate-words-withheld")
    yield Table(title=text("evaluate-units"), columns=[text("evaluate-model"), *units], rows=by_unit, note=note)
    y, low, high = bounds([found["bits_per_byte"] for found in numbers])
    series = Series(name="bits per byte", x=list(names), y=y, low=low, high=high)
    title, y_label = text("evaluate-text-plot"), text("evaluate-bits-per-byte")
    yield Plot(title=title, kind="bar", series=[series], y_label=y_label, note=text("evaluate-95"))


def _verdicts(comparison: Comparison, numbers: Sequence[dict[str, Cell]]) -> list[str]:
    """In plain words: how well the baseline predicts, and how far the others are from it."""
    baseline = comparison.entrants[comparison.baseline].name
    value = plain_number(numbers[comparison.baseline]["bits_per_byte"])
    sentences = [] if value is None else [text("evaluate-verdict-text", model=baseline, bits=f"{value:.4f}")]
    for index in comparison.others:
        name = comparison.entrants[index].name
        (change,), (low,), (high,) = bounds([numbers[index].get("bits_per_byte.change")], 100.0)
        if change is None or low is None or high is None:
            sentences.append(text("evaluate-verdict-no-change", model=name, baseline=baseline))
            continue
        code = (
            "evaluate-verdict-worse" if low > 0 else "evaluate-verdict-better" if high < 0 else "evaluate-verdict-alike"
        )
        shown = f"{change:+.2f}" if low <= 0 <= high else f"{abs(change):.2f}"
        parts = {"change": shown, "low": f"{low:+.2f}", "high": f"{high:+.2f}"}
        sentences.append(text(code, model=name, baseline=baseline, **parts))
    return sentences


def values(rows: Sequence[Row], entrant: Entrant, options: Mapping[str, Any]) -> dict[str, ItemValues]:
    """Blocks by what their document holds, drawn like the intervals: by document, or by block where there are few.

    A model whose tokenizer loses text has no figure, as in `score`. Tokens are counted alike by one tokenizer only.
    Raises `evaluate-rows-old`.
    """
    lost, characters = (sum(row[name] for row in rows) for name in ("lost", "characters"))
    if lost > LOSSY * characters:
        reason = text("evaluate-lossy", model=entrant.name, share=f"{100 * lost / characters:.1f}")
        return {name: ItemValues.none(reason, name == "bits_per_byte") for name in FIGURES}
    if not all("digest" in row for row in rows):
        raise fail("evaluate-rows-old", model=entrant.name)
    documents = text_ids([row["document"] for row in rows], [row["digest"] for row in rows])
    ids = [f"{document}.{row['block']}" for document, row in zip(documents, rows, strict=True)]
    nats = np.array([float(row["nats"]) for row in rows], np.float64)
    own = {"window": str(options["window"]), "stride": str(options["stride"])}

    def figure(weight: str, scale: float, **conditions: str) -> ItemValues:
        weights = np.array([row[weight] for row in rows], np.float64)
        asked = [f"{row['bytes']} {row['characters']}" for row in rows]
        return ItemValues(
            ids, asked, nats, weights, documents if len(set(documents)) >= MIN_DOCUMENTS else ids, is_share=False,
            higher_is_better=False, primary=weight == "bytes", scale=scale, conditions=own | conditions,
            questions=[f"{row['document']} ({row['block'] + 1})" for row in rows],
            places=[row["document"] for row in rows],
            replies=[f"{scale * n / w:.4f}" if w else "-" for n, w in zip(nats, weights, strict=True)],
        )  # fmt: skip

    made = figure("bytes", BITS), figure("characters", BITS), figure("tokens", 1.0, tokenizer=entrant.tokenizer)
    return dict(zip(FIGURES, made, strict=True))


TASK = Task(
    raw="documents",
    prepare=prepare,
    measure=measure,
    score=score,
    options=("window", "stride", "heldout"),
    values=values,
)
