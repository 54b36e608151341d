"""Small sets in the formats of benchmarks, and what the tests of benchmarks share."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from evaluating import write_lines

from ingot.core.report import Report
from ingot.evaluate.benchmarks.spec import Spec, open_spec
from ingot.evaluate.benchmarks.task import Prepared, prepare
from ingot.evaluate.evaluate import evaluate
from ingot.evaluate.options import EvaluateOptions

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "the",
    "mat",
    "and",
    "the",
    "dog",
    "ran",
    "to",
    "the",
    "man",
    "hello",
    "world",
    "sky",
    "blue",
    "green",
    "grass",
]


def question(number: int) -> str:
    return f"{WORDS[number % len(WORDS)]} {number} {WORDS[(number * 7) % len(WORDS)]}?"


def write_mmlu(folder: Path, per_subject: int = 5, subjects: tuple[str, ...] = ("anatomy", "law")) -> Path:
    """MMLU as csv files with a head."""
    for split, count in (("test", per_subject), ("dev", 3)):
        for subject in subjects:
            path = folder / "mmlu" / split / f"{subject}_{split}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["question", "choice0", "choice1", "choice2", "choice3", "answer"])
                for number in range(count):
                    choices = [f"{WORDS[(number + at) % len(WORDS)]} {at}" for at in range(4)]
                    writer.writerow([f"{subject} {question(number)}", *choices, number % 4])
    return folder


def write_hellaswag(folder: Path, count: int = 6) -> Path:
    def row(number: int) -> dict[str, Any]:
        endings = [" ".join(WORDS[(number + at) % 9 : (number + at) % 9 + 2 + at * 2]) for at in range(4)]
        endings[1] = f"[title] {endings[1]} 天空是藍色的。"
        return {"ind": number, "activity_label": "Cats", "ctx_a": f"the cat {number} sat.", "ctx_b": "the dog",
                "endings": endings, "label": number % 4, "source_id": f"v{number // 2}"}  # fmt: skip

    (folder / "hellaswag").mkdir(parents=True)
    write_lines(folder / "hellaswag" / "hellaswag_val.jsonl", [row(number) for number in range(count)])
    write_lines(folder / "hellaswag" / "hellaswag_train.jsonl", [row(number) for number in range(20, 28)])
    return folder


def write_winogrande(folder: Path, count: int = 6) -> Path:
    (folder / "winogrande").mkdir(parents=True)
    rows = [
        {"qID": f"q{n // 2}-{n % 2 + 1}", "sentence": f"the {WORDS[n]} ran to the man so _ sat on the mat.",
         "option1": "the cat", "option2": "dog", "answer": str(n % 2 + 1)}
        for n in range(count)
    ]  # fmt: skip
    write_lines(folder / "winogrande" / "dev.jsonl", rows)
    write_lines(folder / "winogrande" / "train_xl.jsonl", rows)
    return folder


def write_task(path: Path, **changes: Any) -> Path:
    """A user's own task over `own.jsonl`."""
    content: dict[str, Any] = {
        "name": "own", "version": "1", "title": "Own", "language": "en", "licence": "CC0-1.0", "source": "here",
        "place": "Place own.jsonl there.", "prompt": "Q: {{ question }}\nA:", "num_choices": 3, "metrics": ["acc"],
        "layouts": [{"name": "jsonl", "asked": "own.jsonl",
                     "document": {"id": "id", "question": "question", "choices": "choices", "gold": "gold"}}],
    }  # fmt: skip
    path.write_text(json.dumps(content | changes, ensure_ascii=False), encoding="utf-8")
    return path


def own_rows(count: int) -> list[dict[str, Any]]:
    return [{"id": f"i{n}", "question": question(n), "choices": ["red", "the cat", "blue"], "gold": n % 3}
            for n in range(count)]  # fmt: skip


def options_of(data: Path, task: str, **changes: Any) -> EvaluateOptions:
    return EvaluateOptions.of(**{"models": ["m"], "out": Path("out"), "tasks": [task], "data": data, **changes})


def prepared(data: Path, task: str, **changes: Any) -> tuple[Spec, Prepared]:
    """A task and its items, without a model."""
    spec = open_spec(task)
    return spec, prepare(spec, options_of(data, task, **changes))


def asked(model: Path | list[Path], data: Path, task: str, out: Path, **more: Any) -> Report:
    """The whole verb; prompts need not fit."""
    wished = {"bad_share": 1.0} | more.pop("benchmark", {})
    models = model if isinstance(model, list) else [model]
    return evaluate(models=models, tasks=[task], data=data, out=out, benchmark=wished, **more)


def raw(report: Report, name: str) -> bytes:
    assert report.path is not None
    return (report.path / "raw" / name).read_bytes()


def rows_of(report: Report, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in raw(report, name).decode().splitlines()]
