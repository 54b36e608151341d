"""BLEU, chrF and TER through sacrebleu: its numbers, its signature, and a tokenizer that fits the writing.

sacrebleu's default for BLEU cuts at spaces, which makes a Chinese sentence one token, and TER's does too. Here the
tokenizer follows the script (`choose`), a tokenizer that cuts at spaces is refused for text without them unless forced,
and what was forced stands in the signature. `ingot-cjk` also cuts Han characters beyond the basic plane, kana and
emoji; it is no tokenizer of sacrebleu's, so its name is another.

Where no text is long enough for a single n-gram of the highest order, BLEU is 0 by definition, of identical texts too;
then, and only then, sacrebleu's effective order is used, and the signature says `eff:yes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from ingot.core.errors import fail
from ingot.core.language import text
from ingot.evaluate.metrics.measured import Measured
from ingot.evaluate.metrics.tokens import CJK_NAME, Script, num_beyond, spaced_cjk
from ingot.evaluate.statistics import Values

ORDER = 4
SPACED = ("13a", "intl", "none", "tercom")
"""Tokenizers that find words between spaces."""
FORCED = "forced:spaces-on-unspaced-text"


class CjkTokenizer:
    """`ingot-cjk` as sacrebleu calls a tokenizer."""

    def __call__(self, line: str) -> str:
        return spaced_cjk(line)

    def signature(self) -> str:
        return CJK_NAME


def choose(metric: str, wanted: str, script: Script, force: bool) -> tuple[str, str, bool]:
    """(tokenizer, why in words, forced): what was asked for, or by script. Raises `score-spaces`."""
    defaults = {"bleu": {"zh": "zh", "ja": "char", "unspaced": "ingot-cjk"},
                "ter": {"zh": "tercom-asian", "ja": "ingot-cjk", "unspaced": "ingot-cjk"}}[metric]  # fmt: skip
    chosen = wanted
    if wanted == "auto":
        chosen = defaults.get(script.language, {"bleu": "13a", "ter": "tercom"}[metric])
    forced = chosen in SPACED and script.unspaced > 0
    if forced and not force:
        better = defaults.get(script.language, "ingot-cjk")
        raise fail("score-spaces", metric=metric, tokenizer=chosen, count=script.unspaced, total=script.total,
                   option=f"--{metric}.tokenize {better}")  # fmt: skip
    return chosen, why(wanted, script), forced


def why(wanted: str, script: Script) -> str:
    """Why these tokens, in words."""
    if wanted != "auto":
        return text("score-why-asked")
    if script.is_told:
        return text("score-why-told", lang=script.language)
    return text(f"score-why-{script.language}", unspaced=script.unspaced, lost=script.lost, total=script.total)


def bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]], tokenizer: str, *, lowercase: bool,
         reason: str, forced: bool) -> Measured:  # fmt: skip
    """Corpus BLEU, and BLEU of each text at its effective order."""
    metric = _bleu(tokenizer, lowercase)
    stats = _statistics(metric, hypotheses, references)
    effective = metric.effective_order = not stats[:, 1 + 2 * ORDER].any()  # no text has ORDER tokens
    score = metric._aggregate_and_compute(_rows(stats))
    items = bleu_of_sums(stats, True)
    notes = [text("score-note-effective")] if effective else []
    if tokenizer == "zh" and (beyond := num_beyond([*hypotheses, *(one for texts in references for one in texts)])):
        notes.append(text("score-note-beyond", count=beyond))
    extra = {"bp": score.bp, "ratio": score.ratio} | {f"p{n}": p for n, p in enumerate(score.precisions, start=1)}
    return Measured(
        "bleu", float(score.score), _signature(metric, forced), reason, True, items, stats,
        lambda sums: bleu_of_sums(sums, effective), extra=extra, notes=notes,
    )  # fmt: skip


def _bleu(tokenizer: str, lowercase: bool) -> Any:
    own = tokenizer == "ingot-cjk"
    metric: Any = BLEU(lowercase=lowercase, tokenize="none" if own else tokenizer, force=True)
    if own:
        metric.tokenizer, metric.tokenizer_signature = CjkTokenizer(), CJK_NAME
    return metric


def chrf(hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, word_order: int, lowercase: bool,
         script: Script, force: bool) -> Measured:  # fmt: skip
    """chrF, or chrF++ with words, which are refused where nobody writes spaces between them. Raises `score-spaces`."""
    forced = word_order > 0 and script.unspaced > 0
    if forced and not force:
        raise fail("score-spaces", metric="chrf", tokenizer=f"word_order {word_order}", count=script.unspaced,
                   total=script.total, option="--chrf.word-order 0")  # fmt: skip
    metric: Any = CHRF(word_order=word_order, lowercase=lowercase)
    stats = _statistics(metric, hypotheses, references)
    score = metric._aggregate_and_compute(_rows(stats))
    return Measured(
        "chrf", float(score.score), _signature(metric, forced), text("score-why-characters"), True,
        chrf_of_sums(stats), stats, chrf_of_sums,
    )  # fmt: skip


def ter(hypotheses: Sequence[str], references: Sequence[Sequence[str]], tokenizer: str, *, reason: str,
        forced: bool) -> Measured:  # fmt: skip
    """TER: edits and shifts over the mean length of the references; lower is better."""
    asian = tokenizer == "tercom-asian"
    metric: Any = TER(normalized=asian, asian_support=asian)
    if tokenizer == "ingot-cjk":
        metric.tokenizer, metric.tokenizer_signature = _lowered, CJK_NAME
    stats = _statistics(metric, hypotheses, references)
    score = metric._aggregate_and_compute(_rows(stats))
    return Measured(
        "ter", float(score.score), _signature(metric, forced), reason, False, ter_of_sums(stats), stats, ter_of_sums,
        extra={"edits": int(score.num_edits), "reference_length": float(score.ref_length)},
    )  # fmt: skip


def _lowered(line: str) -> str:
    return spaced_cjk(line.lower())


def _statistics(metric: Metric, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Values:
    """(texts, k): what sacrebleu sums. Sets `num_refs` of the metric, which its signature needs."""
    return np.array(metric._extract_corpus_statistics(hypotheses, references), np.float64)


def _rows(stats: Values) -> list[list[float]]:
    """As sacrebleu counts: whole numbers where they are."""
    return [[int(value) if value.is_integer() else value for value in row] for row in stats.tolist()]


def _signature(metric: Metric, forced: bool) -> str:
    found = metric.get_signature().format()
    return f"{found}|{FORCED}" if forced else found


def bleu_of_sums(sums_DK: Values, effective: bool) -> Values:
    """BLEU of each row of sums (lengths, matches, totals), smoothed as sacrebleu's `exp`; one score a row."""
    length, target = sums_DK[:, 0], sums_DK[:, 1]
    matches, totals = sums_DK[:, 2 : 2 + ORDER], sums_DK[:, 2 + ORDER : 2 + 2 * ORDER]
    zero = (matches == 0) & (totals > 0)
    halvings = np.cumsum(zero, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(zero, 1 / (2.0**halvings * totals), matches / totals)
        logs = np.where(totals > 0, np.log(precision), 0.0)
        penalty = np.where(length < target, np.exp(1 - target / length), 1.0)
        orders = np.maximum((totals > 0).sum(axis=1), 1) if effective else np.full(len(sums_DK), ORDER)
        found = 100 * penalty * np.exp(logs.sum(axis=1) / orders)
    possible = (matches > 0).any(axis=1) & (length > 0)
    possible &= np.bool_(effective) | (totals > 0).all(axis=1)
    return np.where(possible, found, 0.0)


def chrf_of_sums(sums_DK: Values) -> Values:
    """chrF (beta 2) of each row of sums: for every order n-grams of the hypothesis, of the reference, in both."""
    own, target, both = sums_DK[:, 0::3], sums_DK[:, 1::3], sums_DK[:, 2::3]
    counted = (own > 0) & (target > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        orders = counted.sum(axis=1)
        precision = np.where(counted, both / own, 0.0).sum(axis=1) / orders
        recall = np.where(counted, both / target, 0.0).sum(axis=1) / orders
        found = 100 * 5 * precision * recall / (4 * precision + recall)
    return np.where((orders > 0) & (precision + recall > 0), found, 0.0)


def ter_of_sums(sums_DK: Values) -> Values:
    """Edits over reference length of each row of sums."""
    edits, length = sums_DK[:, 0], sums_DK[:, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(length > 0, 100 * edits / length, np.where(edits > 0, 100.0, 0.0))
