"""Verb `audit`: what does a training corpus give away, and what did the model learn of it by heart?

As in `evaluate` the steps are apart: everything the user gave is checked, then measured into rows, which are saved, and
the report is made from the saved rows alone (`rescore`). Adding a check is one module and one line in CHECKS.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ingot.core.errors import fail, nearest
from ingot.core.files import refuse_nonempty
from ingot.core.language import text
from ingot.core.model_dir import ModelDir, split_reference
from ingot.core.options import verb
from ingot.core.progress import say, warn
from ingot.core.report import Cell, Prose, Report, Section, Unit
from ingot.data.read import data_files
from ingot.evaluate.audit import contamination, exposure, extraction, membership, novelty, split
from ingot.evaluate.audit.check import Check, Result, Row, Setting
from ingot.evaluate.audit.history import history_of
from ingot.evaluate.audit.options import AuditOptions
from ingot.evaluate.evaluate import saved
from ingot.evaluate.overview import tell_verdict
from ingot.evaluate.task import dump_rows, parse_rows
from ingot.guard.guard import Guard
from ingot.infer.opened import open_model
from ingot.model.place.wish import parse_place

CHECKS: dict[str, Check] = {
    "contamination": contamination.CHECK,
    "novelty": novelty.CHECK,
    "extraction": extraction.CHECK,
    "canaries": exposure.CHECK,
    "membership": membership.CHECK,
}

LIST_NAME = "contamination.jsonl"


@verb(AuditOptions)
def audit(options: AuditOptions) -> Report:
    """Audit a corpus and a model trained on it, and write the report."""
    _check(options)
    setting = Setting(options, history_of(options.model, options.corpus))
    checks = _chosen(setting)
    _refuse_unused(options, checks)
    if options.model is not None and not setting.history.known:
        warn("audit-not-named", model=options.model, data=options.corpus)
    prepared = {name: check.prepare(setting) for name, check in checks.items()}
    rows = _measure(checks, prepared, setting)
    raw = {f"raw/{CHECKS[name].raw}.jsonl": dump_rows(found) for name, found in rows.items()}
    if "contamination" in rows:
        raw[LIST_NAME] = dump_rows(contamination.listed(rows["contamination"]))
        if options.report is not None:
            raw[f"raw/{split.RAW}.jsonl"] = dump_rows(split.judge_report(options.report, rows["contamination"]))
    settled = options.model_copy(update={"checks": list(checks)})
    report = make_report(settled, raw).write(options.out, raw)
    tell_verdict(report)
    return report


def rescore(directory: Path | str) -> Report:
    """The report again from the rows saved in a report directory; scoring rules of today, no model and no corpus."""
    found, raw = Report.open_raw(directory, "audit")
    return make_report(AuditOptions.of(**found.options), raw)


def make_report(options: AuditOptions, raw: Mapping[str, str]) -> Report:
    """A pure function of the options used and the raw files."""
    results = {name: check.score(parse_rows(raw[f"raw/{check.raw}.jsonl"]), options)
               for name, check in CHECKS.items() if name in options.checks}  # fmt: skip
    if (name := f"raw/{split.RAW}.jsonl") in raw:
        results["split"] = split.score(parse_rows(raw[name]), options.seed)
    return _page(options, list(results.values()))


def _page(options: AuditOptions, results: list[Result]) -> Report:
    numbers: dict[str, Cell] = {}
    units: dict[str, Unit] = {}
    for result in results:
        numbers |= result.numbers
        units |= result.units
    said = "\n\n".join(sentence for result in results for sentence in result.verdict)
    method = "\n\n".join([*(result.method for result in results), text(_privacy(options), policy=options.policy)])
    sections: list[Section] = [Prose(title=text("audit-verdict"), text=said)]
    sections += [section for result in results for section in result.sections]
    sections.append(Prose(title=text("audit-method"), text=method))
    audited = [options.corpus.name] if options.model is None else [Path(options.model).name, options.corpus.name]
    title = text("audit-title", subject=" · ".join(audited))
    plain = options.model_dump(mode="json")
    return Report(title=title, verb="audit", options=plain, numbers=numbers, units=units, sections=sections)


def _privacy(options: AuditOptions) -> str:
    return "audit-shows-text" if options.policy == "off" else "audit-hides-personal"


def _check(options: AuditOptions) -> None:
    """Refuse what cannot work before anything is read."""
    refuse_nonempty(options.out)
    parse_place(options.place)
    data_files(options.corpus)
    if options.policy != "off":
        Guard.open(options.policy)
    for path in (*options.against, options.heldout, options.texts, options.canaries, options.extraction.passages):
        if path is not None and not path.exists():
            raise fail("no-such-data", path=path)
    for reference in (options.model, options.reference):
        if reference is not None:
            base, adapters = split_reference(reference)
            for path in (base, *adapters):
                ModelDir.open(path)
    if options.report is not None:
        saved(options.report)


def _chosen(setting: Setting) -> dict[str, Check]:
    """The checks that were asked for, else all that can be done. Raises `audit-unknown-check`, `audit-needs-model`,
    `audit-lacks`, `audit-nothing-to-do`."""
    options = setting.options
    for name in options.checks:
        if name not in CHECKS:
            raise fail("audit-unknown-check", name=name, nearest=nearest(name, CHECKS))
        if CHECKS[name].needs_model and options.model is None:
            raise fail("audit-needs-model", check=name)
        if (lacking := CHECKS[name].lacks(setting)) is not None:
            raise fail("audit-lacks", check=name, option=lacking, reason=text(f"audit-lacks-{lacking}"))
    if options.checks:
        return {name: check for name, check in CHECKS.items() if name in options.checks}
    chosen = {}
    for name, check in CHECKS.items():
        lacking = "model" if check.needs_model and options.model is None else check.lacks(setting)
        if lacking is None:
            chosen[name] = check
        else:
            say("audit-left-out", check=name, option=lacking)
    if not chosen:
        raise fail("audit-nothing-to-do")
    return chosen


def _refuse_unused(options: AuditOptions, checks: Mapping[str, Check]) -> None:
    """Raises `audit-option-unused` for an option that was given and that none of the checks reads."""
    read = {option for check in checks.values() for option in check.options}
    users = {option: [name for name, check in CHECKS.items() if option in check.options]
             for option in AuditOptions.model_fields}  # fmt: skip
    for option, names in users.items():
        if names and option in options.model_fields_set and option not in read:
            raise fail("audit-option-unused", option=option, checks=", ".join(checks), users=", ".join(names))


def _measure(checks: Mapping[str, Check], prepared: Mapping[str, Any], setting: Setting) -> dict[str, list[Row]]:
    """What needs no model first, so that it is told early; then the model once."""
    options = setting.options
    writes = options.texts is None
    rows: dict[str, list[Row]] = {}
    waiting = {name: check for name, check in checks.items() if check.needs_model or (name == "novelty" and writes)}
    for name in [name for name in checks if name not in waiting]:
        rows[name] = checks[name].measure(None, prepared[name], setting)
    if waiting:
        assert options.model is not None
        model = open_model(options.model, options.place, "auto")
        for name, check in waiting.items():
            rows[name] = check.measure(model, prepared[name], setting)
        del model
        gc.collect()
    return {name: rows[name] for name in checks}
