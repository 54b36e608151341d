"""How a model reads what it is given, before it writes.

    kind of model          its encoder reads    the side that writes reads
    decoder                                     the prompt, from left to right
    decoder, prefix_lm                          the prompt, its prefix in both directions
    encoder-decoder        the prefix           the start token, and the rest of the prompt

The prefix is the whole prompt. Only in a conversation that has answers already it ends where the first one begins, as
it does in training (`prefix-lm` with split `answer`), for what was once written is read as it was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ingot.adapt.load import LanguageModel
from ingot.adapt.methods import length_in_front
from ingot.core.errors import fail
from ingot.data.objectives.special import end_id, known_sentinels
from ingot.text.chat import render
from ingot.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Prompt:
    """Token ids, the first `prefix` of which stand before any answer among them."""

    ids: list[int]
    prefix: int

    @classmethod
    def of(cls, given: Prompt | Sequence[int]) -> Prompt:
        """A prompt, or token ids that are one."""
        return given if isinstance(given, Prompt) else cls(list(given), len(given))


@dataclass(frozen=True)
class Start:
    """What a sequence reads before it writes. prompt: all ids that were given; ids: those that the writing side reads,
    the first `prefix` of them in both directions, in one pass; source: those that an encoder reads."""

    prompt: list[int]
    ids: list[int]
    prefix: int = 0
    source: tuple[int, ...] = ()


@dataclass(frozen=True)
class Reader:
    """What of a model decides how it reads. `start_id`: what an answer begins behind in an encoder-decoder, None in a
    decoder; `crossing`: see `ModelConfig.crossing`. It and the window are less what adapters put in front."""

    vocab_size: int
    window: int
    crossing: int | None = None
    prefix_lm: bool = False
    start_id: int | None = None

    @classmethod
    def of(cls, model: LanguageModel) -> Reader:
        """Raises `does-not-write`, `no-decoder-start`."""
        config = model.writer.config
        crossing = None if config.crossing is None else config.crossing - length_in_front(model.network)
        return cls(config.vocab_size, model.max_length, crossing, config.prefix_lm, model.start_id)

    @property
    def has_source(self) -> bool:
        return self.start_id is not None

    def text(self, tokenizer: Tokenizer, text: str) -> Prompt:
        """A text to go on from, or for an encoder to read, which then has an end. Raises `objective-lacks-end`."""
        ids = [*tokenizer.document_prefix, *self._encode(tokenizer, text)]
        return Prompt.of([*ids, end_id(tokenizer)] if self.has_source else ids)

    def conversation(
        self,
        tokenizer: Tokenizer,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        *,
        prompt: bool = True,
        go_on: bool = False,
    ) -> Prompt:
        """A conversation to answer. `prompt`: end where an answer begins; `go_on`: the last message is an answer's
        beginning. Raises what the renderer raises, `objective-lacks-end`."""
        given, begun = (messages[:-1], messages[-1]["content"]) if go_on else (messages, "")
        asked = prompt or go_on
        learn = None if asked else ()
        found = render(given, tokenizer, add_generation_prompt=asked, tools=tools, learn=learn, answer=begun)
        first = _first_answer(messages, tokenizer, len(found.ids), tools)
        end = [end_id(tokenizer)] if self.has_source else []
        return Prompt([*found.ids[:first], *end, *found.ids[first:]], first + len(end))

    def start(self, prompt: Prompt) -> Start:
        """What is read, and by whom."""
        if self.start_id is None:
            return Start(prompt.ids, prompt.ids, prompt.prefix if self.prefix_lm else 0)
        read = [self.start_id, *prompt.ids[prompt.prefix :]]
        return Start(prompt.ids, read, source=tuple(prompt.ids[: prompt.prefix]))

    def longest(self, start: Start) -> int:
        """How long a text may grow: to the end of the window, or to where the positions of what was already read would
        change (LongRoPE)."""
        inside = self.crossing is not None and len(start.ids) <= self.crossing
        return min(self.crossing or 0, self.window) if inside else self.window

    def room(self, prompt: Prompt) -> int:
        """How many tokens may be written; less than one where the prompt is too long."""
        start = self.start(prompt)
        return self.longest(start) - len(start.ids) if len(start.source) <= self.window else 0

    def check(self, prompt: Prompt) -> None:
        """Refuse what the model cannot read: nothing, too much, or a token it has no embedding for."""
        start = self.start(prompt)
        if not prompt.ids:
            raise fail("empty-prompt")
        if len(start.source) > self.window:
            raise fail("source-too-long", found=len(start.source), limit=self.window)
        if self.room(prompt) < 1:
            raise fail("prompt-too-long", found=len(start.ids), limit=self.longest(start))
        for token in (min(prompt.ids), max(prompt.ids)):
            if not 0 <= token < self.vocab_size:
                raise fail("token-outside", where="prompt", found=token, size=self.vocab_size)

    def sentinels(self, tokenizer: Tokenizer) -> frozenset[int]:
        """Tokens such as <extra_id_0> that are read and written as what they are: gaps in a text, as span corruption
        teaches them to models that read in both directions."""
        return known_sentinels(tokenizer) if self.has_source or self.prefix_lm else frozenset()

    def _encode(self, tokenizer: Tokenizer, text: str) -> list[int]:
        """Every other special string stays text. Spaces before a sentinel are dropped, as T5's own tokenizer does: in
        training a gap follows the word before it."""
        sentinels = self.sentinels(tokenizer)
        pieces = tokenizer.split_specials(text) if sentinels else []
        if sentinels.isdisjoint(pieces):
            return tokenizer.encode(text)
        kept: list[str | int] = []
        for piece in pieces:
            if piece in sentinels and kept and isinstance(kept[-1], str):
                kept[-1] = kept[-1].rstrip(" ")
            is_other = isinstance(piece, int) and piece not in sentinels
            kept.append(tokenizer.added_tokens[piece].content if is_other else piece)  # type: ignore[index]
        return tokenizer.encode_pieces(kept).ids


def _first_answer(
    messages: list[dict[str, Any]], tokenizer: Tokenizer, length: int, tools: list[dict[str, Any]] | None
) -> int:
    """Where the first answer of a conversation begins, in tokens; at its end where there is none yet."""
    number = next((at for at, message in enumerate(messages) if message.get("role") == "assistant"), None)
    if number is None:
        return length
    return len(render(messages[:number], tokenizer, add_generation_prompt=True, tools=tools).ids)
