"""Check `membership`: can it be told from a model's likelihoods which documents it was trained on?

Members are a sample of what it learnt from, the others what it never saw. A classifier that sees the texts and not the
model must fail to tell them apart; where it does not, the attacks' figures are withheld, because they would measure the
difference of the texts. Documents of the others that the corpus holds nearly are left out, and counted.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ingot.adapt.load import LanguageModel, load
from ingot.core.errors import fail
from ingot.core.language import text
from ingot.core.progress import warn
from ingot.core.report import Cell, Plot, Section, Series, Table, Unit
from ingot.data.manifest import heldout_files
from ingot.data.read import Document, read_documents
from ingot.evaluate.audit.blind import blind_scores
from ingot.evaluate.audit.check import Check, Result, Row, Setting
from ingot.evaluate.audit.options import AuditOptions
from ingot.evaluate.audit.roc import FALSE_RATE, Told, curve, tell_apart
from ingot.evaluate.audit.sample import NEARLY, NGRAM, distinct, sample
from ingot.evaluate.audit.scan import scan
from ingot.evaluate.audit.units import split
from ingot.evaluate.perplexity import start_ids
from ingot.evaluate.statistics import Values
from ingot.evaluate.task import cell
from ingot.infer.likelihood import Query, batch_logprobs, following, query_moments

FEWEST = 10
"""Members, and others, below which nothing is said."""

SHORTEST = 30
"""Bytes of a document that is looked at."""

ATTACKS = ("loss", "zlib", "min_k", "min_k_plus", "reference")


@dataclass(frozen=True)
class Candidate:
    """A document, and whether the model learnt from it."""

    document: Document
    member: bool


def lacks(setting: Setting) -> str | None:
    return None if setting.options.heldout is not None or setting.history.holds_out else "heldout"


def prepare(setting: Setting) -> list[Candidate]:
    """As many members as others. Raises `audit-heldout-inside`, `audit-few-documents`."""
    options, history = setting.options, setting.history
    wanted = options.membership.documents
    members = sample(read_documents(options.corpus), 2 * wanted, options.seed,
                     lambda one: len(one.text.encode()) >= SHORTEST and history.learnt(one.text))  # fmt: skip
    others = sample(_unseen(setting), 2 * wanted, options.seed, lambda one: len(one.text.encode()) >= SHORTEST)
    others = _outside(others, setting)
    members, others = _distinct(members), _distinct(others)
    count = min(wanted, len(members), len(others))
    if count < FEWEST:
        raise fail("audit-few-documents", members=len(members), others=len(others), least=FEWEST)
    return [*(Candidate(one, True) for one in members[:count]), *(Candidate(one, False) for one in others[:count])]


def _unseen(setting: Setting) -> Iterator[Document]:
    """What the model was not trained on: the user's, else what its hallmark says."""
    options, history = setting.options, setting.history
    if options.heldout is not None:
        for path in heldout_files(options.heldout):
            yield from read_documents(path)
    elif history.heldout:
        for path in history.heldout:
            yield from read_documents(path)
    else:
        yield from (one for one in read_documents(options.corpus) if not history.learnt(one.text))


def _distinct(documents: list[Document]) -> list[Document]:
    return [documents[number] for number in distinct([split(one.text) for one in documents])]


def _outside(others: list[Document], setting: Setting) -> list[Document]:
    """Those that the documents learnt from do not hold nearly."""
    learnt = (one for one in read_documents(setting.options.corpus) if setting.history.learnt(one.text))
    _, found = scan([split(one.text) for one in others], learnt, NGRAM, NEARLY)
    kept = [one for one, copied in zip(others, found, strict=True) if copied.share < NEARLY]
    if others and not kept:
        raise fail("audit-heldout-inside", count=len(others), share=f"{NEARLY:.0%}", corpus=setting.options.corpus)
    if len(kept) < len(others):
        warn("audit-heldout-overlaps", count=len(others) - len(kept), total=len(others), share=f"{NEARLY:.0%}")
    return kept


def measure(model: LanguageModel | None, candidates: Sequence[Candidate], setting: Setting) -> list[Row]:
    """One row a document: what each attack gives it, higher for members."""
    assert model is not None
    options = setting.options
    context = list(start_ids(model.tokenizer, model.model_dir.path))
    room = min(options.membership.tokens, model.max_length - len(context))
    encoded = [ids[:room] for ids in model.tokenizer.encode_batch([one.document.text for one in candidates])]
    queries: list[Query] = [following([*context, *ids], len(context)) for ids in encoded]
    moments = query_moments(model, queries, "membership")
    texts = [model.tokenizer.decode(ids) for ids in encoded]
    rows = [_row(one, words, found, options.membership.lowest)
            for one, words, found in zip(candidates, texts, moments, strict=True)]  # fmt: skip
    if options.reference is not None:
        for row, nats in zip(rows, _reference_nats(options, texts), strict=True):
            row["reference"] = (nats - row["nats"]) / max(1, len(row["text"].encode()))
    return rows


def _row(one: Candidate, words: str, moments: Tensor, lowest: float) -> Row:
    """The attacks that need one model. Yeom 2018 (loss), Carlini 2021 (zlib), Shi 2024 (Min-K%), Zhang 2025 (++)."""
    logprobs, means, spreads = moments.double().numpy().T
    count = max(1, round(lowest * len(logprobs)))
    standard = (logprobs - means) / np.maximum(spreads, 1e-6)
    nats = -float(logprobs.sum())
    document = one.document
    return {"document": f"{document.source}:{document.line}", "member": one.member, "text": words, "nats": nats,
            "loss": -nats / len(logprobs), "zlib": -nats / len(zlib.compress(words.encode("utf-8", "replace"))),
            "min_k": float(np.sort(logprobs)[:count].mean()),
            "min_k_plus": float(np.sort(standard)[:count].mean())}  # fmt: skip


def _reference_nats(options: AuditOptions, texts: Sequence[str]) -> list[float]:
    """-log p of the same texts under the other model, whatever its tokenizer."""
    assert options.reference is not None
    other = load(options.reference, options.place)
    context = list(start_ids(other.tokenizer, other.model_dir.path))
    room = other.max_length
    rows = [[*context, *ids] for ids in other.tokenizer.encode_batch(list(texts))]
    if (longest := max(map(len, rows)) - 1) > room:
        raise fail("audit-reference-short", model=other.name, found=longest, limit=room)
    return [-float(found[len(context) - 1 :].double().sum()) for found in batch_logprobs(other, rows, "reference")]


def score(rows: list[Row], options: AuditOptions) -> Result:
    """The blind classifier first; the attacks only where it fails."""
    is_member = np.array([row["member"] for row in rows])
    blind = blind_scores([row["text"] for row in rows], is_member, options.seed)
    control = tell_apart(blind[is_member], blind[~is_member], options.seed)
    count = int(is_member.sum())
    numbers: dict[str, Cell] = {"membership_blind_auc": cell(control.auc)}
    withheld = control.auc.low is None or control.auc.low > 0.5
    numbers["membership_withheld"] = withheld
    method = text("audit-method-membership", count=count, **options.membership.model_dump())
    blind_cells = _auc_text(control)
    if withheld:
        reason = text("audit-withheld", blind=blind_cells)
        warn("audit-withheld", blind=blind_cells)
        return Result(numbers, [_table({"blind": control})], [reason], method)
    scores = {name: np.array([row[name] for row in rows]) for name in ATTACKS if name in rows[0]}
    told = {name: tell_apart(found[is_member], found[~is_member], options.seed) for name, found in scores.items()}
    units: dict[str, Unit] = {}
    for name, one in told.items():
        numbers[f"membership_auc.{name}"] = cell(one.auc)
        numbers[f"membership_caught.{name}"] = cell(one.caught)
        units[f"membership_caught.{name}"] = "percent"
    best = max(told, key=lambda name: told[name].auc.value or 0.0)
    verdict = text("audit-verdict-membership", attack=text(f"audit-attack-{best}"), auc=_auc_text(told[best]),
                   blind=blind_cells, count=count)  # fmt: skip
    sections: list[Section] = [_roc(scores, is_member), _table({**told, "blind": control})]
    return Result(numbers, sections, [verdict], method, units)


def _auc_text(told: Told) -> str:
    low, high = told.auc.low, told.auc.high
    assert low is not None
    assert high is not None
    return f"{told.auc.value:.3f} ({low:.3f} – {high:.3f})"


def _roc(scores: dict[str, Values], is_member: np.ndarray) -> Plot:
    series = [Series(name=text("audit-guessing"), x=[0.0, 1.0], y=[0.0, 1.0])]
    for name, found in scores.items():
        finite = np.nan_to_num(found, nan=-math.inf)
        x, y = curve(finite[is_member], finite[~is_member])
        series.append(Series(name=text(f"audit-attack-{name}"), x=list(x), y=list(y)))
    return Plot(title=text("audit-roc"), kind="line", series=series, x_label=text("audit-false-rate"),
                y_label=text("audit-true-rate"), note=text("audit-roc-note"))  # fmt: skip


def _table(told: dict[str, Told]) -> Table:
    columns = [text("audit-attack"), text("audit-auc"), text("audit-caught", rate=f"{FALSE_RATE:.0%}")]
    rows: list[list[Cell]] = [[text(f"audit-attack-{name}"), cell(one.auc), cell(one.caught)]
                              for name, one in told.items()]  # fmt: skip
    return Table(title=text("audit-attacks"), columns=columns, rows=rows, units={columns[2]: "percent"},
                 note=text("audit-attacks-note"))  # fmt: skip


CHECK = Check("membership", True, ("heldout", "reference", "membership"), lacks, prepare, measure, score)
