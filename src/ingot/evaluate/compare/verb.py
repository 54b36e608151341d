"""Verb `compare`: models of one or several saved reports against one baseline, in pairs, item by item.

Only what `evaluate` saved is read, so that it takes seconds and needs no model. What cannot be compared is said with
its reason and never subtracted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ingot.core.errors import fail, nearest
from ingot.core.files import refuse_nonempty
from ingot.core.language import text
from ingot.core.options import Options, argument, option, verb
from ingot.core.progress import say
from ingot.core.report import Cell, Report, Unit
from ingot.evaluate.compare.contest import contests
from ingot.evaluate.compare.contestants import named, open_contestants
from ingot.evaluate.compare.page import Compared, sections, sentences
from ingot.evaluate.task import cell


class CompareOptions(Options):
    """Options of `compare`."""

    reports: list[Path] = argument(
        "reports of ingot evaluate; the first one's baseline is what others are compared with", min_length=1
    )
    out: Path | None = option(None, "directory to write the report to (default: only say the verdict)")
    baseline: str | None = option(None, "another model as the baseline, by the name that the report gives it")
    level: float = option(0.05, "chance of a false alarm among all tests of the verdict", gt=0, lt=0.5)
    samples: int = option(3, "items shown of those that got better, and of those that got worse", ge=0)
    seed: int = option(0, "seed of the bootstrap and of the signs that are drawn", ge=0)


@verb(CompareOptions)
def compare(options: CompareOptions) -> Report:
    """Compare the models of saved reports.

    Raises what `open_contestants` does, `compared-alone`, `compared-unknown-baseline`, and `compared-nothing` where no
    figure of any model can be compared.
    """
    if options.out is not None:
        refuse_nonempty(options.out)
    everyone = [one for path in dict.fromkeys(options.reports) for one in open_contestants(path)]
    names = named(everyone)
    if len(everyone) < 2:
        raise fail("compared-alone", path=options.reports[0], model=names[0])
    base = _baseline(names, options.baseline) if options.baseline else [one.is_baseline for one in everyone].index(True)
    others = [at for at in range(len(everyone)) if at != base]
    tests = contests([everyone[at] for at in others], everyone[base], options.level, options.seed)
    kept_nothing = list(dict.fromkeys(name for one in everyone for name in one.others))
    found = Compared([names[at] for at in others], names[base], tests, options.level, options.samples, options.seed,
                     kept_nothing)  # fmt: skip
    if all(one.pair is None for one in tests):
        raise fail("compared-nothing", baseline=names[base], reason=next(one.reason for one in tests))
    report = _report(found, options)
    for sentence in sentences(found):
        say("evaluate-said", sentence=sentence)
    if options.out is None:
        return report
    report = report.write(options.out)
    say("evaluate-written", path=report.summary()["report"])
    return report


def _baseline(names: Sequence[str], wanted: str) -> int:
    if wanted not in names:
        raise fail("compared-unknown-baseline", name=wanted, nearest=nearest(wanted, names))
    return list(names).index(wanted)


def _report(found: Compared, options: CompareOptions) -> Report:
    numbers: dict[str, Cell] = {}
    units: dict[str, Unit] = {}
    for one in found.family:
        key = f"{found.names[one.model]}.{one.metric}"
        numbers[f"{key}.verdict"] = one.verdict(found.level)
        if one.pair is not None:
            numbers |= {f"{key}.difference": cell(one.difference), f"{key}.p": one.adjusted,
                        f"{key}.detectable": one.detectable}  # fmt: skip
            if one.pair.source.is_share:
                units |= {f"{key}.difference": "percent", f"{key}.detectable": "percent"}
    return Report(
        title=text("compared-title", models=", ".join(found.names), baseline=found.baseline),
        verb="compare",
        options=options.model_dump(mode="json"),
        numbers=numbers,
        units=units,
        sections=[*sections(found)],
    )
