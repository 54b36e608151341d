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

from pydantic import model_validator

from ingot.adapt.load import untied
from ingot.core.errors import fail
from ingot.core.files import refuse_nonempty
from ingot.core.model_dir import ModelDir
from ingot.core.options import option, required, verb
from ingot.core.progress import say
from ingot.data.objectives.catalogue import make_objective
from ingot.data.objectives.options import ObjectiveName, ObjectiveOptions
from ingot.data.pack import Rows
from ingot.model.held import num_parameters
from ingot.model.network import Network, form_of
from ingot.train.account import Account
from ingot.train.checkpoint import Place
from ingot.train.corpus import Corpus, CorpusOptions, once, prepare
from ingot.train.directions import check_directions, marked
from ingot.train.distributed.sharing import share
from ingot.train.distributed.world import World
from ingot.train.forgetting.measure import Forgetting, Subject, tell
from ingot.train.loop import After, Run
from ingot.train.machine import default_device
from ingot.train.method import (
    begin_from_text,
)
from ingot.train.offload import move
from ingot.train.plan import Plan, make_plan
from ingot.train.reading import ConversationOptions, read_conversations, window
from ingot.train.search.options import SearchOptions
from ingot.train.search.page import record as record_search
from ingot.train.search.search import Found, Learner, Ready, search
from ingot.train.tuned import TuningOptions, begin_tuning, fresh, write_tuned
from ingot.train.write import measure, record

BATCH_TOKENS = 2048


class TuneOptions(TuningOptions):
    """Tune a model on chats."""

    data: Path = required("conversations: .jsonl in messages, ShareGPT, Alpaca or prompt/completion form")
    objective: ObjectiveName = option("next-token", "what is predicted; the one it was trained by, as a rule")
    objectives: ObjectiveOptions = option(ObjectiveOptions(), "numbers of the objectives")
    as_text: bool = option(False, "the data is plain text, of which every token is learnt")
    length: int | None = option(
        None, "window in tokens; by default the model's own, at most 4096, less where chats are short", ge=8
    )
    corpus: CorpusOptions = option(CorpusOptions(), "what is trained on and what is held out")
    chats: ConversationOptions = option(ConversationOptions(), "how conversations are read")
    search: SearchOptions = option(SearchOptions(), "settings to try before the run")

    @model_validator(mode="after")
    def _every_option_acts(self) -> Self:
        """Of a text what belongs to conversations is refused, and the other way round."""
        if self.as_text and self.chats != ConversationOptions():
            raise ValueError("show-mask and --chats.* are about conversations; of text every token is learnt")
        if not self.as_text and self.corpus.heldout != CorpusOptions().heldout:
            raise ValueError("corpus.heldout acts only on plain text (as_text)")
        if self.search.is_asked and self.max_minutes is not None:
            raise ValueError("a search needs runs of a known length: give --epochs or --max-steps, not --max-minutes")
        return self


@verb(TuneOptions)
def tune(options: TuneOptions) -> ModelDir:
    """Tune a model on chats."""
    started = time.monotonic()
    world = World.here()
    world.agree(lambda: refuse_nonempty(options.out))
    options, found = _search(options, world) if options.search.is_asked else (options, None)
    place = Place.beside(options.out)
    resumed = world.agree(lambda: place.begin(options.identity, options.resume))
    with place.unless_refused(resumed, world.is_first):
        ready = _ready(options, place, world)
        model, network, objective = ready.model, ready.model.network, ready.objective
        corpus = once(world, place, partial(_read, options, ready))
        begin_from_text(model, options.prompt, corpus.rows)
        subject = partial(Subject.of, options.forgetting.general, options.data, model, ready.length)
        forgetting = world.agree(lambda: Forgetting.begin(subject(), model, objective, place.path))
        move(network, options.loop, default_device(), place.path, world)
        plan = _plan(options, corpus.rows, ready, world)
        _tell_plan(options, corpus, plan, network)
        sharing = share(network, options.loop, world)
    sharing.spread_chance(options.seed, 0)
    run = Run(network, corpus.rows, plan, place, teach=objective.lesson, name_of=corpus.names, sharing=sharing)
    result = run.go(resumed)
    network = sharing.gathered(network, lambda: fresh(options, ready.held)[0].network)
    model = dataclasses.replace(model, network=network)
    if not world.is_first:
        world.wait()
        return ModelDir.open(options.out)
    with ModelDir.create(options.out, "tune", options, started) as draft:
        draft.seed = options.seed
        draft.parents.extend(model.parents)
        draft.data.extend(corpus.sources)
        record(draft, model.network, corpus.rows, result, place)
        corpus.account.prove(draft, corpus.rows, model.tokenizer)
        write_tuned(draft, model, ready.settings, marked(untied(model), objective), ready.held)
        measure(draft, model, objective, corpus.heldout, ready.length)
        lost = forgetting.end(draft, model, objective)
        if found is not None:
            record_search(draft, found)
    place.remove()
    if found is not None:
        found.place.remove()
    world.wait()
    say("tuned", loss=f"{result.loss:.3f}", rate=f"{result.targets / result.seconds:,.0f}")
    tell(lost)
    return ModelDir.open(options.out)


def _ready(options: TuneOptions, place: Place, world: World) -> Ready:
    """The model with what is to be trained on it, and what it is to learn."""
    begun = begin_tuning(options, place, world)
    model = begun.model
    length, form = window(model, options.length), form_of(model.config)
    objective = make_objective(options.objective, model.tokenizer, length, form, options.objectives, model.start_id)
    check_directions(model.config, model.model_dir.path, objective)
    return Ready(**vars(begun), objective=objective, length=length)


def _search(options: TuneOptions, world: World) -> tuple[TuneOptions, Found]:
    """The options with the best setting that short runs find. Raises `search-alone`, and what `search` raises."""
    if world.size > 1:
        raise fail("search-alone", size=world.size)
    place = Place(options.out.parent / f".{options.out.name}.search")
    learner = Learner(options.method, options.usual_rate, partial(_ready, world=world), _read,
                      partial(_plan, world=world), _start)  # fmt: skip
    return search(options, options.search, learner, options.identity, place)


def _start(options: TuneOptions, ready: Ready, rows: Rows, place: Place, after: After) -> Run:
    """A trial's run, as the verb makes its own."""
    network, world = ready.model.network, World()
    begin_from_text(ready.model, options.prompt, rows)
    move(network, options.loop, default_device(), place.path, world)
    plan, sharing = _plan(options, rows, ready, world), share(network, options.loop, world)
    return Run(network, rows, plan, place, teach=ready.objective.lesson, sharing=sharing, after=after)


def _read(options: TuneOptions, ready: Ready, directory: Path) -> Corpus:
    """Conversations, or text as pre-training reads it, packed below `directory`."""
    model, objective, length = ready.model, ready.objective, ready.length
    allowed = options.corpus.allow_unknown_licence
    if not options.as_text:
        account = Account.of_chats(options.data, allowed)
        shorter = options.length is None
        return read_conversations(
            account, model, objective, options.objectives, length, directory, options.chats, shorter
        )
    account = Account(options.data, allowed)
    share = options.corpus.heldout
    return prepare(account, model.tokenizer, objective, length, share, options.seed, directory)


def _plan(options: TuneOptions, rows: Rows, ready: Ready, world: World) -> Plan:
    rate = options.lr or options.usual_rate(ready.model.config.hidden_size)
    batch = options.batch_tokens or BATCH_TOKENS
    return make_plan(options, rows, batch, rate, ready.model.network, world, ready.precision)


def _tell_plan(options: TuneOptions, corpus: Corpus, plan: Plan, network: Network) -> None:
    parameters = list(network.parameters())
    say("tune-plan", method=options.method, count=f"{corpus.account.documents:,}",
        targets=f"{corpus.rows.num_targets:,}", parameters=f"{num_parameters(network):,}",
        trained=f"{sum(p.numel() for p in parameters if p.requires_grad):,}", lr=f"{plan.lr:.2g}",
        batch=f"{plan.batch_rows * corpus.rows.length:,}", steps=f"{plan.max_steps:,}",
        precision=str(plan.precision).removeprefix("torch."))  # fmt: skip
