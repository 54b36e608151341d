"""What `prefer` trains on: pairs or labelled answers, read, held out by prompt, and packed.

What was packed lies in files, so that every process of a machine trains on it: the sheet itself, beside it the held-out
one, and for KTO one of prompts with answers to other prompts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ingot.adapt.load import LanguageModel
from ingot.core.errors import fail
from ingot.core.progress import warn
from ingot.data.bias import tell_bias
from ingot.data.fit import fit_labelled, fit_pairs
from ingot.data.kinds import kind_in
from ingot.data.pack import best_fit
from ingot.data.pairs import Labelled, Pair, read_labelled, read_pairs, render_labelled, render_pairs
from ingot.data.read import is_heldout
from ingot.text.chat import Rendered
from ingot.train.account import Account
from ingot.train.corpus import Corpus
from ingot.train.names import Names
from ingot.train.preference.losses import LossName
from ingot.train.preference.options import PairOptions
from ingot.train.preference.sheet import Answer, Sheet, open_sheet, write_sheet

HELDOUT, MISMATCHED = "heldout", "mismatched"
TIMES = (1, 1.5, 2, 3, 4)
"""Lengths of a row that are tried, as multiples of the largest pair's: attention costs the more the longer a row is."""
FILLED = 0.9
"""Share of a row's tokens that is enough."""
SAMPLED = 20_000
"""Groups by which a length is tried."""
TRIES = 16
"""Answers to other prompts that are tried for one that fits the window."""


@dataclass(frozen=True)
class Preferences:
    """What is trained on, what is held out, and prompts with answers to other prompts."""

    sheet: Sheet
    heldout: Sheet | None
    mismatched: Sheet | None

    @classmethod
    def open(cls, directory: Path) -> Preferences:
        """What `read_preferences` packed."""
        beside = [directory / name for name in (HELDOUT, MISMATCHED)]
        return cls(open_sheet(directory), *(open_sheet(path) if path.exists() else None for path in beside))


class Unit(NamedTuple):
    """A record: its answers behind the prompt, of which the first `prompt` ids are the prompt's."""

    item: Pair | Labelled
    answers: tuple[Answer, ...]
    prompt: int

    @property
    def tokens(self) -> int:
        return sum(len(text.ids) for text, _ in self.answers)

    @property
    def asked(self) -> str:
        """The prompt, for comparisons."""
        return json.dumps([self.item.prompt, self.item.tools], ensure_ascii=True)


def read_preferences(
    data: Path, loss: LossName, model: LanguageModel, length: int, seed: int, options: PairOptions, directory: Path
) -> Corpus:
    """Read, hold out and pack below `directory`.

    Raises what reading pairs and labelled answers raises, `bad-heldout-share` and, for KTO, `one-label` and
    `kto-one-prompt`.
    """
    account = Account.of_chats(data, options.allow_unknown_licence)
    units = _units(account, loss, model, length, options)
    train, heldout = _divide(units, options.heldout, seed)
    for unit in heldout:
        account.hold_out(unit.tokens)
    names = Names()
    for unit in train:
        account.count(unit.item, unit.tokens)
        for _ in unit.answers:
            names.note(unit.item)
    pad = model.tokenizer.pad_id or 0
    _write(train, loss, pad, directory)
    if heldout:
        _write(heldout, loss, pad, directory / HELDOUT)
    if loss == "kto":
        _check_labels(train, data)
        strangers = [[(text, True)] for text in mismatched(train, length, seed)]
        write_sheet(strangers, row_length(strangers), pad, directory / MISMATCHED)
    return Corpus.finish(account, names, [], directory)


def _units(account: Account, loss: LossName, model: LanguageModel, length: int, options: PairOptions) -> list[Unit]:
    """Every record that is trained on or held out. KTO takes labelled answers, and pairs as two of them."""
    bad, long, tokenizer = options.skip_bad, options.skip_long, model.tokenizer
    if loss == "kto" and kind_in(account.data) != "pairs":
        answers = list(account.licensed(read_labelled(account.data, skip_bad=bad)))
        labelled = render_labelled(answers, tokenizer)
        fitting = {id(one) for one in fit_labelled(labelled, length, skip_long=long)}
        return [Unit(item, ((one.answer, one.good),), one.prompt)
                for item, one in zip(answers, labelled, strict=True) if id(one) in fitting]  # fmt: skip
    pairs = list(account.licensed(read_pairs(account.data, skip_bad=bad)))
    rendered = render_pairs(pairs, tokenizer)
    kept = fit_pairs(rendered, length, skip_long=long)
    tell_bias(kept)
    fitting = {id(one) for one in kept}
    return [Unit(item, ((one.chosen, True), (one.rejected, False)), one.prompt)
            for item, one in zip(pairs, rendered, strict=True) if id(one) in fitting]  # fmt: skip


def _divide(units: Sequence[Unit], share: float, seed: int) -> tuple[list[Unit], list[Unit]]:
    """What to train on and what to hold out. A prompt with all its answers stands on one side."""
    heldout = [unit for unit in units if is_heldout(unit.asked, share, seed)]
    train = [unit for unit in units if not is_heldout(unit.asked, share, seed)]
    if not train:
        raise fail("prefer-all-heldout", share=share, count=len(heldout))
    if share and not heldout:
        warn("prefer-none-heldout", share=share, count=len(train))
    return train, heldout


def _write(units: Sequence[Unit], loss: LossName, pad: int, directory: Path) -> Sheet:
    groups = [unit.answers for unit in units] if loss != "kto" else [(one,) for unit in units for one in unit.answers]
    return write_sheet(groups, row_length(groups), pad, directory)


def row_length(groups: Sequence[Sequence[Answer]]) -> int:
    """Tokens a row: room for the largest group, and for so many more that little is left over. A row may be longer than
    the model's window, for positions begin anew in each answer's segment."""
    sizes = [sum(len(text.ids) for text, _ in group) for group in groups[:SAMPLED]]
    largest = max(sum(len(text.ids) for text, _ in group) for group in groups)
    lengths = [round(largest * times) for times in TIMES]
    filled = {length: sum(sizes) / (length * len(best_fit(sizes, length))) for length in lengths}
    return next((length for length in lengths if filled[length] >= FILLED), max(lengths, key=lambda one: filled[one]))


def _check_labels(units: Sequence[Unit], data: Path) -> None:
    labels = {good for unit in units for _, good in unit.answers}
    if len(labels) == 1:
        raise fail("one-label", path=data, label=json.dumps(labels.pop()), count=len(units))


def mismatched(units: Sequence[Unit], length: int, seed: int) -> list[Rendered]:
    """Each prompt with an answer to another, drawn by chance, where one fits the window: by their likelihood KTO
    measures how far the model has come from its reference, whatever is asked. Raises `kto-one-prompt`."""
    generator = np.random.default_rng([seed, 0x6B746F])
    found = [text for unit in units for text in _strangers(unit, units, generator, length)]
    if not found:
        raise fail("kto-one-prompt", count=len(units))
    return found


def _strangers(unit: Unit, units: Sequence[Unit], generator: np.random.Generator, length: int) -> Iterator[Rendered]:
    """The unit's prompt with a stranger's answer, if one is found."""
    prompt, _ = unit.answers[0]
    for number in generator.integers(0, len(units), size=TRIES).tolist():
        other = units[number]
        answer, _ = other.answers[number % len(other.answers)]
        ids = [*prompt.ids[: unit.prompt], *answer.ids[other.prompt :]]
        if other.asked != unit.asked and len(ids) <= length:
            mask = [*[False] * unit.prompt, *answer.mask[other.prompt :]]
            yield Rendered("", ids, mask)
            return
