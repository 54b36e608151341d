"""Prompts from the command line or a file, ready for the engine.

A .jsonl line is an object with "prompt" (a string) or "messages" (a conversation, rendered with the model's chat
template); its other keys are carried to the output untouched. In any other file every line that is not blank is a
prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ingot.adapt.generation import NAME
from ingot.adapt.load import LanguageModel
from ingot.core.errors import IngotError, fail
from ingot.core.progress import say, warn
from ingot.data.files import check_text, kind, read_lines, read_records
from ingot.infer.options import CommonSampling, RareSampling, Sampling
from ingot.infer.reader import Prompt, Reader
from ingot.text.chat import end_of_turn

Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class Asked(Prompt):
    """What is asked, and as it was given. `carried`: keys of the record that are not ours."""

    given: str | Messages
    carried: dict[str, Any] = field(default_factory=dict)


def make_prompt(model: LanguageModel, given: str | Messages, chat: bool) -> Asked:
    """A text or a conversation as the model reads it. `chat`: a text is one user turn. Raises what `Reader` raises."""
    reader = Reader.of(model)
    if isinstance(given, str) and not chat:
        prompt = reader.text(model.tokenizer, given)
    else:
        messages = [{"role": "user", "content": given}] if isinstance(given, str) else given
        prompt = reader.conversation(model.tokenizer, messages)
    reader.check(prompt)
    return Asked(prompt.ids, prompt.prefix, given)


def read_prompts(model: LanguageModel, path: Path, chat: bool) -> list[Asked]:
    """All prompts of a file. Raises `bad-record` naming file and line, `no-prompts`."""
    found = [_prompt(model, path, line, given, carried, chat) for line, given, carried in _records(path)]
    if not found:
        raise fail("no-prompts", path=path)
    return found


def warn_of_settings(model: LanguageModel) -> None:
    """A directory may ask for a way of writing that no request can: say what is not followed."""
    if model.generation.ignored:
        warn("generation-not-followed", path=model.model_dir.path, keys=", ".join(model.generation.ignored))


def resolved(model: LanguageModel, common: CommonSampling, rare: RareSampling, default: float, **more: Any) -> Sampling:
    """A verb's flags as what the engine takes, with a temperature; `default`: see `temperature_of`. Raises
    `bad-option`."""
    given = {name: getattr(common, name) for name in CommonSampling.model_fields}
    given["temperature"] = temperature_of(model, common.temperature, default)
    return Sampling.of(**given, **rare.model_dump(), **more)


def temperature_of(model: LanguageModel, asked: float | None, default: float) -> float:
    """What was asked for, else what the model's directory says, which is then told, else the default."""
    own = model.generation
    if asked is not None:
        return asked
    if own.temperature is None:
        return default
    say("temperature-from-directory", temperature=f"{own.temperature:g}", path=model.model_dir.path / NAME)
    if own.undrawn:
        warn("generation-drawing", path=model.model_dir.path / NAME, keys=", ".join(own.undrawn))
    return own.temperature


def warn_if_turns_do_not_end(model: LanguageModel) -> None:
    """A template whose end of turn is not an end token lets answers run on: say so, and what to change."""
    end = end_of_turn(model.tokenizer)
    if end is not None and end not in model.eos_ids:
        warn("turn-without-end", path=model.model_dir.path, token=model.tokenizer.token(end), number=end)


def _records(path: Path) -> Iterator[tuple[int, object, dict[str, Any]]]:
    if kind(path) != ".jsonl":
        lines = ((number, line.rstrip("\n")) for number, line in enumerate(read_lines(path), start=1))
        yield from ((number, line, {}) for number, line in lines if line.strip())
        return
    for number, record in read_records(path):
        names = [name for name in ("prompt", "messages") if name in record]
        if len(names) != 1:
            reason = f'expected "prompt" or "messages", found {", ".join(names or record) or "nothing"}'
            raise fail("bad-record", path=path, line=number, reason=reason)
        yield number, record.pop(names[0]), record


def _prompt(model: LanguageModel, path: Path, line: int, given: object, carried: dict[str, Any], chat: bool) -> Asked:
    """One prompt; what is wrong with it is said with its line."""
    if not isinstance(given, str | list):
        raise fail("bad-record", path=path, line=line, reason=f"expected a string or messages, found {given!r:.60}")
    if isinstance(given, str):
        check_text(path, line, given)
    try:
        made = make_prompt(model, given, chat)
    except IngotError as error:
        raise fail("bad-record", path=path, line=line, reason=str(error)) from error
    return replace(made, carried=carried)
