"""What `ingot score` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import field_validator

from ingot.core.options import Options, option, references_listed, required, words_listed


class BleuOptions(Options):
    """Metric bleu."""

    tokenize: Literal["auto", "13a", "zh", "char", "intl", "none", "ingot-cjk"] = option(
        "auto", "sacrebleu's tokenizer, or ingot-cjk; auto: by script"
    )
    lowercase: bool = option(False, "fold case")


class ChrfOptions(Options):
    """Metric chrf."""

    word_order: int = option(0, "longest n-gram of words; 2 is chrF++", ge=0)
    lowercase: bool = option(False, "fold case")


class TerOptions(Options):
    """Metric ter."""

    tokenize: Literal["auto", "tercom", "tercom-asian", "ingot-cjk"] = option(
        "auto", "tercom at spaces, tercom-asian by characters, or ingot-cjk; auto: by script"
    )


class RougeOptions(Options):
    """Metric rouge."""

    tokenize: Literal["auto", "default", "ingot-cjk"] = option(
        "auto", "rouge-score's tokens (default) or ingot-cjk; auto: by script"
    )
    stem: bool = option(False, "stem English words (Porter), as rouge-score's use_stemmer")


class DistinctOptions(Options):
    """Metric distinct."""

    n: int = option(4, "longest n-gram", ge=1, le=8)
    sample: int = option(1000, "n-grams that are compared, so that the amount of text does not matter", ge=1)


class PairedOptions(Options):
    """Two systems."""

    test: Literal["bootstrap", "randomisation"] = option(
        "bootstrap", "paired test of --against: bootstrap, or approximate randomisation", plain=True
    )
    draws: int | None = option(
        None, "draws of the interval and the test (default: 1000; 10000 for randomisation)", ge=100, plain=True
    )
    seed: int = option(12345, "seed of the draws; 12345 is sacrebleu's", ge=0, plain=True)


class ReadOptions(Options):
    """How texts are read and shown."""

    field: str = option("text", "field of a .jsonl record that holds the text", plain=True)
    longest: int = option(1_000_000, "longest text in bytes", ge=1, plain=True)
    examples: int = option(10, "worst and best texts shown of every metric", ge=0, plain=True)


class ScoreOptions(Options):
    """Options of `score`."""

    metric: list[str] = required(
        "what to score: bleu, chrf, ter, rouge, distinct, self-bleu, novelty, divergence, fluency (comma-separated)",
        min_length=1,
    )
    hyp: Path = required("the texts to score: .txt with one a line, or .jsonl")
    ref: list[Path] = option([], "reference texts, line for line; several files are several references")
    against: Path | None = option(None, "other texts for the same lines, or the report of them: which is better?")
    corpus: Path | None = option(None, "novelty: the training corpus")
    model: str | None = option(None, "fluency: the reference model; divergence: whose states are compared")
    out: Path | None = option(None, "directory to write the report to")
    lang: Literal["auto", "en", "zh", "ja"] = option("auto", "how the texts are written; auto: looks at every text")
    force: bool = option(False, "score text without spaces by words between spaces; the signature says so")
    bleu: BleuOptions = option(BleuOptions(), "BLEU")
    chrf: ChrfOptions = option(ChrfOptions(), "chrF")
    ter: TerOptions = option(TerOptions(), "TER")
    rouge: RougeOptions = option(RougeOptions(), "ROUGE")
    distinct: DistinctOptions = option(DistinctOptions(), "distinct n-grams")
    paired: PairedOptions = option(PairedOptions(), "intervals and tests")
    read: ReadOptions = option(ReadOptions(), "how texts are read and shown")

    _metric = field_validator("metric", mode="before")(words_listed)

    _paths = field_validator("ref", mode="before")(references_listed)
