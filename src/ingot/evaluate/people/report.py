"""What a study says: who wins how often, how strong systems are, how far people agree, who may not have read, and every
item on which they disagree, with its answers. A pure function of the votes and the items.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ingot.core.errors import IngotError
from ingot.core.language import language, text
from ingot.core.report import Cell, HeatMap, Plot, Prose, Report, Section, Series, Table
from ingot.evaluate.people.agreement import Level, fleiss, krippendorff
from ingot.evaluate.people.flags import Checked, check_annotators
from ingot.evaluate.people.strength import FIRST, TIE, Comparison, Strengths, fit
from ingot.evaluate.people.study import Study
from ingot.evaluate.people.votes import SKIP, Vote, comparisons
from ingot.evaluate.statistics import Interval, clustered_ratio
from ingot.evaluate.task import bounds, cell

NUM_SHOWN = 200
"""Disagreements and notes shown at most; the raw votes hold all."""
FEW = 5
"""From fewer annotators on, what holds for them may not hold for others, and the report says so."""
ANNOTATOR_COLUMNS = (
    "people-annotator", "people-votes", "people-skips", "people-gold", "people-power", "people-median", "people-hasty",
    "people-left", "people-flags",
)  # fmt: skip


@dataclass(frozen=True)
class Findings:
    """What was computed: kept together, so that the parts of the page agree."""

    study: Study
    votes: list[Vote]
    compared: list[Comparison]
    people: list[Checked]
    seed: int

    @property
    def flagged(self) -> set[str]:
        return {each.annotator for each in self.people if each.flags}

    @property
    def counted(self) -> list[Vote]:
        return [vote for vote in self.votes if vote.counts]


def study_report(study: Study, options: dict[str, Any], seed: int) -> Report:
    """The report of what lies in the study's store."""
    votes = study.store.votes()
    people = check_annotators(votes, study.items, study.gold, study.rubric)
    found = Findings(study, votes, comparisons(votes), people, seed)
    is_pairwise = study.mode == "pairwise"
    numbers, sections = _pairwise(found) if is_pairwise else _rated(found)
    return Report(
        title=text("people-title"),
        verb="annotate",
        options=options,
        numbers=_counts(found) | numbers,
        units={name: "percent" for name in ("tie_share", "skip_share") if name in numbers},
        sections=[*sections, _annotators(found), *_disagreements(found), *_notes(found), *_trail(found)],
    )


def _counts(found: Findings) -> dict[str, Cell]:
    counted = found.counted
    return {
        "votes": len(counted),
        "annotators": len({vote.annotator for vote in counted}),
        "items": len({vote.item for vote in counted}),
        "done_share": found.study.queue.share_done,
        "skip_share": sum(vote.choice == SKIP for vote in found.votes) / max(1, len(found.votes)),
    }


def _pairwise(found: Findings) -> tuple[dict[str, Cell], list[Section]]:
    alpha = agreement(found.compared, found.seed)
    ties = sum(vote.outcome == TIE for vote in found.compared) / max(1, len(found.compared))
    try:
        strengths: Strengths | None = fit(found.compared)
        why = ""
    except IngotError as error:
        strengths, why = None, str(error)
    numbers: dict[str, Cell] = {"alpha": cell(alpha), "tie_share": ties}
    strong: list[Section] = _strong(found, strengths) if strengths else [Prose(title=text("people-strength"), text=why)]
    sections = [_verdict(found, strengths, why), *strong, *_wins(found), _agreement_table(found, alpha)]
    return numbers, sections


def agreement(compared: Sequence[Comparison], seed: int) -> Interval:
    """Krippendorff's nominal alpha of verdicts on the same two answers, by drawing prompts."""
    units, rows = _by_unit(compared)
    return krippendorff(rows, "nominal", seed, [unit[0] for unit in units])


def _by_unit(compared: Sequence[Comparison]) -> tuple[list[tuple[Any, ...]], list[list[Any]]]:
    """What was compared, and one row of verdicts an annotator."""
    units = list(dict.fromkeys((vote.prompt, vote.first, vote.second) for vote in compared))
    place = {unit: at for at, unit in enumerate(units)}
    rows: dict[Any, list[Any]] = {}
    for vote in compared:
        row = rows.setdefault(vote.annotator, [None] * len(units))
        row[place[vote.prompt, vote.first, vote.second]] = vote.outcome
    return units, list(rows.values())


def _verdict(found: Findings, strengths: Strengths | None, why: str) -> Prose:
    """What a reader takes away, in a few sentences."""
    told = [text("people-told-counts", **{name: value for name, value in _counts(found).items() if name in
                 ("votes", "annotators", "items")})]  # fmt: skip
    if strengths is None:
        return Prose(title=text("people-verdict"), text="\n\n".join([*told, why]))
    ranked = list(strengths.points)
    told_of = [*itertools.pairwise(ranked), *([(ranked[0], ranked[-1])] if len(ranked) > 2 else [])]
    for better, worse in told_of:
        apart = strengths.difference(better, worse)
        code = "people-told-better" if apart.excludes_zero else "people-told-open"
        told.append(text(code, better=better, worse=worse, points=f"{apart.value:.0f}"))
    if strengths.held:
        told.append(text("people-told-held", systems=", ".join(strengths.held)))
    if len(found.people) < FEW:
        told.append(text("people-told-few", count=len(found.people)))
    if found.flagged:
        told.append(text("people-told-flagged", names=", ".join(sorted(found.flagged))))
    return Prose(title=text("people-verdict"), text="\n\n".join(told))


def _strong(found: Findings, strengths: Strengths) -> list[Section]:
    """Strengths as a picture and a table, beside what they would be without flagged annotators."""
    names = list(strengths.points)
    cells = [cell(strengths.points[name]) for name in names]
    value, low, high = bounds(cells)
    series = Series(name=text("people-points"), x=list(names), y=value, low=low, high=high)
    note = text("people-strength-note")
    if strengths.one_annotator:
        note += " " + text("people-strength-alone")
    plot = Plot(title=text("people-strength"), kind="bar", series=[series], note=note)
    columns = [text("people-system"), text("people-points")]
    rows: list[list[Cell]] = [[name, one] for name, one in zip(names, cells, strict=True)]
    if found.flagged and (without := _without_flagged(found)):
        columns.append(text("people-points-without"))
        rows = [[*row, cell(without.points[name]) if name in without.points else None]
                for row, name in zip(rows, names, strict=True)]  # fmt: skip
    if strengths.held:
        columns.append(text("people-held"))
        rows = [[*row, text("people-held-mark") if name in strengths.held else ""]
                for row, name in zip(rows, names, strict=True)]  # fmt: skip
    return [plot, Table(title=text("people-strength-table"), columns=columns, rows=rows)]


def _without_flagged(found: Findings) -> Strengths | None:
    try:
        return fit([vote for vote in found.compared if vote.annotator not in found.flagged])
    except IngotError:
        return None


def _wins(found: Findings) -> list[Section]:
    """The matrix of wins, and every pair with its interval."""
    shares: dict[tuple[str, str], float] = {}
    rows: list[list[Cell]] = []
    by_pair: dict[tuple[str, str], list[Comparison]] = defaultdict(list)
    for vote in found.compared:
        by_pair[vote.first, vote.second].append(vote)
    for (first, second), votes in sorted(by_pair.items()):
        share = win_share(votes, found.seed)
        assert share.value is not None
        shares[first, second], shares[second, first] = share.value, 1 - share.value
        tally = Counter(vote.outcome for vote in votes)
        rows.append([first, second, tally[FIRST], tally[TIE], tally[2], cell(share)])
    systems = sorted({name for pair in by_pair for name in pair})
    values = [[shares.get((one, other)) for other in systems] for one in systems]
    columns = [text(code) for code in ("people-first", "people-second", "people-wins", "people-ties", "people-losses",
                                       "people-win-share")]  # fmt: skip
    heat = HeatMap(title=text("people-matrix"), columns=systems, rows=systems, values=values, low=0.0, high=1.0,
                   unit="percent", note=text("people-matrix-note"))  # fmt: skip
    table = Table(title=text("people-pairs"), columns=columns, rows=rows, units={columns[-1]: "percent"},
                  note=text("people-pairs-note"))  # fmt: skip
    return [heat, table] if rows else []


def win_share(votes: Sequence[Comparison], seed: int) -> Interval:
    """How often the first of a pair wins, a tie counting half; draws whole prompts."""
    sums: dict[Any, list[float]] = {}
    for vote in votes:
        one = sums.setdefault(vote.prompt, [0.0, 0.0])
        one[0] += 1 - vote.outcome / 2
        one[1] += 1
    wins, counts = np.array(list(sums.values())).T
    return clustered_ratio(wins, counts, seed)


def _agreement_table(found: Findings, alpha: Interval) -> Table:
    units, _ = _by_unit(found.compared)
    place = {unit: at for at, unit in enumerate(units)}
    counts = np.zeros((len(units), 3))
    for vote in found.compared:
        counts[place[vote.prompt, vote.first, vote.second], vote.outcome] += 1
    rows: list[list[Cell]] = [
        ["Krippendorff α", cell(alpha)],
        ["Fleiss κ", cell(fleiss(counts, found.seed))],
        [text("people-shared"), int((counts.sum(1) >= 2).sum())],
    ]
    columns = [text("people-measure"), text("people-value")]
    return Table(title=text("people-agreement"), columns=columns, rows=rows, note=text("people-agreement-note"))


def _rated(found: Findings) -> tuple[dict[str, Cell], list[Section]]:
    """Means of every criterion by system, and how far raters agree on it."""
    names = [criterion.name for criterion in found.study.rubric.criteria]
    systems = sorted({vote.shown[0] for vote in found.counted})
    means = {(system, name): _mean(found, system, name) for system in systems for name in names}
    spoken = {c.name: c.question.of(language()) for c in found.study.rubric.criteria}
    rows: list[list[Cell]] = [[system, *(cell(means[system, name]) for name in names)] for system in systems]
    series = []
    for system in systems:
        value, low, high = bounds([cell(means[system, name]) for name in names])
        series.append(Series(name=system, x=[spoken[name] for name in names], y=value, low=low, high=high))
    agreed = [_agreed(found, name) for name in names]
    columns = [text("people-system"), *(spoken[name] for name in names)]
    agreement_rows: list[list[Cell]] = [[spoken[n], *map(cell, both)] for n, both in zip(names, agreed, strict=True)]
    agreement_columns = [text("people-criterion"), text("people-alpha-ordinal"), text("people-alpha-interval")]
    sections: list[Section] = [
        Plot(title=text("people-means"), kind="bar", series=series, note=text("people-means-note")),
        Table(title=text("people-means-table"), columns=columns, rows=rows),
        Table(
            title=text("people-agreement"),
            columns=agreement_columns,
            rows=agreement_rows,
            note=text("people-agreement-note"),
        ),
    ]
    numbers: dict[str, Cell] = {f"{system}.{name}": cell(mean) for (system, name), mean in means.items()}
    return numbers | {f"alpha.{n}": cell(both[0]) for n, both in zip(names, agreed, strict=True)}, sections


def _mean(found: Findings, system: str, name: str) -> Interval:
    sums: dict[str, list[float]] = {}
    for vote in found.counted:
        if vote.shown[0] == system:
            one = sums.setdefault(vote.item, [0.0, 0.0])
            one[0] += vote.scores[name]
            one[1] += 1
    if not sums:
        return Interval(None)
    totals, counts = np.array(list(sums.values())).T
    return clustered_ratio(totals, counts, found.seed)


def _agreed(found: Findings, name: str) -> tuple[Interval, Interval]:
    """Ordinal and interval alpha of one criterion."""
    units = list(dict.fromkeys((vote.item, vote.shown[0]) for vote in found.counted))
    place = {unit: at for at, unit in enumerate(units)}
    rows: dict[str, list[int | None]] = {}
    for vote in found.counted:
        rows.setdefault(vote.annotator, [None] * len(units))[place[vote.item, vote.shown[0]]] = vote.scores[name]
    clusters = [unit[0] for unit in units]
    levels: tuple[Level, Level] = ("ordinal", "interval")
    one, other = (krippendorff(list(rows.values()), level, found.seed, clusters) for level in levels)
    return one, other


def _annotators(found: Findings) -> Table:
    columns = [text(code) for code in ANNOTATOR_COLUMNS]
    rows: list[list[Cell]] = [
        [
            each.annotator, each.votes, each.skips, f"{each.gold_right}/{each.gold_seen}" if each.gold_seen else None,
            each.power if each.gold_seen else None, each.median_seconds, each.hasty,
            each.left / each.decided if each.decided else None,
            ", ".join(text(f"people-flag-{flag}") for flag in each.flags),
        ]
        for each in found.people
    ]  # fmt: skip
    units: dict[str, Any] = {columns[4]: "percent", columns[5]: "seconds", columns[6]: "percent", columns[7]: "percent"}
    return Table(
        title=text("people-annotators"), columns=columns, rows=rows, units=units, note=text("people-annotators-note")
    )


def _disagreements(found: Findings) -> list[Section]:
    """What people saw differently: the prompt, the answers and every vote."""
    by_unit: dict[tuple[str, ...], list[Vote]] = defaultdict(list)
    for vote in found.counted:
        by_unit[(vote.item, *sorted(vote.shown))].append(vote)
    split = {unit: votes for unit, votes in by_unit.items() if len({(v.winner, str(v.scores)) for v in votes}) > 1}
    if not split:
        return []
    ranked = sorted(split, key=lambda unit: (-_spread(split[unit]), unit))[:NUM_SHOWN]
    rows: list[list[Cell]] = [_disagreement(found, unit, split[unit]) for unit in ranked]
    columns = [text(code) for code in ("people-item", "people-prompt", "people-answers", "people-said")]
    note = text("people-disagreements-note", shown=len(rows), count=len(split))
    return [Table(title=text("people-disagreements"), columns=columns, rows=rows, note=note)]


def _spread(votes: Sequence[Vote]) -> float:
    """How far apart votes are: opposite winners before ties, distant scores before near ones."""
    if len(votes[0].shown) == 2:
        tally = Counter(vote.winner for vote in votes)
        sides = sorted((tally[name] for name in votes[0].shown), reverse=True)
        return 2.0 * sides[1] + 0.5 * tally[None]
    return float(max(np.ptp([vote.scores[name] for vote in votes]) for name in votes[0].scores))


def _disagreement(found: Findings, unit: tuple[str, ...], votes: Sequence[Vote]) -> list[Cell]:
    item = found.study.items[unit[0]]
    answers = "\n\n".join(f"[{name}]\n{item.answers[name]}" for name in unit[1:])
    return [item.id, item.prompt, answers, "\n".join(f"{vote.annotator}: {_said(vote)}" for vote in votes)]


def _said(vote: Vote) -> str:
    words = ", ".join(f"{name} {score}" for name, score in vote.scores.items())
    chosen = words or vote.winner or text("people-tie-word")
    return f"{chosen} ({vote.note})" if vote.note else chosen


def _notes(found: Findings) -> list[Section]:
    rows: list[list[Cell]] = [[v.item, v.annotator, _said(v)] for v in [v for v in found.votes if v.note][:NUM_SHOWN]]
    columns = [text(code) for code in ("people-item", "people-annotator", "people-said")]
    return [Table(title=text("people-notes"), columns=columns, rows=rows)] if rows else []


def _trail(found: Findings) -> list[Section]:
    """How many votes did not count, and why; each stands in raw/trail.jsonl."""
    tally = Counter(row["reason"] for row in found.study.store.trail())
    if not tally:
        return []
    rows: list[list[Cell]] = [[text(f"people-rejected-{reason}"), count] for reason, count in tally.most_common()]
    columns = [text("people-reason"), text("people-votes")]
    return [Table(title=text("people-trail"), columns=columns, rows=rows, note=text("people-trail-note"))]
