"""What a plan of memory says: the report and the lines on the screen, and other ways to write where one is too much."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ingot.core.format import show_bytes
from ingot.core.language import text
from ingot.core.progress import say
from ingot.core.report import Cell, Plot, Report, Section, Series, Table, Unit
from ingot.train.memory.inference import Use
from ingot.train.memory.predict import Needs, first_start, inference
from ingot.train.memory.setting import Setting, loop_flags, method_flags

PARTS = ("weights", "gradients", "states", "activations", "heap", "process")
WANTED = 3


@dataclass(frozen=True)
class Trained:
    """What a setting takes, and others that fit where it is too much."""

    needs: Needs
    setting: Setting
    others: list[tuple[Setting, Needs]]

    @property
    def most(self) -> float:
        return self.needs.total


@dataclass(frozen=True)
class Written:
    """The same of inference, and the peak of the first start, where weights are still to be packed."""

    needs: Needs
    first: float | None
    others: list[tuple[str, float]]

    @property
    def most(self) -> float:
        return max(self.needs.total, self.first or 0.0)


def written_in(use: Use, process: float, limit: int | None, ways: Iterable[tuple[str, Use]]) -> Written:
    """What inference takes; of other ways to write, by their flags, those that fit where it is more than there is."""
    found = _written(use, process)
    if limit is None or round(found.most) <= limit:
        return found
    for flags, other in ways:
        one = _written(other, process)
        if one.most <= limit:
            found.others.append((flags, one.most))
        if len(found.others) == WANTED:
            break
    return found


def _written(use: Use, process: float) -> Written:
    needs = inference(use, process)
    return Written(needs, None if use.packer is None else first_start(use, needs), [])


def make_report(
    name: str, options: dict[str, Any], trained: Trained | None, written: Written, limit: int | None
) -> Report:
    """It has passed where all that was planned fits; without a limit nothing is judged."""
    numbers: dict[str, Cell] = {} if trained is None else {
        "training_bytes": round(trained.needs.total), "checkpointing": trained.setting.checkpointing
    }  # fmt: skip
    numbers["inference_bytes"] = round(written.needs.total)
    if written.first is not None:
        numbers["first_start_bytes"] = round(written.first)
    if limit is not None:
        numbers |= {"memory_bytes": limit, "settings_that_fit": len(trained.others) if trained else 0,
                    "ways_to_write_that_fit": len(written.others)}  # fmt: skip
    return Report(
        title=text("plan-memory-title", name=name),
        verb="plan memory",
        options=options,
        numbers=numbers,
        sections=_sections(trained, written),
        passed=None if limit is None else _fits(trained, limit) and _fits(written, limit),
    )


def _fits(part: Trained | Written | None, limit: int) -> bool:
    return part is None or round(part.most) <= limit


def _sections(trained: Trained | None, written: Written) -> list[Section]:
    columns = _columns(trained, written)
    rows: list[list[Cell]] = [
        [text(f"plan-memory-{part}"), *(round(getattr(one, part)) for _, one in columns)] for part in PARTS
    ]
    rows.append([text("plan-total"), *(round(one.total) for _, one in columns)])
    units: dict[str, Unit] = {name: "bytes" for name, _ in columns}
    header = [text("plan-memory-what"), *(name for name, _ in columns)]
    names = [text(f"plan-memory-{part}") for part in PARTS]
    series = [Series(name=name, x=[*names], y=[getattr(one, part) for part in PARTS]) for name, one in columns]
    found: list[Section] = [
        Table(title=text("plan-memory-parts"), columns=header, rows=rows, units=units, note=text("plan-memory-note")),
        Plot(title=text("plan-memory-picture"), kind="bar", series=series, unit="bytes"),
    ]
    if trained and trained.others:
        settings = [(flags(setting), needs.total) for setting, needs in trained.others]
        found.append(_others(text("plan-memory-fit"), text("plan-memory-training"), settings))
    if written.others:
        found.append(_others(text("plan-memory-ways"), text("plan-memory-inference"), written.others))
    return found


def _columns(trained: Trained | None, written: Written) -> list[tuple[str, Needs]]:
    own = [] if trained is None else [(text("plan-memory-training"), trained.needs)]
    return [*own, (text("plan-memory-inference"), written.needs)]


def _others(title: str, size: str, found: list[tuple[str, float]]) -> Table:
    rows: list[list[Cell]] = [[words, round(needs)] for words, needs in found]
    return Table(title=title, columns=[text("plan-memory-setting"), size], rows=rows, units={size: "bytes"})


def flags(setting: Setting) -> str:
    """A setting as options of this verb, which the training verbs take as well."""
    size = f"--length {setting.length} --batch-tokens {setting.batch_rows * setting.length}"
    return f"{size} {method_flags(setting)} {loop_flags(setting)}"


def tell(report: Report, trained: Trained | None, written: Written, limit: int | None) -> None:
    """The same on the screen."""
    say("plan-head", title=report.title)
    for part in (*PARTS, "total"):
        name = text("plan-total" if part == "total" else f"plan-memory-{part}")
        _row(name, trained, part, getattr(written.needs, part))
    if written.first is not None:
        say("plan-memory-first", first=show_bytes(written.first))
    if limit is None:
        return
    if trained is not None:
        settings = [(flags(setting), needs.total) for setting, needs in trained.others]
        _judge(text("plan-memory-training"), trained.most, limit, settings)
    _judge(text("plan-memory-inference"), written.most, limit, written.others)


def _row(name: str, trained: Trained | None, part: str, inference: float) -> None:
    if trained is None:
        say("plan-memory-row-inference", name=name, inference=show_bytes(inference))
    else:
        training = show_bytes(getattr(trained.needs, part))
        say("plan-memory-row", name=name, training=training, inference=show_bytes(inference))


def _judge(what: str, needs: float, limit: int, others: list[tuple[str, float]]) -> None:
    sizes = {"what": what, "needs": show_bytes(needs), "memory": show_bytes(limit)}
    if round(needs) <= limit:
        say("plan-memory-fits", **sizes)
        return
    say("plan-memory-too-much", **sizes, count=len(others))
    for words, size in others:
        say("plan-memory-other", flags=words, needs=show_bytes(size))
