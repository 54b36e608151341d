"""The verb `tokenizer compare`: tokenizers side by side on English, Chinese and code, with a recommendation.

Each document belongs to one kind, told by looks (`ingot.text.kind`) or by the file it is in (`zh=FILE`). All figures
are of the same documents for every tokenizer, and so are the small models' training and held-out text.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import field_validator

from ingot.core.errors import fail, nearest
from ingot.core.files import refuse_nonempty
from ingot.core.language import text
from ingot.core.model_dir import ModelDir
from ingot.core.options import Options, argument, option, references_listed, required, verb
from ingot.core.progress import say, track
from ingot.core.report import Report, unique_names
from ingot.data.read import is_heldout, read_documents
from ingot.evaluate.tokenizers.figures import Comparison, Entrant
from ingot.evaluate.tokenizers.page import page
from ingot.evaluate.tokenizers.trial import Plan, Trial, enough, prepare_tokenizer, run_trial
from ingot.evaluate.tokenizers.verdict import recommend
from ingot.text.kind import KINDS, kind_of
from ingot.text.measure import measure
from ingot.text.tokenizer import Tokenizer

MEASURED = 200_000
"""Bytes of held-out text that models are measured on."""


class TokenizerCompareOptions(Options):
    """Options of `tokenizer compare`."""

    tokenizers: list[str] = argument("tokenizer or model directories, two or more; the first is what others are "
                                     "compared with", min_length=2)  # fmt: skip
    data: list[str] = required("text: files or folders, or en=FILE, zh=FILE, code=FILE", min_length=1)
    out: Path = required("the report directory to write")
    parallel: bool = option(False, "document n of every language says the same; gives parity between languages")
    characters: int = option(1_000_000, "at most so many characters of each language are counted", ge=1)
    train_bytes: int = option(1_000_000, "bytes of text each small model is trained on; 0 trains none", ge=0)
    train_minutes: float | None = option(None, "train each model so long instead of on the same bytes", gt=0)
    depth: int = option(3, "layers of the small models; their width follows", ge=1)
    window: int = option(512, "window of the small models in bytes of text, the same for every tokenizer", ge=32)
    repeats: int = option(3, "models trained with each tokenizer, to tell a difference from luck", ge=1)
    heldout: float = option(0.1, "share of the documents held out to measure on", gt=0, lt=1)
    seed: int = option(0, "of the weights, the order of the data and what is held out", ge=0)

    _listed = field_validator("tokenizers", "data", mode="before")(references_listed)


@verb(TokenizerCompareOptions)
def tokenizer_compare(options: TokenizerCompareOptions) -> Report:
    """Compare tokenizers, by figures and by the same small model trained with each."""
    refuse_nonempty(options.out)
    opened = [_open(Path(path)) for path in options.tokenizers]
    names = unique_names([path.resolve().name for path, _ in opened])
    texts = read_kinds(options)
    english, chinese, program, other = (len(texts.get(kind, [])) for kind in KINDS)
    say("compare-read", english=english, chinese=chinese, program=program, other=other)
    plan, kinds = make_plan(options, texts)
    trials = _trials(opened, names, plan) if plan else [None] * len(opened)
    work = track(list(zip(opened, names, trials, strict=True)), text("compare-counting"), len(opened))
    entrants = [
        Entrant(name, path, tokenizer, {kind: measure(tokenizer, texts[kind]) for kind in texts}, trial)
        for (path, tokenizer), name, trial in work
    ]
    sizes = np.array([len(one.encode()) for one in plan.heldout] if plan else [], np.float64)
    found = Comparison(entrants, kinds, sizes, options.seed)
    verdict = recommend(found)
    plain = options.model_dump(mode="json")
    report = page(found, verdict, plain, options.parallel, options.train_minutes).write(options.out)
    say("compare-done", sentence=verdict.words, out=options.out)
    return report


def _open(path: Path) -> tuple[Path, Tokenizer]:
    """Raises `no-tokenizer` for a model directory without one."""
    if not (ModelDir.open(path).path / "tokenizer.json").exists():
        raise fail("no-tokenizer", path=path)
    return path, Tokenizer.open(path)


def read_kinds(options: TokenizerCompareOptions) -> dict[str, list[str]]:
    """The texts of each kind, as many as `characters` allows. Raises `compare-kind` and `compare-not-parallel`."""
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for entry in options.data:
        given, _, path = entry.rpartition("=")
        if given and not Path(entry).exists():
            if given not in KINDS:
                raise fail("compare-kind", found=given, nearest=nearest(given, KINDS))
            found[given] += [document.text for document in read_documents(path)]
        else:
            for document in read_documents(entry):
                found[kind_of(document.text)].append(document.text)
    found = {kind: texts for kind, texts in found.items() if texts}
    return _translations(found, options) if options.parallel else {
        kind: _some(texts, options) for kind, texts in found.items()
    }  # fmt: skip


def _some(texts: list[str], options: TokenizerCompareOptions) -> list[str]:
    """Whole documents in seeded order, the first of them in any case."""
    chosen: list[str] = []
    left = options.characters
    for one in random.Random(options.seed).sample(texts, len(texts)):
        if not chosen or len(one) <= left:
            chosen.append(one)
            left -= len(one)
    return chosen


def _translations(found: dict[str, list[str]], options: TokenizerCompareOptions) -> dict[str, list[str]]:
    """The same document numbers of every language, as many as all of them allow."""
    counts = {kind: len(texts) for kind, texts in found.items()}
    named = all("=" in entry and not Path(entry).exists() for entry in options.data)
    if not named or len(counts) < 2 or "en" not in counts or len(set(counts.values())) > 1:
        shown = ", ".join(f"{kind}: {count}" for kind, count in counts.items())
        raise fail("compare-not-parallel", found=shown)
    totals = np.cumsum([max(map(len, same)) for same in zip(*found.values(), strict=True)])
    kept = max(1, int((totals <= options.characters).sum()))
    return {kind: texts[:kept] for kind, texts in found.items()}


def make_plan(options: TokenizerCompareOptions, texts: dict[str, list[str]]) -> tuple[Plan | None, list[str]]:
    """What to train on, and the kinds of the held-out documents. Raises `bad-heldout-share` where one side is empty."""
    if not options.train_bytes and options.train_minutes is None:
        return None, []
    pairs = [(one, kind) for kind in texts for one in texts[kind]]
    random.Random(options.seed).shuffle(pairs)
    held = [pair for pair in pairs if is_heldout(pair[0], options.heldout, options.seed)]
    train = [one for one, _ in pairs if not is_heldout(one, options.heldout, options.seed)]
    if not held or not train:
        raise fail("bad-heldout-share", share=options.heldout, train=len(train), heldout=len(held))
    measured = held[: len(list(enough([one for one, _ in held], MEASURED)))]
    chosen = train if options.train_minutes else list(enough(train, options.train_bytes))
    plan = Plan(chosen, [one for one, _ in measured], options.train_bytes, options.train_minutes, options.depth,
                options.window, options.repeats, options.seed)  # fmt: skip
    return plan, [kind for _, kind in measured]


def _trials(opened: Sequence[tuple[Path, Tokenizer]], names: Sequence[str], plan: Plan) -> list[Trial]:
    """Every tokenizer is prepared before the first is trained with, so that none is refused after hours."""
    with tempfile.TemporaryDirectory(prefix="ingot-compare-") as place:
        for number, (path, _) in enumerate(opened):
            prepare_tokenizer(path, Path(place) / f"check-{number}")
        folders = [Path(place) / str(number) for number in range(len(opened))]
        return [run_trial(path, name, plan, folder)
                for (path, _), name, folder in zip(opened, names, folders, strict=True)]  # fmt: skip
