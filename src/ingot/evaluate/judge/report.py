"""The page of a judge: first whether it can be trusted, then what it said. A pure function of rows, items and votes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ingot.core.errors import IngotError
from ingot.core.language import text
from ingot.core.report import Cell, Plot, Prose, Report, Section, Series, Table
from ingot.evaluate.judge.figures import (
    Outcome,
    Unit,
    agreed,
    at_equal_length,
    first_share,
    flip_rate,
    judged,
    lengths,
    longer_share,
    majority,
    more_often,
    outcomes_of,
    share,
    tie_share,
    won,
)
from ingot.evaluate.people.agreement import krippendorff
from ingot.evaluate.people.answers import Item
from ingot.evaluate.people.report import agreement, win_share
from ingot.evaluate.people.strength import FIRST, SECOND, TIE, fit
from ingot.evaluate.people.votes import Vote, comparisons
from ingot.evaluate.statistics import Interval
from ingot.evaluate.task import Row, bounds, cell

PLACE_MARGIN = 0.1
"""A judge whose verdicts fall on the first answer this much more or less often than half is said to go by the place."""
LONGER_MANY = 0.75
"""Without people to compare with, a judge that surely prefers the longer answer this often is said to go by length."""
MOSTLY_TIES = 0.9
NUM_SHOWN = 100
PAIR_COLUMNS = (
    "people-first", "people-second", "judge-count", "judge-wins", "judge-wins-length", "judge-wins-people",
)  # fmt: skip
SAID: Mapping[int | None, str] = {
    FIRST: "judge-first-wins",
    TIE: "judge-tie",
    SECOND: "judge-second-wins",
    None: "judge-none",
}


@dataclass(frozen=True)
class Findings:
    """What a judge said and what is known beside. kin: systems related to it; unknown: whose line was not given."""

    name: str
    rows: list[Row]
    items: Mapping[str, Item]
    votes: Sequence[Vote]
    kin: list[str]
    unknown: list[str]
    seed: int

    @property
    def outcomes(self) -> list[Outcome]:
        return outcomes_of(self.rows)

    @property
    def own(self) -> dict[Unit, int]:
        return {one.unit: one.outcome for one in self.outcomes if one.outcome is not None}

    @property
    def people(self) -> dict[Unit, int]:
        return majority(self.votes)


def judge_report(found: Findings, options: dict[str, Any]) -> Report:
    """The whole report."""
    outcomes, own, people = found.outcomes, found.own, found.people
    agreement_share, kappa = agreed(own, people, found.seed) if people else (Interval(None), Interval(None))
    numbers: dict[str, Cell] = {
        "flip_rate": cell(flip_rate(outcomes)),
        "first_share": cell(first_share(found.rows)),
        "longer_share": cell(longer_share(own, found.items)),
        "tie_share": cell(tie_share(outcomes)),
        "parsed_share": cell(share([(row["verdict"] is not None, row["item"]) for row in found.rows])),
    }
    if people:
        numbers |= {"kappa": cell(kappa), "human_agreement": cell(agreement_share)}
    sections = [
        _verdict(found, kappa), _bias(found), *_systems(found), _pairs(found),
        *_against_people(found, agreement_share, kappa),
        *_flips(found), *_differing(found), *_unread(found),
    ]  # fmt: skip
    return Report(title=text("judge-title", name=found.name), verb="judge", options=options, numbers=numbers,
                  sections=sections)  # fmt: skip


def warnings_of(found: Findings) -> list[str]:
    """What speaks against this judge, in sentences."""
    told = []
    place, flips, longer = first_share(found.rows), flip_rate(found.outcomes), longer_share(found.own, found.items)
    if _surely_off(place, 0.5, PLACE_MARGIN):
        assert place.value is not None
        code = "judge-told-first" if place.value > 0.5 else "judge-told-last"
        told.append(text(code, share=_percent(place), flips=_percent(flips)))
    told += _told_length(found, longer)
    told += [_told_kin(found, system) for system in found.kin]
    if (ties := tie_share(found.outcomes)).value is not None and ties.value > MOSTLY_TIES:
        told.append(text("judge-told-ties", share=_percent(ties)))
    unread = [row for row in found.rows if row["verdict"] is None]
    if unread:
        told.append(text("judge-told-unread", count=len(unread), total=len(found.rows)))
    if not found.votes:
        told.append(text("judge-told-no-people"))
    return told


def _told_length(found: Findings, longer: Interval) -> list[str]:
    """Does it go by length? Against people where there are votes, else where it is extreme."""
    if found.votes:
        apart = more_often(
            found.own, found.people, lambda unit, verdict: _longer(unit, verdict, found.items), found.seed
        )
        if apart.low is not None and apart.low > 0:
            return [text("judge-told-longer-than-people", share=_percent(longer), more=_percent(apart))]
        return []
    sure = longer.low is not None and longer.low > LONGER_MANY
    return [text("judge-told-longer", share=_percent(longer))] if sure else []


def _longer(unit: Unit, verdict: int, items: Mapping[str, Item]) -> float | None:
    """1 where the longer answer won, 0 where the shorter did, half for a tie; None where both are equally long."""
    apart = lengths(unit, items)
    return None if apart == 0 else 0.5 if verdict == TIE else float((apart > 0) == (verdict == FIRST))


def _told_kin(found: Findings, system: str) -> str:
    """How often the judge prefers its kin, and how much more often than people do."""
    share, more = _percent(won(found.own, system, found.seed)), preference(found, system)
    if more.value is None or more.low is None or more.high is None:
        return text("judge-told-kin", system=system, share=share)
    span = f"{100 * more.value:+.0f} [{100 * more.low:+.0f}, {100 * more.high:+.0f}]"
    return text("judge-told-kin-people", system=system, share=share, more=span)


def preference(found: Findings, system: str) -> Interval:
    """How much more often the judge lets a system win than people do."""

    def wins(unit: Unit, verdict: int) -> float | None:
        if system not in unit[1:]:
            return None
        return 1 - verdict / 2 if unit[1] == system else verdict / 2

    return more_often(found.own, found.people, wins, found.seed)


def _surely_off(found: Interval, value: float, margin: float) -> bool:
    if found.value is None or found.low is None or found.high is None:
        return False
    return abs(found.value - value) > margin and not found.low <= value <= found.high


def _percent(found: Interval) -> str:
    return "–" if found.value is None else f"{100 * found.value:.0f} %"


def _verdict(found: Findings, kappa: Interval) -> Prose:
    told = []
    if found.votes and kappa.value is not None:
        bound = "" if kappa.low is None or kappa.high is None else f" [{kappa.low:.2f}, {kappa.high:.2f}]"
        told.append(text("judge-told-kappa", kappa=f"{kappa.value:.2f}{bound}", share=_percent(agreed(
            found.own, found.people, found.seed)[0])))  # fmt: skip
    told += warnings_of(found) or [text("judge-told-nothing")]
    if found.unknown:
        told.append(text("judge-told-unknown", systems=", ".join(found.unknown)))
    return Prose(title=text("judge-verdict"), text="\n\n".join(told))


def _bias(found: Findings) -> Table:
    """The judge beside people, figure by figure."""
    people = found.people
    rows: list[list[Cell]] = [
        [text("judge-flips"), cell(flip_rate(found.outcomes)), None],
        [text("judge-place"), cell(first_share(found.rows)), None],
        [text("judge-longer"), cell(longer_share(found.own, found.items)), cell(longer_share(people, found.items))],
        [
            text("judge-ties"),
            cell(tie_share(found.outcomes)),
            cell(share([(v == TIE, u[0]) for u, v in people.items()])),
        ],
    ]
    for system in found.kin:
        row: list[Cell] = [text("judge-own", system=system), cell(won(found.own, system, found.seed))]
        rows.append([*row, cell(won(people, system, found.seed))])
    columns = [text("judge-figure"), text("judge-judge"), text("judge-people")]
    return Table(title=text("judge-bias"), columns=columns, rows=rows, units=dict.fromkeys(columns[1:], "percent"),
                 note=text("judge-bias-note"))  # fmt: skip


def _systems(found: Findings) -> list[Section]:
    try:
        strengths = fit(judged(found.outcomes))
    except IngotError as error:
        return [Prose(title=text("judge-strength"), text=str(error))]
    names = list(strengths.points)
    value, low, high = bounds([cell(strengths.points[name]) for name in names])
    series = [Series(name=text("judge-judge"), x=list(names), y=value, low=low, high=high)]
    if found.votes:
        series += _people_strengths(found, names)
    note = text("judge-strength-note")
    if strengths.held:
        note += " " + text("people-told-held", systems=", ".join(strengths.held))
    return [Plot(title=text("judge-strength"), kind="bar", series=series, note=note)]


def _people_strengths(found: Findings, names: list[str]) -> list[Series]:
    try:
        points = fit(comparisons(found.votes)).points
    except IngotError:
        return []
    value, low, high = bounds([cell(points[name]) if name in points else None for name in names])
    return [Series(name=text("judge-people"), x=list(names), y=value, low=low, high=high)]


def _pairs(found: Findings) -> Table:
    """Every pair: how often the first wins, were they equally long too, and by people."""
    own, people = found.own, comparisons(found.votes)
    by_judge = judged(found.outcomes)
    rows: list[list[Cell]] = []
    for first, second in sorted({unit[1:] for unit in own}):
        votes = [vote for vote in by_judge if (vote.first, vote.second) == (first, second)]
        human = [vote for vote in people if (vote.first, vote.second) == (first, second)]
        controlled = at_equal_length(own, found.items, first, second)
        said = cell(win_share(human, found.seed)) if human else None
        rows.append([first, second, len(votes), cell(win_share(votes, found.seed)), cell(controlled), said])
    columns = [text(code) for code in PAIR_COLUMNS]
    return Table(title=text("people-pairs"), columns=columns, rows=rows, units=dict.fromkeys(columns[3:], "percent"),
                 note=text("judge-pairs-note"))  # fmt: skip


def _against_people(found: Findings, equal: Interval, kappa: Interval) -> list[Section]:
    """The judge's agreement with people beside that of people with each other."""
    if not found.votes:
        return []
    shared = found.own.keys() & found.people.keys()
    units = sorted(shared)
    both = [[found.own[unit] for unit in units], [found.people[unit] for unit in units]]
    alpha = krippendorff(both, "nominal", found.seed, [unit[0] for unit in units])
    rows: list[list[Cell]] = [
        [text("judge-shared"), len(shared)],
        [text("judge-equal"), None if equal.value is None else _percent(equal)],
        [text("judge-kappa"), cell(kappa)],
        [text("judge-alpha"), cell(alpha)],
        [text("judge-alpha-people"), cell(agreement(comparisons(found.votes), found.seed))],
    ]
    columns = [text("people-measure"), text("people-value")]
    return [Table(title=text("judge-agreement"), columns=columns, rows=rows, note=text("judge-agreement-note"))]


def _flips(found: Findings) -> list[Section]:
    flipped = [one for one in found.outcomes if one.flipped]
    return _shown(found, text("judge-flipped"), [(one.unit, None) for one in flipped], "judge-flipped-note")


def _differing(found: Findings) -> list[Section]:
    """Where the judge and people chose different systems."""
    own, people = found.own, found.people
    apart = [unit for unit in own if unit in people and {own[unit], people[unit]} == {FIRST, SECOND}]
    return _shown(found, text("judge-differing"), [(unit, people[unit]) for unit in apart], "judge-differing-note")


def _shown(found: Findings, title: str, units: Sequence[tuple[Unit, int | None]], note: str) -> list[Section]:
    """A table of units with their prompt, both answers and what was said."""
    by_unit = {one.unit: one for one in found.outcomes}
    rows: list[list[Cell]] = []
    for unit, people in units[:NUM_SHOWN]:
        item = found.items[unit[0]]
        said = " / ".join(_said(unit, verdict) for verdict in by_unit[unit].verdicts)
        last = [] if people is None else [_said(unit, people)]
        rows.append([item.id, item.prompt, *(f"[{name}]\n{item.answers[name]}" for name in unit[1:]), said, *last])
    if not rows:
        return []
    columns = [text(code) for code in ("people-item", "people-prompt", "people-first", "people-second", "judge-judge")]
    columns += [text("judge-people")] if units[0][1] is not None else []
    return [Table(title=title, columns=columns, rows=rows, note=text(note, shown=len(rows), count=len(units)))]


def _said(unit: Unit, verdict: int | None) -> str:
    return text(SAID[verdict], first=unit[1], second=unit[2])


def _unread(found: Findings) -> list[Section]:
    """Replies that are no verdict, and why."""
    unread = [row for row in found.rows if row["verdict"] is None]
    if not unread:
        return []
    tally = Counter(row["problem"] or row["reply"] for row in unread)
    rows: list[list[Cell]] = [[reply, count] for reply, count in tally.most_common(NUM_SHOWN)]
    return [Table(title=text("judge-unread"), columns=[text("judge-reply"), text("judge-count")], rows=rows)]
