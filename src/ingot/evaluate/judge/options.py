"""What `ingot judge` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import field_validator

from ingot.core.options import Options, argument, option, required
from ingot.infer.options import Weights

Orders = Literal["both", "one"]
Language = Literal["auto", "en", "zh"]


class RemoteOptions(Options):
    """A judge behind a URL."""

    name: str | None = option(None, "model to ask the service for (default: the only one it offers)", min_length=1)
    key_env: str | None = option(None, "name of the environment variable that holds the API key", min_length=1)
    timeout: float = option(120.0, "seconds an answer may take", gt=0)
    at_once: int = option(4, "requests sent at once", ge=1, le=64)


class JudgeOptions(Options):
    """Options of `judge`."""

    answers: list[Path] = argument("answers to compare: one .jsonl of all systems, or one file a system", min_length=1)
    model: str = required("the judge: DIR, DIR+ADAPTER, or the URL of an OpenAI-compatible service")
    out: Path = required("directory to write the report to")
    rubric: Path | None = option(None, "YAML with the question that is asked (default: built in)")
    votes: Path | None = option(None, "votes of people (annotate --export), to measure the judge against")
    orders: Orders = option("both", "both: ask every pair in both orders, a contradiction is a tie; one: at random")
    systems: list[str] = option([], "NAME=DIR: the directory of a system, to check its kinship with the judge")
    language: Language = option("auto", "language to ask in: auto (that of the prompt), en or zh")
    limit: int | None = option(None, "at most so many items, a seeded sample", ge=1)
    seed: int = option(0, "seed of the sample, of the order and of the bootstrap", ge=0)
    remote: RemoteOptions = option(RemoteOptions(), "a judge behind a URL: --remote.name and so on")
    slots: int = option(8, "sequences that run at once; changes speed and memory, not results", ge=1, le=1024)
    place: str = option("cpu", "where to run: cpu, cuda, cuda:1, 2xcuda, auto, or sizes such as cuda=8GiB,cpu=4GiB")
    weights: Weights = option("auto", "layers multiply by: dense, int8 or int4; auto: the codes a directory stores")

    @field_validator("answers", "systems", mode="before")
    @classmethod
    def _listed(cls, found: object) -> object:
        return [found] if isinstance(found, str | Path) else found

    @property
    def is_remote(self) -> bool:
        return self.model.startswith(("http://", "https://"))
