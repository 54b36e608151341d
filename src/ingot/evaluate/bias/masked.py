"""Pseudo-log-likelihoods of encoders: one token masked at a time, their log-probabilities summed.

Of a pair of sentences as CrowS-Pairs does it (Nangia et al. 2020, section 3.1): only the tokens that both share are
masked, each seen beside the other sentence's own words, so that how often a group is named does not count. Of one
sentence all tokens are (Salazar et al. 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

from ingot.adapt.load import LanguageModel
from ingot.core.errors import fail
from ingot.data.objectives.special import end_id, mask_id
from ingot.infer.likelihood import Query, query_logprobs
from ingot.text.tokenizer import Tokenizer

Ids = tuple[int, ...]


def pair_scores(model: LanguageModel, pairs: Sequence[tuple[str, str]], label: str) -> list[tuple[float, float]]:
    """Of both sentences of each pair, nats, over the tokens that they share."""
    asked = [[(row, places) for row, places in _shared(model, *pair)] for pair in pairs]
    flat = _totals(model, [part for both in asked for part in both], label)
    return list(zip(flat[::2], flat[1::2], strict=True))


def text_scores(model: LanguageModel, texts: Sequence[str], label: str) -> list[float]:
    """Of each text, nats, over all its tokens."""
    rows = [_read(model.tokenizer, text) for text in texts]
    return _totals(model, [(row, tuple(range(1, len(row) - 1))) for row in rows], label)


def _shared(model: LanguageModel, first: str, second: str) -> list[tuple[Ids, Ids]]:
    """Both rows, each with the places of what they share; start and end are not asked about."""
    rows = [_read(model.tokenizer, text) for text in (first, second)]
    blocks = SequenceMatcher(None, rows[0], rows[1]).get_matching_blocks()
    places = [[begin[side] + at for *begin, size in blocks for at in range(size)] for side in (0, 1)]
    return [(row, tuple(found[1:-1])) for row, found in zip(rows, places, strict=True)]


def _read(tokenizer: Tokenizer, text: str) -> Ids:
    return (*tokenizer.start_ids, *tokenizer.encode(text), end_id(tokenizer))


def _totals(model: LanguageModel, asked: Sequence[tuple[Ids, Ids]], label: str) -> list[float]:
    mask = mask_id(model.tokenizer)
    for row, _ in asked:
        if len(row) > model.max_length:
            raise fail("row-too-long", row=1, found=len(row), limit=model.max_length)
    queries = [
        Query((*row[:place], mask, *row[place + 1 :]), (place,), (row[place],))
        for row, places in asked
        for place in places
    ]
    found = iter(query_logprobs(model, queries, label))
    return [sum(float(next(found).double().sum()) for _ in places) for _, places in asked]
