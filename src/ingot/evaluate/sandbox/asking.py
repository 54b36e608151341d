"""Having a model write programs: the prompt, where its answer stops, and what is kept before anything runs.

A model that only goes on from text is given HumanEval's prompt as it is, or MBPP's after three solved ones; one with a
chat template gets the task as a user's turn and an answer that has begun with a block of code. The words are lm-eval's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ingot.adapt.load import LanguageModel
from ingot.core.errors import fail
from ingot.core.files import write_file
from ingot.core.language import text
from ingot.core.progress import progress
from ingot.evaluate.options import EvaluateOptions
from ingot.evaluate.sandbox.options import Style
from ingot.evaluate.sandbox.problems import HUMANEVAL, MBPP, Problem
from ingot.infer.engine import Engine
from ingot.infer.options import Sampling
from ingot.infer.reader import Prompt
from ingot.text.tokenizer import Tokenizer

RAW_STOPS = {HUMANEVAL: ["\nclass", "\ndef", "\n#", "\nif", "\nprint"], MBPP: ["[DONE]"]}
CHAT_STOPS = ["```"]
CHAT_USER = {
    HUMANEVAL: "Write a solution to the following problem and make sure that it passes the tests:\n"
    "```python\n{}\n```\n",
    MBPP: "{}",
}
CHAT_BEGUN = {HUMANEVAL: "Here is the completed function:\n```python\n{}\n", MBPP: "```python\n"}


@dataclass(frozen=True)
class Answer:
    """What a model wrote for a problem, and why it stopped."""

    completion: str
    finish_reason: str
    tokens: int


def style_of(tokenizer: Tokenizer, style: Style) -> Literal["raw", "chat"]:
    """How a model is asked. Raises `no-chat-template` by way of the renderer where chat was asked for."""
    if style == "auto":
        return "raw" if tokenizer.chat_template is None else "chat"
    return style


def write_answers(
    model: LanguageModel, task: str, problems: Sequence[Problem], options: EvaluateOptions
) -> list[list[Answer]]:
    """`samples` answers for each problem. Raises `evaluate-question-too-long`."""
    engine = Engine(model, num_slots=min(options.slots, len(problems) * options.code.samples))
    style = style_of(model.tokenizer, options.code.style)
    stop = CHAT_STOPS if style == "chat" else RAW_STOPS[task]
    places = {}
    for number, problem in enumerate(problems):
        prompt = _prompt(engine, model, task, problem, style)
        for sample in range(options.code.samples):
            sampling = Sampling(
                temperature=options.code.heat,
                max_tokens=options.code.max_tokens,
                stop=stop,
                seed=_seed(options.seed, problem.id, sample),
            )
            places[engine.submit(prompt, sampling).id] = number
    answers: list[list[Answer]] = [[] for _ in problems]
    for sequence, answer in _run(engine, model.name, len(places)).items():
        answers[places[sequence]].append(answer)
    return answers


def _prompt(engine: Engine, model: LanguageModel, task: str, problem: Problem, style: str) -> Prompt:
    if style == "raw":
        prompt = engine.reader.text(model.tokenizer, problem.prompt)
    else:
        asked = problem.asked
        turns = [{"role": "user", "content": CHAT_USER[task].format(asked)},
                 {"role": "assistant", "content": CHAT_BEGUN[task].format(asked)}]  # fmt: skip
        prompt = engine.reader.conversation(model.tokenizer, turns, go_on=True)
    if engine.reader.room(prompt) < 1:
        found, window = len(prompt.ids), model.max_length
        raise fail("evaluate-question-too-long", id=problem.id, found=found, window=window, model=model.name)
    return prompt


def _seed(seed: int, identity: str, sample: int) -> int:
    """Of one draw; other problems and samples do not move it."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{identity}\0{sample}".encode()).digest()[:6])


def _run(engine: Engine, name: str, total: int) -> dict[int, Answer]:
    """{sequence id: its answer}, in the order of asking."""
    ended: dict[int, Answer] = {}
    with progress(text("sandbox-writing", model=name), total) as advance:
        while engine.has_work:
            for event in engine.step():
                if event.finish_reason is not None:
                    sequence = event.sequence
                    ended[sequence.id] = Answer(sequence.text, event.finish_reason, len(sequence.tokens))
            advance(len(ended))
    return dict(sorted(ended.items()))


def keep(path: Path, problems: Sequence[Problem], answers: Sequence[Sequence[Answer]]) -> None:
    """Write the answers in human-eval's format, so that nothing that was written is lost if running it fails."""
    pairs = zip(problems, answers, strict=True)
    lines = [json.dumps({"task_id": problem.id, "completion": answer.completion}, ensure_ascii=False)
             for problem, found in pairs for answer in found]  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, "".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))
