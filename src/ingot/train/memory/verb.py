"""The verb `plan memory`: how much memory training and inference will take, and settings that fit where it is too much.

No weights are made. On CPU a prediction is for a process with glibc; what it rests on is said in `predict`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import field_validator, model_validator

from ingot.adapt.load import open_reference
from ingot.core.errors import fail
from ingot.core.files import refuse_nonempty
from ingot.core.format import parse_bytes, show_bytes
from ingot.core.options import Options, option, optional_argument, verb
from ingot.core.progress import say
from ingot.core.report import Report
from ingot.infer.blocks import BLOCK
from ingot.infer.capacity import GIB, blocks_within, kept_in
from ingot.infer.memory import Memory
from ingot.infer.options import Weights
from ingot.model.config import ModelConfig
from ingot.model.families import DECODERS
from ingot.model.network import form_of
from ingot.model.packed_load import make_plan
from ingot.model.packing import PACKINGS, Packer
from ingot.model.subject import Subject, choose
from ingot.train import dial
from ingot.train.machine import choose_precision
from ingot.train.memory.inference import Use
from ingot.train.memory.packed import imagined, shapes_of
from ingot.train.memory.predict import process_bytes, training, writing_process_bytes
from ingot.train.memory.propose import propose
from ingot.train.memory.setting import Device, Setting
from ingot.train.memory.told import Trained, make_report, tell, written_in
from ingot.train.method import IN_FRONT, RANK, LoRAOptions, Method, PromptOptions, held_in, refuse_idle
from ingot.train.settings import Precision, Switch, switched


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


class WritingOptions(Options):
    """How a model writes, as `generate` and `serve` are told."""

    weights: Weights = option(
        "auto", "inference: layers multiply by dense, int8 or int4; auto: the codes a directory stores", plain=True
    )
    inference_only: bool = option(False, "plan inference alone: --memory is then for it", plain=True)


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
    run: WritingOptions = option(WritingOptions(), "how a model writes: --weights, --inference-only")
    cache: Memory = option(Memory(), "keys and values in inference: --cache.gib and so on")
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
    subject = _subject(options)
    use = _use(options, subject)
    trained = None if options.run.inference_only else _training(options, subject.config, limit)
    written = written_in(use, writing_process_bytes(options.device, subject.path), limit, _ways(options, subject))
    report = make_report(subject.name, options.model_dump(mode="json"), trained, written, limit)
    tell(report, trained, written, limit)
    return report if options.out is None else report.write(options.out)


def _training(options: MemoryOptions, config: ModelConfig, limit: int | None) -> Trained:
    """What training takes, and settings that fit where it is too much."""
    setting, process = _setting(options, config), process_bytes(options.device)
    needs = training(setting, process)
    if options.loop.checkpointing == "auto" and limit is not None and needs.total > limit:
        say("plan-memory-checkpointed", needs=show_bytes(needs.total))
        setting = replace(setting, checkpointing=True)
        needs = training(setting, process)
    if limit is None or round(needs.total) <= limit:
        return Trained(needs, setting, [])
    return Trained(needs, setting, propose(setting, limit, lambda one: training(one, process)))


def _subject(options: MemoryOptions) -> Subject:
    if options.depth is None:
        return choose(options.model, options.preset, options.config)
    if options.model or options.preset or options.config:
        raise fail("plan-memory-depth")
    content = {"model_type": options.new.family, "vocab_size": options.new.vocab_size, "pad_token_id": 0,
               "dtype": "float32"}  # fmt: skip
    content |= dial.CONFIGS[options.new.family](options.depth, options.length)
    config = ModelConfig.read(content, Path(options.new.family))
    return Subject(f"{options.new.family} {options.depth}", config, content)


def _use(options: MemoryOptions, subject: Subject) -> Use:
    """Raises `plan-memory-length`, `weights-elsewhere`, `cache-without-room`, `cache-too-small`, and what `make_plan`
    raises."""
    config, weights = subject.config, options.run.weights
    if options.length > config.max_length:
        raise fail("plan-memory-length", found=options.length, window=config.max_length)
    if options.device == "cuda" and weights in PACKINGS:
        raise fail("weights-elsewhere", weights=weights, found=options.device)
    base = subject.base or imagined(subject.content, subject.name, shapes_of(config))
    plan = make_plan(base, weights) if options.device == "cpu" else None
    kv = kept_in(options.cache, torch.float32)
    use = Use(config, options.slots, options.length, options.device, Packer(base, plan) if plan else None, kv)
    if options.cache.gib is None or form_of(config) == "encoder":
        return use
    paired = form_of(config) == "encoder-decoder"
    blocks, _ = blocks_within(options.cache.gib * GIB, config, kv, options.slots, paired)
    if (blocks - 1) * BLOCK < options.length:
        raise fail("cache-too-small", found=options.length, limit=(blocks - 1) * BLOCK)
    return replace(use, most_blocks=blocks)


def _ways(options: MemoryOptions, subject: Subject) -> Iterator[tuple[str, Use]]:
    """Other ways to write the same texts, the ones that change least first: fewer at once, smaller keys and values,
    packed weights, and all of it. By flags of `generate` and `serve`."""
    weights = [word for word in PACKINGS if options.device == "cpu" and subject.can_pack]
    for word in dict.fromkeys((options.run.weights, *weights)):
        for kv in dict.fromkeys((options.cache.kv, "int8")):
            for slots in dict.fromkeys((options.slots, max(1, options.slots // 2), 1)):
                cache = options.cache.model_copy(update={"kv": kv})
                run = options.run.model_copy(update={"weights": word})
                changed = options.model_copy(update={"slots": slots, "cache": cache, "run": run})
                if changed != options:
                    yield f"--weights {word} --cache.kv {kv} --slots {slots}", _use(changed, subject)


def _setting(options: MemoryOptions, config: ModelConfig) -> Setting:
    """Without checkpointing, unless it is asked for. Raises `plan-memory-front`."""
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
