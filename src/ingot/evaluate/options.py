"""What `ingot evaluate` takes. Kept apart from the verb, so that tasks read their options without importing it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import field_validator, model_validator

from ingot.core.options import Options, argument, option, references_listed, required, words_listed
from ingot.evaluate.sandbox.options import CodeOptions, SandboxOptions
from ingot.infer.options import Weights


def number_as_text(found: object) -> object:
    """A recipe's plain number, where a name or number is wanted as text."""
    return str(found) if isinstance(found, int) else found


class ClozeOptions(Options):
    """Task cloze."""

    fillers: int = option(4, "fillers offered for each gap of a world, one of them right", ge=2)
    items: Path | None = option(None, "a .jsonl file of items to ask instead of a world's")


class BenchmarkOptions(Options):
    """Benchmarks."""

    shots: int | None = option(None, "solved examples before each question (default: the task's own)", ge=0, plain=True)
    first: int | None = option(
        None, "only the first so many of each subject, with examples drawn as lm-eval draws them", ge=1, plain=True
    )
    chat: Literal["off", "auto", "on"] = option(
        "off", "ask through the models' chat templates (auto: those that have one)", plain=True
    )
    examples: Literal["turns", "message"] = option(
        "turns", "in a conversation, examples are turns of their own, or stand in the question's message"
    )
    bad_share: float = option(
        0.05, "share of broken records, and of prompts that do not fit, above which nothing is asked", ge=0, le=1
    )

    @model_validator(mode="after")
    def _in_conversations(self) -> Self:
        if self.chat == "off" and "examples" in self.model_fields_set:
            raise ValueError("benchmark.examples is about conversations; give --chat auto or on, too")
        return self


class ItemsOptions(Options):
    """Which of the items are measured on."""

    part: Literal["all", "search", "test"] = option(
        "all", "the half of the items that a search may look at, or the other, for its winner", plain=True
    )


class RunOptions(Options):
    """How the models run."""

    weights: Weights = option(
        "auto", "layers multiply by: dense, int8 or int4; auto: the codes a directory stores", plain=True
    )


class EvaluateOptions(Options):
    """Options of `evaluate`."""

    models: list[str] = argument("model directories, each DIR or DIR+ADAPTER", min_length=1)
    tasks: list[str] = option(
        ["perplexity"],
        "what to measure: perplexity, wikitext, world, cloze, humaneval, mbpp, benchmarks or task files (with commas)",
        min_length=1,
    )
    data: Path | None = option(
        None,
        "text to measure perplexity on: a file, a directory, or a world (its held-out text); or benchmarks' files",
    )
    heldout: bool = option(False, "of data, only the documents that the models' training held out")
    world: Path | None = option(None, "a world directory or a questions.jsonl (default: data, where that is a world)")
    out: Path = required("directory to write the report to")
    window: int | None = option(
        None, "tokens a prediction may look back on (default: the shortest of the models, at most 2048)", ge=2
    )
    stride: int | None = option(None, "new tokens scored a window (default: half the window)", ge=1)
    slots: int = option(32, "how many sequences run at once; changes speed and memory, not results", ge=1)
    limit: int | None = option(None, "at most so many documents and questions, a seeded stratified sample", ge=1)
    max_tokens: int = option(64, "longest answer to a question, in tokens", ge=1)
    baseline: str | None = option(None, "the model the others are compared with: a name or number from 1 (default: 1)")
    samples: int = option(2, "answers shown of every kind, language and verdict", ge=0)
    seed: int = option(0, "seed of the sample and of the bootstrap", ge=0)
    place: str = option("cpu", "where to run: cpu, cuda, cuda:1, 2xcuda, auto, or sizes such as cuda=8GiB,cpu=4GiB")
    items: ItemsOptions = option(ItemsOptions(), "which of the items are measured on")
    run: RunOptions = option(RunOptions(), "how the models run")
    benchmark: BenchmarkOptions = option(BenchmarkOptions(), "how benchmarks are asked")
    cloze: ClozeOptions = option(ClozeOptions(), "what task cloze asks")
    code: CodeOptions = option(CodeOptions(), "how tasks humaneval and mbpp have programs written")
    sandbox: SandboxOptions = option(SandboxOptions(), "the walls around programs")

    _tasks = field_validator("tasks", mode="before")(words_listed)

    _models = field_validator("models", mode="before")(references_listed)

    _baseline = field_validator("baseline", mode="before")(number_as_text)
