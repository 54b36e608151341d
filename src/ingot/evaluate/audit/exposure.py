"""Check `canaries`: how much better a model knows a planted secret than others of the same form (Carlini et al. 2019,
"The Secret Sharer").

Exposure is log2 of the number of secrets less log2 of the rank of the planted one among them, by the likelihood of the
whole sentence. Of a form with few secrets all are ranked; of others a seeded sample, and the exposure cannot be seen
beyond log2 of its size. A secret that nobody planted has a rank like any other: 1.44 bits on average, 1 in the middle.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from ingot.adapt.load import LanguageModel
from ingot.core.errors import fail
from ingot.core.language import text
from ingot.core.progress import track
from ingot.core.report import Cell, Plot, Section, Series, Table
from ingot.data.read import read_documents
from ingot.evaluate.audit.check import Check, Result, Row, Setting
from ingot.evaluate.audit.forms import Canary, alternatives, find_canaries, repetitions, space, truth_of
from ingot.evaluate.audit.options import AuditOptions
from ingot.evaluate.perplexity import start_ids
from ingot.evaluate.statistics import Interval, Values, clustered_ratio
from ingot.evaluate.task import bounds, cell
from ingot.infer.likelihood import batch_logprobs

CONTROL = 0
"""Repetitions of a secret that nobody planted."""


@dataclass(frozen=True)
class Planted:
    """A canary, how often the model read it, and whether it is a control that nobody planted."""

    canary: Canary
    repetitions: int
    control: bool = False


def lacks(setting: Setting) -> str | None:
    given = setting.options.canaries is not None or truth_of(setting.options.corpus) is not None
    return None if given else "canaries"


def prepare(setting: Setting) -> list[Planted]:
    """The canaries with what the corpus says of their repetitions, and controls made from their forms."""
    options = setting.options
    canaries = find_canaries(options.corpus, options.canaries)
    learnt = (found for found in read_documents(options.corpus) if setting.history.learnt(found.text))
    counted = [Planted(*pair) for pair in zip(canaries, repetitions(canaries, learnt), strict=True)]
    rng = Random(f"{options.seed}/controls")
    known = {canary.text for canary in canaries}
    controls = []
    for number in range(options.exposure.controls):
        canary = canaries[number % len(canaries)]
        secret = next(other for other in alternatives(canary.secret, 15, rng) if canary.with_secret(other) not in known)
        controls.append(Planted(Canary(canary.with_secret(secret), secret, canary.lang), CONTROL, control=True))
    return [*counted, *controls]


def measure(model: LanguageModel | None, planted: Sequence[Planted], setting: Setting) -> list[Row]:
    """One row a canary: its rank among its alternatives, which those of one form share."""
    assert model is not None
    forms: dict[tuple[str, str], list[Planted]] = defaultdict(list)
    for one in planted:
        forms[one.canary.form].append(one)
    return [row for group in track(forms.values(), "canaries", len(forms)) for row in _ranked(model, group, setting)]


def _ranked(model: LanguageModel, group: Sequence[Planted], setting: Setting) -> Iterator[Row]:
    """Canaries of one form, each among secrets that are none of them."""
    options, first = setting.options, group[0].canary
    own = {one.canary.secret for one in group}
    rng = Random(f"{options.seed}/{first.form}")
    drawn = alternatives(first.secret, options.exposure.alternatives + len(own), rng)
    others = [other for other in drawn if other not in own][: options.exposure.alternatives]
    nats = _nats(model, [*(one.canary.text for one in group), *map(first.with_secret, others)])
    rest = nats[len(group) :]
    for one, own_nats in zip(group, nats[: len(group)].tolist(), strict=True):
        better, tied = int((rest < own_nats).sum()), int((rest == own_nats).sum())
        yield {"text": one.canary.text, "secret": one.canary.secret, "lang": one.canary.lang,
               "repetitions": one.repetitions, "control": one.control, "rank": 1 + better + tied / 2,
               "ranked": 1 + len(rest), "space": space(first.secret), "nats": own_nats,
               "others_nats": float(rest.mean())}  # fmt: skip


def _nats(model: LanguageModel, texts: Sequence[str]) -> Values:
    """-log p of whole texts. Raises `audit-canary-too-long`."""
    context = start_ids(model.tokenizer, model.model_dir.path)
    rows = [[*context, *ids] for ids in model.tokenizer.encode_batch(list(texts))]
    if (longest := max(map(len, rows)) - 1) > model.max_length:
        raise fail("audit-canary-too-long", text=texts[0][:60], found=longest, limit=model.max_length)
    return np.array([-float(found[len(context) - 1 :].double().sum()) for found in batch_logprobs(model, rows)])


def exposure(row: Row) -> float:
    """Bits; 0 for the least likely of all, log2 of how many were ranked for the likeliest."""
    return math.log2(row["ranked"]) - math.log2(row["rank"])


def score(rows: list[Row], options: AuditOptions) -> Result:
    """Mean exposure by repetitions beside that of the controls, and every canary."""
    groups: dict[tuple[bool, int], list[Row]] = defaultdict(list)
    for row in rows:
        groups[not row["control"], row["repetitions"]].append(row)
    means = {key: _mean([exposure(row) for row in groups[key]], options.seed) for key in sorted(groups)}
    control = means[False, CONTROL]
    numbers: dict[str, Cell] = {"exposure_control": cell(control)}
    numbers |= {f"exposure.{times}": cell(mean) for (planted, times), mean in means.items() if planted}
    most = max((times for planted, times in means if planted), default=0)
    gained = _value(means.get((True, most))) - _value(control)
    numbers["exposure_over_control"] = gained
    ceiling = min(math.log2(row["ranked"]) for row in rows)
    verdict = text("audit-verdict-canaries", times=most, bits=f"{_value(means.get((True, most))):.1f}",
                   control=f"{_value(control):.1f}", ceiling=f"{ceiling:.1f}")  # fmt: skip
    sections: list[Section] = [_plot(means), _table(groups, means), _each(rows)]
    return Result(numbers, sections, [verdict], text("audit-method-canaries", **options.exposure.model_dump()))


def _value(mean: Interval | None) -> float:
    return 0.0 if mean is None or mean.value is None else mean.value


def _mean(values: Sequence[float], seed: int) -> Interval:
    return clustered_ratio(np.array(values), np.ones(len(values)), seed)


Means = dict[tuple[bool, int], Interval]


def _name(key: tuple[bool, int]) -> str:
    return str(key[1]) if key[0] else text("audit-control")


def _plot(means: Means) -> Plot:
    y, low, high = bounds([cell(mean) for mean in means.values()])
    series = Series(name=text("audit-exposure"), x=[_name(key) for key in means], y=y, low=low, high=high)
    return Plot(title=text("audit-exposure-plot"), kind="bar", series=[series], x_label=text("audit-repetitions"),
                y_label=text("audit-exposure-axis"), note=text("audit-exposure-note"))  # fmt: skip


def _table(groups: dict[tuple[bool, int], list[Row]], means: Means) -> Table:
    columns = [text(code) for code in ("audit-repetitions", "audit-canaries", "audit-exposure", "audit-first-ranked")]
    rows: list[list[Any]] = [
        [_name(key), len(groups[key]), cell(mean), sum(row["rank"] == 1 for row in groups[key])]
        for key, mean in means.items()
    ]
    return Table(title=text("audit-exposure-table"), columns=columns, rows=rows, note=text("audit-interval-note"))


def _each(rows: Sequence[Row]) -> Table:
    codes = ("audit-text", "audit-repetitions", "audit-exposure", "audit-rank", "audit-ranked", "audit-secrets")
    columns = [text(code) for code in codes]
    ordered = sorted(rows, key=lambda row: -exposure(row))
    table: list[list[Any]] = [
        [row["text"], _name((not row["control"], row["repetitions"])), round(exposure(row), 2), row["rank"],
         row["ranked"], float(row["space"])] for row in ordered
    ]  # fmt: skip
    return Table(title=text("audit-each-canary"), columns=columns, rows=table)


CHECK = Check("canaries", True, ("canaries", "exposure"), lacks, prepare, measure, score)
