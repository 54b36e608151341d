"""The verb `tune-temperature`: pick a temperature for a model and a task, with evidence, or say that it cannot be told.

Questions are read and checked first, then all samples are drawn and kept (`asking`), scored (`scores`), and the choice
is made on one half of the questions and checked on the other (`decide`). Nothing is written where it cannot be told,
but for the report, if one was asked for.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingot.adapt.load import LanguageModel
from ingot.core.errors import fail
from ingot.core.files import path_digest, refuse_nonempty
from ingot.core.model_dir import split_reference
from ingot.core.options import verb
from ingot.core.progress import say, warn
from ingot.core.report import HTML_NAME, Report
from ingot.evaluate.task import Row, dump_rows
from ingot.evaluate.temperature.asking import Job, Kept, ask, jobs, seed_of
from ingot.evaluate.temperature.decide import Decision, by_entropy, by_labels
from ingot.evaluate.temperature.items import Item, halves, labelled, prompts_of, read_items
from ingot.evaluate.temperature.options import TuneTemperatureOptions
from ingot.evaluate.temperature.page import build
from ingot.evaluate.temperature.scores import Scores, score
from ingot.evaluate.temperature.turning import FEWEST
from ingot.evaluate.temperature.write import write
from ingot.infer.opened import open_model
from ingot.infer.options import Sampling
from ingot.infer.prompts import warn_if_turns_do_not_end, warn_of_settings

FEWEST_LABELLED = 20
"""Ten questions choose and ten check: fewer tell nothing about a task."""
FEWEST_PROMPTS = 8
CUT = 0.2
"""From this share of answers cut at the chosen temperature on, a warning says so."""


@dataclass(frozen=True)
class Tuned:
    """What was found, and what was written."""

    decision: Decision
    rows: list[Row]
    out: Path | None
    report: Report | None

    @property
    def temperature(self) -> float | None:
        """None: it cannot be told."""
        return self.decision.temperature

    def summary(self) -> dict[str, Any]:
        numbers = Report(title="-", verb="-", numbers=self.decision.numbers).summary()
        places = {"out": self.out, "report": None if self.report is None else self.report.path}
        written = {name: str(path) for name, path in places.items() if path is not None}
        return {"can_tell": self.temperature is not None, "temperature": self.temperature, **numbers, **written}


@verb(TuneTemperatureOptions)
def tune_temperature(options: TuneTemperatureOptions) -> Tuned:
    """Pick a temperature for a model and a task."""
    started = time.monotonic()
    _check(options)
    items = read_items(options.task, options.limit, options.seed)
    by_answers = labelled(items, options.task, options.method)
    _check_enough(options, items, by_answers)
    model = open_model(options.model, options.machine.place, options.machine.weights)
    warn_of_settings(model)
    if options.chat:
        warn_if_turns_do_not_end(model)
    rows, kept = _samples(options, model, items)
    parts = halves(items, options.seed)
    scores = score(rows, items, options.temperatures)
    if by_answers:
        decision = by_labels(scores, parts, options.temperatures, options.aim, options.seed)
    else:
        decision = by_entropy(scores, parts, options.temperatures, options.seed)
    tuned = _written(options, model, decision, build(options, model.name, decision, scores, parts), rows, started)
    kept.remove()
    _tell(options, tuned, scores)
    return tuned


def _check(options: TuneTemperatureOptions) -> None:
    """What can be refused before anything is read."""
    for path in (options.out, options.report):
        if path is not None:
            refuse_nonempty(path)
    if options.out is not None and options.out == options.report:
        raise fail("temperature-one-place", path=options.out)
    base, adapters = split_reference(options.model)
    if options.out is not None and adapters:
        raise fail("temperature-adapter", base=base, adapter="+".join(map(str, adapters)))
    if options.resume and options.out is None and options.report is None:
        raise fail("temperature-nothing-kept")


def _check_enough(options: TuneTemperatureOptions, items: Sequence[Item], by_answers: bool) -> None:
    least = FEWEST_LABELLED if by_answers else FEWEST_PROMPTS
    if len(items) < least:
        raise fail("temperature-few", path=options.task, found=len(items), least=least)
    if not by_answers and sum(one > 0 for one in options.temperatures) < FEWEST:
        raise fail("temperature-grid", found=", ".join(f"{one:g}" for one in options.temperatures), least=FEWEST)
    if not by_answers and "aim" in options.model_fields_set:
        raise fail("temperature-aim")


def _samples(options: TuneTemperatureOptions, model: LanguageModel, items: list[Item]) -> tuple[list[Row], Kept]:
    """All samples: those of an earlier run, and what is missing."""
    prompts = prompts_of(model, items, options.task, options.chat)
    kept = Kept.beside(options.out or options.report)
    rows = kept.begin(_identity(options, model), options.resume)
    number = {item.id: place for place, item in enumerate(items)}
    done = {Job(number[row["id"]], row["temperature"], row["sample"]) for row in rows}
    wanted = [job for job in jobs(len(items), options.temperatures, options.samples) if job not in done]
    say("temperature-plan", questions=len(items), temperatures=len(options.temperatures), samples=options.samples,
        wanted=len(wanted), done=len(done))  # fmt: skip

    def sampling(job: Job) -> Sampling:
        seed = seed_of(options.seed, items[job.item], job.sample)
        return Sampling(temperature=job.temperature, seed=seed, max_tokens=options.max_tokens)

    rows += ask(model, items, prompts, wanted, sampling, options.slots, kept.add)
    order = {job: place for place, job in enumerate(jobs(len(items), options.temperatures, options.samples))}
    return sorted(rows, key=lambda row: order[Job(number[row["id"]], row["temperature"], row["sample"])]), kept


def _identity(options: TuneTemperatureOptions, model: LanguageModel) -> dict[str, Any]:
    """What must be the same for samples to go together."""
    kept = options.model_dump(mode="json", include={"grid", "samples", "limit", "max_tokens", "chat", "seed"})
    kept["weights"] = model.weights
    return kept | {"task": path_digest(options.task), "model": [parent.digest for parent in model.parents]}


def _written(
    options: TuneTemperatureOptions,
    model: LanguageModel,
    decision: Decision,
    page: Report,
    rows: list[Row],
    started: float,
) -> Tuned:
    out = options.out if decision.temperature is not None else None
    report = None if options.report is None else page.write(options.report, {"samples.jsonl": dump_rows(rows)})
    if out is not None:
        evidence = {"method": "labels" if decision.standing else "entropy", "grid": options.temperatures,
                    "samples": options.samples, "seed": options.seed, "weights": model.weights,
                    "task": path_digest(options.task), "model": model.model_dir.digest,
                    **decision.evidence}  # fmt: skip
        parent = model.model_dir
        del model
        gc.collect()
        write(options, out, parent, decision, evidence, started)
    return Tuned(decision, rows, out, report)


def _tell(options: TuneTemperatureOptions, tuned: Tuned, scores: Scores) -> None:
    say("temperature-decision", sentence=tuned.decision.sentence)
    cut = tuned.decision.numbers.get("answers_cut_share")
    if isinstance(cut, float) and cut >= CUT:
        warn("temperature-often-cut", share=f"{cut:.0%}", max_tokens=options.max_tokens)
    if tuned.out is not None:
        say("temperature-written", out=tuned.out)
    elif options.out is not None:
        say("temperature-nothing-written", out=options.out)
    elif tuned.temperature is not None:
        say("temperature-how-to-write")
    if tuned.report is not None and tuned.report.path is not None:
        say("temperature-report", path=tuned.report.path / HTML_NAME)
