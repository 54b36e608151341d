"""The report of `data show`."""

from __future__ import annotations

from collections import Counter

from ingot.core.language import text
from ingot.core.report import Cell, Plot, Section, Series, Table
from ingot.data.pairs import Labelled, Pair
from ingot.data.records import place
from ingot.data.show.figures import bin_name, bins
from ingot.data.show.rows import samples
from ingot.data.show.survey import Ready, Survey
from ingot.data.turns import Messages
from ingot.text.tokenizer import Tokenizer

MOST_LISTED = 200
"""Records that a table lists."""


def sections(found: Survey, tokenizer: Tokenizer, num_rows: int) -> list[Section]:
    """Everything but the numbers."""
    shown: list[Section] = [samples(found.ready[:num_rows], found.path, tokenizer)] if num_rows else []
    shown.append(_lengths(found))
    if found.kind == "pairs":
        shown.append(_differences(found))
    shown += [section for section in (_problems(found), _long(found), _repeats(found)) if section.rows]
    shown += [_forms(found), _roles(found)]
    rest = _unread(found)
    return [*shown, rest] if rest.rows else shown


def _lengths(found: Survey) -> Plot:
    """How long records are; of pairs, their answers."""
    if found.kind != "pairs":
        return _histogram("show-lengths", {text("show-all"): [one.size for one in found.ready]},
                          text("show-window-note", length=found.length) if found.length else "")  # fmt: skip
    sides = {text(f"show-{name}-answers"): [sum(one.sides[at].mask) for one in found.ready]
             for at, name in enumerate(("chosen", "rejected"))}  # fmt: skip
    return _histogram("show-answer-lengths", sides, "")


def _histogram(title: str, sizes: dict[str, list[int]], note: str) -> Plot:
    edges = bins([size for some in sizes.values() for size in some])
    names = [bin_name(low, high) for low, high, _ in edges]
    series = [Series(name=name, x=[*names], y=[sum(low <= size <= high for size in some) for low, high, _ in edges])
              for name, some in sizes.items()]  # fmt: skip
    return Plot(title=text(title), kind="bar", series=series, x_label=text("show-axis-tokens"), note=note)


def _differences(found: Survey) -> Plot:
    sizes = {text("show-all"): [sum(one.sides[0].mask) - sum(one.sides[1].mask) for one in found.ready]}
    return _histogram("show-differences", sizes, text("show-differences-note"))


def _problems(found: Survey) -> Table:
    rows: list[list[Cell]] = [[place(one.path, one.line), one.reason] for one in found.problems]
    return _table("show-problems", ["show-column-place", "show-column-reason"], rows)


def _long(found: Survey) -> Table:
    long = sorted(found.long, key=lambda one: -one.size)
    rows: list[list[Cell]] = [[place(found.path, one.item.line), one.size] for one in long]
    return _table("show-long", ["show-column-place", "show-column-tokens"], rows)


def _repeats(found: Survey) -> Table:
    rows: list[list[Cell]] = [[place(found.path, line), place(found.path, first), text("show-same")]
                              for line, first in found.repeats]  # fmt: skip
    rows += [[place(found.path, line), place(found.path, first), text("show-turned")]
             for line, first in found.contradictions]  # fmt: skip
    return _table("show-repeats", ["show-column-place", "show-column-first", "show-column-how"], rows)


def _forms(found: Survey) -> Table:
    counts = Counter(one.item.form for one in found.ready)
    return _table("show-forms", ["show-column-form", "show-column-records"], [[*pair] for pair in counts.most_common()])


def _roles(found: Survey) -> Table:
    """Who speaks: messages, and records with any."""
    spoken, records = Counter[str](), Counter[str]()
    for one in found.ready:
        roles = [_role(message) for message in _messages(one)]
        spoken.update(roles)
        records.update(set(roles))
    rows: list[list[Cell]] = [[role, count, records[role]] for role, count in spoken.most_common()]
    return _table("show-roles", ["show-column-role", "show-column-messages", "show-column-records"], rows)


def _role(message: dict[str, object]) -> str:
    return f"{message['role']} (tool_calls)" if message.get("tool_calls") else str(message["role"])


def _messages(one: Ready) -> Messages:
    item = one.item
    if isinstance(item, Pair):
        return [*item.prompt, *item.chosen, *item.rejected]
    return [*item.prompt, *item.answer] if isinstance(item, Labelled) else item.messages


def _unread(found: Survey) -> Table:
    counts = Counter(key for one in found.ready for key in one.item.unread)
    return _table("show-unread", ["show-column-key", "show-column-records"], [[*pair] for pair in counts.most_common()])


def _table(title: str, columns: list[str], rows: list[list[Cell]]) -> Table:
    left = len(rows) - MOST_LISTED
    note = text("show-more-rows", count=f"{left:,}") if left > 0 else ""
    return Table(title=text(title), columns=[text(column) for column in columns], rows=rows[:MOST_LISTED], note=note)
