"""The verb `plan memory`: how much memory training and inference will take, and settings that fit where it is too much.

No weights are made. On CPU a prediction is for a process with glibc; what it rests on is said in `predict`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import field_validator, model_validator

from ingot.adapt.load import open_reference
from ingot.core.errors import fail
from ingot.core.files import refuse_nonempty
from ingot.core.format import parse_bytes, show_bytes
from ingot.core.language import text
from ingot.core.options import Options, option, optional_argument, verb
from ingot.core.progress import say
from ingot.core.report import Cell, Plot, Report, Section, Series, Table, Unit
from ingot.model.config import ModelConfig
from ingot.model.families import DECODERS
from ingot.model.subject import Subject, choose
from ingot.train import dial
from ingot.train.machine import choose_precision
from ingot.train.memory.predict import Needs, inference, process_bytes, training
from ingot.train.memory.propose import propose
from ingot.train.memory.setting import Device, Setting, loop_flags, method_flags
from ingot.train.method import IN_FRONT, RANK, LoRAOptions, Method, PromptOptions, held_in, refuse_idle
from ingot.train.settings import Precision, Switch, switched

PARTS = ("weights", "gradients", "states", "activations", "heap", "process")


class NewModelOptions(Options):
    """A model that does not exist yet, as `pretrain` would make it."""

    family: dial.Family = option("qwen3", "its architecture")
    vocab_size: int = option(8192, "tokens it knows", ge=2)


class StepOptions(Options):
    """How a step is computed, as the training verbs are told."""

    optimizer: Literal["adamw", "adamw8", "muon"] = option("adamw", "optimiser")
    micro_batches: int = option(1, "parts a batch is computed in", ge=1)
    checkpointing: Switch = option(
        "auto", "keep only each layer's input for the backward pass; auto: where --memory does not suffice"
    )
    offload: Literal["none", "optimizer", "layers"] = option("none", "what lives off the device")
    precision: Precision = option("auto", "of matrix products: auto is bf16 on cuda, and on cpu what is faster here")

    @field_validator("checkpointing", mode="before")
    @classmethod
    def _in_words(cls, found: object) -> object:
        return switched(found)


class MemoryOptions(Options):
    """Options of `plan memory`."""

    model: str | None = optional_argument(None, "model to train or use: DIR")
    preset: str | None = option(None, "a well-known model instead, as for plan params")
    config: Path | None = option(None, "a config.json instead")
    depth: int | None = option(None, "a new model of so many layers instead, as for pretrain", ge=1)
    new: NewModelOptions = option(NewModelOptions(), "what the new model is")
    batch_tokens: int = option(2048, "tokens a step", ge=8)
    length: int = option(256, "window in tokens", ge=8)
    method: Method = option("full", "what trains: every weight, or an adapter of this kind")
    rank: int = option(RANK, "rank of the update (lora, rslora, dora, qlora)", ge=1)
    lora: LoRAOptions = option(LoRAOptions(), "the rest of the update")
    prompt: PromptOptions = option(PromptOptions(), "what is put in front of every text (prefix, prompt)")
    loop: StepOptions = option(StepOptions(), "how a step is computed, as the training verbs are told")
    slots: int = option(8, "texts at once in inference", ge=1)
    device: Device = option("cpu", "cpu or cuda")
    memory: str | None = option(
        None, "what there is, for example 8GiB; settings that fit are proposed where it is less"
    )
    out: Path | None = option(None, "write a report to this directory")

    @model_validator(mode="after")
    def _every_option_acts(self) -> Self:
        """An option that this plan never reads is refused, not ignored."""
        refuse_idle(self.method, self.rank, self.lora, self.prompt)
        if self.prompt.text is not None or self.lora.alpha is not None:
            raise ValueError("prompt.text and lora.alpha do not change what memory is taken; leave them out")
        if self.depth is None and self.new != NewModelOptions():
            raise ValueError("--new.* act only with --depth")
        return self


@verb(MemoryOptions)
def plan_memory(options: MemoryOptions) -> Report:
    """Predict the memory of training and inference."""
    if options.out is not None:
        refuse_nonempty(options.out)
    limit = None if options.memory is None else parse_bytes(options.memory)
    name, config = _config(options)
    setting = _setting(options, config)
    process = process_bytes(options.device)
    needs = training(setting, process)
    if options.loop.checkpointing == "auto" and limit is not None and needs.total > limit:
        say("plan-memory-checkpointed", needs=show_bytes(needs.total))
        setting = replace(setting, checkpointing=True)
        needs = training(setting, process)
    serving = inference(config, options.slots, options.length, options.device, process)
    passed = None if limit is None else round(needs.total) <= limit
    others = propose(setting, limit, lambda other: training(other, process)) if limit is not None and not passed else []
    numbers: dict[str, Cell] = {"training_bytes": round(needs.total), "inference_bytes": round(serving.total),
                               "checkpointing": setting.checkpointing}  # fmt: skip
    report = Report(
        title=text("plan-memory-title", name=name),
        verb="plan memory",
        options=options.model_dump(mode="json"),
        numbers=numbers | ({} if limit is None else {"memory_bytes": limit, "settings_that_fit": len(others)}),
        sections=_sections(needs, serving, others),
        passed=passed,
    )
    _tell(report, needs, serving, limit, others)
    return report if options.out is None else report.write(options.out)


def _config(options: MemoryOptions) -> tuple[str, ModelConfig]:
    if options.depth is None:
        subject: Subject = choose(options.model, options.preset, options.config)
        return subject.name, subject.config
    if options.model or options.preset or options.config:
        raise fail("plan-memory-depth")
    content = {"vocab_size": options.new.vocab_size, "pad_token_id": 0, "dtype": "float32"}
    content |= dial.CONFIGS[options.new.family](options.depth, options.length)
    return f"{options.new.family} {options.depth}", ModelConfig.read(content, Path(options.new.family))


def _setting(options: MemoryOptions, config: ModelConfig) -> Setting:
    """Without checkpointing, unless it is asked for. Raises `plan-memory-length` and `plan-memory-front`."""
    if options.length > config.max_length:
        raise fail("plan-memory-length", found=options.length, window=config.max_length)
    if options.method in IN_FRONT and config.model_type not in DECODERS:
        raise fail("plan-memory-front", method=options.method, family=config.model_type)
    loop, rows = options.loop, max(1, round(options.batch_tokens / options.length))
    precision = choose_precision(loop.precision, config.hidden_size, torch.device(options.device))
    held = torch.float32
    if options.model is not None:
        held = held_in(open_reference(options.model)[0], options.method, options.lora, precision)
    return Setting(config, options.length, rows, options.method, loop.optimizer, loop.micro_batches,
                   loop.checkpointing == "on", loop.offload, "bf16" if precision == torch.bfloat16 else "fp32", held,
                   options.rank, options.lora, options.prompt, options.device)  # fmt: skip


def _sections(needs: Needs, serving: Needs, others: list[tuple[Setting, Needs]]) -> list[Section]:
    names = [text(f"plan-memory-{part}") for part in PARTS]
    training_name, inference_name = text("plan-memory-training"), text("plan-memory-inference")
    columns = [(training_name, needs), (inference_name, serving)]
    rows: list[list[Cell]] = [
        [name, *(round(getattr(one, part)) for _, one in columns)] for name, part in zip(names, PARTS, strict=True)
    ]
    rows.append([text("plan-total"), *(round(one.total) for _, one in columns)])
    units: dict[str, Unit] = {training_name: "bytes", inference_name: "bytes"}
    header = [text("plan-memory-what"), training_name, inference_name]
    series = [Series(name=name, x=[*names], y=[getattr(one, part) for part in PARTS]) for name, one in columns]
    table = Table(
        title=text("plan-memory-parts"), columns=header, rows=rows, units=units, note=text("plan-memory-note")
    )
    picture = Plot(title=text("plan-memory-picture"), kind="bar", series=series, unit="bytes")
    return [table, picture, *([_others(others)] if others else [])]


def _others(others: list[tuple[Setting, Needs]]) -> Table:
    size = text("plan-memory-training")
    rows: list[list[Cell]] = [[flags(setting), round(needs.total)] for setting, needs in others]
    return Table(title=text("plan-memory-fit"), columns=[text("plan-memory-setting"), size], rows=rows,
                 units={size: "bytes"})  # fmt: skip


def flags(setting: Setting) -> str:
    """A setting as options of this verb, which the training verbs take as well."""
    size = f"--length {setting.length} --batch-tokens {setting.batch_rows * setting.length}"
    return f"{size} {method_flags(setting)} {loop_flags(setting)}"


def _tell(report: Report, needs: Needs, serving: Needs, limit: int | None, others: list[tuple[Setting, Needs]]) -> None:
    say("plan-head", title=report.title)
    for part in PARTS:
        say("plan-memory-row", name=text(f"plan-memory-{part}"), training=show_bytes(getattr(needs, part)),
            inference=show_bytes(getattr(serving, part)))  # fmt: skip
    say("plan-memory-row", name=text("plan-total"), training=show_bytes(needs.total),
        inference=show_bytes(serving.total))  # fmt: skip
    if limit is None:
        return
    if report.passed:
        say("plan-memory-fits", needs=show_bytes(needs.total), memory=show_bytes(limit))
        return
    say("plan-memory-too-much", needs=show_bytes(needs.total), memory=show_bytes(limit), count=len(others))
    for setting, one in others:
        say("plan-memory-other", flags=flags(setting), needs=show_bytes(one.total))
