"""The verb `data show`: conversations or preferences as a model will read them, and what is wrong with them.

Reads and renders everything as training would, with the model's own template and tokenizer, but goes on where training
would stop. With --out a report, with --keep the records that can be trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingot.core.console import histogram
from ingot.core.errors import fail
from ingot.core.files import refuse_nonempty
from ingot.core.language import text
from ingot.core.model_dir import read_json
from ingot.core.options import Options, argument, option, required, verb
from ingot.core.progress import say, tell, warn
from ingot.core.report import Interval, Report
from ingot.data.bias import tell_bias
from ingot.data.records import place, places
from ingot.data.show.figures import bin_name, bins, numbers
from ingot.data.show.keep import keep, refuse_taken
from ingot.data.show.page import sections
from ingot.data.show.rows import show_rows
from ingot.data.show.survey import Survey, survey
from ingot.text.tokenizer import Tokenizer

WINDOW_KEYS = ("max_position_embeddings", "n_positions", "seq_length")
"""Keys of config.json that give the longest text a model reads."""
SHOWN_PROBLEMS = 10
"""Wrong records that are told one by one; the report lists more."""


class DataShowOptions(Options):
    """Options of `data show`."""

    data: Path = argument("conversations or preferences: .jsonl, .json, .parquet, or a folder with a manifest")
    model: Path = required("directory of a model or tokenizer whose template and tokens are used")
    rows: int = option(3, "how many records to show", ge=0)
    show_mask: bool = option(False, "mark what is learnt of them, and show their tokens")
    length: int | None = option(None, "window in tokens; by default the model's own", ge=8)
    out: Path | None = option(None, "directory for a report of everything")
    keep: Path | None = option(None, "file for the records that can be trained on: right, within the window, each once")


@dataclass(frozen=True)
class DataShown:
    """What the verb returns: the numbers, and where the report and the kept records are."""

    numbers: dict[str, Any]

    def summary(self) -> dict[str, Any]:
        return self.numbers


@verb(DataShowOptions)
def data_show(options: DataShowOptions) -> DataShown:
    """Show conversations or preferences as a model reads them: text, tokens, what is learnt, what is wrong."""
    if options.show_mask and not options.rows:
        raise fail("show-mask-rows")
    if options.out:
        refuse_nonempty(options.out)
    if options.keep:
        refuse_taken(options.keep)
    tokenizer = Tokenizer.open(options.model)
    found = survey(options.data, tokenizer, options.length or _window(options.model))
    show_rows(found.ready[: options.rows], options.data, tokenizer, options.show_mask)
    figures = numbers(found)
    _tell(found, figures)
    written: dict[str, Any] = {"kind": found.kind, "window": found.length}
    if options.keep:
        written["kept"] = keep(found, options.keep)
        say("show-kept", count=f"{written['kept']:,}", path=options.keep)
    summary = {name: value.value if isinstance(value, Interval) else value for name, value in figures.items()}
    if options.out:
        report = Report(
            title=text("show-title", name=options.data.name),
            verb="data show",
            options=options.model_dump(mode="json"),
            numbers=figures,
            sections=sections(found, tokenizer, options.rows),
        ).write(options.out)
        summary = report.summary()
        say("show-written", path=summary["report"])
    return DataShown({**written, **summary})


def _window(model: Path) -> int | None:
    """The longest text that the model reads, where there is a model."""
    config = read_json(model / "config.json") if (model / "config.json").exists() else {}
    return next((config[key] for key in WINDOW_KEYS if isinstance(config.get(key), int)), None)


def _tell(found: Survey, figures: dict[str, Any]) -> None:
    """The file in sentences, and the lengths of its records as a histogram."""
    forms = ", ".join(dict.fromkeys(one.item.form for one in found.ready))
    tell("")
    say(f"show-{found.kind}", count=f"{len(found.ready):,}", forms=forms, targets=f"{figures['target_tokens']:,}",
        share=f"{figures['target_share']:.1%}", median=f"{figures['median_tokens']:,}",
        longest=f"{figures['longest_tokens']:,}")  # fmt: skip
    tell(histogram([(bin_name(low, high), count) for low, high, count in bins([one.size for one in found.ready])]))
    if found.kind == "pairs":
        tell_bias([one.pair for one in found.ready])
    if "filled_share" in figures:
        say("show-packed", length=found.length, filled=f"{figures['filled_share']:.1%}",
            alone=f"{figures['filled_alone_share']:.1%}")  # fmt: skip
    _tell_wrong(found)


def _tell_wrong(found: Survey) -> None:
    """What training would refuse, and what it would do twice."""
    if found.long:
        warn("show-too-long", count=f"{len(found.long):,}", length=found.length,
             places=places([one.item.line for one in found.long]))  # fmt: skip
    if found.repeats:
        warn("show-repeated", count=f"{len(found.repeats):,}", places=places([line for line, _ in found.repeats]))
    if found.contradictions:
        warn("pairs-contradict", count=f"{len(found.contradictions):,}",
             places=places([line for line, _ in found.contradictions]))  # fmt: skip
    if found.problems:
        warn("show-bad-records", count=f"{len(found.problems):,}")
    for problem in found.problems[:SHOWN_PROBLEMS]:
        warn("show-problem", place=place(problem.path, problem.line), reason=problem.reason)
