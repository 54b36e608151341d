"""What `ingot audit` takes. Kept apart from the verb, so that checks read their options without importing it."""

from __future__ import annotations

from pathlib import Path

from pydantic import field_validator

from ingot.core.options import Options, option, optional_argument, required, words_listed


class ContaminationOptions(Options):
    """When an item of a benchmark counts as found."""

    ngram: int = option(5, "words (or characters without spaces between) of a run that is looked for", ge=2)
    share: float = option(0.5, "share of an item that must stand together in a document", gt=0, le=1)
    common: int = option(10, "runs that more items than this hold are phrases of the benchmark and do not count", ge=1)


class NoveltyOptions(Options):
    """The texts compared with the corpus."""

    longest: int = option(10, "novelty is measured of runs of 1 to so many words (or characters)", ge=1, le=64)
    samples: int = option(64, "texts that the model writes, where --texts gives none", ge=1)
    tokens: int = option(128, "tokens of each", ge=1)


class ExtractionOptions(Options):
    """What the model is asked to continue."""

    prefixes: list[int] = option([8, 16, 32], "tokens of a document that are given, several with commas", min_length=1)
    length: int | None = option(
        None, "tokens to be continued word for word (default: 50, fewer where documents are short)", ge=1
    )
    documents: int = option(200, "documents of the corpus that are tried, a seeded sample", ge=1)
    passages: Path | None = option(None, "a .jsonl or text file of passages to try besides")

    @field_validator("prefixes", mode="before")
    @classmethod
    def _listed(cls, found: object) -> object:
        """ "8,16", or a list whose entries may hold commas."""
        entries = found if isinstance(found, list | tuple) else [found]
        return [word for entry in entries for word in str(entry).split(",") if word.strip()]

    @field_validator("prefixes")
    @classmethod
    def _positive(cls, found: list[int]) -> list[int]:
        if min(found, default=1) < 1:
            raise ValueError("expected numbers from 1 on")
        return sorted(set(found))


class ExposureOptions(Options):
    """What canaries are compared with."""

    alternatives: int = option(4095, "secrets of the same form that each is ranked among", ge=15)
    controls: int = option(16, "secrets nobody planted, ranked the same way", ge=2)


class MembershipOptions(Options):
    """Who is told apart, and by what."""

    documents: int = option(500, "members, and as many others, at most", ge=10)
    tokens: int = option(256, "first tokens of a document that are looked at", ge=8)
    lowest: float = option(0.2, "share of the least likely tokens that Min-K% looks at", gt=0, le=1)


class AuditOptions(Options):
    """Options of `audit`."""

    model: str | None = optional_argument(None, "model directory, DIR or DIR+ADAPTER; contamination needs none")
    corpus: Path = required("the text it was trained on: a file, a folder, or a folder with a manifest")
    against: list[Path] = option([], "benchmark files or folders to look for in the corpus")
    checks: list[str] = option(
        [], "contamination, novelty, extraction, canaries, membership, with commas (default: all that can be done)"
    )
    heldout: Path | None = option(None, "text the model was not trained on (default: what its hallmark held out)")
    reference: str | None = option(None, "another model, which membership is calibrated with")
    texts: Path | None = option(None, "texts whose novelty is measured (default: the model writes some)")
    canaries: Path | None = option(None, "a .jsonl of canaries (default: those of a world)")
    report: Path | None = option(None, "a report of evaluate, whose scores are split by contamination")
    out: Path = required("directory to write the report to")
    seed: int = option(0, "seed of samples, of alternatives and of the bootstrap", ge=0)
    place: str = option("cpu", "where to run: cpu, cuda, cuda:1, 2xcuda, auto, or sizes such as cuda=8GiB,cpu=4GiB")
    slots: int = option(32, "how many sequences run at once; changes speed and memory, not results", ge=1)
    policy: str = option(
        "default", "guard policy that hides personal data on the page: default, strict, a file, or off"
    )
    contamination: ContaminationOptions = option(ContaminationOptions(), "when an item counts as found")
    novelty: NoveltyOptions = option(NoveltyOptions(), "what is compared with the corpus")
    extraction: ExtractionOptions = option(ExtractionOptions(), "what the model is asked to continue")
    exposure: ExposureOptions = option(ExposureOptions(), "what canaries are compared with")
    membership: MembershipOptions = option(MembershipOptions(), "who is told apart")

    _checks = field_validator("checks", mode="before")(words_listed)
