"""The verb `prefer`: a model and preferences in, an adapter (or, by full tuning, a model) out that prefers as they do.

The loop, the methods and what is written are those of `tune`; what differs is the loss (`losses`), and that it compares
the model with the one it was (`reference`).
"""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from pydantic import model_validator

from ingot.adapt.load import LanguageModel, open_reference, untied
from ingot.core.errors import fail
from ingot.core.files import refuse_nonempty
from ingot.core.model_dir import Draft, ModelDir
from ingot.core.options import option, required, verb
from ingot.core.progress import say, warn
from ingot.data.objectives.catalogue import make_objective
from ingot.data.objectives.objective import Objective
from ingot.data.objectives.options import ObjectiveOptions
from ingot.model.config import ModelConfig
from ingot.model.held import num_parameters
from ingot.model.network import form_of
from ingot.train.checkpoint import Place
from ingot.train.corpus import Corpus, once
from ingot.train.distributed.sharing import Sharing, share
from ingot.train.distributed.world import World
from ingot.train.forgetting.measure import Forgetting, Subject, tell
from ingot.train.loop import Run
from ingot.train.machine import default_device
from ingot.train.method import (
    IN_FRONT,
    TUNED,
    begin_from_text,
)
from ingot.train.metrics import read_metrics
from ingot.train.offload import move
from ingot.train.plan import Plan, Result, make_plan
from ingot.train.preference.criterion import Preference, Wish, divergence
from ingot.train.preference.fall import FAR, FallWatch, change
from ingot.train.preference.heldout import compare
from ingot.train.preference.losses import RATE_SHARES, LossName
from ingot.train.preference.options import LossOptions, PairOptions, numbers_of
from ingot.train.preference.reading import Preferences, read_preferences
from ingot.train.preference.reference import Reference, check_reference, reference_of
from ingot.train.preference.score import Floats, Scorer
from ingot.train.reading import window
from ingot.train.tuned import Begun, TuningOptions, begin_tuning, fresh, write_tuned
from ingot.train.write import record

BATCH_TOKENS = 4096


class PreferOptions(TuningOptions):
    """Tune a model on preferences."""

    data: Path = required("preferences: .jsonl with prompt, chosen and rejected; for kto labelled answers, too")
    loss: LossName = option("dpo", "what is learnt: dpo, ipo, kto (with a reference), orpo, simpo (without)")
    beta: float | None = option(None, "strength of the loss; 0.1 (dpo, kto, orpo), 1 (ipo) or 2 (simpo)", gt=0)
    losses: LossOptions = option(LossOptions(), "the rest of the loss")
    length: int | None = option(None, "window in tokens; by default the model's own, at most 4096", ge=8)
    pairs: PairOptions = option(PairOptions(), "what is trained on and what is held out")

    @model_validator(mode="after")
    def _every_option_acts(self) -> Self:
        """What belongs to another loss is refused."""
        numbers_of(self.loss, self.beta, self.losses)
        return self

    @property
    def wish(self) -> Wish:
        return Wish(self.loss, numbers_of(self.loss, self.beta, self.losses))


@dataclass(frozen=True)
class Prepared:
    """What a run is made of, once all that can be refused was looked at. `numbers` are for the hallmark."""

    corpus: Corpus
    objective: Objective
    forgetting: Forgetting
    preferences: Preferences
    plan: Plan
    sharing: Sharing
    scorer: Scorer
    reference: Reference | None
    heldout_NS: Floats | None
    numbers: dict[str, Any]


@verb(PreferOptions)
def prefer(options: PreferOptions) -> ModelDir:
    """Tune a model on preferences: pairs of answers, or answers labelled good and bad."""
    started = time.monotonic()
    world = World.here()
    world.agree(lambda: refuse_nonempty(options.out))
    place, same = Place.beside(options.out), options.identity
    resumed = world.agree(lambda: place.begin(same, options.resume))
    with place.unless_refused(resumed, world.is_first):
        _check_model(open_reference(options.model)[0])
        begun = begin_tuning(options, place, world)
        ready = _prepare(options, begun, place, same["model"], world)
    model, sharing = begun.model, ready.sharing
    sharing.spread_chance(options.seed, 0)
    result = _run(options, model, ready, place).go(resumed)
    numbers = ready.numbers | _measured(options, ready)
    network = sharing.gathered(model.network, lambda: fresh(options, begun.held)[0].network)
    model = dataclasses.replace(model, network=network)
    if not world.is_first:
        world.wait()
        return ModelDir.open(options.out)
    with ModelDir.create(options.out, "prefer", options, started) as draft:
        draft.seed = options.seed
        draft.parents.extend(model.parents)
        draft.data.extend(ready.corpus.sources)
        draft.numbers |= numbers
        _record(draft, model, ready.corpus, result, place)
        write_tuned(draft, model, begun.settings, untied(model), begun.held)
        lost = ready.forgetting.end(draft, model, ready.objective)
    place.remove()
    world.wait()
    say("preferred", loss=f"{result.loss:.3f}", accuracy=f"{draft.numbers['accuracy']:.1%}",
        margin=f"{draft.numbers.get('margin', math.nan):.3f}")  # fmt: skip
    tell(lost)
    return ModelDir.open(options.out)


def _check_model(base: ModelDir) -> None:
    """Raise `prefer-decoder` or `prefer-both-ways`: answers are judged as a decoder writes them."""
    path = base.path
    config = ModelConfig.read(base.config, path / "config.json")
    if form_of(config) != "decoder":
        raise fail("prefer-decoder", path=path, family=config.model_type)
    if config.prefix_lm:
        raise fail("prefer-both-ways", path=path)


def _prepare(options: PreferOptions, begun: Begun, place: Place, models: Any, world: World) -> Prepared:
    """Read, plan, and ask the reference. Whatever refuses refuses here, before anything is learnt."""
    model, network = begun.model, begun.model.network
    length = window(model, options.length)
    read = partial(read_preferences, options.data, options.loss, model, length, options.seed, options.pairs)
    corpus = once(world, place, read)
    preferences = Preferences.open(place.path / f"rows-{world.machine}")
    begin_from_text(model, options.prompt, corpus.rows)
    objective = make_objective("next-token", model.tokenizer, length, "decoder", ObjectiveOptions())
    subject = partial(Subject.of, options.forgetting.general, options.data, model, length)
    forgetting = world.agree(lambda: Forgetting.begin(subject(), model, objective, place.path))
    move(network, options.loop, default_device(), place.path, world)
    plan = _plan(options, corpus, begun, world)
    sharing = share(network, options.loop, world)
    scorer = Scorer(network, plan, sharing, model.active)
    without = None if begun.settings is None else [name for name in model.active.names if name != TUNED]
    reference, numbers = None, dict[str, Any]()
    if options.wish.asks_reference:
        reference = reference_of(place, preferences, scorer, without, models)
        begins_as_base = options.method not in IN_FRONT  # what stands in front is a text from the start
        numbers = _start(options, check_reference(reference, preferences, scorer, None if begins_as_base else without))
    heldout = preferences.heldout
    before = None if heldout is None else scorer.score(heldout, "held out", without)
    return Prepared(corpus, objective, forgetting, preferences, plan, sharing, scorer, reference, before, numbers)


def _start(options: PreferOptions, difference: float) -> dict[str, Any]:
    """Say that nothing is preferred yet."""
    say("prefer-start", difference=f"{difference:.1e}", loss=options.loss)
    return {"reference_difference": difference}


def _plan(options: PreferOptions, corpus: Corpus, begun: Begun, world: World) -> Plan:
    model = begun.model
    rate = options.lr or options.usual_rate(model.config.hidden_size) * RATE_SHARES[options.loss]
    batch = options.batch_tokens or BATCH_TOKENS
    plan = make_plan(options, corpus.rows, batch, rate, model.network, world, begun.precision)
    parameters = list(model.network.parameters())
    numbers = ", ".join(f"{name.replace('_', '-')} {value:g}" for name, value in options.wish.parameters.items())
    say("prefer-plan", loss=options.loss, numbers=numbers, method=options.method,
        count=f"{corpus.account.documents - corpus.account.heldout_documents:,}",
        heldout=f"{corpus.account.heldout_documents:,}",
        parameters=f"{num_parameters(model.network):,}",
        trained=f"{sum(p.numel() for p in parameters if p.requires_grad):,}", lr=f"{rate:.2g}",
        batch=f"{plan.batch_rows * corpus.rows.length:,}", steps=f"{plan.max_steps:,}",
        precision=str(plan.precision).removeprefix("torch."))  # fmt: skip
    return plan


def _run(options: PreferOptions, model: LanguageModel, ready: Prepared, place: Place) -> Run:
    estimate, kept_NS = None, None
    if ready.reference is not None:
        kept_NS, strangers = ready.reference.sheet_NS, ready.preferences.mismatched
        if strangers is not None and ready.reference.mismatched_NS is not None:
            estimate = divergence(strangers, ready.reference.mismatched_NS, model.network, ready.plan, ready.sharing)
    watch = FallWatch(place.metrics)
    criterion = Preference(options.wish, ready.preferences.sheet, kept_NS, estimate, watch.see)
    rows, names = ready.preferences.sheet.rows, ready.corpus.names
    return Run(model.network, rows, ready.plan, place, loss=criterion, name_of=names, sharing=ready.sharing)


def _measured(options: PreferOptions, ready: Prepared) -> dict[str, Any]:
    """The held-out preferences, once the model is tuned."""
    heldout = ready.preferences.heldout
    if heldout is None or ready.heldout_NS is None:
        return {}
    return compare(options.wish, heldout, ready.heldout_NS, ready.scorer.score(heldout, "held out"))


def _record(draft: Draft, model: LanguageModel, corpus: Corpus, result: Result, place: Place) -> None:
    """The run's numbers: means over its last tenth, and what became of the better answers."""
    lines = [line for line in read_metrics(place.metrics) if "event" not in line]
    tail = lines[-max(1, len(lines) // 10) :]
    for name in ("accuracy", "margin", "chosen", "rejected"):
        values = [line[name] for line in tail if name in line]
        if values:
            draft.numbers[name] = round(sum(values) / len(values), 4)
    found = change(lines)
    draft.numbers["chosen_change"] = None if found is None else round(found, 4)
    if found is not None and found < -FAR:
        warn("prefer-fell", change=f"{found:+.2f}")
    record(draft, model.network, corpus.rows, result, place)
    corpus.account.prove(draft, corpus.rows, model.tokenizer)
