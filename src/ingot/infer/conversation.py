"""A conversation that always fits the model's window: what `ingot chat` keeps between turns.

Turns are rendered anew each time through the one renderer. When the window is full, the oldest turns (a question with
its answer) are left out, the system message never, and the caller is told how many.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ingot.adapt.load import LanguageModel
from ingot.core.errors import fail
from ingot.infer.reader import Prompt, Reader

Message = dict[str, str]

ROOM_SHARE = 4
"""At most one part in this many of the window is kept free for the answer."""


@dataclass
class Conversation:
    """`turns`: messages of user and assistant in turn."""

    model: LanguageModel
    system: str | None = None
    turns: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reader = Reader.of(self.model)

    def ask(self, text: str, wanted: int | None) -> tuple[Prompt, int]:
        """Add a question. Returns the prompt and how many old turns had to go for an answer of `wanted` tokens.

        Raises `question-too-long` when the question alone does not fit, and what the renderer raises; the conversation
        is then as it was before.
        """
        turns = [*self.turns, {"role": "user", "content": text}]
        window = self.model.max_length
        needed = min(wanted or window, window // ROOM_SHARE)
        for dropped in range(0, len(turns), 2):
            prompt = self._read(turns[dropped:])
            if self._reader.room(prompt) >= needed:
                self.turns = turns[dropped:]
                return prompt, dropped // 2
        limit = window if self._reader.has_source else window - needed
        raise fail("question-too-long", found=len(prompt.ids), limit=limit, window=window)

    def answer(self, text: str) -> None:
        """Add what the model answered."""
        self.turns.append({"role": "assistant", "content": text})

    def reset(self, system: str | None) -> None:
        """Forget everything; begin with this system message."""
        self.system = system
        self.turns = []

    def _read(self, turns: list[Message]) -> Prompt:
        first = [{"role": "system", "content": self.system}] if self.system else []
        return self._reader.conversation(self.model.tokenizer, [*first, *turns])
