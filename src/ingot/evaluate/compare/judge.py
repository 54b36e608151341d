"""What a rule's test says: passed, failed, or that it cannot tell, with its power and how many items it would take.

A claim (not_worse_by, better_by, at_least, at_most) passes only when it is shown: a worse model passes as rarely as
`level` says, however few items there are. All claims must hold, so that no correction is due (Berger 1982). An alarm
(no_drop) fails when a drop is seen: its false alarms are what `level` limits, over all alarms together (Holm). Where
none is seen it passes only if its test would have seen one of the size it names, or if that is shown not to be there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ingot.core.errors import fail, nearest
from ingot.core.language import text
from ingot.evaluate import power
from ingot.evaluate.compare.contestants import Contestant
from ingot.evaluate.compare.pair import Pair, pair
from ingot.evaluate.compare.rules import PAIRED, Rule, Rules
from ingot.evaluate.corrections import holm
from ingot.evaluate.item_values import ItemValues
from ingot.evaluate.paired import mcnemar_one_sided, sign_flip, tango
from ingot.evaluate.statistics import Interval, Values, cluster_sums, clustered_ratio, clustered_share

Verdict = Literal["passed", "failed", "cannot-tell", "not-comparable"]


@dataclass(frozen=True)
class Ruling:
    """What became of a rule.

    p: of the claim, or that a drop is chance; `adjusted`: over all alarms. contrary: p of a claim's opposite, or of
    the claim that no drop of the alarm's size is there. power: for not_worse_by that an equal model passes, for no_drop
    that such a drop is seen. margin: the rule's size in the figure's unit. needed: items for `min_power`.
    """

    rule: Rule
    verdict: Verdict = "not-comparable"
    reason: str = ""
    test: str = ""
    count: int = 0
    first: float | None = None
    second: float | None = None
    shown: Interval | None = None
    is_share: bool = False
    sign: int = 1
    margin: float | None = None
    p: float | None = None
    adjusted: float | None = None
    contrary: float = 1.0
    power: float | None = None
    needed: int | None = None

    def holds(self, rules: Rules) -> bool:
        return self.verdict == "passed" or (self.verdict == "cannot-tell" and rules.file.cannot_tell == "pass")


def judge(rules: Rules, model: Contestant, baseline: Contestant, seed: int) -> list[Ruling]:
    """Every rule in order. Raises `gating-unknown-metric` and `gating-percent`."""
    for rule in rules.rules:
        known = {*model.metrics, *baseline.metrics}
        if rule.metric not in known:
            raise fail("gating-unknown-metric", path=rules.path, line=rule.line, metric=rule.metric,
                       nearest=nearest(rule.metric, known))  # fmt: skip
    alarms = sum(rule.kind == "no_drop" for rule in rules.rules)
    tested = [_ruling(rule, rules, model, baseline, alarms, seed) for rule in rules.rules]
    places = [at for at, one in enumerate(tested) if one.rule.kind == "no_drop" and one.p is not None]
    for at, adjusted in zip(places, holm([tested[at].p or 0.0 for at in places]), strict=True):
        tested[at] = replace(tested[at], adjusted=adjusted)
    return [_judged(one, rules) for one in tested]


def _judged(one: Ruling, rules: Rules) -> Ruling:
    """The verdict from p, from its opposite and from the power."""
    if one.p is None:
        return one
    level, enough = rules.file.level, one.power is not None and one.power >= rules.file.min_power
    if one.rule.kind == "no_drop":
        assert one.adjusted is not None
        verdict: Verdict = "cannot-tell"
        if one.adjusted <= level:
            verdict = "failed"
        elif enough or one.contrary <= level:
            verdict = "passed"
    elif one.p <= level:
        verdict = "passed"
    else:
        verdict = "failed" if one.contrary <= level or enough else "cannot-tell"
    return replace(one, verdict=verdict)


def _ruling(rule: Rule, rules: Rules, model: Contestant, baseline: Contestant, alarms: int, seed: int) -> Ruling:
    own = model.metrics.get(rule.metric)
    if rule.kind not in PAIRED:
        return _bounded(rule, rules, own, seed)
    found = pair(own, baseline.metrics.get(rule.metric))
    if isinstance(found, Pair) and rules.file.items == "same" and any(found.left_out):
        more, less = found.left_out
        found = text("gating-items-differ", more=more, less=less)
    if isinstance(found, str):
        return Ruling(rule, reason=found)
    margin = _margin(rule, found)
    if margin is None:
        return Ruling(rule, reason=text("gating-no-baseline"))
    level = rules.file.level / (alarms if rule.kind == "no_drop" else 1)
    ruling = Ruling(
        rule, count=found.count, first=found.figure(found.first), second=found.figure(found.second),
        is_share=found.source.is_share, sign=found.sign, margin=margin * found.source.scale,
    )  # fmt: skip
    tested = _plain if found.is_plain_share else _clustered
    ruling, seen = tested(ruling, found, margin, level, seed)
    return _with_power(ruling, seen, found, rules.file.min_power)


def _margin(rule: Rule, found: Pair) -> float | None:
    """The rule's size, unscaled: points of a share, a percentage of the baseline's figure, or as it was given."""
    if found.source.is_share or not rule.is_percent:
        return rule.size / found.source.scale
    base = float(found.second.sum() / found.weights.sum())
    return rule.size * base if base > 0 else None


def _plain(
    ruling: Ruling, found: Pair, margin: float, level: float, seed: int
) -> tuple[Ruling, Callable[[int], float]]:
    """Right or wrong, each item on its own; `better` counts the items that only the better side of a gain has."""
    better, worse = found.only[:: found.sign]
    count, apart = found.count, power.disagreement(better, worse, found.count)
    shown = found.interval(seed)
    if ruling.rule.kind == "no_drop":
        return (
            replace(
                ruling,
                shown=shown,
                test="gating-test-mcnemar",
                p=mcnemar_one_sided(better, worse),
                contrary=tango(better, worse, count, -margin),
            ),
            lambda items: power.mcnemar_power(items, apart, margin, level, 1),
        )
    bound = margin if ruling.rule.kind == "better_by" else -margin
    tested = replace(ruling, shown=shown, test="gating-test-tango", p=tango(better, worse, count, bound),
                     contrary=tango(worse, better, count, -bound))  # fmt: skip
    return tested, lambda items: power.tango_power(items, apart, margin, level)


def _clustered(
    ruling: Ruling, found: Pair, margin: float, level: float, seed: int
) -> tuple[Ruling, Callable[[int], float]]:
    """Any other figure, a cluster at a time; a claim is that `gains` sum to more than zero."""
    differences, weights = found.by_cluster()
    shown = found.interval(seed)
    error, clusters = power.standard_error(differences, weights), len(weights)

    def seen(items: int) -> float:
        there = max(2, round(items * clusters / found.count))
        return power.mean_power(None if error is None else error * math.sqrt(clusters / there), there, margin, level, 1)

    ruling = replace(ruling, shown=shown, test="gating-test-signs")
    gains = _shifted(ruling.rule, found, margin)
    if ruling.rule.kind == "no_drop":
        drop = sign_flip(found.sign * differences, "below", seed)
        return replace(ruling, p=drop, contrary=sign_flip(gains, "above", seed)), seen
    return replace(ruling, p=sign_flip(gains, "above", seed), contrary=sign_flip(gains, "below", seed)), seen


def _shifted(rule: Rule, found: Pair, margin: float) -> Values:
    """Gains beyond what the rule asks for, by cluster; a percentage shifts each by that share of its own baseline."""
    towards = 1 if rule.kind == "better_by" else -1
    if rule.is_percent and not found.source.is_share:
        return found.sign * found.by_cluster(found.sign * towards * rule.size)[0]
    differences, weights = found.by_cluster()
    return found.sign * differences - towards * margin * weights


def _with_power(ruling: Ruling, seen: Callable[[int], float], found: Pair, min_power: float) -> Ruling:
    """Power against the margin; superiority has none, for nothing says how much better a model truly is."""
    if ruling.rule.kind == "better_by":
        return ruling
    now = seen(found.count)
    needed = None if now >= min_power else power.items_needed(seen, min_power)
    return replace(ruling, power=now, needed=needed)


def _bounded(rule: Rule, rules: Rules, own: ItemValues | None, seed: int) -> Ruling:
    """A figure against a fixed bound, by its own items."""
    if own is None or not np.isfinite(own.values).all() or not own.weights.sum() > 0:
        lacking = text("compared-lacking") if own is None else own.lacking
        return Ruling(rule, reason=lacking or text("compared-not-finite"))
    if rule.is_percent and not own.is_share:
        raise fail("gating-percent", path=rules.path, line=rule.line, rule=rule.source)
    above, below, test = _against(own, rule.size)
    claim, contrary = (above, below) if rule.kind == "at_least" else (below, above)
    sums, weights = _sums(own)
    shown = clustered_share(own.values > 0, own.clusters) if own.is_share else clustered_ratio(sums, weights, seed)
    return Ruling(rule, count=len(own.ids), first=own.value, shown=shown.scaled(own.scale), is_share=own.is_share,
                  test=test, p=claim, contrary=contrary)  # fmt: skip


def _against(own: ItemValues, bound: float) -> tuple[float, float, str]:
    """p of "above the bound" and of "below the bound"."""
    from scipy.stats import binom, t

    count = len(own.ids)
    if own.is_share and len(set(own.clusters)) == count:
        right, share = int((own.values > 0).sum()), min(1.0, max(0.0, bound))
        above, below = binom.sf(right - 1, count, share), binom.cdf(right, count, share)
        return float(above), float(below), "gating-test-binomial"
    sums, weights = _sums(own)
    error, apart = power.standard_error(sums, weights), float(sums.sum() / weights.sum()) - bound / own.scale
    if error is None:
        return 1.0, 1.0, "gating-test-student"
    above = t.sf(apart / error, len(sums) - 1) if error > 0 else float(apart <= 0)
    return float(above), 1.0 - float(above), "gating-test-student"


def _sums(own: ItemValues) -> tuple[Values, Values]:
    sums, weights = cluster_sums(own.values, own.clusters)[0], cluster_sums(own.weights, own.clusters)[0]
    return sums[weights > 0], weights[weights > 0]
