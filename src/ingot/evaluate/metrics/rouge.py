"""ROUGE-1, 2, L and Lsum (Lin 2004), with rouge-score's numbers on its own tokens and right on Chinese.

Precision, recall and F of each pair; of several references the one with the best F counts, each kind by itself, as
rouge-score does. On `default` tokens every number equals rouge-score's. Chinese, Japanese and whatever else the
`default` tokenizer would lose is cut by `ingot-cjk`, and its sentences of Lsum end at 。！？ as well as at newlines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np

from ingot.evaluate.metrics.lcs import Masks, common_length, common_places, masks_of
from ingot.evaluate.metrics.stem import stem
from ingot.evaluate.metrics.tokens import CUTS, DEFAULT_NAME, cjk_sentences, newline_sentences
from ingot.evaluate.statistics import Values

KINDS = ("rouge1", "rouge2", "rougeL", "rougeLsum")
T = TypeVar("T")
Triple = tuple[float, float, float]
"""Precision, recall, F."""
NOTHING: Triple = (0.0, 0.0, 0.0)
ALL: Triple = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Cut:
    """How texts are cut: the tokenizer's name, and whether English words are stemmed."""

    tokenizer: str
    stem: bool = False

    def tokens(self, text: str) -> list[str]:
        found = CUTS[self.tokenizer](text)
        return [stem(token) if token.isascii() else token for token in found] if self.stem else found

    @property
    def sentences(self) -> Callable[[str], list[str]]:
        return newline_sentences if self.tokenizer == DEFAULT_NAME else cjk_sentences

    @property
    def keeps_short(self) -> bool:
        """Is a pair in which neither text has two tokens compared whole? rouge-score's ROUGE-2 gives it 0, also where
        both are the same word; of Chinese, where a word may be one character, that would be silently wrong."""
        return self.tokenizer != DEFAULT_NAME

    @property
    def signature(self) -> str:
        """What a score depends on, as pairs."""
        ends = "newline" if self.tokenizer == DEFAULT_NAME else "newline+。！？"
        short = "whole" if self.keeps_short else "0"
        return f"case:lc|tok:{self.tokenizer}|stem:{'porter' if self.stem else 'no'}|sentences:{ends}|short:{short}"


@dataclass(frozen=True)
class Prepared:
    """A text as tokens, their n-grams, where they stand, and its sentences with theirs."""

    tokens: list[str]
    unigrams: Counter[str]
    bigrams: Counter[tuple[str, str]]
    masks: Masks
    sentences: list[list[str]]

    @classmethod
    def of(cls, text: str, cut: Cut) -> Prepared:
        parts = cut.sentences(text)
        if len(parts) == 1 and parts[0] == text:
            tokens = cut.tokens(text)
            sentences = [tokens]
        else:
            sentences = [cut.tokens(part) for part in parts]
            tokens = [token for sentence in sentences for token in sentence]
        return cls(tokens, Counter(tokens), Counter(pairwise(tokens)), masks_of(tokens), sentences)


def rouge(hypotheses: Sequence[str], references: Sequence[Sequence[str]], cut: Cut) -> dict[str, Values]:
    """Of each kind (texts, 3): precision, recall and F. references: one list of texts for each set of references."""
    found: dict[str, list[Triple]] = {kind: [] for kind in KINDS}
    for hypothesis, *targets in zip(hypotheses, *references, strict=True):
        own = Prepared.of(hypothesis, cut)
        each = [_scores(Prepared.of(target, cut), own, cut.keeps_short) for target in targets]
        for number, kind in enumerate(KINDS):
            found[kind].append(max((one[number] for one in each), key=lambda triple: triple[2]))
    return {kind: np.array(triples, np.float64).reshape(-1, 3) for kind, triples in found.items()}


def _scores(target: Prepared, own: Prepared, keeps_short: bool) -> tuple[Triple, Triple, Triple, Triple]:
    """Of one pair, in the order of KINDS."""
    first = _overlap(target.unigrams, own.unigrams, len(target.tokens), len(own.tokens))
    second = _overlap(target.bigrams, own.bigrams, max(0, len(target.tokens) - 1), max(0, len(own.tokens) - 1))
    if keeps_short and target.tokens and target.tokens == own.tokens and len(own.tokens) < 2:
        second = ALL
    common = common_length(target.masks, len(target.tokens), own.tokens)
    longest = _triple(common, len(target.tokens), len(own.tokens))
    if len(target.sentences) == len(own.sentences) == 1:
        return first, second, longest, longest
    return first, second, longest, _triple(_summary_hits(target, own), len(target.tokens), len(own.tokens))


def _overlap(target: Counter[T], own: Counter[T], target_total: int, own_total: int) -> Triple:
    fewer, more = (own, target) if len(own) < len(target) else (target, own)
    common = 0
    for gram, count in fewer.items():
        if other := more.get(gram):
            common += count if count < other else other
    return _triple(common, target_total, own_total)


def _triple(common: int, target_total: int, own_total: int) -> Triple:
    if not common:
        return NOTHING
    precision, recall = common / own_total, common / target_total
    return precision, recall, 2 * precision * recall / (precision + recall)


def _summary_hits(target: Prepared, own: Prepared) -> int:
    """Tokens in the union of the common subsequences of each target sentence with all own sentences. A token counts at
    most as often as both texts hold it (ROUGE-1.5.5; the paper does not say so)."""
    left = {token: min(count, own.unigrams[token]) for token, count in target.unigrams.items()}
    hits = 0
    for sentence in target.sentences:
        masks = masks_of(sentence)
        union = 0
        for other in own.sentences:
            union |= common_places(masks, len(sentence), other)
        while union:
            lowest = union & -union
            token = sentence[lowest.bit_length() - 1]
            if left[token] > 0:
                left[token] -= 1
                hits += 1
            union ^= lowest
    return hits
