"""What the model thought of the answers before it was tuned: their log-probabilities under the reference.

The reference is the model as it was given, without the adapter that is to be trained. It reads everything once, before
the first step, and what it says is kept beside the checkpoints, bound by a digest to the rows and to the model, and
mapped; so there is never a second model in memory, an epoch costs no forward pass of the reference, and a resumed run
reads what the first one wrote. Before anything is learnt it is compared with what the model itself says.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ingot.core.errors import fail
from ingot.core.files import path_digest, write_file
from ingot.core.model_dir import read_json
from ingot.core.progress import say
from ingot.train.checkpoint import Place
from ingot.train.preference.reading import MISMATCHED, Preferences
from ingot.train.preference.score import Floats, Scorer
from ingot.train.preference.sheet import NOTHING, Sheet

CHOICE = "reference.json"
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""Nats a token by which reference and model may differ before the first step: they are the same, computed in batches
of other sizes."""


@dataclass(frozen=True)
class Reference:
    """Log-probabilities of the answers, (N, S), and for KTO of the answers to other prompts."""

    sheet_NS: Floats
    mismatched_NS: Floats | None


def reference_of(
    place: Place, preferences: Preferences, scorer: Scorer, adapters: Sequence[str] | None, models: Any
) -> Reference:
    """The reference of this run: what lies at its place, where that is of these rows and this model, else computed."""
    world = scorer.sharing.world
    directory = place.path / f"reference-{world.machine}"
    rows = world.gather(path_digest(place.path / f"rows-{world.machine}") if world.leads else "")
    digest = hashlib.sha256(json.dumps([rows[0], models]).encode()).hexdigest()
    if not all(world.gather(_is_there(directory, digest))):
        sheets = {"sheet": preferences.sheet, MISMATCHED: preferences.mismatched}
        found = {name: scorer.score(sheet, "reference", adapters) for name, sheet in sheets.items() if sheet}
        world.once_a_machine(lambda: _write(place, directory.name, digest, found))
        say("reference-made", answers=f"{np.count_nonzero(preferences.sheet.sides_NS != NOTHING):,}", path=directory)
    else:
        say("reference-reused", path=directory)
    strangers = preferences.mismatched
    mismatched = None if strangers is None else _open(directory, MISMATCHED, strangers)
    return Reference(_open(directory, "sheet", preferences.sheet), mismatched)


def _is_there(directory: Path, digest: str) -> bool:
    return (directory / CHOICE).exists() and read_json(directory / CHOICE)["digest"] == digest


def _write(place: Place, name: str, digest: str, found: dict[str, Floats]) -> None:
    directory = place.fresh(name)
    for part, values in found.items():
        write_file(directory / f"{part}.bin", values.tobytes())
    write_file(directory / CHOICE, json.dumps({"digest": digest}))


def _open(directory: Path, name: str, sheet: Sheet) -> Floats:
    return np.memmap(directory / f"{name}.bin", np.float32, "r", shape=sheet.sides_NS.shape)


def check_reference(
    reference: Reference, preferences: Preferences, scorer: Scorer, adapters: Sequence[str] | None
) -> float:
    """Compare the reference with what the model says of the first rows; returns the largest difference, nats an answer.

    Raises `reference-differs`.
    """
    first = preferences.sheet.part(scorer.plan.batch_rows)
    there = np.asarray(first.sides_NS) != NOTHING
    kept = np.asarray(reference.sheet_NS[: len(first.rows)])[there]
    live = scorer.score(first, "check", adapters)[there]
    tokens = first.tokens(np.arange(len(first.rows)))[there]
    differences = np.abs(live - kept)
    worst = float((differences / tokens).max())
    limit = TOLERANCE[scorer.plan.precision]
    if not math.isfinite(worst) or worst > limit:
        raise fail("reference-differs", difference=f"{worst:.3g}", limit=f"{limit:.0e}")
    return float(differences.max())
