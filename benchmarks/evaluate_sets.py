"""The sets that benchmarks/evaluate.py asks, written once as the hub's files, which ingot and lm-eval both read.

From real data where it is there (MMLU, ARC, TruthfulQA, ...: INGOT_DATA/04_benchmarks); HellaSwag, BoolQ, CMMLU and
TMMLU+ in their own format from other texts: consecutive sentences of stories, and TMMLU's questions.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

Records = list[dict[str, Any]]

SUBJECTS = ("abstract_algebra", "anatomy", "high_school_us_history", "professional_law")
"""Of MMLU: short questions and long ones."""


def documents(task: str, data: Path) -> list[Any]:
    """What ingot reads of a set that is there."""
    from ingot.evaluate.benchmarks.documents import find
    from ingot.evaluate.benchmarks.spec import open_spec

    return find(open_spec(task), data, 1.0, 0).asked


def _sentences(data: Path) -> list[str]:
    text = (data.parent / "02_text" / "botchan_en.txt").read_text(encoding="utf-8")
    found = re.split(r"(?<=[.!?])\s+", re.sub(r"\s+", " ", text))
    return [sentence for sentence in found if 40 <= len(sentence) <= 160]


def hellaswag(data: Path) -> dict[str, Records]:
    """Two sentences, and which of four goes on: the next one, or one from elsewhere."""
    chooser, sentences = random.Random(0), _sentences(data)
    rows = []
    for at in range(0, len(sentences) - 3, 3):
        wrong = chooser.sample(sentences, 3)
        label = chooser.randrange(4)
        endings = [*wrong[:label], sentences[at + 2], *wrong[label:]]
        rows.append(
            {"ind": at, "activity_label": "Reading a novel", "ctx_a": sentences[at], "ctx_b": sentences[at + 1],
             "endings": endings, "source_id": f"botchan~{at}", "label": str(label)}
        )  # fmt: skip
    return {"validation": rows[: len(rows) // 2], "train": rows[len(rows) // 2 :]}


def boolq(data: Path) -> dict[str, Records]:
    """Three sentences, and whether a fourth is one of them."""
    chooser, sentences = random.Random(1), _sentences(data)
    rows = []
    for at in range(0, len(sentences) - 3, 3):
        label = chooser.randrange(2)
        passage = sentences[at : at + 3]
        asked = chooser.choice(passage if label else sentences).rstrip(".!?")
        rows.append({"question": f"does it say {asked}", "passage": " ".join(passage), "label": label})
    return {"validation": rows[: len(rows) // 2], "train": rows[len(rows) // 2 :]}


def mmlu(data: Path) -> dict[str, Records]:
    import csv

    found: dict[str, Records] = {}
    for split in ("test", "dev"):
        rows = []
        for subject in SUBJECTS:
            with (data / "mmlu" / split / f"{subject}_{split}.csv").open(encoding="utf-8") as file:
                rows += [
                    {"subject": subject, "question": row["question"], "answer": int(row["answer"]),
                     "choices": [row[f"choice{n}"] for n in range(4)]}
                    for row in csv.DictReader(file)
                ]  # fmt: skip
        found[split] = rows
    return found


def arc(task: str) -> Callable[[Path], dict[str, Records]]:
    def made(data: Path) -> dict[str, Records]:
        rows = [
            {"id": one.id, "question": one.fields["question"],
             "choices": {"text": list(one.choices), "label": list("ABCDE"[: len(one.choices)])},
             "answerKey": "ABCDE"[one.gold[0]]}
            for one in documents(task, data)
        ]  # fmt: skip
        return {"test": rows[:400], "train": rows[400:600]}

    return made


def openbookqa(data: Path) -> dict[str, Records]:
    rows = [
        {"id": one.id, "question_stem": one.fields["question"], "answerKey": "ABCD"[one.gold[0]],
         "choices": {"text": list(one.choices), "label": list("ABCD")}}
        for one in documents("openbookqa", data)
    ]  # fmt: skip
    return {"test": rows[:400], "train": rows[400:]}


def piqa(data: Path) -> dict[str, Records]:
    rows = [
        {"goal": one.fields["question"], "sol1": one.choices[0], "sol2": one.choices[1], "label": one.gold[0]}
        for one in documents("piqa", data)
    ]
    return {"validation": rows[:400], "train": rows[400:600]}


def social_iqa(data: Path) -> dict[str, Records]:
    rows = []
    for one in documents("social_iqa", data):
        context, _, question = one.fields["question"].rpartition(". ")
        answers = dict(zip(("answerA", "answerB", "answerC"), one.choices, strict=True))
        rows.append({"context": f"{context}.", "question": question, **answers, "label": str(one.gold[0] + 1)})
    return {"validation": rows[:400], "train": rows[400:600]}


def winogrande(data: Path) -> dict[str, Records]:
    rows = [
        {"sentence": one.fields["question"], "option1": one.choices[0], "option2": one.choices[1],
         "answer": str(one.gold[0] + 1)}
        for one in documents("winogrande", data) if one.fields["question"].count("_") == 1
    ]  # fmt: skip
    return {"validation": rows[:400], "train": rows[400:600]}


def truthfulqa(data: Path) -> dict[str, Records]:
    rows = []
    for one, two in zip(documents("truthfulqa_mc1", data), documents("truthfulqa_mc2", data), strict=True):
        targets = [
            {"choices": list(each.choices), "labels": [int(n in each.gold) for n in range(len(each.choices))]}
            for each in (one, two)
        ]
        rows.append({"question": one.fields["question"], "mc1_targets": targets[0], "mc2_targets": targets[1]})
    return {"validation": rows}


def chinese(question: str, answer: str, shots: str) -> Callable[[Path], dict[str, Records]]:
    """TMMLU's questions under the keys of another set."""

    def made(data: Path) -> dict[str, Records]:
        rows = [
            {question: one.fields["question"], **dict(zip("ABCD", one.fields["choices"], strict=True)),
             answer: "ABCD"[one.gold[0]]}
            for one in documents("tmmlu", data)[::8]
        ]  # fmt: skip
        return {"test": rows[:-20], shots: rows[-20:]}

    return made


SETS: dict[str, tuple[Callable[[Path], dict[str, Records]], str, dict[str, str]]] = {
    "mmlu": (mmlu, "mmlu", {"test": "all/test-0.parquet", "dev": "all/dev-0.parquet"}),
    "hellaswag": (hellaswag, "hellaswag", {"validation": "data/validation-0.parquet", "train": "data/train-0.parquet"}),
    "boolq": (boolq, "boolq", {"validation": "boolq/validation-0.parquet", "train": "boolq/train-0.parquet"}),
    "arc_easy": (arc("arc_easy"), "arc", {"test": "ARC-Easy/test-0.parquet", "train": "ARC-Easy/train-0.parquet"}),
    "arc_challenge": (
        arc("arc_challenge"),
        "arc",
        {"test": "ARC-Challenge/test-0.parquet", "train": "ARC-Challenge/train-0.parquet"},
    ),
    "openbookqa": (openbookqa, "openbookqa", {"test": "main/test-0.parquet", "train": "main/train-0.parquet"}),
    "piqa": (piqa, "piqa", {"validation": "data/validation-0.parquet", "train": "data/train-0.parquet"}),
    "social_iqa": (
        social_iqa,
        "social_iqa",
        {"validation": "data/validation-0.parquet", "train": "data/train-0.parquet"},
    ),
    "winogrande": (
        winogrande,
        "winogrande",
        {"validation": "winogrande_xl/validation-0.parquet", "train": "winogrande_xl/train-0.parquet"},
    ),
    "truthfulqa_mc1": (truthfulqa, "truthfulqa", {"validation": "multiple_choice/validation-0.parquet"}),
    "truthfulqa_mc2": (truthfulqa, "truthfulqa", {"validation": "multiple_choice/validation-0.parquet"}),
    "cmmlu": (chinese("Question", "Answer", "dev"), "cmmlu", {"test": "test/mixed.csv", "dev": "dev/mixed.csv"}),
    "tmmluplus": (
        chinese("question", "answer", "train"),
        "tmmluplus",
        {"test": "data/mixed_test.csv", "train": "data/mixed_train.csv"},
    ),
}
"""How each set is made, its folder, and the files of its splits."""

PEERS = {
    "mmlu": "mmlu/default/_default_template_yaml", "hellaswag": "hellaswag/hellaswag.yaml",
    "boolq": "super_glue/boolq/default.yaml", "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml", "openbookqa": "openbookqa/openbookqa.yaml",
    "piqa": "piqa/piqa.yaml", "social_iqa": "siqa/siqa.yaml",
    "winogrande": "winogrande/default.yaml", "truthfulqa_mc1": "truthfulqa/truthfulqa_mc1.yaml",
    "truthfulqa_mc2": "truthfulqa/truthfulqa_mc2.yaml", "cmmlu": "cmmlu/_default_template_yaml",
    "tmmluplus": "tmmluplus/default/_tmmluplus_template_yaml",
}  # fmt: skip
"""lm-eval's own file of each task."""


def write_sets(folder: Path, data: Path, tasks: list[str]) -> None:
    """All files of some sets."""
    for task in tasks:
        make, place, files = SETS[task]
        made = make(data)
        for split, name in files.items():
            write_records(folder / place / name, made[split])


def write_records(path: Path, records: Records) -> None:
    import csv

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)


def write_peer_tasks(out: Path, sets: Path, tasks: list[str], lm_eval: Path) -> list[str]:
    """Task files that take lm-eval's own and the sets' files; the names to ask for. MMLU has one for each subject."""
    import yaml

    out.mkdir(parents=True, exist_ok=True)
    names = []
    for task in tasks:
        _, place, files = SETS[task]
        kind = "csv" if next(iter(files.values())).endswith(".csv") else "parquet"
        for name, more in _variants(task, sets / place, files).items():
            split_files = more.pop("files", {split: str(sets / place / file) for split, file in files.items()})
            content = {
                "include": str(lm_eval / "tasks" / PEERS[task]), "task": f"parity_{name}", "dataset_path": kind,
                "dataset_name": None, "dataset_kwargs": {"data_files": split_files}, "tag": None, **more,
            }  # fmt: skip
            (out / f"{name}.yaml").write_text(yaml.safe_dump(content, allow_unicode=True))
            names.append(f"parity_{name}")
    return names


def _variants(task: str, folder: Path, files: dict[str, str]) -> dict[str, dict[str, Any]]:
    metrics = ["acc"] if task in ("truthfulqa_mc2", "winogrande") else ["acc", "acc_norm", "acc_bytes"]
    if task == "arc_easy":
        metrics.append("acc_mutual_info")
    listed = {"metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in metrics]}
    if task != "mmlu":
        return {task: listed}
    import pyarrow.parquet

    made = {}
    for subject in SUBJECTS:
        own = {}
        for split, file in files.items():
            rows = [row for row in pyarrow.parquet.read_table(folder / file).to_pylist() if row["subject"] == subject]
            path = folder / "subjects" / f"{subject}-{split}.parquet"
            write_records(path, rows)
            own[split] = str(path)
        about = f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.\n\n"
        made[f"mmlu_{subject}"] = {**listed, "description": about, "files": own}
    return made
