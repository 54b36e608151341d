"""Verb `gate`: is a model as good as another, by rules of a file, tested on saved rows, with the power of each test.

The exit status is 1 where a rule does not hold, so that it stops a pipeline or a recipe; `passed` in the report says
the same. A recipe's `gates:` compare a step's number with a bound as it stands; this asks whether the items show it.
"""

from __future__ import annotations

from pathlib import Path

from ingot.core.errors import fail
from ingot.core.files import refuse_nonempty
from ingot.core.language import text
from ingot.core.options import Options, argument, option, required, verb
from ingot.core.progress import say
from ingot.core.report import Cell, Report, Unit
from ingot.evaluate.compare.contestants import Contestant, chosen, named, open_contestants
from ingot.evaluate.compare.gate_page import gate_sections, sentence
from ingot.evaluate.compare.judge import Ruling, judge
from ingot.evaluate.compare.rules import Rules, read_rules
from ingot.evaluate.task import cell


class GateOptions(Options):
    """Options of `gate`."""

    report: Path = argument("report of ingot evaluate with the model that wants to pass")
    against: Path = required("report of ingot evaluate with the baseline; may be the same one")
    rules: Path = required("YAML file of what each figure must be shown to be")
    model: str | None = option(None, "the model in the report (default: its only one)")
    baseline: str | None = option(None, "the model in the other report (default: the one that report compares with)")
    out: Path | None = option(None, "directory to write the report to (default: only say what each rule found)")
    seed: int = option(0, "seed of the bootstrap and of the signs that are drawn", ge=0)


@verb(GateOptions)
def gate(options: GateOptions) -> Report:
    """Test every rule. Raises `gating-itself`, and what opening the reports and the rules raises."""
    if options.out is not None:
        refuse_nonempty(options.out)
    rules = read_rules(options.rules)
    model = chosen(open_contestants(options.report), options.model, "model")
    baseline = chosen(open_contestants(options.against), options.baseline, "baseline", baseline=True)
    if (model.name, model.place.resolve()) == (baseline.name, baseline.place.resolve()):
        raise fail("gating-itself", model=model.name, path=model.place)
    found = judge(rules, model, baseline, options.seed)
    report = _report(options, rules, found, model, baseline)
    for one in found:
        say("evaluate-said", sentence=sentence(one, rules))
    held = sum(one.holds(rules) for one in found)
    say("gating-summary-passed" if report.passed else "gating-summary-failed", held=held, count=len(found))
    if options.out is None:
        return report
    report = report.write(options.out)
    say("evaluate-written", path=report.summary()["report"])
    return report


def _report(options: GateOptions, rules: Rules, found: list[Ruling], model: Contestant, baseline: Contestant) -> Report:
    numbers: dict[str, Cell] = {}
    units: dict[str, Unit] = {}
    for one in found:
        key = f"{one.rule.metric}.{one.rule.kind}"
        numbers |= {
            f"{key}.verdict": one.verdict,
            f"{key}.p": one.p if one.adjusted is None else one.adjusted,
            f"{key}.power": one.power,
            f"{key}.items": one.count,
            f"{key}.items_needed": one.needed,
        }
        units[f"{key}.power"] = "percent"
        if one.shown is not None:
            numbers[f"{key}.shown"] = cell(one.shown)
            units[f"{key}.shown"] = "percent" if one.is_share else "number"
    names = named([model, baseline])
    return Report(
        title=text("gating-title", model=names[0], baseline=names[1]),
        verb="gate",
        options=options.model_dump(mode="json") | {"file": rules.file.model_dump(mode="json")},
        numbers={name: value for name, value in numbers.items() if value is not None},
        units=units,
        sections=[*gate_sections(found, rules, *names)],
        passed=all(one.holds(rules) for one in found),
    )
