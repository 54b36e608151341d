"""Written answers of benchmarks/evaluate.py: GSM8K and BBH, live on a model and on planted completions.

Both sides read the same files and ask the same prompts, greedily; then each finds answers in its own text by its own
rules. What is compared, item by item: the text, what each filter takes out of it, and the score. Completions that no
tiny model writes (several marks, commas, signs, no number) are planted into both.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

BBH = ("boolean_expressions", "dyck_languages", "sports_understanding", "word_sorting")
"""Of the 27: true or false, brackets, the one whose examples break their lines otherwise, lists."""

TARGETS = {
    "gsm8k": "Janet sells 16 - 3 - 4 = 9 eggs a day.\n9 * 2 = $18.\n#### 18",
    "gsm8k, thousands": "It is 1,018 * 1 = 1,018.\n#### 1,018",
    "bbh": "False",
    "bbh, a letter": "(B)",
    "bbh, words": "apple banana cherry",
}

PLANTED: dict[str, list[str]] = {
    "gsm8k": [
        "16 - 3 - 4 = 9\n#### 18", "#### 18", "####18", "####  18", "### 18", "#### 18.", "#### 18.0", "#### 18.00",
        "#### $18", "#### -18", "#### +18", "#### 18 eggs", "#### 17\n#### 18", "#### 18\n#### 17", "#### ", "####",
        "#### eighteen", "#### 1 8", "#### 18,", "#### ,18", "#### 18%", "#### 0018", "#### 1.8e1", "#### 18\n\n",
        "She has $18.", "She has $18.00 left", "18", "18.", " 18 ", "It is 18 in all, not 20", "20, or rather 18",
        "The answer is 18", "The answer is \\boxed{18}", "The answer is **18**", "$18", "$ 18", "18$", "18 dollars.",
        "9 * 2 = 18", "9*2=18", "1/2 of 36 is 18", "from 9 to 18", "9-18", "9 -18", "minus -18", "18-", "...18...",
        "18...", "18. 19", "$.", ".", ",", "$", "no number at all", "", "\n", "十八", "答案是 18。", "答案是18元",
        "答案是１８", "共 18 個，不是 20 個", "#### １８", "####　18", "٣ 18", "#### 18\r", "#### 18\t", "１８ #### 18",
        "#### 18 #### 18", "x #### y #### 18", "A #### 18 B #### 19", "18\n####", "#### 18.5", "#### 18..", "$18.$",
    ],
    "gsm8k, thousands": [
        "#### 1,018", "#### 1018", "#### 1,018.", "#### $1,018", "#### 1.018", "#### 1,018.00", "$1,018", "1,018",
        "1018 dollars", "10,18", "1,0,1,8", "It costs $1,018.", "1 018", "１，０１８", "#### 1,018\n#### 2",
        "一千零一十八",
    ],
    "bbh": [
        "not True = False. So the answer is False.", "So the answer is False", "the answer is False.", "False",
        "False.", "So the answer is false.", "The answer is False.", "the answer is  False.", "the answer is False .",
        "the answer is False. the answer is True.", "the answer is True. So the answer is False.", "the answer is ",
        "the answer is\nFalse.", "the answer is False\nthe answer is True", "the answer is .", "the answer is", "",
        "答案是 False。", "the answer is False。", "the answer is **False**.", "the answer is False!",
        'the answer is "False".',
    ],
    "bbh, a letter": [
        "So the answer is (B).", "the answer is (B)", "the answer is B.", "the answer is (b).", "the answer is （B）.",
        "the answer is (A) or (B).", "the answer is (B) .", "So the answer is option (B).",
    ],
    "bbh, words": [
        "So the answer is apple banana cherry.", "the answer is apple banana cherry",
        "the answer is apple, banana, cherry.", "the answer is  apple banana cherry.",
        "the answer is apple banana cherry. ", "the answer is Apple banana cherry.",
    ],
}  # fmt: skip
"""Completions by what they are compared with."""


def write_sets(folder: Path, data: Path, limit: int) -> None:
    """The first questions of GSM8K and of some tasks of BBH, in their authors' format."""
    (folder / "gsm8k").mkdir(parents=True)
    for name, count in (("test", limit), ("train", 40)):
        lines = (data / "gsm8k" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / "gsm8k" / f"{name}.jsonl").write_text("".join(lines[:count]), encoding="utf-8")
    for part, ending in (("bbh", "json"), ("cot-prompts", "txt")):
        (folder / "bbh" / part).mkdir(parents=True)
        for subject in BBH:
            shutil.copy(data / "bbh" / part / f"{subject}.{ending}", folder / "bbh" / part)


def write_peer_tasks(out: Path, sets: Path, lm_eval: Path) -> dict[str, list[str]]:
    """lm-eval's own task files over these sets; {task: names}."""
    import yaml

    out.mkdir(parents=True, exist_ok=True)
    files = {split: str(sets / "gsm8k" / f"{split}.jsonl") for split in ("test", "train")}
    content: dict[str, dict[str, Any]] = {
        "gsm8k": {"include": "gsm8k/gsm8k.yaml", "dataset_kwargs": {"data_files": files}},
    }
    for subject in BBH:
        own = {"data_files": {"test": str(sets / "bbh" / "bbh" / f"{subject}.json")}, "field": "examples"}
        content[f"bbh_{subject}"] = {"include": f"bbh/cot_fewshot/{subject}.yaml", "dataset_kwargs": own}
    for name, more in content.items():
        more = {**more, "include": str(lm_eval / "tasks" / more["include"]), "task": f"parity_{name}", "tag": None,
                "dataset_path": "json", "dataset_name": None}  # fmt: skip
        (out / f"{name}.yaml").write_text(yaml.safe_dump(more, allow_unicode=True))
    return {"gsm8k": ["parity_gsm8k"], "bbh": [f"parity_bbh_{subject}" for subject in BBH]}


def planted_plan() -> dict[str, list[Any]]:
    """What evaluate_peer.py is asked of the planted completions."""
    plan: dict[str, list[Any]] = {"parity_gsm8k": [], "parity_bbh_boolean_expressions": []}
    for kind, replies in PLANTED.items():
        target = TARGETS[kind]
        name, key = ("parity_gsm8k", "answer") if kind.startswith("gsm8k") else (list(plan)[1], "target")
        plan[name] += [[reply, {key: target, "question": "", "input": ""}] for reply in replies]
    return plan


def compared_planted(peer: dict[str, list[Any]]) -> dict[str, Any]:
    """Every planted completion through ours, beside lm-eval's."""
    from ingot.evaluate.benchmarks.results import extracted, matches
    from ingot.evaluate.benchmarks.spec import open_spec

    table: dict[str, Any] = {}
    for name, cases in planted_plan().items():
        spec = open_spec("gsm8k" if "gsm8k" in name else "bbh")
        differ = []
        for (reply, document), theirs in zip(cases, peer[name], strict=True):
            target = document["answer"] if spec.name == "gsm8k" else document["target"]
            ours = {key: [extracted(own, reply), matches(own, reply, target)] for key, own in spec.answers.items()}
            if ours != theirs:
                differ.append({"reply": reply, "target": target, "ours": ours, "lm_eval": theirs})
        table[spec.name] = {"completions": len(cases), "that_differ": differ}
    return table


def compared_texts(task: str, rows: list[dict[str, Any]], samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Two runs of one task: texts, what was found in them, scores. `first_space_lost`: texts whose first space lm-eval
    drops, for it decodes an answer's tokens without what they stand behind, and sentencepiece begins a text so."""
    from ingot.evaluate.benchmarks.results import extracted, matches
    from ingot.evaluate.benchmarks.spec import open_spec

    answers, texts, scores, spaces = open_spec(task).answers, [], [], 0
    assert len(rows) == len(samples), f"{task}: {len(rows)} rows, {len(samples)} of lm-eval"
    for row, sample in zip(rows, samples, strict=True):
        found = {
            key: [extracted(own, row["reply"]), matches(own, row["reply"], row["target"])]
            for key, own in answers.items()
        }
        spaces += row["reply"] == f" {sample['resps'][0]}"
        if row["reply"] not in (sample["resps"][0], f" {sample['resps'][0]}"):
            texts.append({"id": row["id"], "ours": row["reply"], "lm_eval": sample["resps"][0]})
        if found != sample["found"]:
            scores.append({"id": row["id"], "ours": found, "lm_eval": sample["found"]})
    return {
        "items": len(rows), "characters": sum(len(row["reply"]) for row in rows), "texts_that_differ": texts,
        "first_space_lost": spaces,
        "answers_or_scores_that_differ": scores, "cut": sum(bool(row["cut"]) for row in rows),
        "found": sum(one != "[invalid]" for sample in samples for one, _ in sample["found"].values()),
        "right": sum(right for sample in samples for _, right in sample["found"].values()),
    }  # fmt: skip


def recorded_planted(peer: dict[str, list[Any]]) -> list[Any]:
    """For the tests: (task, completion, target, {filter: [found, score]})."""
    return [
        ["gsm8k" if "gsm8k" in name else "bbh", reply, document.get("answer", document.get("target")), theirs]
        for name, cases in planted_plan().items()
        for (reply, document), theirs in zip(cases, peer[name], strict=True)
    ]


def dump(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
