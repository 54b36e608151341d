"""Verb `score`: texts against references, against each other, against a corpus, under a model.

Everything is read and checked first; then each metric runs, intervals and tests are drawn, and a table is printed. With
--out there is a report: the same numbers with distributions, the worst and best texts of every metric, and all texts
with their scores in a raw file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ingot.core.errors import fail, nearest
from ingot.core.files import refuse_nonempty
from ingot.core.options import verb
from ingot.core.progress import say, tell, warn
from ingot.core.report import JSON_NAME, Report
from ingot.evaluate.metrics.measured import Measured
from ingot.evaluate.metrics.options import ScoreOptions
from ingot.evaluate.metrics.page import RAW_NAME, Scored, build, items_text, terminal_table
from ingot.evaluate.metrics.read import check_lengths, read_texts
from ingot.evaluate.metrics.registry import METRICS, Inputs, Opened
from ingot.evaluate.metrics.resample import intervals, paired
from ingot.evaluate.metrics.signature import require_same, signatures_of
from ingot.evaluate.metrics.tokens import Script, script_of
from ingot.evaluate.task import parse_rows

DRAWS = {"bootstrap": 1000, "randomisation": 10_000}


@dataclass(frozen=True)
class Given:
    """What was read. `signatures`: those of the report that --against names, if it names one."""

    texts: list[str]
    references: list[list[str]]
    against: list[str] | None
    signatures: dict[str, str] | None


@verb(ScoreOptions)
def score(options: ScoreOptions) -> Report:
    """Score texts and print the table; with --out write the report."""
    if options.out is not None:
        refuse_nonempty(options.out)
    _check(options)
    given = _read(options)
    everything = [*given.texts, *(one for texts in given.references for one in texts), *(given.against or [])]
    script = script_of(everything)
    if options.lang != "auto":
        script = replace(script, language=options.lang, is_told=True)
    _warn_of_empty(given, options)
    opened = Opened(options.model)
    first = _run(options, given.texts, given.references, script, opened)
    if given.signatures is not None:
        require_same({one.name: one.signature for one in first}, given.signatures, str(options.against))
    second = None if given.against is None else _run(options, given.against, given.references, script, opened)
    scored = _scored(options, first, second)
    report = build(options, given.texts, given.references, given.against, scored)
    if options.out is not None:
        report = report.write(options.out, {RAW_NAME: items_text(given.texts, given.references, given.against, scored)})
    tell(terminal_table(scored, given.against is not None))
    if report.path is not None:
        say("score-written", path=report.summary()["report"])
    return report


def _check(options: ScoreOptions) -> None:
    """Raises `score-unknown-metric`, `score-needs`, `score-option-unused` before a file is read."""
    for name in options.metric:
        if name not in METRICS:
            raise fail("score-unknown-metric", name=name, nearest=nearest(name, METRICS))
        for need in METRICS[name].needs:
            if not getattr(options, need):
                raise fail("score-needs", metric=name, option=f"--{need}")
    read = {option for name in options.metric for option in METRICS[name].reads}
    for option in sorted(options.model_fields_set):
        users = [name for name, metric in METRICS.items() if option in metric.reads]
        if users and option not in read:
            raise fail("score-option-unused", option=f"--{option}", metrics=", ".join(options.metric),
                       users=", ".join(users))  # fmt: skip


def _read(options: ScoreOptions) -> Given:
    """All texts. Raises what `read_texts` and `check_lengths` raise, and what is wrong with a report."""
    field, longest = options.read.field, options.read.longest
    texts = read_texts(options.hyp, field, longest)
    references = [read_texts(path, field, longest) for path in options.ref]
    if any(METRICS[name].paired_lines for name in options.metric):
        check_lengths(texts, list(zip(options.ref, references, strict=True)), options.hyp)
    if options.against is None:
        return Given(texts, references, None, None)
    if not options.against.is_dir() and options.against.name != JSON_NAME:
        against = read_texts(options.against, field, longest)
        check_lengths(texts, [(options.against, against)], options.hyp)
        return Given(texts, references, against, None)
    against, signatures = _read_report(options.against, references)
    check_lengths(texts, [(options.against, against)], options.hyp)
    return Given(texts, references, against, signatures)


def _read_report(path: Path, references: Sequence[Sequence[str]]) -> tuple[list[str], dict[str, str]]:
    """Texts and signatures of a report. Raises `report-other-verb`, `report-altered`, `score-references-differ`."""
    report = Report.open(path)
    signatures = signatures_of(report)
    rows = parse_rows(report.raw_text(RAW_NAME))
    if [row["references"] for row in rows] != [list(one) for one in zip(*references, strict=False)]:
        raise fail("score-references-differ", path=path)
    return [row["text"] for row in rows], signatures


def _run(options: ScoreOptions, texts: Sequence[str], references: Sequence[Sequence[str]], script: Script,
         opened: Opened) -> list[Measured]:  # fmt: skip
    inputs = Inputs(texts, references, script, options, opened)
    return [found for name in options.metric for found in METRICS[name].run(inputs)]


def _scored(options: ScoreOptions, first: list[Measured], second: list[Measured] | None) -> list[Scored]:
    """Each score with its interval, and with the other system's where there is one."""
    seed, test = options.paired.seed, options.paired.test
    draws = options.paired.draws or DRAWS[test]
    around = options.paired.draws or DRAWS["bootstrap"]
    if second is None:
        return [Scored(one, intervals(one, around, seed)) for one in first]
    pairs = list(zip(first, second, strict=True))
    require_same({a.name: a.signature for a, _ in pairs}, {b.name: b.signature for _, b in pairs}, "--against")
    return [
        Scored(a, intervals(a, around, seed), b, intervals(b, around, seed),
               paired(b, a, draws, seed, test) if a.resampled else None)
        for a, b in pairs
    ]  # fmt: skip


def _warn_of_empty(given: Given, options: ScoreOptions) -> None:
    """An empty text scores 0 and is counted: never left out, never unseen."""
    for texts, path in ((given.texts, options.hyp), (given.against or [], options.against)):
        if empty := sum(not one.strip() for one in texts):
            warn("score-empty-texts", path=path, count=empty, total=len(texts))
