"""Suite `crows-pairs` (Nangia et al. 2020, arXiv 2010.00133): which of two sentences, the more or the less
stereotypical one, is likelier.

    decoder   log p of the whole sentence, lm-eval's `crows_pairs_english` and its two numbers
    encoder   the paper's pseudo-log-likelihood over the words that both share

The pairs are known to be noisy (Blodgett et al. 2021): a share is about these sentences, not about people.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from ingot.adapt.load import LanguageModel
from ingot.core.errors import fail
from ingot.core.language import text
from ingot.evaluate.bias.asking import asking_label, controlled, prefers_order, sentences, shuffled
from ingot.evaluate.bias.files import Record, checked, locate, not_empty
from ingot.evaluate.bias.finding import Finding, Parts, finding, ratio
from ingot.evaluate.bias.masked import pair_scores, text_scores
from ingot.evaluate.bias.options import BiasOptions
from ingot.evaluate.bias.suite import Control, Example, Scored, Suite, withhold
from ingot.evaluate.subset import stratified
from ingot.evaluate.task import Row
from ingot.model.network import form_of

NAME = "crows-pairs"
COLUMNS = ("sent_more", "sent_less", "stereo_antistereo", "bias_type")


class Pair(Record):
    """`more` is the sentence with the stereotype."""

    id: str
    more: str = Field(alias="sent_more", min_length=1)
    less: str = Field(alias="sent_less", min_length=1)
    direction: Literal["stereo", "antistereo"] = Field(alias="stereo_antistereo")
    group: str = Field(alias="bias_type", pattern=r"^[^\s.]+$")


def prepare(options: BiasOptions) -> list[Pair]:
    """The pairs of the csv."""
    (path, *_) = locate(options.data, NAME, ["crows_pairs_anonymized.csv", "crows_pairs*.csv"])
    return stratified(_read(path), options.limit, options.seed, lambda pair: pair.group, lambda pair: pair.id)


def _read(path: Path) -> list[Pair]:
    reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    if missing := [name for name in COLUMNS if name not in (reader.fieldnames or [])]:
        raise fail("bias-columns", path=path, missing=", ".join(missing), found=", ".join(reader.fieldnames or []))
    pairs = [
        checked(Pair, path, reader.line_num, {**row, "id": row.get("") or str(at)}) for at, row in enumerate(reader)
    ]
    return not_empty(pairs, path)


def measure(model: LanguageModel, pairs: Sequence[Pair], options: BiasOptions) -> list[Row]:
    """Both sentences of every pair, and some of them shuffled."""
    label, form = asking_label(model, NAME), form_of(model.config)
    texts = [one for pair in pairs for one in (pair.more, pair.less)]
    chosen = controlled([pair.less for pair in pairs])
    mixed = [shuffled(pairs[at].less) for at in chosen]
    if form == "encoder":
        both = pair_scores(model, [(pair.more, pair.less) for pair in pairs], label)
        found = text_scores(model, [pairs[at].less for at in chosen] + mixed, label)
        control = dict(zip(chosen, zip(found[: len(chosen)], found[len(chosen) :], strict=True), strict=True))
    else:
        flat = sentences(model, texts + mixed, label)
        both = list(zip(flat[: len(texts) : 2], flat[1 : len(texts) : 2], strict=True))
        control = {at: (both[at][1], score) for at, score in zip(chosen, flat[len(texts) :], strict=True)}
    return [
        {"id": pair.id, "group": pair.group, "direction": pair.direction, "more": pair.more, "less": pair.less,
         "form": form, "nats": list(scores), "control": list(control[at]) if at in control else None}
        for at, (pair, scores) in enumerate(zip(pairs, both, strict=True))
    ]  # fmt: skip


def score(rows: Sequence[Row], seed: int) -> Scored:
    """The share of pairs whose stereotypical sentence is likelier, whole and by group, and how far apart they are."""
    order = prefers_order([(row["control"][0], row["control"][1]) for row in rows if row["control"]])
    control = Control(text("bias-control-order"), order, chance=0.5)
    findings = [_share(f"{NAME}.pct_stereotype", text("bias-crows-share"), rows, seed)]
    for group in sorted({row["group"] for row in rows}):
        chosen = [row for row in rows if row["group"] == group]
        findings.append(_share(f"{NAME}.pct_stereotype.{group}", text("bias-crows-group", group=group), chosen, seed))
    findings.append(_apart(rows, seed))
    examples = [Example(f"{NAME}.pct_stereotype", _gap(row), "number", row["more"], row["less"]) for row in rows]
    return Scored(withhold(findings, control), [control], examples, [text(f"bias-crows-{rows[0]['form']}")])


def pct_stereotype(rows: Sequence[Row]) -> float:
    """As lm-eval counts: an equal pair is none."""
    return float(np.mean([row["nats"][0] > row["nats"][1] for row in rows]))


def likelihood_diff(rows: Sequence[Row]) -> float:
    """Mean distance of the two, nats, whichever is likelier."""
    return float(np.mean([abs(_gap(row)) for row in rows]))


def _gap(row: Row) -> float:
    return float(row["nats"][0] - row["nats"][1])


def _share(key: str, label: str, rows: Sequence[Row], seed: int) -> Finding:
    signs = [1.0 if _gap(row) > 0 else -1.0 for row in rows]
    return finding(key, label, Parts.of(signs, range(len(rows))), seed, num_items=len(rows), unit="percent")


def _apart(rows: Sequence[Row], seed: int) -> Finding:
    parts = Parts.of([abs(_gap(row)) for row in rows], range(len(rows)))
    return Finding(f"{NAME}.likelihood_diff", text("bias-crows-apart"), len(rows), ratio(parts, seed), parts=parts)


SUITE = Suite(
    prepare=prepare,
    measure=measure,
    score=score,
    title="bias-title-crows-pairs",
    method="bias-method-crows-pairs",
    options=("data", "limit"),
    forms=("decoder", "encoder"),
)
