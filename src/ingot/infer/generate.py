"""The verb `generate`: complete a prompt, or all prompts of a file, with any model directory.

One prompt streams to the terminal while it is made; many are run together and shown or written when all are done.
A prompt is continued as it stands, behind the start token its tokenizer adds; an encoder-decoder reads it and writes
what belongs to it; with --chat it is one user turn of the model's chat template. With --search.kind answers are not
drawn but searched, and shown when they are found.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic import model_validator

from ingot.adapt.load import LanguageModel
from ingot.core.console import visible
from ingot.core.errors import fail
from ingot.core.files import write_file
from ingot.core.options import Options, argument, option, verb
from ingot.core.progress import LOGGER, say, warn
from ingot.infer import engine
from ingot.infer.best import best_sequences, several
from ingot.infer.constraint.flags import ConstraintFlags, constraint_of
from ingot.infer.memory import Memory
from ingot.infer.opened import open_model
from ingot.infer.options import CommonSampling, RareSampling, Sampling, Weights
from ingot.infer.prompts import (
    Asked,
    make_prompt,
    read_prompts,
    resolved,
    warn_if_turns_do_not_end,
    warn_of_settings,
)
from ingot.infer.search.best import Found
from ingot.infer.search.options import Search
from ingot.infer.search.search import search
from ingot.infer.sequence import Sequence
from ingot.infer.speculation.options import Speculation
from ingot.infer.steering.options import Steering
from ingot.infer.terminal import write

MAX_ANSWERS = 128
"""The most answers to one prompt."""

OWN = 1.0
"""Default temperature: the model's own distribution."""


class Answers(Options):
    """How many answers there are to a prompt."""

    n: int = option(1, "answers to each prompt, each with a seed of its own", plain=True, ge=1, le=MAX_ANSWERS)
    best_of: int | None = option(
        None, "make this many answers and keep the n likeliest by their mean log-probability", plain=True, ge=1,
        le=MAX_ANSWERS,
    )  # fmt: skip

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.best_of is not None and self.best_of < self.n:
            raise ValueError(f"best_of {self.best_of} is less than n {self.n}")
        return self

    @property
    def num_made(self) -> int:
        """Answers made to each prompt."""
        return self.best_of or self.n


class GenerateOptions(CommonSampling):
    """Complete a prompt."""

    model: str = argument("model to complete with: DIR or DIR+ADAPTER")
    prompt: str | None = option(None, "text to continue")
    prompts_file: Path | None = option(
        None, 'many prompts: one a line, or .jsonl with "prompt" or "messages" and any other keys'
    )
    chat: bool = option(False, "ask the prompt as one user turn of the chat template")
    out: Path | None = option(None, "write one JSON line a prompt to this new file")
    slots: int = option(8, "sequences that run at once", ge=1, le=1024)
    place: str = option("cpu", "where to run: cpu, cuda, cuda:1, 2xcuda, auto, or sizes such as cuda=8GiB,cpu=4GiB")
    weights: Weights = option("auto", "layers multiply by: dense, int8 or int4; auto: the codes a directory stores")
    rare: RareSampling = option(RareSampling(), "seldom used: --rare.min-p and so on")
    answers: Answers = option(Answers(), "how many answers to a prompt: --n, --best-of")
    cache: Memory = option(Memory(), "keys and values: --cache.gib and so on")
    speculation: Speculation = option(Speculation(), "guess what follows: --speculation.kind and so on")
    answer: ConstraintFlags = option(ConstraintFlags(), "what the answer must be: --json-schema, --regex and so on")
    steering: Steering = option(Steering(), "DoLa and guidance: --steering.dola-layers and so on")
    search: Search = option(Search(), "search for whole answers: --search.kind and so on")


@dataclass(frozen=True)
class Generated:
    """All answers in the order of their prompts, and how long the engine took, in seconds. With several answers to a
    prompt (`n`), it stands beside each of them. num_tokens: of all that were made, those not kept among them. found: of
    a search, what it found for each prompt, the best first; `sequences` are then the best."""

    prompts: list[Asked]
    sequences: list[Sequence]
    seconds: float
    out: Path | None
    n: int = 1
    num_tokens: int = 0
    found: list[list[Found]] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        return [sequence.text for sequence in self.sequences]

    def records(self) -> list[dict[str, Any]]:
        """One an answer: the keys its prompt came with, what was asked, the answer and how it ended; its number where
        a prompt has several. A search has one a prompt, with all that it found in it."""
        pairs = enumerate(zip(self.prompts, self._told(), strict=True))
        numbered = [{"choice": place % self.n} if self.n > 1 else {} for place in range(len(self.sequences))]
        return [_record(prompt, answer) | numbered[place] for place, (prompt, answer) in pairs]

    def _told(self) -> list[dict[str, Any]]:
        return [_ranked(own) for own in self.found] or [_answer(sequence) for sequence in self.sequences]

    def summary(self) -> dict[str, Any]:
        speed = {"seconds": round(self.seconds, 3), "tokens_per_second": round(self.num_tokens / self.seconds, 1)}
        if len(self.sequences) == 1 and self.out is None:
            return self._told()[0] | speed
        reasons = Counter(str(sequence.finish_reason) for sequence in self.sequences)
        found: dict[str, Any] = {
            "prompts": len(self.prompts) // self.n,
            "tokens": self.num_tokens,
            "finish_reasons": dict(reasons),
            **speed,
        }
        return found | ({"out": str(self.out)} if self.out else {"results": self.records()})


@verb(GenerateOptions)
def generate(options: GenerateOptions) -> Generated:
    """Complete a prompt."""
    if (options.prompt is None) == (options.prompts_file is None):
        raise fail("one-prompt-source")
    if options.out and options.out.exists():
        raise fail("out-not-empty", path=options.out)
    model = open_model(options.model, options.place, options.weights)
    warn_of_settings(model)
    prompts = _prompts(options, model)
    started = time.monotonic()
    if options.search.kind != "off":
        found = _search(model, prompts, options)
        tokens = sum(len(each.sequence.tokens) for own in found for each in own)
        best = [own[0].sequence for own in found]
        done = Generated(prompts, best, time.monotonic() - started, options.out, num_tokens=tokens, found=found)
    else:
        done = _drawn(model, prompts, options, started)
    _show(done, options)
    _warn_of_errors(done)
    return done


def _drawn(model: LanguageModel, prompts: list[Asked], options: GenerateOptions, started: float) -> Generated:
    sampling = sampling_of(options, model)
    if options.prompt is not None and options.answers.num_made == 1:
        made = [_stream(model, prompts[0], sampling, options)]
    else:
        made = _answers(model, prompts, sampling, options)
    number, each = options.answers.n, options.answers.num_made
    kept = [best_sequences(made[begin : begin + each], number) for begin in range(0, len(made), each)]
    asked = [prompt for prompt in prompts for _ in range(number)]
    tokens = sum(len(sequence.tokens) for sequence in made)
    seconds = time.monotonic() - started
    return Generated(asked, [one for answers in kept for one in answers], seconds, options.out, number, tokens)


def _answers(
    model: LanguageModel, prompts: list[Asked], sampling: Sampling, options: GenerateOptions
) -> list[Sequence]:
    """All answers to each prompt."""
    own = several(sampling, options.answers.n, options.answers.num_made)
    asked = [prompt for prompt in prompts for _ in own]
    controls, slots = own * len(prompts), options.slots
    return engine.generate(model, asked, controls, slots, "generate", options.cache, options.speculation)


def sampling_of(options: GenerateOptions, model: LanguageModel) -> Sampling:
    """The verb's flags as what the engine takes. A search draws nothing, so it has no temperature from a directory.
    Raises `bad-option`."""
    if options.search.kind != "off" and options.temperature is None:
        options = options.model_copy(update={"temperature": OWN})
    more = {**options.steering.model_dump(), "constraint": constraint_of(options.answer)}
    return resolved(model, options, options.rare, OWN, **more)


def _prompts(options: GenerateOptions, model: LanguageModel) -> list[Asked]:
    if options.chat:
        warn_if_turns_do_not_end(model)
    if options.prompts_file is not None:
        return read_prompts(model, options.prompts_file, options.chat)
    assert options.prompt is not None
    return [make_prompt(model, options.prompt, options.chat)]


def _stream(model: LanguageModel, prompt: Asked, sampling: Sampling, options: GenerateOptions) -> Sequence:
    """Run one prompt and show its text as it comes, where anybody listens."""
    listening = LOGGER.isEnabledFor(logging.INFO)
    slots = 2 if sampling.is_guided else 1
    running = engine.Engine(model, slots, memory=options.cache, speculation=options.speculation)
    sequence = running.submit(prompt, sampling)
    while running.has_work:
        for event in running.step():
            if listening:
                write(event.text)
    if listening:
        write("\n")
    if sequence.error is not None:
        raise sequence.error
    return sequence


def _search(model: LanguageModel, prompts: list[Asked], options: GenerateOptions) -> list[list[Found]]:
    """Search all prompts; what is found for one that was given here is shown."""
    idle = {"speculation.kind": options.speculation.kind != "off", "n": options.answers.n > 1,
            "best_of": options.answers.best_of is not None}  # fmt: skip
    for name, given in idle.items():
        if given:
            raise fail("not-in-search", name=name, kind=options.search.kind)
    label = None if options.prompt is not None else "generate"
    found = search(model, prompts, options.search, sampling_of(options, model), options.slots, label, options.cache)
    if options.prompt is not None and LOGGER.isEnabledFor(logging.INFO):
        for each in found[0]:
            write(each.sequence.text + "\n")
    return found


def _show(done: Generated, options: GenerateOptions) -> None:
    if (options.prompts_file is not None or options.answers.num_made > 1) and options.out is None:
        for prompt, sequence in zip(done.prompts, done.sequences, strict=True):
            say("generated-one", prompt=_line(prompt.given), answer=visible(sequence.text).strip())
    if options.out is not None:
        write_file(options.out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in done.records()))
        say("generated-file", path=options.out, number=len(done.sequences))


def _warn_of_errors(done: Generated) -> None:
    """Answers that are not what was asked for, or not all of it, are told beside their records."""
    failed = [sequence.error for sequence in done.sequences if sequence.error is not None]
    cut = sum(sequence.incomplete is True and sequence.error is None for sequence in done.sequences)
    if failed:
        warn("answers-failed", number=len(failed), first=str(failed[0]))
    if cut:
        warn("answers-incomplete", number=cut)


def _line(given: str | list[dict[str, Any]]) -> str:
    """A prompt for the screen: its text, or the last turn of a conversation."""
    return given if isinstance(given, str) else str(given[-1].get("content"))


def _record(prompt: Asked, answer: dict[str, Any]) -> dict[str, Any]:
    name = "prompt" if isinstance(prompt.given, str) else "messages"
    return {**prompt.carried, name: prompt.given, **answer}


def _answer(sequence: Sequence) -> dict[str, Any]:
    return _ended(sequence) | {"seed": sequence.seed}


def _ranked(found: list[Found]) -> dict[str, Any]:
    """The best answer of a search, and all of them where there are several."""
    every = [_ended(each.sequence) | ({} if each.score is None else {"score": each.score}) for each in found]
    return every[0] | ({"answers": every} if len(every) > 1 else {})


def _ended(sequence: Sequence) -> dict[str, Any]:
    return {
        "text": sequence.text,
        "tokens": len(sequence.tokens),
        "finish_reason": sequence.finish_reason,
        "stop_reason": sequence.stop_reason,
        **({} if sequence.incomplete is None else {"incomplete": sequence.incomplete}),
        **({} if sequence.error is None else {"error": str(sequence.error)}),
    }
