"""Texts to tokens, as lm-eval cuts them: the whole is encoded, and what is scored begins where the context ends.

Trailing spaces of a context go to what follows it. Where the tokens of the whole do not begin with those of the context
(a token spans the join), what follows is encoded by itself and counted: lm-eval stops there with an error where nothing
is left, and scores only a part of the text where something is. What is too long loses its beginning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ingot.core.errors import fail
from ingot.evaluate.benchmarks.prompts import Item
from ingot.text.tokenizer import Tokenizer

AT_ONCE = 64
"""Items whose texts are encoded together, on all cores."""


@dataclass(frozen=True)
class Scored:
    """One choice: the tokens before it, and its own."""

    context: tuple[int, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Encoded:
    """All choices of an item. shared: how many first tokens are those of what stands before the question, where that is
    the same for its whole group; merged: choices that were encoded by themselves; cut: the most tokens of a context
    that did not fit; alone: the choices behind a start token alone, where they are asked for."""

    item: Item
    choices: tuple[Scored, ...]
    shared: tuple[int, ...]
    merged: int
    cut: int
    alone: tuple[Scored, ...] = ()


def encode_items(tokenizer: Tokenizer, items: Sequence[Item], window: int, alone: bool) -> Iterator[Encoded]:
    """Every item, in order. Raises `bench-choice-too-long`, `evaluate-no-start-token`."""
    encode = Encoder(tokenizer)
    for begin in range(0, len(items), AT_ONCE):
        part = items[begin : begin + AT_ONCE]
        encode.learn([text for item in part for text in _texts(item)])
        for item in part:
            yield _encoded(encode, item, window, alone)


class Encoder:
    """Ids of texts; those of one batch are remembered."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.start = tokenizer.document_prefix
        self._known: dict[str, list[int]] = {}

    def learn(self, texts: Sequence[str]) -> None:
        wanted = list(dict.fromkeys(texts))
        self._known = dict(zip(wanted, self.tokenizer.encode_batch(wanted), strict=True))

    def __call__(self, text: str) -> list[int]:
        if text not in self._known:
            self._known[text] = self.tokenizer.encode(text)
        return self._known[text]

    def whole(self, text: str) -> list[int]:
        """With what the tokenizer itself puts before a text, once."""
        ids = self(text)
        return ids if tuple(ids[: len(self.start)]) == self.start else [*self.start, *ids]


def _parted(context: str, following: str) -> tuple[str, str]:
    """A context without the spaces at its end, and what follows it with them."""
    kept = context.rstrip()
    return kept, context[len(kept) :] + following


def _texts(item: Item) -> Iterator[str]:
    if item.is_fixed:
        yield item.before.rstrip()
    for choice in range(len(item.continuations)):
        context, following = _parted(item.context(choice), item.continuations[choice])
        yield context
        yield context + following


def _encoded(encode: Encoder, item: Item, window: int, alone: bool) -> Encoded:
    choices, merged, cut = [], 0, 0
    for choice in range(len(item.continuations)):
        scored, is_merged = cut_pair(encode, item.context(choice), item.continuations[choice])
        over = max(0, len(scored.context) + len(scored.tokens) - window - 1)
        if len(scored.tokens) > window:
            raise fail("bench-choice-too-long", id=item.id, found=len(scored.tokens), window=window)
        choices.append(Scored(scored.context[over:], scored.tokens))
        merged, cut = merged + is_merged, max(cut, over)
    apart = tuple(_alone(encode, following) for following in item.continuations) if alone else ()
    before = item.before.rstrip()
    shared = tuple(encode.whole(before)) if item.is_fixed and before and not cut else ()
    return Encoded(item, tuple(choices), shared, merged, cut, apart)


def cut_pair(encode: Encoder, context: str, following: str) -> tuple[Scored, bool]:
    """A context and what follows it; whether that had to be encoded by itself. Raises `evaluate-no-start-token`."""
    context, following = _parted(context, following)
    if not context:
        return _alone(encode, following), False
    before, whole = encode.whole(context), encode.whole(context + following)
    at = len(before)
    if whole[:at] == before and len(whole) > at:
        return Scored(tuple(before), tuple(whole[at:])), False
    return Scored(tuple(before), tuple(encode(following))), True


def _alone(encode: Encoder, following: str) -> Scored:
    """Behind BOS, else EOS; where it begins with that token itself, that is its context."""
    tokenizer, ids = encode.tokenizer, tuple(encode(following))
    start = tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.eos_id
    if start is None:
        raise fail("evaluate-no-start-token", path=tokenizer.path)
    return Scored(ids[:1], ids[1:]) if ids[:1] == (start,) and len(ids) > 1 else Scored((start,), ids)
