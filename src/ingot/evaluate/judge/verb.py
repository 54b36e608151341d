"""The verb `judge`: a model compares answers in both orders, and is measured itself.

Everything given is checked first; the judge is asked; its replies are kept as rows, and the report is made from these.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ingot.core.errors import fail
from ingot.core.files import refuse_nonempty
from ingot.core.options import verb
from ingot.core.progress import say, warn
from ingot.core.report import Report
from ingot.evaluate.judge.asking import Judge, ask, questions_of
from ingot.evaluate.judge.kin import kin_of, namesakes, parse_systems
from ingot.evaluate.judge.local import ask_model
from ingot.evaluate.judge.options import JudgeOptions
from ingot.evaluate.judge.remote import Remote, shown_url
from ingot.evaluate.judge.report import Findings, judge_report, warnings_of
from ingot.evaluate.people.answers import Item, read_answers, systems_of
from ingot.evaluate.people.rubric import read_rubric
from ingot.evaluate.people.votes import Vote, dump_votes, read_votes
from ingot.evaluate.subset import stratified
from ingot.evaluate.task import dump_rows
from ingot.infer.opened import open_model
from ingot.model.place.wish import parse_place


@verb(JudgeOptions)
def judge(options: JudgeOptions) -> Report:
    """Ask a judge and write the report."""
    refuse_nonempty(options.out)
    parse_place(options.place)
    if not options.is_remote and options.remote.model_fields_set:
        raise fail("judge-remote-unused", name=sorted(options.remote.model_fields_set)[0])
    rubric = read_rubric(options.rubric)
    items = stratified(read_answers(options.answers), options.limit, options.seed, lambda _: "", lambda item: item.id)
    systems = systems_of(items)
    related = parse_systems(options.systems, systems)
    votes = _people(options, items)
    name, asked, kin = _opened(options, related, systems)
    questions = questions_of(items, rubric, options.orders, options.language, options.seed)
    rows = ask(questions, asked)
    unknown = [] if options.is_remote else sorted(set(systems) - related.keys())
    found = Findings(name, rows, {item.id: item for item in items}, votes, kin, unknown, options.seed)
    report = judge_report(found, _shown(options)).write(options.out, _raw(found, items))
    _tell(found, report)
    return report


def _opened(options: JudgeOptions, related: dict[str, str], systems: Sequence[str]) -> tuple[str, Judge, list[str]]:
    """The judge's name, how to ask it, and the systems that are its kin."""
    if options.is_remote:
        remote = Remote(options.model, options.remote)
        return remote.name, remote.ask, namesakes(remote.name, systems)
    kin = kin_of(options.model, related)
    model = open_model(options.model, options.place, options.weights)
    return model.name, partial(ask_model, model, slots=options.slots), kin


def _people(options: JudgeOptions, items: Sequence[Item]) -> list[Vote]:
    """Votes on these very items. Raises `judge-no-votes` where there are none among those given."""
    if options.votes is None:
        return []
    digests = {item.id: item.digest for item in items}
    given = [vote for vote in read_votes(options.votes) if vote.counts and len(vote.shown) == 2]
    kept = [vote for vote in given if digests.get(vote.item) == vote.digest]
    if not kept:
        raise fail("judge-no-votes", path=options.votes, count=len(given))
    if len(kept) < len(given) and options.limit is None:
        warn("judge-other-votes", path=options.votes, count=len(given) - len(kept))
    return kept


def _shown(options: JudgeOptions) -> dict[str, Any]:
    """The options for the report, without what a URL may hold of a login."""
    shown = options.model_dump(mode="json")
    return shown | ({"model": shown_url(options.model)} if options.is_remote else {})


def _raw(found: Findings, items: Sequence[Item]) -> dict[str, str]:
    kept = [{"id": item.id, "prompt": item.prompt, "answers": item.answers} for item in items]
    votes = {"raw/votes.jsonl": dump_votes(found.votes)} if found.votes else {}
    return {"raw/verdicts.jsonl": dump_rows(found.rows), "raw/answers.jsonl": dump_rows(kept), **votes}


def _tell(found: Findings, report: Report) -> None:
    """What speaks against the judge, and where the page is."""
    for sentence in warnings_of(found):
        say("evaluate-said", sentence=sentence)
    say("evaluate-written", path=report.summary()["report"])
