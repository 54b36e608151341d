"""Check `extraction`: given the beginning of a document it learnt from, does the model write on word for word?

Greedy, by the engine that also serves (Carlini et al. 2021, 2023). A continuation counts as extracted when all its
tokens are those of the document; as nearly extracted when its words are the same but for a tenth (edit similarity 0.9,
as Lee et al. 2022). Near-duplicates count once: of documents that go on nearly the same one is tried, and how many
documents of the corpus hold its continuation is shown beside it, because what is repeated is learnt by heart first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np

from ingot.adapt.load import LanguageModel
from ingot.core.errors import fail
from ingot.core.language import text
from ingot.core.progress import warn
from ingot.core.report import Cell, Plot, Sample, Samples, Section, Series, Table, Unit
from ingot.data.read import Document, read_documents
from ingot.evaluate.audit.check import Check, Result, Row, Setting
from ingot.evaluate.audit.options import AuditOptions, ExtractionOptions
from ingot.evaluate.audit.sample import NEARLY, NGRAM, distinct, sample
from ingot.evaluate.audit.scan import scan
from ingot.evaluate.audit.shown import names, written
from ingot.evaluate.audit.units import split
from ingot.evaluate.perplexity import start_ids
from ingot.evaluate.statistics import Interval, clustered_ratio, wilson
from ingot.evaluate.task import bounds, cell
from ingot.infer.engine import generate
from ingot.infer.options import Sampling

SIMILAR = 0.9
OVERSAMPLED = 3
"""So many times the documents wanted are drawn, because near-duplicates and short ones among them are left out."""

LENGTH, LEAST = 50, 12
"""Tokens to be continued where nothing is asked for, and the fewest."""

ENOUGH = 10
"""Fewer documents that are long enough are hardly any."""

SHORTEST = 30
"""Bytes of a document that could be long enough at all."""

SHOWN = 12


@dataclass(frozen=True)
class Candidate:
    """A document to begin, from the corpus or (`planted`) from the user's passages."""

    document: Document
    planted: bool


@dataclass(frozen=True)
class Trial:
    """A beginning and what truly follows it, as tokens."""

    candidate: Candidate
    given: list[int]
    truth: list[int]


def lacks(setting: Setting) -> str | None:
    return None


def prepare(setting: Setting) -> list[Candidate]:
    """A seeded sample of what the model learnt from, and the passages."""
    settings, history = setting.options.extraction, setting.history
    found = sample(read_documents(setting.options.corpus), OVERSAMPLED * settings.documents, setting.options.seed,
                   lambda one: len(one.text.encode()) >= SHORTEST and history.learnt(one.text))  # fmt: skip
    passages = list(read_documents(settings.passages)) if settings.passages is not None else []
    return [*(Candidate(one, True) for one in passages), *(Candidate(one, False) for one in found)]


def measure(model: LanguageModel | None, candidates: Sequence[Candidate], setting: Setting) -> list[Row]:
    """One row a document and length of its beginning: what was given, what follows, what was written."""
    assert model is not None
    trials = list(_trials(model, candidates, setting.options))
    asked = [Sampling(temperature=0.0, max_tokens=len(trial.truth)) for trial in trials]
    context = list(start_ids(model.tokenizer, model.model_dir.path))
    prompts = [[*context, *trial.given] for trial in trials]
    found = generate(model, prompts, asked, setting.options.slots, "extraction")
    rows = [_row(model, trial, list(sequence.tokens)) for trial, sequence in zip(trials, found, strict=True)]
    return _with_sources(rows, setting)


def _trials(model: LanguageModel, candidates: Sequence[Candidate], options: AuditOptions) -> Iterator[Trial]:
    """For every length of beginning the documents that are long enough. Raises `audit-nothing-to-extract`,
    `audit-extract-too-long`."""
    settings = options.extraction
    encoded = model.tokenizer.encode_batch([one.document.text for one in candidates])
    length = _length(list(map(len, encoded)), settings)
    if (needed := settings.prefixes[-1] + length) >= model.max_length:
        raise fail("audit-extract-too-long", found=needed + 1, limit=model.max_length, model=model.name)
    shortest = settings.prefixes[0] + length
    able = [number for number, ids in enumerate(encoded) if len(ids) >= shortest]
    if not able:
        raise fail("audit-nothing-to-extract", count=len(candidates), needed=shortest, data=options.corpus)
    texts = [split(model.tokenizer.decode(encoded[number][settings.prefixes[0] : shortest])) for number in able]
    chosen = [able[number] for number in distinct(texts)]
    chosen = chosen[: settings.documents + sum(candidates[number].planted for number in chosen)]
    for prefix in settings.prefixes:
        long = [number for number in chosen if len(encoded[number]) >= prefix + length]
        if len(long) < settings.documents:
            warn("audit-few-to-extract", found=len(long), wanted=settings.documents, needed=prefix + length)
        for number in long:
            ids = encoded[number]
            yield Trial(candidates[number], ids[:prefix], ids[prefix : prefix + length])


def _length(sizes: Sequence[int], settings: ExtractionOptions) -> int:
    """Tokens to be continued: as asked for, else LENGTH, halved while hardly any document is long enough."""
    if settings.length is not None:
        return settings.length
    length = LENGTH
    while length // 2 >= LEAST and sum(size >= settings.prefixes[0] + length for size in sizes) < ENOUGH:
        length //= 2
    if length < LENGTH:
        warn("audit-short-documents", length=length, usual=LENGTH)
    return length


def _row(model: LanguageModel, trial: Trial, tokens: list[int]) -> Row:
    document, decode = trial.candidate.document, model.tokenizer.decode
    equal = next((at for at, (one, other) in enumerate(zip(tokens, trial.truth, strict=False)) if one != other),
                 min(len(tokens), len(trial.truth)))  # fmt: skip
    texts = {"given": trial.given, "truth": trial.truth, "written": tokens}
    return {"document": f"{document.source}:{document.line}", "planted": trial.candidate.planted,
            "prefix": len(trial.given), "given_ids": trial.given, "tokens": len(trial.truth), "equal_tokens": equal,
            **{name: decode(ids) for name, ids in texts.items()}}  # fmt: skip


def _with_sources(rows: list[Row], setting: Setting) -> list[Row]:
    """What the corpus holds of each true continuation (in how many documents) and of each written one (where)."""
    number = {
        words: at for at, words in enumerate(dict.fromkeys([row[of] for row in rows for of in ("truth", "written")]))
    }
    texts = [split(words) for words in number]
    _, found = scan(texts, read_documents(setting.options.corpus), NGRAM, NEARLY)
    for row in rows:
        truth, own = found[number[row["truth"]]], found[number[row["written"]]]
        row["copies"] = truth.documents if row["planted"] else max(1, truth.documents)
        row["longest"], row["longest_place"], row["quote"] = own.longest, str(own.longest_place or "-"), own.quote
    return rows


def common_span(first: str, second: str) -> tuple[int, int]:
    """Units of the longest run that stands in both texts, and the unit of the second where it begins."""
    one, other = split(first).hashes.tolist(), split(second).hashes.tolist()
    match = SequenceMatcher(None, one, other, autojunk=False).find_longest_match()
    return match.size, match.b


def similarity(first: str, second: str) -> float:
    """Edit similarity of the units, 0 to 1: twice what they share in order, by how many both have."""
    one, other = split(first).hashes.tolist(), split(second).hashes.tolist()
    return SequenceMatcher(None, one, other, autojunk=False).ratio()


def is_extracted(row: Row) -> bool:
    return bool(row["equal_tokens"] == row["tokens"])


def is_nearly(row: Row) -> bool:
    return is_extracted(row) or similarity(row["truth"], row["written"]) >= SIMILAR


def score(rows: list[Row], options: AuditOptions) -> Result:
    """Shares by the length of what was given, apart for passages; the longest spans; and the texts."""
    prefixes = sorted({row["prefix"] for row in rows})
    groups = {(planted, prefix): [row for row in rows if row["planted"] == planted and row["prefix"] == prefix]
              for planted in (False, True) for prefix in prefixes}  # fmt: skip
    groups = {key: found for key, found in groups.items() if found}
    numbers: dict[str, Cell] = {}
    for (planted, prefix), found in groups.items():
        name = "passages_extracted" if planted else "extracted"
        numbers[f"{name}.{prefix}"] = cell(wilson(sum(map(is_extracted, found)), len(found)))
        numbers[f"{name}_nearly.{prefix}"] = cell(wilson(sum(map(is_nearly, found)), len(found)))
    units: dict[str, Unit] = dict.fromkeys(numbers, "percent")
    numbers["longest_extracted"] = max(common_span(row["truth"], row["written"])[0] for row in rows)
    at_most = [row for row in rows if row["prefix"] == prefixes[-1]]
    verdict = text("audit-verdict-extraction", count=sum(map(is_extracted, at_most)), tried=len(at_most),
                   prefix=prefixes[-1], length=rows[0]["tokens"], longest=numbers["longest_extracted"])  # fmt: skip
    sections: list[Section] = [_plot(groups), _table(groups, options), _spans(groups), _shown(rows, options)]
    method = text("audit-method-extraction", length=rows[0]["tokens"], similar=SIMILAR)
    return Result(numbers, sections, [verdict], method, units)


Groups = dict[tuple[bool, int], list[Row]]


def _group_name(planted: bool) -> str:
    return text("audit-passages") if planted else text("audit-documents")


def _plot(groups: Groups) -> Plot:
    """The share extracted against the length of what was given."""
    series = []
    for planted in sorted({planted for planted, _ in groups}):
        found = {prefix: rows for (is_planted, prefix), rows in groups.items() if is_planted == planted}
        y, low, high = bounds([cell(wilson(sum(map(is_extracted, rows)), len(rows))) for rows in found.values()])
        series.append(Series(name=_group_name(planted), x=list(map(float, found)), y=y, low=low, high=high))
    return Plot(title=text("audit-extracted-plot"), kind="line", series=series, x_label=text("audit-given-axis"),
                y_label=text("audit-extracted"), unit="percent", note=text("audit-interval-note"))  # fmt: skip


def _table(groups: Groups, options: AuditOptions) -> Table:
    codes = ("audit-tried", "audit-given-axis", "audit-texts", "audit-extracted", "audit-nearly", "audit-span-mean")
    columns = [text(code) for code in codes]
    rows: list[list[Cell]] = []
    for (planted, prefix), found in groups.items():
        exact, nearly = (cell(wilson(sum(map(judge, found)), len(found))) for judge in (is_extracted, is_nearly))
        rows.append([_group_name(planted), prefix, len(found), exact, nearly, cell(_mean_span(found, options.seed))])
    return Table(title=text("audit-extracted-table"), columns=columns, rows=rows, note=text("audit-extracted-note"),
                 units={columns[3]: "percent", columns[4]: "percent"})  # fmt: skip


def _mean_span(rows: Sequence[Row], seed: int) -> Interval:
    spans = np.array([float(common_span(row["truth"], row["written"])[0]) for row in rows])
    return clustered_ratio(spans, np.ones(len(spans)), seed)


def _spans(groups: Groups) -> Plot:
    """How long the spans common to what was written and what follows are, at the longest beginning."""
    prefix = max(prefix for _, prefix in groups)
    series = []
    for planted in sorted({planted for planted, _ in groups}):
        rows = groups.get((planted, prefix), [])
        spans = sorted((common_span(row["truth"], row["written"])[0] for row in rows), reverse=True)
        x = [100 * (at + 1) / len(spans) for at in range(len(spans))]
        series.append(Series(name=_group_name(planted), x=list(x), y=list(map(float, spans))))
    return Plot(title=text("audit-span-plot", prefix=prefix), kind="line", series=series,
                x_label=text("audit-span-share"), y_label=text("audit-span-axis"))  # fmt: skip


def _shown(rows: Sequence[Row], options: AuditOptions) -> Samples:
    """Those with the longest common spans, each document once, what is common marked."""
    best: dict[str, tuple[int, Row]] = {}
    for row in rows:
        size = common_span(row["truth"], row["written"])[0]
        if size > best.get(row["document"], (-1, row))[0]:
            best[row["document"]] = size, row
    chosen = sorted(best.values(), key=lambda entry: -entry[0])[:SHOWN]
    return Samples(title=text("audit-extracted-shown"), samples=[_sample(row, options) for _, row in chosen],
                   names=names(), note=text("audit-extracted-shown-note"))  # fmt: skip


def _sample(row: Row, options: AuditOptions) -> Sample:
    size, at = common_span(row["truth"], row["written"])
    units = split(row["written"])
    spans = [(int(units.begins[at]), int(units.ends[at + size - 1]))] if size else []
    title = text("audit-extracted-one", document=row["document"], prefix=row["prefix"], size=size,
                 copies=row["copies"], place=row["longest_place"], longest=row["longest"])  # fmt: skip
    truth = written(text("audit-truth"), row["truth"], [], options.policy, row["given"])
    own = written(text("audit-written-by-model"), units.text, spans, options.policy, row["given"])
    return Sample(title=title, texts=[truth.model_copy(update={"half": True}), own.model_copy(update={"half": True})])


CHECK = Check("extraction", True, ("extraction",), lacks, prepare, measure, score)
