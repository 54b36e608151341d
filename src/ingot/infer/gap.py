"""How likely a filler is in a gap of a text, by what each kind of network can say about it.

    decoder          log p of the whole text with the filler in it, token by token from the left
    encoder          log p of the filler's tokens where masks stand in the gap, from left to right: each sees those of
                     the filler before it, and masks in its own place and behind (Kauf and Ivanova 2023, arXiv
                     2305.10588, within a word; Salazar et al. 2020, arXiv 1910.14659, would show it the rest as well,
                     and then the pieces of a rare word give each other away)
    encoder-decoder  log p of the filler and the sentinel behind it, written after reading the text with a sentinel in
                     the gap (Raffel et al. 2020, arXiv 1910.10683)

All are sums of natural logs. For one model, their differences between the fillers of a gap are what it thinks of the
same bytes. Masks tell an encoder how many tokens a filler has; the other kinds are not told. The fillers of a gap share
their tokens on both sides: where one merges with its surroundings, the gap is that much wider for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile

from torch import Tensor

from ingot.adapt.load import LanguageModel
from ingot.core.errors import IngotError, fail
from ingot.data.objectives.options import Form
from ingot.data.objectives.special import end_id, mask_id, sentinel_ids
from ingot.infer.likelihood import Query, following, query_logprobs
from ingot.model.network import form_of
from ingot.text.tokenizer import Tokenizer

Ids = tuple[int, ...]

NUM_SENTINELS = 2
"""One in the gap, one behind the filler."""


@dataclass(frozen=True)
class Gap:
    """A text with something missing between `before` and `after`, and what may stand there."""

    before: str
    fillers: tuple[str, ...]
    after: str


@dataclass(frozen=True)
class GapIds:
    """A gap in tokens: what all fillers share on either side of it, and what stands in it with each of them. `widened`:
    characters of the surroundings that fell into the gap, because a token holds them with a part of some filler."""

    before: Ids
    insides: tuple[Ids, ...]
    after: Ids
    widened: int = 0


@dataclass(frozen=True)
class Scores:
    """log p of each filler in nats, as its kind of network gives it. `left`: of a decoder, log p of the text up to the
    end of the filler, so judged by what stands before it alone; None for the others, which read both sides at once.
    `widened` is the gap's."""

    nats: list[float]
    left: list[float] | None
    widened: int


Ask = Callable[[GapIds, Ids], list[Query]]
"""What a network is asked about a gap with one of its insides; the answers add up."""


def asker(tokenizer: Tokenizer, form: Form, target_start: int | None = None) -> Ask:
    """How a kind of model is asked. `target_start`: what an encoder-decoder's target begins with (None: padding).

    Raises `gap-lacks-tokens`, `objective-lacks-end` where the tokenizer lacks what it takes.
    """
    start = tokenizer.start_ids
    if form == "decoder" and not start:
        raise fail("gap-lacks-tokens", path=tokenizer.path, form=form, missing="bos_token, eos_token")
    try:
        if form == "decoder":
            return partial(by_whole_text, start=start)
        if form == "encoder":
            return partial(by_masks, start=start, end=end_id(tokenizer), mask=mask_id(tokenizer))
        first, second = sentinel_ids(tokenizer, NUM_SENTINELS)
    except IngotError as error:
        if error.code != "objective-lacks-tokens":
            raise
        raise fail("gap-lacks-tokens", path=tokenizer.path, form=form, missing=error.details["missing"]) from None
    begin = (tokenizer.pad_id or 0) if target_start is None else target_start
    return partial(by_sentinels, first=first, second=second, end=end_id(tokenizer), begin=begin)


def by_whole_text(ids: GapIds, inside: Ids, *, start: Ids) -> list[Query]:
    """Of a decoder: every token of the text behind what starts one."""
    return [following((*start, *ids.before, *inside, *ids.after), len(start))]


def by_masks(ids: GapIds, inside: Ids, *, start: Ids, end: int, mask: int) -> list[Query]:
    """Of an encoder: each token of the filler, its own place and those behind it masked."""
    at = len(start) + len(ids.before)
    shown = [(*inside[:place], *[mask] * (len(inside) - place)) for place in range(len(inside))]
    return [
        Query((*start, *ids.before, *part, *ids.after, end), (at + place,), (inside[place],))
        for place, part in enumerate(shown)
    ]


def by_sentinels(ids: GapIds, inside: Ids, *, first: int, second: int, end: int, begin: int) -> list[Query]:
    """Of an encoder-decoder: the filler behind the gap's sentinel, and the sentinel that ends it."""
    source = (*ids.before, first, *ids.after, end)
    return [Query((begin, first, *inside), tuple(range(1, len(inside) + 2)), (*inside, second), source)]


def gap_ids(tokenizer: Tokenizer, gap: Gap) -> GapIds:
    """The gap in tokens. Each text is encoded whole, as it would be in training; a token that reaches into a filler
    from outside belongs to the gap with every filler."""
    texts, befores, afters = [], [], []
    for filler in gap.fillers:
        found = tokenizer.encode_pieces([gap.before + filler + gap.after])
        begin, end = len(gap.before), len(gap.before) + len(filler)
        texts.append(found)
        befores.append(found.ids[: _count(place <= begin for place in found.ends)])
        afters.append(found.ids[::-1][: _count(place >= end for place in found.begins[::-1])])
    left, right = _num_shared(befores), _num_shared(afters)
    insides = tuple(tuple(found.ids[left : len(found.ids) - right]) for found in texts)
    first = texts[0]
    behind = len(first.ids) - right
    inside = max(first.ends[left:behind]) - min(first.begins[left:behind]) - len(gap.fillers[0])
    return GapIds(tuple(first.ids[:left]), insides, tuple(first.ids[behind:]), inside)


def _count(flags: Iterable[bool]) -> int:
    """How many are true before the first that is not."""
    return sum(takewhile(bool, flags))


def _num_shared(rows: Sequence[Sequence[int]]) -> int:
    """How many items all rows begin with alike."""
    return _count(len(set(column)) == 1 for column in zip(*rows, strict=False))


def gap_scores(model: LanguageModel, gaps: Sequence[Gap], label: str | None = None) -> list[Scores]:
    """The scores of each gap's fillers, all computed together; equal questions get equal answers, to the last bit.
    Raises what `asker` does, and `gap-too-long`."""
    form = form_of(model.config)
    ask = asker(model.tokenizer, form, model.model_dir.config.get("decoder_start_token_id"))
    cut = [gap_ids(model.tokenizer, gap) for gap in gaps]
    asked = [[ask(ids, inside) for inside in ids.insides] for ids in cut]
    for gap, fillers in zip(gaps, asked, strict=True):
        longest = max(max(len(query.ids), len(query.source)) for queries in fillers for query in queries)
        if longest > model.max_length:
            raise fail("gap-too-long", text=f"{gap.before}...{gap.after}", found=longest, limit=model.max_length)
    different = list(dict.fromkeys(query for fillers in asked for queries in fillers for query in queries))
    found = dict(zip(different, query_logprobs(model, different, label), strict=True))
    return [
        _scores(form, ids, [[found[query] for query in queries] for queries in fillers])
        for ids, fillers in zip(cut, asked, strict=True)
    ]


def _scores(form: Form, ids: GapIds, answers: list[list[Tensor]]) -> Scores:
    """The sum of all answers about each filler, and of a decoder's tokens up to the filler's end."""
    nats = [sum(float(answer.double().sum()) for answer in found) for found in answers]
    if form != "decoder":
        return Scores(nats, None, ids.widened)
    ends = [len(ids.before) + len(inside) for inside in ids.insides]
    left = [float(answer[:end].double().sum()) for (answer,), end in zip(answers, ends, strict=True)]
    return Scores(nats, left, ids.widened)
