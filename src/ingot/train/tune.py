"""The verb `tune`: a model and conversations (or text) in, an adapter (or, by full tuning, a model) out.

Of a conversation only what the assistant says is learnt: the renderer's mask decides. The same loop and objectives as
pre-training; a method (`ingot.train.method`) only changes which parameters train.
"""

from __future__ import annotations

import dataclasses
import time
from functools import partial
from pathlib import Path
from typing import Self

import torch
from pydantic import model_validator

from ingot.adapt.load import LanguageModel, open_reference, untied
from ingot.core.files import refuse_nonempty
from ingot.core.model_dir import ModelDir
from ingot.core.options import argument, option, required, verb
from ingot.core.progress import say
from ingot.data.objectives.catalogue import make_objective
from ingot.data.objectives.objective import Objective
from ingot.data.objectives.options import ObjectiveName, ObjectiveOptions
from ingot.model.config import ModelConfig
from ingot.model.network import form_of
from ingot.model.nf4_linear import num_parameters
from ingot.train.account import Account
from ingot.train.checkpoint import Place, identity
from ingot.train.corpus import Corpus, CorpusOptions, once, prepare
from ingot.train.directions import check_directions, marked
from ingot.train.distributed.sharing import share
from ingot.train.distributed.world import World
from ingot.train.loop import Run
from ingot.train.machine import default_device
from ingot.train.method import (
    RANK,
    LoRAOptions,
    Method,
    PromptOptions,
    begin_from_text,
    held_in,
    rate_of,
    refuse_idle,
    refuse_in_nf4,
)
from ingot.train.offload import move
from ingot.train.optimizers.groups import freeze
from ingot.train.plan import Plan, make_plan, precision_of
from ingot.train.reading import ConversationOptions, read_conversations, window
from ingot.train.settings import TrainingOptions
from ingot.train.tuned import begin_tuning, write_tuned
from ingot.train.write import measure, record

BATCH_TOKENS = 2048


class TuneOptions(TrainingOptions):
    """Tune a model on chats."""

    model: str = argument("model to tune: DIR, or DIR+ADAPTER")
    data: Path = required("conversations: .jsonl in messages, ShareGPT, Alpaca or prompt/completion form")
    method: Method = option("lora", "what trains: an adapter of this kind, or every weight (full)")
    rank: int = option(RANK, "rank of the update (lora, rslora, dora, qlora)", ge=1)
    lora: LoRAOptions = option(LoRAOptions(), "the rest of the update")
    prompt: PromptOptions = option(PromptOptions(), "what is put in front of every text (prefix, prompt)")
    objective: ObjectiveName = option("next-token", "what is predicted; the one it was trained by, as a rule")
    objectives: ObjectiveOptions = option(ObjectiveOptions(), "numbers of the objectives")
    as_text: bool = option(False, "the data is plain text, of which every token is learnt")
    length: int | None = option(None, "window in tokens; by default the model's own, at most 4096", ge=8)
    corpus: CorpusOptions = option(CorpusOptions(), "what is trained on and what is held out")
    chats: ConversationOptions = option(ConversationOptions(), "how conversations are read")

    @model_validator(mode="after")
    def _every_option_acts(self) -> Self:
        """What belongs to another method is refused, or to conversations of a text."""
        refuse_idle(self.method, self.rank, self.lora, self.prompt)
        refuse_in_nf4(self.method, self.loop)
        if self.as_text and self.chats != ConversationOptions():
            raise ValueError("show-mask and --chats.* are about conversations; of text every token is learnt")
        if not self.as_text and self.corpus.heldout != CorpusOptions().heldout:
            raise ValueError("corpus.heldout acts only on plain text (as_text)")
        return self


@verb(TuneOptions)
def tune(options: TuneOptions) -> ModelDir:
    """Tune a model on chats."""
    started = time.monotonic()
    world = World.here()
    world.agree(lambda: refuse_nonempty(options.out))
    base, adapters = open_reference(options.model)
    place = Place.beside(options.out)
    same = identity(options, data=options.data, model=[part.path for part in (base, *adapters)])
    resumed = world.agree(lambda: place.begin(same, options.resume))
    with place.unless_refused(resumed, world.is_first):
        config = ModelConfig.read(base.config, base.path / "config.json")
        precision = precision_of(options, config.hidden_size, place, world)
        held = held_in(base, options.method, options.lora, precision)
        model, settings = begin_tuning(options, held)
        network = model.network
        length, form = window(model, options.length), form_of(model.config)
        objective = make_objective(options.objective, model.tokenizer, length, form, options.objectives, model.start_id)
        check_directions(model.config, model.model_dir.path, objective)
        freeze(network, options.loop.freeze)
        corpus = once(world, place, partial(_read, options, model, objective, length))
        begin_from_text(model, options.prompt, corpus.rows)
        move(network, options.loop, default_device(), place.path, world)
        plan = _plan(options, corpus, model, world, precision)
        sharing = share(network, options.loop, world)
    sharing.spread_chance(options.seed, 0)
    run = Run(network, corpus.rows, plan, place, teach=objective.lesson, name_of=corpus.names, sharing=sharing)
    result = run.go(resumed)
    model = dataclasses.replace(
        model, network=sharing.gathered(network, lambda: begin_tuning(options, held)[0].network)
    )
    if not world.is_first:
        world.wait()
        return ModelDir.open(options.out)
    with ModelDir.create(options.out, "tune", options, started) as draft:
        draft.seed = options.seed
        draft.parents.extend(model.parents)
        draft.data.extend(corpus.sources)
        record(draft, model.network, corpus.rows, result, place)
        corpus.account.prove(draft, corpus.rows, model.tokenizer)
        write_tuned(draft, model, settings, marked(untied(model), objective), held)
        measure(draft, model, objective, corpus.heldout)
    place.remove()
    world.wait()
    say("tuned", loss=f"{result.loss:.3f}", rate=f"{result.targets / result.seconds:,.0f}")
    return ModelDir.open(options.out)


def _read(options: TuneOptions, model: LanguageModel, objective: Objective, length: int, directory: Path) -> Corpus:
    """Conversations, or text as pre-training reads it, packed below `directory`."""
    allowed = options.corpus.allow_unknown_licence
    if not options.as_text:
        account = Account.of_chats(options.data, allowed)
        return read_conversations(account, model, objective, options.objectives, length, directory, options.chats)
    account = Account(options.data, allowed)
    share = options.corpus.heldout
    return prepare(account, model.tokenizer, objective, length, share, options.seed, directory)


def _plan(options: TuneOptions, corpus: Corpus, model: LanguageModel, world: World, precision: torch.dtype) -> Plan:
    projected = options.prompt.projection is not None
    rate = options.lr or rate_of(options.method, model.config.hidden_size, projected)
    batch = options.batch_tokens or BATCH_TOKENS
    plan = make_plan(options, corpus.rows, batch, rate, model.network, world, precision)
    parameters = list(model.network.parameters())
    say("tune-plan", method=options.method, count=f"{corpus.account.documents:,}",
        targets=f"{corpus.rows.num_targets:,}", parameters=f"{num_parameters(model.network):,}",
        trained=f"{sum(p.numel() for p in parameters if p.requires_grad):,}", lr=f"{rate:.2g}",
        batch=f"{plan.batch_rows * corpus.rows.length:,}", steps=f"{plan.max_steps:,}",
        precision=str(plan.precision).removeprefix("torch."))  # fmt: skip
    return plan
