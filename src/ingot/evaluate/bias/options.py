"""What `ingot bias` takes."""

from __future__ import annotations

from pathlib import Path

from pydantic import field_validator

from ingot.core.options import Options, argument, option, references_listed, required, words_listed
from ingot.evaluate.options import number_as_text
from ingot.infer.options import Weights


class OwnOptions(Options):
    """Data of your own instead of what comes with ingot."""

    axes: Path | None = option(None, "a .yaml of groups to compare instead of the Taiwan axes", plain=True)
    templates: Path | None = option(None, "a .yaml of sentences that the groups are put into", plain=True)
    statements: Path | None = option(None, "a .yaml of paired political statements", plain=True)
    lists: Path | None = option(None, "a .yaml of word lists for suite weat", plain=True)


class BiasMachine(Options):
    """How the models run."""

    place: str = option(
        "cpu", "where to run: cpu, cuda, cuda:1, 2xcuda, auto, or sizes such as cuda=8GiB,cpu=4GiB", plain=True
    )
    weights: Weights = option(
        "auto", "layers multiply by: dense, int8 or int4; auto: the codes a directory stores", plain=True
    )
    slots: int = option(32, "how many sequences run at once; changes speed and memory, not results", ge=1, plain=True)


class BiasOptions(Options):
    """Options of `bias`."""

    models: list[str] = argument("model directories, each DIR or DIR+ADAPTER", min_length=1)
    suite: list[str] = option(
        ["counterfactual", "stance", "weat"],
        "what to measure: crows-pairs, bbq, bbq-12, winobias, stereoset, weat, counterfactual, stance (with commas)",
        min_length=1,
    )
    data: Path | None = option(None, "the published suites' files: a folder that holds them, or the file of one")
    out: Path = required("directory to write the report to")
    limit: int | None = option(None, "at most so many items of a published suite, a seeded stratified sample", ge=1)
    max_tokens: int = option(48, "longest text that a model writes, in tokens", ge=1)
    baseline: str | None = option(None, "the model the others are compared with: a name or number from 1 (default: 1)")
    cost: Path | None = option(None, "text or a world: measure besides what a change of the model costs there")
    samples: int = option(5, "largest gaps shown of every figure", ge=0)
    seed: int = option(0, "seed of the sample and of the intervals", ge=0)
    own: OwnOptions = option(OwnOptions(), "data of your own")
    machine: BiasMachine = option(BiasMachine(), "how the models run")

    _suite = field_validator("suite", mode="before")(words_listed)

    _models = field_validator("models", mode="before")(references_listed)

    _baseline = field_validator("baseline", mode="before")(number_as_text)
