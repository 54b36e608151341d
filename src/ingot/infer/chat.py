"""The verb `chat`: talk with a model in the terminal, answers streaming.

Each line is one question; /system, /reset, /help and /exit are commands. Ctrl-C stops the answer that is being
written, Ctrl-D ends. From a pipe every line is a question too, so a conversation can be scripted; a mistake then
ends the program instead of being told and forgotten.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ingot.core.errors import IngotError, fail, nearest
from ingot.core.options import argument, option, verb
from ingot.core.progress import say
from ingot.infer.conversation import Conversation
from ingot.infer.engine import Engine
from ingot.infer.memory import Memory
from ingot.infer.opened import open_model
from ingot.infer.options import CommonSampling, RareSampling, Sampling, Weights
from ingot.infer.prompts import resolved, warn_if_turns_do_not_end, warn_of_settings
from ingot.infer.sequence import Sequence
from ingot.infer.speculation.options import Speculation
from ingot.infer.terminal import CtrlC, write

COOLER = 0.7
"""Default temperature: chats read better a little below the model's own distribution."""


class ChatOptions(CommonSampling):
    """Talk with a model in the terminal."""

    model: str = argument("model to talk with: DIR or DIR+ADAPTER")
    system: str | None = option(None, "system message to begin with", min_length=1)
    temperature: float | None = option(
        None,
        "0: the most likely token; 1: the model's own distribution (default: as the directory says, else 0.7)",
        ge=0,
    )
    place: str = option("cpu", "where to run: cpu, cuda, cuda:1, 2xcuda, auto, or sizes such as cuda=8GiB,cpu=4GiB")
    weights: Weights = option("auto", "layers multiply by: dense, int8 or int4; auto: the codes a directory stores")
    rare: RareSampling = option(RareSampling(), "seldom used: --rare.min-p and so on")
    cache: Memory = option(Memory(), "keys and values: --cache.gib and so on")
    speculation: Speculation = option(Speculation(), "guess what follows: --speculation.kind and so on")


@dataclass
class Talk:
    """A running chat, and at its end what it came to."""

    conversation: Conversation
    engine: Engine
    sampling: Sampling
    answers: list[Sequence] = field(default_factory=list)
    seconds: float = 0.0
    ctrl_c: CtrlC = field(default_factory=CtrlC)

    def summary(self) -> dict[str, Any]:
        tokens = sum(len(answer.tokens) for answer in self.answers)
        speed = round(tokens / self.seconds, 1) if tokens else None
        return {"turns": len(self.answers), "tokens": tokens, "tokens_per_second": speed}


@verb(ChatOptions)
def chat(options: ChatOptions) -> Talk:
    """Talk with a model in the terminal."""
    model = open_model(options.model, options.place, options.weights)
    sampling = resolved(model, options, options.rare, COOLER)
    warn_of_settings(model)
    warn_if_turns_do_not_end(model)
    engine = Engine(model, num_slots=1, memory=options.cache, speculation=options.speculation)
    talk = Talk(Conversation(model, options.system), engine, sampling)
    say("chat-begins", model=model.name, window=model.max_length)
    by_hand = sys.stdin.isatty()
    with talk.ctrl_c if by_hand else contextlib.nullcontext():
        for line in _typed(talk.ctrl_c) if by_hand else _piped():
            try:
                if not _act(talk, line):
                    break
            except IngotError as error:
                if not by_hand:
                    raise
                say("chat-mistake", reason=str(error))
    return talk


def _act(talk: Talk, line: str) -> bool:
    """Carry out a command or answer a question; False ends the chat."""
    if not line.strip():
        return True
    if not line.startswith("/"):
        _reply(talk, line)
        return True
    name, _, rest = line[1:].partition(" ")
    if name not in COMMANDS:
        raise fail("unknown-command", name=f"/{name}", nearest=nearest(f"/{name}", (f"/{known}" for known in COMMANDS)))
    return COMMANDS[name](talk, rest.strip())


def _reply(talk: Talk, question: str) -> None:
    """Stream an answer; Ctrl-C keeps what was shown of it."""
    prompt, dropped = talk.conversation.ask(question, talk.sampling.max_tokens)
    if dropped:
        say("chat-turns-dropped", number=dropped)
    engine = talk.engine
    sequence = engine.submit(prompt, talk.sampling.numbered(len(talk.answers)))
    started = time.monotonic()
    while engine.has_work and not talk.ctrl_c.pressed:
        for event in engine.step():
            write(event.text)
    engine.cancel(sequence)
    talk.seconds += time.monotonic() - started
    write("\n")
    talk.answers.append(sequence)
    talk.conversation.answer(sequence.text)
    if sequence.finish_reason != "stop":
        say("chat-cut" if sequence.finish_reason == "length" else "chat-stopped", tokens=len(sequence.tokens))


def _exit(talk: Talk, rest: str) -> bool:
    return False


def _reset(talk: Talk, rest: str) -> bool:
    talk.conversation.reset(talk.conversation.system)
    say("chat-reset")
    return True


def _system(talk: Talk, rest: str) -> bool:
    talk.conversation.reset(rest or None)
    if rest:
        say("chat-system", system=rest)
    else:
        say("chat-no-system")
    return True


def _help(talk: Talk, rest: str) -> bool:
    say("chat-help")
    return True


COMMANDS: dict[str, Callable[[Talk, str], bool]] = {
    "system": _system,
    "reset": _reset,
    "help": _help,
    "exit": _exit,
}


def _typed(ctrl_c: CtrlC) -> Iterator[str]:
    """Lines from a person, with line editing where there is any, until Ctrl-D."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (importing it is what gives input() a history)
    while True:
        try:
            ctrl_c.at_prompt = True
            line = input("> ")
            ctrl_c.begin_turn()
            yield line
        except KeyboardInterrupt:
            write("\n")
            say("chat-how-to-end")
        except EOFError:
            write("\n")
            return


def _piped() -> Iterator[str]:
    """Lines of a pipe or file."""
    try:
        for line in sys.stdin:
            line.encode()
            yield line.rstrip("\r\n")
    except UnicodeError as error:
        raise fail("chat-not-utf8", reason=str(error)) from None
