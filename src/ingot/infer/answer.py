"""An answer's text, token by token, as the continuation of its prompt.

Some tokenizers write the space before a word in the word's own token and drop it at the beginning of a text, so an
answer decoded alone loses the space between prompt and answer. The decoder therefore first sees the end of the
prompt, back to its last special token (behind which a text begins anew), and what it says of that is not shown.
"""

from __future__ import annotations

from collections.abc import Sequence

from ingot.adapt.load import LanguageModel
from ingot.core.errors import IngotError
from ingot.text.spelling import Spelling, spelling_of
from ingot.text.tokenizer import Tokenizer

CONTEXT = 8
"""Tokens of the prompt that the decoder sees: more than one character's bytes."""


class AnswerDecoder:
    """push(id) gives text that is certain, finish() what is left of an unfinished character.

    `before`: the tokens that the answer goes on from. `shown`: special tokens that are part of the text.
    """

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int], shown: frozenset[int] = frozenset()) -> None:
        self.tokenizer = tokenizer
        self._shown = shown
        self._stream = tokenizer.stream(shown=shown)
        context = _end(before, tokenizer.special_ids)
        given = "".join(self._stream.push(token) for token in context)
        before_text = tokenizer.decode(context, shown=shown)
        self._owed = before_text[len(given) :]
        self.begins_text = before_text == ""
        """Does nothing stand before the answer that its first token could be joined to?"""

    def push(self, token_id: int) -> str:
        return self._new(self._stream.push(token_id))

    def finish(self) -> str:
        return self._new(self._stream.finish())

    @property
    def spelling(self) -> Spelling:
        """What each token adds to the text. Raises `tokenizer-not-bytewise`."""
        return spelling_of(self.tokenizer, self._shown)

    def _new(self, text: str) -> str:
        """Without the prompt's text that the decoder had held back."""
        if text:
            text, self._owed = text.removeprefix(self._owed), ""
        return text


def _end(prompt_ids: Sequence[int], special_ids: frozenset[int]) -> Sequence[int]:
    """The last tokens of the prompt, none before a special one."""
    for size in range(min(CONTEXT, len(prompt_ids))):
        if prompt_ids[-1 - size] in special_ids:
            return prompt_ids[len(prompt_ids) - size :]
    return prompt_ids[-CONTEXT:]


def tokenizer_of(model: LanguageModel) -> Tokenizer | None:
    """None for a directory without one: its sequences have tokens and no text."""
    try:
        return model.tokenizer
    except IngotError as error:
        if error.code != "no-tokenizer":
            raise
        return None
