"""Texts to tokens, as lm-eval cuts them: the whole is encoded, and what is scored begins where the context ends.

Trailing spaces of a context go to what follows it. Where the tokens of the whole do not begin with those of the context
(a token spans the join), what follows is encoded by itself and counted: lm-eval stops there with an error where nothing
is left, and scores only a part of the text where something is. What is too long loses its beginning. Texts are given as
pieces, so that the special tokens of a chat template are tokens and those that a question spells out are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ingot.core.errors import fail
from ingot.evaluate.benchmarks.chat import Chat, Pieces
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


def encode_items(
    tokenizer: Tokenizer, items: Sequence[Item], window: int, alone: bool, chat: Chat | None = None
) -> Iterator[Encoded]:
    """Every item, in order. Raises `bench-choice-too-long`, `evaluate-no-start-token`, what the renderer raises."""
    encode = Encoder(tokenizer, chat)
    for begin in range(0, len(items), AT_ONCE):
        part = items[begin : begin + AT_ONCE]
        pairs = [[_parted_item(item, choice, chat) for choice in range(len(item.continuations))] for item in part]
        encode.learn([text for item, own in zip(part, pairs, strict=True) for text in _texts(item, own)])
        for item, own in zip(part, pairs, strict=True):
            yield _encoded(encode, item, own, window, alone)


class Encoder:
    """Ids of texts; those of one batch are remembered."""

    def __init__(self, tokenizer: Tokenizer, chat: Chat | None = None) -> None:
        self.tokenizer, self.chat = tokenizer, chat
        self.start = () if chat else tokenizer.document_prefix
        self._known: dict[Pieces, list[int]] = {}

    def learn(self, texts: Sequence[str]) -> None:
        wanted = list(dict.fromkeys(texts))
        self._known = {(text,): ids for text, ids in zip(wanted, self.tokenizer.encode_batch(wanted), strict=True)}

    def __call__(self, text: Pieces) -> list[int]:
        if text not in self._known:
            plain = len(text) == 1 and isinstance(text[0], str)
            found = self.tokenizer.encode(str(text[0])) if plain else self.tokenizer.encode_pieces(text).ids
            self._known[text] = found
        return self._known[text]

    def whole(self, text: Pieces) -> list[int]:
        """With what the tokenizer itself puts before a text, once; a chat template has put it there."""
        ids = self(text)
        return ids if tuple(ids[: len(self.start)]) == self.start else [*self.start, *ids]

    def shared(self, item: Item) -> tuple[int, ...]:
        """Of what stands before the question."""
        if self.chat:
            return tuple(self.whole(self.chat.frame(item)))
        before = item.before.rstrip()
        return tuple(self.whole((before,))) if before else ()


Parted = tuple[Pieces, str]


def _parted_item(item: Item, choice: int, chat: Chat | None) -> Parted:
    if chat:
        return _parted(chat.pieces(item, choice), item.parts.choices[choice])
    return _parted((item.context(choice),), item.continuations[choice])


def _parted(context: Pieces, following: str) -> Parted:
    """A context without the spaces at its end, and what follows it with them."""
    last = context[-1] if context else 0
    if isinstance(last, int):
        return context, following
    kept = last.rstrip()
    return (*context[:-1], *([kept] if kept else [])), last[len(kept) :] + following


def _joined(context: Pieces, following: str) -> Pieces:
    """Text behind text is one text; behind a special token it stands by itself."""
    last = context[-1] if context else 0
    return (*context, following) if isinstance(last, int) else (*context[:-1], last + following)


def _texts(item: Item, pairs: Sequence[Parted]) -> Iterator[str]:
    """What is plain text of all that will be encoded."""
    if item.is_fixed:
        yield item.before.rstrip()
    for context, following in pairs:
        yield from (str(text[0]) for text in (context, _joined(context, following)) if len(text) == 1)


def _encoded(encode: Encoder, item: Item, pairs: Sequence[Parted], window: int, alone: bool) -> Encoded:
    choices, merged, cut = [], 0, 0
    for context, following in pairs:
        scored, is_merged = _pair(encode, context, following)
        over = max(0, len(scored.context) + len(scored.tokens) - window - 1)
        if len(scored.tokens) > window:
            raise fail("bench-choice-too-long", id=item.id, found=len(scored.tokens), window=window)
        choices.append(Scored(scored.context[over:], scored.tokens))
        merged, cut = merged + is_merged, max(cut, over)
    by_themselves = item.parts.choices if encode.chat else item.continuations
    apart = tuple(_alone(encode, following) for following in by_themselves) if alone else ()
    shared = encode.shared(item) if item.is_fixed and item.before and not cut else ()
    return Encoded(item, tuple(choices), shared, merged, cut, apart)


def cut_pair(encode: Encoder, context: str, following: str) -> tuple[Scored, bool]:
    """A context and what follows it; whether that had to be encoded by itself. Raises `evaluate-no-start-token`."""
    return _pair(encode, *_parted((context,), following))


def _pair(encode: Encoder, context: Pieces, following: str) -> tuple[Scored, bool]:
    """A context and what follows it; whether that had to be encoded by itself."""
    if not context:
        return _alone(encode, following), False
    before, whole = encode.whole(context), encode.whole(_joined(context, following))
    at = len(before)
    if whole[:at] == before and len(whole) > at:
        return Scored(tuple(before), tuple(whole[at:])), False
    return Scored(tuple(before), tuple(encode((following,)))), True


def _alone(encode: Encoder, following: str) -> Scored:
    """Behind BOS, else EOS; where it begins with that token itself, that is its context."""
    tokenizer, ids = encode.tokenizer, tuple(encode((following,)))
    start = tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.eos_id
    if start is None:
        raise fail("evaluate-no-start-token", path=tokenizer.path)
    return Scored(ids[:1], ids[1:]) if ids[:1] == (start,) and len(ids) > 1 else Scored((start,), ids)
