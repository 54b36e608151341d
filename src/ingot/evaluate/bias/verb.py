"""Verb `bias`: measure how evenly models treat groups of people and sides of politics, and what could not be told.

As in `evaluate`: everything given is checked; each model is loaded in turn and asked; what came out is saved; the
report is made from the saved rows alone, and `rescore` makes it again without a model. Adding a suite is one module,
one line in SUITES and its tests.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ingot.core.errors import fail, nearest
from ingot.core.files import refuse_nonempty
from ingot.core.options import verb
from ingot.core.report import Report
from ingot.data.objectives.options import Form
from ingot.data.objectives.special import mask_id
from ingot.evaluate.bias import bbq, counterfactual, crows_pairs, stance, stereoset, weat, winobias
from ingot.evaluate.bias.cost import COSTS, cost_result, cost_rows, cost_tasks, settle
from ingot.evaluate.bias.options import BiasOptions, OwnOptions
from ingot.evaluate.bias.page import build
from ingot.evaluate.bias.suite import Suite
from ingot.evaluate.entrants import Entrant, baseline_index, open_entrants
from ingot.evaluate.options import EvaluateOptions
from ingot.evaluate.overview import tell_verdict
from ingot.evaluate.task import dump_rows, parse_rows
from ingot.infer.opened import open_model
from ingot.model.place.wish import parse_place
from ingot.text.tokenizer import Tokenizer

SUITES: dict[str, Suite] = {
    "crows-pairs": crows_pairs.SUITE,
    "bbq": bbq.suite(bbq.THREE),
    "bbq-12": bbq.suite(bbq.TWELVE),
    "winobias": winobias.SUITE,
    "stereoset": stereoset.SUITE,
    "weat": weat.SUITE,
    "counterfactual": counterfactual.SUITE,
    "stance": stance.SUITE,
}
MODELS_NAME = "raw/models.json"
Items = dict[str, Sequence[Any]]


@verb(BiasOptions)
def bias(options: BiasOptions) -> Report:
    """Measure models and write the report. Raises IngotError before the first model is loaded where it can."""
    refuse_nonempty(options.out)
    parse_place(options.machine.place)
    suites = chosen_suites(options.suite)
    _refuse_unused(options, suites)
    items: Items = {name: suite.prepare(options) for name, suite in suites.items()}
    templates: list[bool] = []

    def check(path: Path, tokenizer: Tokenizer, form: Form) -> None:
        _check_askable(suites, cost_tasks(options), path, tokenizer, form)
        templates.append(tokenizer.chat_template is not None)

    entrants = open_entrants(options.models, check)
    baseline = entrants[baseline_index(entrants, options.baseline)].name
    settled, costs = (None, dict[str, Sequence[Any]]())
    if options.cost is not None:
        settled, costs = settle(options, cost_tasks(options), entrants, all(templates))
    raw, ran = dict[str, str](), list[Entrant]()
    for entrant in entrants:
        rows, weights = _measure(entrant, options, items, settled, costs)
        raw |= rows
        ran.append(replace(entrant, weights=weights))
    raw[MODELS_NAME] = json.dumps([asdict(entrant) for entrant in ran], ensure_ascii=False, indent=2) + "\n"
    given = {**options.model_dump(mode="json"), "baseline": baseline, "costs": list(costs)}
    report = make_report(given, raw).write(options.out, raw)
    tell_verdict(report)
    return report


def rescore(directory: Path | str) -> Report:
    """The report again from the rows saved in a report directory; scoring rules of today, no model needed."""
    found, raw = Report.open_raw(directory, "bias", MODELS_NAME)
    return make_report(found.options, raw)


def chosen_suites(names: Sequence[str]) -> dict[str, Suite]:
    """The suites by name. Raises `bias-unknown-suite` with the nearest one."""
    for name in names:
        if name not in SUITES:
            raise fail("bias-unknown-suite", name=name, nearest=nearest(name, SUITES))
    return {name: SUITES[name] for name in names}


def _refuse_unused(options: BiasOptions, suites: dict[str, Suite]) -> None:
    """Raises `bias-option-unused` for what none of the suites reads, `bias-one-file` for one file given to several."""
    read = {option for suite in suites.values() for option in suite.options}
    given = options.model_fields_set | {f"own.{name}" for name in options.own.model_fields_set}
    for option in (*BiasOptions.model_fields, *(f"own.{name}" for name in OwnOptions.model_fields)):
        plain = option.removeprefix("own.")
        users = [name for name, suite in SUITES.items() if plain in suite.options]
        if users and option in given and plain not in read:
            raise fail("bias-option-unused", option=plain, suites=", ".join(suites), users=", ".join(users))
    published = [name for name, suite in suites.items() if "data" in suite.options]
    if (
        options.data is not None
        and options.data.is_file()
        and len({name.removesuffix("-12") for name in published}) > 1
    ):
        raise fail("bias-one-file", path=options.data, suites=", ".join(published))


def _check_askable(
    suites: dict[str, Suite], costs: Sequence[str], path: Path, tokenizer: Tokenizer, form: Form
) -> None:
    """Raises `bias-form`, `evaluate-form`, or what an encoder's tokenizer lacks."""
    for name, suite in suites.items():
        if form not in suite.forms:
            able = [other for other, found in SUITES.items() if form in found.forms]
            raise fail("bias-form", suite=name, path=path, form=form, able=", ".join(able))
        if form == "encoder" and "decoder" in suite.forms and "encoder-decoder" not in suite.forms:
            mask_id(tokenizer)
    for name in costs:
        if form not in COSTS[name].forms:
            raise fail("bias-cost-form", task=name, path=path, form=form)


def _measure(
    entrant: Entrant, options: BiasOptions, items: Items, settled: EvaluateOptions | None, costs: Items
) -> tuple[dict[str, str], str]:
    """Load one model, ask everything, and let it go again: {raw file: rows}, and the weights that it ran with."""
    model = open_model(entrant.reference, options.machine.place, options.machine.weights)
    found = {
        raw_name(name, entrant): dump_rows(SUITES[name].measure(model, asked, options)) for name, asked in items.items()
    }
    for task, asked in costs.items():
        assert settled is not None
        found[raw_name(f"cost-{task}", entrant)] = dump_rows(cost_rows(model, task, asked, settled))
    weights = model.weights
    del model
    gc.collect()
    return found, weights


def raw_name(name: str, entrant: Entrant) -> str:
    return f"raw/{name}-{entrant.name}.jsonl"


def make_report(options: dict[str, Any], raw: dict[str, str]) -> Report:
    """A pure function of the options used and the raw files."""
    entrants = [Entrant(**fields) for fields in json.loads(raw[MODELS_NAME])]
    baseline, seed = baseline_index(entrants, options["baseline"]), options["seed"]
    suites = chosen_suites(options["suite"])
    scored = [
        {name: suite.score(parse_rows(raw[raw_name(name, entrant)]), seed) for name, suite in suites.items()}
        for entrant in entrants
    ]
    costs = {
        task: cost_result(
            task, entrants, [parse_rows(raw[raw_name(f"cost-{task}", one)]) for one in entrants], baseline, seed
        )
        for task in options["costs"]
    }
    return build(options, suites, entrants, baseline, scored, costs)
