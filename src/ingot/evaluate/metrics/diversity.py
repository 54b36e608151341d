"""How varied texts are among themselves: distinct n-grams at equal length, and self-BLEU, exact in linear time.

The share of distinct n-grams (Li et al. 2016) falls with the amount of text, so it is shown and not to be compared.
`distinct` is the expected share of distinct n-grams among `sample` n-grams drawn without replacement (rarefaction,
Hurlbert 1971), which does not depend on how much text there is. Beside it stands the expectation-adjusted distinct of
Liu et al. (ACL 2022): distinct n-grams over what a uniform draw from a vocabulary of VOCABULARY would give.

Self-BLEU (Zhu et al. 2018) is the mean BLEU of each text with all others as references. A text's matches are clipped
by the largest count of an n-gram among the others: the largest of all, or the second where the text itself holds that.
Those two counts of every n-gram are found in one pass, so nothing is sampled and the result is sacrebleu's.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ingot.core.errors import fail
from ingot.core.language import text
from ingot.evaluate.metrics.measured import Measured
from ingot.evaluate.metrics.tokens import Cut
from ingot.evaluate.metrics.translation import ORDER, bleu_of_sums
from ingot.evaluate.statistics import Interval, Values, clustered_ratio, student_quantile

Gram = tuple[str, ...]
VOCABULARY = 30_000
"""Of the expectation-adjusted distinct: a usual size of a word vocabulary; part of the signature."""
GROUPS = 20
"""Texts are left out by twentieths for the interval (a delete-a-group jackknife, Kott 2001)."""


def ngrams(tokens: Sequence[str], n: int) -> list[Gram]:
    return list(zip(*(tokens[at:] for at in range(n)), strict=False))


def distinct(texts: Sequence[str], cut: Cut, tokenizer: str, n: int, sample: int, why: str) -> Measured:
    """Distinct n-grams among `sample` of all that the texts hold. Raises `score-no-tokens`."""
    tokens = [cut(text) for text in texts]
    groups = [Counter[Gram]() for _ in range(GROUPS)]
    for number, one in enumerate(tokens):
        groups[number % GROUPS].update(ngrams(one, n))
    counts = sum(groups, Counter[Gram]())
    if not counts:
        raise fail("score-no-tokens", metric=f"distinct-{n}", count=len(texts), n=n)
    held = sample
    while held > counts.total():
        held //= 2
    total = counts.total()
    notes = [text("score-note-sample", n=n, total=total, held=held, sample=sample)] if held < sample else []
    value = rarefied(list(counts.values()), held)
    expected = VOCABULARY**n * -math.expm1(total * math.log1p(-1 / VOCABULARY**n))
    return Measured(
        f"distinct-{n}", value, f"n:{n}|tok:{tokenizer}|case:lc|sample:{held}|vocabulary:{VOCABULARY}", why, True,
        interval=_jackknife(value, counts, groups, held), why_none=text("score-none-few"), notes=notes,
        extra={"raw": len(counts) / total, "adjusted": len(counts) / expected, "ngrams": total, "types": len(counts)},
    )  # fmt: skip


def rarefied(counts: Sequence[int], sample: int) -> float:
    """Expected share of distinct kinds among `sample` drawn without replacement: 1 minus the chance that a kind is
    missed, summed over kinds and divided by the sample."""
    sizes, kinds = np.unique(np.array(counts, np.int64), return_counts=True)
    total = int((sizes * kinds).sum())
    left = total - sizes
    logs = np.array([_log_choose(int(one), sample) for one in left]) - _log_choose(total, sample)
    missed = np.where(left >= sample, np.exp(logs), 0.0)
    return float(((1 - missed) * kinds).sum()) / sample


def _log_choose(count: int, chosen: int) -> float:
    if count < chosen:
        return -math.inf
    return math.lgamma(count + 1) - math.lgamma(chosen + 1) - math.lgamma(count - chosen + 1)


def _jackknife(value: float, counts: Counter[Gram], groups: list[Counter[Gram]], sample: int) -> Interval:
    """None where a twentieth less text no longer fills the sample."""
    found: list[float] = []
    for group in groups:
        if not group or counts.total() - group.total() < sample:
            return Interval(value)
        rest = counts.copy()
        rest.subtract(group)
        found.append(rarefied([count for count in rest.values() if count], sample))
    spread = math.sqrt((GROUPS - 1) / GROUPS * float(((np.array(found) - np.mean(found)) ** 2).sum()))
    half = student_quantile(GROUPS - 1) * spread
    return Interval(value, max(0.0, value - half), min(1.0, value + half))


def self_bleu(texts: Sequence[str], cut: Cut, tokenizer: str, seed: int, why: str) -> Measured:
    """Mean over texts of BLEU against all others; lower is more varied. Raises `score-few-texts`."""
    if len(texts) < 2:
        raise fail("score-few-texts", metric="self-bleu", least=2, found=len(texts))
    tokens = [cut(text) for text in texts]
    items = bleu_of_sums(self_bleu_stats(tokens), True)
    interval = clustered_ratio(items, np.ones_like(items), seed)
    return Measured(
        "self-bleu", float(items.mean()), f"order:{ORDER}|texts:{len(texts)}|tok:{tokenizer}|smooth:exp|eff:yes|exact",
        why, False, items, interval=interval, notes=[text("score-note-self-bleu", count=len(texts))],
    )  # fmt: skip


def self_bleu_stats(tokens: Sequence[Sequence[str]]) -> Values:
    """What sacrebleu would sum for each text against all others: (texts, 2 + 2 * ORDER)."""
    counts = [[Counter(ngrams(one, n)) for n in range(1, ORDER + 1)] for one in tokens]
    largest, second = _two_largest(counts)
    lengths = sorted(len(one) for one in tokens)
    stats = np.zeros((len(tokens), 2 + 2 * ORDER))
    for row, one, orders in zip(stats, tokens, counts, strict=True):
        row[0], row[1] = len(one), _closest_other(lengths, len(one))
        for n, grams in enumerate(orders):
            row[2 + ORDER + n] = grams.total()
            for gram, count in grams.items():
                most = largest[gram]
                row[2 + n] += min(count, second.get(gram, 0) if count == most else most)
    return stats


def _two_largest(counts: Sequence[Sequence[Counter[Gram]]]) -> tuple[dict[Gram, int], dict[Gram, int]]:
    """The two largest counts that any two texts have of an n-gram; equal where two texts share the largest."""
    largest: dict[Gram, int] = {}
    second: dict[Gram, int] = {}
    for orders in counts:
        for grams in orders:
            for gram, count in grams.items():
                most = largest.get(gram, 0)
                if count > most:
                    largest[gram] = count
                    if most:
                        second[gram] = most
                elif count > second.get(gram, 0):
                    second[gram] = count
    return largest, second


def _closest_other(lengths: list[int], own: int) -> int:
    """The length nearest to `own` among the others, the shorter of two as near."""
    at = bisect.bisect_left(lengths, own)
    if at + 1 < len(lengths) and lengths[at + 1] == own:
        return own
    near = [lengths[place] for place in (at - 1, at + 1) if 0 <= place < len(lengths)]
    return min(near, key=lambda length: (abs(length - own), length))
