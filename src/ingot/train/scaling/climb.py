"""Running the ladder through the verb `pretrain`, so that it can be stopped at any moment and goes on without redoing.

OUT/ladder.json holds what the ladder is and is written before the first run; each run becomes OUT/rungs/NAME, a model
directory with its hallmark, checked by its digest when it is met again. Corpus, tokenizer, seed and with it the
held-out text are the same for all.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingot.core.errors import fail
from ingot.core.files import path_digest, refuse_nonempty, write_file
from ingot.core.hallmark import Hallmark
from ingot.core.model_dir import ModelDir, read_json
from ingot.core.progress import say
from ingot.train.machine import default_device
from ingot.train.pretrain import PretrainOptions, pretrain
from ingot.train.scaling.ladder import Rung, Speed
from ingot.train.scaling.options import LadderOptions
from ingot.train.scaling.points import FLOPS_PER_TOKEN, Points, make_points

LADDER_NAME, RUNGS_NAME, PROBE_NAME = "ladder.json", "rungs", ".probe"
PROBE_DEPTHS = (2, 6)
PROBE_STEPS = 12
UNIT = "bits per byte"

Pretrain = Callable[[PretrainOptions], ModelDir]


@dataclass(frozen=True)
class Ladder:
    """A ladder on disk."""

    out: Path
    speed: Speed
    rungs: list[Rung]

    def path(self, rung: Rung) -> Path:
        return self.out / RUNGS_NAME / rung.name

    @property
    def seconds(self) -> float:
        return sum(rung.seconds for rung in self.rungs)


def identity(data: Path, tokenizer: Path, minutes: float, seed: int, options: LadderOptions) -> dict[str, Any]:
    """What must be the same for a ladder to go on."""
    inputs = {"data": path_digest(data), "tokenizer": path_digest(tokenizer)}
    return {**inputs, "max_minutes": minutes, "seed": seed, **options.model_dump(mode="json")}


def reopen(out: Path, wanted: dict[str, Any]) -> Ladder | None:
    """The ladder that was begun in `out`; None where none was. Raises `scaling-ladder-differs` naming what differs."""
    if not (out / RUNGS_NAME).exists():
        return None
    found = read_json(out / LADDER_NAME)
    if key := _first_difference(found["identity"], wanted):
        known = found["identity"]
        raise fail("scaling-ladder-differs", path=out, key=key, found=wanted.get(key), expected=known.get(key))
    return Ladder(out, Speed(**found["speed"]), [Rung(**rung) for rung in found["rungs"]])


def known_speed(out: Path, wanted: dict[str, Any]) -> Speed | None:
    """What an earlier probe measured here for a ladder that differs in nothing but its time and shape.

    Raises `out-not-empty` when `out` holds anything else.
    """
    shutil.rmtree(out / PROBE_NAME, ignore_errors=True)  # of a probe that was killed
    if not (out / LADDER_NAME).exists():
        refuse_nonempty(out)
        return None
    found = read_json(out / LADDER_NAME)
    same = _first_difference(found["identity"], wanted, but=("max_minutes", "sizes", "token_counts")) is None
    return Speed(**found["speed"]) if same else None


def _first_difference(before: dict[str, Any], now: dict[str, Any], but: tuple[str, ...] = ()) -> str | None:
    keys = sorted((before.keys() | now.keys()) - set(but))
    return next((key for key in keys if before.get(key) != now.get(key)), None)


def remember(ladder: Ladder, wanted: dict[str, Any]) -> None:
    """Write ladder.json, whole."""
    ladder.out.mkdir(parents=True, exist_ok=True)
    rungs = [rung.plain() for rung in ladder.rungs]
    content = {"format": 1, "identity": wanted, "speed": ladder.speed.__dict__, "rungs": rungs}
    write_file(ladder.out / LADDER_NAME, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def run_options(data: Path, tokenizer: Path, seed: int, options: LadderOptions, **rest: Any) -> PretrainOptions:
    """A run of `pretrain` with what all rungs share: one precision among it, or the law would be of two things."""
    shared = options.model_dump(include={"family", "length", "batch_tokens"})
    shared["corpus"] = options.model_dump(include={"heldout", "allow_unknown_licence"})
    shared["loop"] = {"precision": "bf16" if default_device().type == "cuda" else "fp32"} | rest.pop("loop", {})
    return PretrainOptions.of(data=data, tokenizer=tokenizer, seed=seed, resume=True, **(shared | rest))


def probe(out: Path, base: Callable[..., PretrainOptions], train: Pretrain = pretrain) -> Speed:
    """Measure two small models for a few steps: their FLOP/s, and what a run costs beside its steps."""
    say("scaling-probe", depths=", ".join(map(str, PROBE_DEPTHS)))
    sizes, rates, overheads, tokens = [], [], [], 0
    for depth in PROBE_DEPTHS:
        place = out / PROBE_NAME / str(depth)
        begin = time.monotonic()
        numbers = train(base(out=place, depth=depth, max_steps=PROBE_STEPS)).summary()
        overheads.append(time.monotonic() - begin - numbers["seconds"])
        sizes.append(float(numbers["parameters"]))
        rates.append(FLOPS_PER_TOKEN * numbers["parameters"] * numbers["targets"] / max(numbers["seconds"], 0.05))
        tokens = int(numbers["tokens_in_data"])
    shutil.rmtree(out / PROBE_NAME)
    return Speed(sizes, rates, round(sum(overheads) / len(overheads), 2), tokens)


def climb(ladder: Ladder, base: Callable[..., PretrainOptions], train: Pretrain = pretrain) -> Points:
    """Run what has not been run yet, cheapest first; returns all runs."""
    rows, left = [], ladder.seconds
    for number, rung in enumerate(ladder.rungs, start=1):
        path = ladder.path(rung)
        place = {"number": f"{number}/{len(ladder.rungs)}", "name": rung.name}
        if finished(path):
            say("scaling-rung-kept", **place)
        else:
            say("scaling-rung", **place, minutes=f"{left / 60:.1f}")
            train(base(out=path, depth=rung.depth, max_steps=rung.steps, batch_tokens=rung.batch_tokens))
        left -= rung.seconds
        rows.append(result(path))
    return make_points(rows, UNIT)


def finished(path: Path) -> bool:
    """Whether a run stands whole and unchanged. Raises `scaling-rung-changed` when its bytes are not those it wrote."""
    if not path.exists():
        return False
    hallmark = Hallmark.read(path)
    if hallmark is None or hallmark.digest != ModelDir.open(path).digest:
        raise fail("scaling-rung-changed", path=path)
    shutil.rmtree(path.parent / f".{path.name}.training", ignore_errors=True)  # killed just after it got its name
    return True


def result(path: Path) -> dict[str, float]:
    """A run as a point: its own count of parameters, the tokens it learnt from, its loss on held-out text."""
    numbers = ModelDir.open(path).summary()
    return {
        "parameters": float(numbers["parameters"]),
        "tokens": float(numbers["targets"]),
        "loss": float(numbers["bits_per_byte"]),
        "seconds": float(numbers["seconds"]),
    }
