"""What `ingot tune-temperature` takes."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Literal

from pydantic import field_validator

from ingot.core.options import Options, argument, numbers_listed, option, required
from ingot.infer.options import Weights

GRID = tuple(step / 10 for step in range(16))
"""0 to 1.5: below, the most likely token; above, text of small models is noise."""

HIGHEST = 10.0

Aim = Literal["single", "majority"]


class TemperatureMachine(Options):
    """Where the samples are drawn."""

    place: str = option(
        "cpu", "where to run: cpu, cuda, cuda:1, 2xcuda, auto, or sizes such as cuda=8GiB,cpu=4GiB", plain=True
    )
    weights: Weights = option(
        "auto", "layers multiply by: dense, int8 or int4; auto: the codes a directory stores", plain=True
    )


class TuneTemperatureOptions(Options):
    """Options of `tune-temperature`."""

    model: str = argument("the model: DIR or DIR+ADAPTER")
    task: Path = required('.jsonl with "prompt", "messages" or "question", and "answer" where it is known; or a world')
    out: Path | None = option(None, "write a copy of the model that states the temperature")
    report: Path | None = option(None, "write the report to this directory")
    method: Literal["auto", "labels", "entropy"] = option(
        "auto", "by right answers (labels), by the turning point of the entropy, or labels where there are any (auto)"
    )
    aim: Aim = option("single", "which right answers count: those of single samples, or of the majority of samples")
    grid: list[float | str] = option(
        list(GRID), "temperatures to try, ascending, comma-separated (default: 0 to 1.5 in steps of 0.1)", min_length=3
    )
    samples: int = option(8, "answers to each question at each temperature", ge=2, le=1024)
    limit: int = option(128, "at most so many questions, a seeded stratified sample", ge=1)
    max_tokens: int = option(64, "longest answer, in tokens", ge=1)
    chat: bool = option(False, 'ask a "prompt" as one user turn of the chat template')
    seed: int = option(0, "of the samples, of the halves of the questions and of the bootstrap", ge=0, lt=2**31)
    resume: bool = option(False, "go on with samples that an unfinished run of the same options left")
    slots: int = option(32, "how many sequences run at once; changes speed and memory, not results", ge=1, le=1024)
    machine: TemperatureMachine = option(TemperatureMachine(), "where it runs, and with which weights")

    _grid = field_validator("grid", mode="before")(numbers_listed)

    @field_validator("grid")
    @classmethod
    def _ascending(cls, found: list[float | str]) -> list[float | str]:
        """All numbers by now."""
        grid = [float(one) for one in found]
        if not all(math.isfinite(one) and 0 <= one <= HIGHEST for one in grid):
            raise ValueError(f"expected temperatures from 0 to {HIGHEST:g}")
        if any(first >= second for first, second in pairwise(grid)):
            raise ValueError("expected temperatures in ascending order, each once, for example 0,0.5,1")
        return found

    @property
    def temperatures(self) -> list[float]:
        """The grid."""
        return [float(one) for one in self.grid]
