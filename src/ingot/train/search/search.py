"""Search: short runs of the verb's own making, judged on conversations that they do not learn from.

The verb says how a run is made ready and run (`Learner`); here it is decided what is tried and when to stop. State lies
beside the output, in `.NAME.search/`: what the search is (`run.json`), its trials (`trials.jsonl`), and the run that is
being tried. Interrupted or killed, it goes on with --resume from the trial it was at, and may be given more budget.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from ingot.adapt.load import LanguageModel
from ingot.core.errors import IngotError, fail
from ingot.core.files import write_file
from ingot.core.model_dir import read_json
from ingot.core.progress import hushed, say
from ingot.data.divide import divide_rows
from ingot.data.objectives.objective import Objective
from ingot.data.pack import Rows
from ingot.train.checkpoint import Place
from ingot.train.corpus import Corpus
from ingot.train.heldout import rows_loss
from ingot.train.loop import After, Run, go_on
from ingot.train.method import PART_IN_FRONT, TUNED
from ingot.train.plan import Plan
from ingot.train.search.options import SearchOptions
from ingot.train.search.space import Among, Space, changed, given_options, search_space, shown
from ingot.train.search.study import Curve, Proposal, State, Study, Trial
from ingot.train.settings import TrainingOptions
from ingot.train.tuned import Begun

Given = TypeVar("Given", bound=TrainingOptions)

LOOKS = 4
"""Parts of a trial: after each it is judged."""

JUDGE_ROWS = 64
"""Rows that trials are judged by, at most."""

BROKEN = {"loss-not-finite", "step-went-wrong", "training-unstable"}
"""Errors that lie in the setting a trial tries."""

TRIALS = "trials.jsonl"


@dataclass(frozen=True)
class Ready(Begun):
    """The same with what it learns to predict, in rows of how many tokens."""

    objective: Objective
    length: int


@dataclass(frozen=True)
class Learner(Generic[Given]):
    """How the verb makes a run: `ready` a model for what lies in a place, `read` its data below a folder, `plan` it,
    and `start` it (the run is returned ready to go)."""

    method: str
    rate: Callable[[int], float]
    ready: Callable[[Given, Place], Ready]
    read: Callable[[Given, Ready, Path], Corpus]
    plan: Callable[[Given, Rows, Ready], Plan]
    start: Callable[[Given, Ready, Rows, Place, After], Run]


@dataclass(frozen=True)
class Bench:
    """What all trials share: the rows they learn from and are judged by, how many documents the latter are, how many
    steps they have; `start`: the loss before any training."""

    train: Rows
    judge: Rows
    documents: int
    steps: int
    start: float


@dataclass(frozen=True)
class Found:
    """A search that has ended."""

    study: Study
    bench: Bench
    place: Place

    @property
    def best(self) -> Trial:
        return self.study.trials[self.study.best]


class Pruned(Exception):  # noqa: N818  (the way out of a run, no error)
    """A trial that is not worth going on with."""


def search(
    options: Given, budget: SearchOptions, learner: Learner[Given], same: dict[str, Any], place: Place
) -> tuple[Given, Found]:
    """Try settings until the budget is spent; the options with the best of them, and all that was found.

    Raises `search-nothing-left`, `bad-judge-share`, `search-all-failed`, and what the verb's own pieces raise.
    """
    place.begin(same, options.resume)
    with place.unless_refused((place.path / TRIALS).exists(), True), hushed():
        options = changed(options, {"loop.precision": _precision(options, learner, place)})
        space, largest = _space(options, learner, place)
        bench = _bench(largest, budget, learner, place)
    study = Study.open(place.path / TRIALS, space, options.seed, budget.prune)
    _tell_plan(study, bench)
    while not _is_spent(budget, study):
        proposal = study.ask()
        study.tell(_try(options, learner, proposal, bench, place))
        _tell_trial(study)
    if not study.has_result:
        raise fail("search-all-failed", count=len(study.trials), reason=study.trials[0].reason)
    found = Found(study, bench, place)
    say("search-done", count=len(study.trials), values=shown(found.best.values), loss=f"{found.best.loss:.4f}",
        start=f"{bench.start:.4f}")  # fmt: skip
    return changed(options, found.best.values), found


def _precision(options: Given, learner: Learner[Given], place: Place) -> str:
    """Of products, decided once: measured for each trial anew it could be another."""
    file = place.path / "precision.json"
    if not file.exists():
        chosen = learner.ready(options, place).precision
        write_file(file, json.dumps({"precision": "bf16" if chosen == torch.bfloat16 else "fp32"}))
    return str(read_json(file)["precision"])


def _space(options: Given, learner: Learner[Given], place: Place) -> tuple[Space, Given]:
    """What is searched, and the options by which rows are packed: those that leave the least room in the window."""
    ready, given = learner.ready(options, place), given_options(options)
    window = ready.model.config.max_length
    room = window - ready.length if "length" in given else window
    space = search_space(
        learner.method,
        learner.rate(ready.model.config.hidden_size),
        ready.model.network,
        min(room, window // PART_IN_FRONT),
        given,
    )
    if not space:
        raise fail("search-nothing-left", method=learner.method)
    tokens = space.get("prompt.tokens")
    return space, changed(options, {"prompt.tokens": max(tokens.values)} if isinstance(tokens, Among) else {})


def _bench(options: Given, budget: SearchOptions, learner: Learner[Given], place: Place) -> Bench:
    """Divide the data, and measure once what holds for all trials, on the device where they run."""
    ready = learner.ready(options, place)
    corpus = learner.read(options, ready, place.fresh("rows"))
    pad = ready.model.tokenizer.pad_id or 0
    train, held = divide_rows(corpus.rows, budget.heldout, options.seed, ready.objective.room, pad)
    judge, file = _evenly(held), place.path / "start.json"
    if not file.exists():
        learner.start(options, ready, train, Place(place.fresh("trial")), go_on)
        write_file(file, json.dumps({"start": _loss(ready.model, ready.objective, judge, idle=True)}))
    documents = len({number for row in range(len(held)) for number in held.documents(row)})
    steps = max(1, round(budget.share * learner.plan(options, corpus.rows, ready).max_steps))
    return Bench(train, judge, documents, steps, read_json(file)["start"])


def _evenly(rows: Rows) -> Rows:
    """At most JUDGE_ROWS rows, evenly chosen."""
    if len(rows) <= JUDGE_ROWS:
        return rows
    places = np.linspace(0, len(rows) - 1, JUDGE_ROWS).round().astype(int)
    return Rows(rows.ids[places], rows.segments[places], rows.targets[places])


def _is_spent(budget: SearchOptions, study: Study) -> bool:
    by_number = budget.trials is not None and len(study.trials) >= budget.trials
    by_clock = budget.minutes is not None and study.trials != [] and study.seconds >= 60 * budget.minutes
    return by_number or by_clock


def _try(options: Given, learner: Learner[Given], proposal: Proposal, bench: Bench, place: Place) -> Trial:
    """One short run with a setting, from its beginning."""
    begin = time.monotonic()
    curve: Curve = []
    state: State = "done"
    reason = ""
    try:
        with hushed():
            _run(
                changed(options, {**proposal.values, "max_steps": bench.steps}), learner, proposal, bench, place, curve
            )
    except Pruned:
        state = "pruned"
    except IngotError as error:
        if error.code not in BROKEN:
            raise
        state, reason = "failed", str(error)
    loss = curve[-1][1] if state == "done" else None
    if loss is not None and not np.isfinite(loss):
        state, reason, loss = "failed", f"held-out loss {loss}", None
    return Trial(proposal.values, state, loss, curve, round(time.monotonic() - begin, 3), reason)


def _run(options: Given, learner: Learner[Given], proposal: Proposal, bench: Bench, place: Place, curve: Curve) -> None:
    """Train, looking at the loss on what is held out after each of LOOKS parts; the last look is behind the end."""
    trial = Place(place.fresh("trial"))
    ready = learner.ready(options, trial)
    looks = {bench.steps * part // LOOKS for part in range(1, LOOKS)} - {0, bench.steps}

    def look(step: int) -> None:
        ready.model.network.eval()
        curve.append([step, _loss(ready.model, ready.objective, bench.judge)])
        ready.model.network.train()

    def after(line: dict[str, Any]) -> None:
        if line["step"] in looks:
            look(line["step"])
            if proposal.is_hopeless(curve):
                raise Pruned

    run = learner.start(options, ready, bench.train, trial, after)
    run.go(False)
    look(bench.steps)


def _loss(model: LanguageModel, objective: Objective, rows: Rows, idle: bool = False) -> float:
    """Mean over the targets, nats; `idle`: without what is to be trained."""
    off = model.active.without(TUNED) if idle else contextlib.nullcontext()
    with off, torch.compiler.set_stance("force_eager"):
        total, count = rows_loss(model.network, objective, rows)
    return total / count if count else float("nan")


def _tell_plan(study: Study, bench: Bench) -> None:
    names = ", ".join(study.space)
    say("search-plan", names=names, steps=f"{bench.steps:,}", documents=f"{bench.documents:,}",
        targets=f"{bench.judge.num_targets:,}", done=len(study.trials))  # fmt: skip


def _tell_trial(study: Study) -> None:
    trial = study.trials[-1]
    loss = "-" if trial.loss is None else f"{trial.loss:.4f}"
    best = f"{study.trials[study.best].loss:.4f}" if study.has_result else "-"
    say("search-trial", number=len(study.trials), values=shown(trial.values), loss=loss, state=trial.state, best=best)
