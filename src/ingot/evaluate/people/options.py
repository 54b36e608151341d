"""What `ingot annotate` takes."""

from __future__ import annotations

from pathlib import Path

from pydantic import field_validator

from ingot.core.options import Options, argument, option, words_listed
from ingot.evaluate.people.votes import Mode


class AnnotateOptions(Options):
    """Options of `annotate`."""

    answers: list[Path] = argument("answers to judge: one .jsonl of all systems, or one file a system", min_length=1)
    mode: Mode = option("pairwise", "pairwise: which of two answers is better; rubric: rate one answer at a time")
    rubric: Path | None = option(None, "YAML with the question and the criteria (default: built in)")
    gold: Path | None = option(None, ".jsonl of items whose right answer is known, mixed in to check attention")
    store: str = option("sqlite:///votes.db", "where votes are kept: sqlite:///FILE or postgresql://USER@HOST/NAME")
    annotators: list[str] = option(["me"], "names of those who vote, each with a link of their own (comma-separated)")
    overlap: int = option(2, "votes that each comparison is to get, from different annotators", ge=1)
    host: str = option("127.0.0.1", "address to listen on; the default is reachable from this machine only")
    port: int = option(8100, "port to listen on (0: any free one, printed)", ge=0, le=65535)
    export: Path | None = option(None, "write all votes to this new .jsonl file instead of serving the page")
    merge: list[Path] = option([], "add votes that --export wrote elsewhere, instead of serving the page")
    report: Path | None = option(None, "write what the votes say to this new directory, instead of serving the page")
    close: bool = option(False, "end the study: no vote counts from now on")
    seed: int = option(0, "seed of the bootstrap", ge=0)

    _annotators = field_validator("annotators", mode="before")(words_listed)

    @field_validator("annotators")
    @classmethod
    def _names(cls, found: list[str]) -> list[str]:
        for name in found:
            if not name.isprintable() or len(name) > 60 or set(name) & set('<>&"'):
                raise ValueError(f'{name!r} is no name: at most 60 characters, without < > & "')
        if not found:
            raise ValueError("expected at least one name")
        return found

    @field_validator("answers", "merge", mode="before")
    @classmethod
    def _listed(cls, found: object) -> object:
        return [found] if isinstance(found, str | Path) else found
