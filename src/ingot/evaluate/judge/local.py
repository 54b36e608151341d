"""A model directory as judge: the engine that also serves, greedy, held to one of the verdicts while it writes.

The constraint makes every reply a verdict, also of a model that never learnt to follow an instruction. (How good a
judge it is is another matter, and is what the report measures.) With a chat template a question is a user turn, without
one it is plain text to go on from. A question that does not fit the window is not cut: it is left out and told.
"""

from __future__ import annotations

from collections.abc import Sequence

from ingot.adapt.load import LanguageModel
from ingot.core.errors import IngotError, fail
from ingot.core.language import text
from ingot.core.progress import progress
from ingot.evaluate.judge.asking import VERDICTS, Reply
from ingot.infer.constraint.options import Constraint
from ingot.infer.engine import Engine
from ingot.infer.options import Sampling
from ingot.infer.reader import Prompt
from ingot.infer.sequence import Sequence as Running

ROOM = 8
"""Tokens that a verdict may take."""
TOO_LONG = "too-long"


def ask_model(model: LanguageModel, texts: Sequence[str], slots: int) -> list[Reply]:
    """Replies in order. Raises `judge-nothing-fits` where no question fits the window."""
    engine = Engine(model, max(1, min(slots, len(texts))))
    sampling = Sampling(temperature=0.0, max_tokens=ROOM, constraint=Constraint(choice=list(VERDICTS)))
    prompts = [_prompt(engine, model, asked) for asked in texts]
    fitting = [engine.reader.room(prompt) >= ROOM for prompt in prompts]
    if not any(fitting):
        shortest = min(len(prompt.ids) for prompt in prompts)
        raise fail("judge-nothing-fits", path=model.model_dir.path, window=model.max_length, shortest=shortest + ROOM)
    running = [engine.submit(prompt, sampling) if fits else None for prompt, fits in zip(prompts, fitting, strict=True)]
    _run(engine, model.name, sum(fitting))
    return [Reply(None, TOO_LONG) if sequence is None else _reply(sequence) for sequence in running]


def _prompt(engine: Engine, model: LanguageModel, asked: str) -> Prompt:
    if model.tokenizer.chat_template is None:
        return engine.reader.text(model.tokenizer, asked + "\n")
    return engine.reader.conversation(model.tokenizer, [{"role": "user", "content": asked}])


def _run(engine: Engine, name: str, total: int) -> None:
    with progress(text("judge-asking", model=name), total) as advance:
        while engine.has_work:
            engine.step()
            advance(total - engine.num_running - engine.num_waiting)


def _reply(sequence: Running) -> Reply:
    """What was written; an answer that broke off is no verdict."""
    if isinstance(sequence.error, IngotError):
        return Reply(sequence.text, str(sequence.error))
    return Reply(sequence.text)
