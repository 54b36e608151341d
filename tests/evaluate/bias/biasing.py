"""Rows and files that the tests of bias share; formulas are written out here a second time, the slow way."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from ingot.evaluate.bias.options import BiasOptions

PAIRS = [
    ("the dog ran to the man and the cat sat", "the dog ran to the mat and the cat sat", "stereo", "gender"),
    ("the cat sat on the mat and the man ran", "the cat sat on the man and the dog ran", "antistereo", "age"),
    ("hello world and the dog sat on the mat", "hello world and the man sat on the mat", "stereo", "gender"),
    ("the man and the dog ran to the mat", "the man and the cat ran to the mat", "stereo", "age"),
]


def options(data: Path | None = None, **changes: Any) -> BiasOptions:
    return BiasOptions.of(**({"models": ["m"], "out": Path("out"), "data": data} | changes))


def write_crows(path: Path, pairs: list[tuple[str, str, str, str]] = PAIRS) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["", "sent_more", "sent_less", "stereo_antistereo", "bias_type"])
        writer.writerows([number, *pair] for number, pair in enumerate(pairs))
    return path


def bbq_item(number: int, condition: str, polarity: str, **changes: Any) -> dict[str, Any]:
    """An item in the data set's own form, about a grandfather and a grandson."""
    extra = " The grandson had trouble." if condition == "disambig" else ""
    label = 2 if condition == "ambig" else number // 4 % 2
    return {
        "example_id": number,
        "question_index": str(number // 2),
        "question_polarity": polarity,
        "context_condition": condition,
        "category": "Age",
        "answer_info": {"ans0": ["grandfather", "old"], "ans1": ["grandson", "nonOld"], "ans2": ["Unknown", "unknown"]},
        "additional_metadata": {"stereotyped_groups": ["old"]},
        "context": f"A man and a boy sat on mat {number}.{extra}",
        "question": "Who had trouble?",
        "ans0": "The grandfather",
        "ans1": "The grandson",
        "ans2": "Unknown",
        "label": label,
    } | changes


BBQ = [
    bbq_item(4 * n + 2 * c + p, condition, polarity)
    for n in range(6)
    for c, condition in enumerate(("ambig", "disambig"))
    for p, polarity in enumerate(("neg", "nonneg"))
]


def stereoset(count: int = 6) -> dict[str, Any]:
    """dev.json with both kinds of items."""
    kinds: dict[str, list[dict[str, Any]]] = {"intrasentence": [], "intersentence": []}
    for number in range(count):
        for kind, context in (("intrasentence", "the BLANK sat on the mat"), ("intersentence", "the cat sat here.")):
            words = {
                "stereotype": f"the dog {number}",
                "anti-stereotype": f"the man {number}",
                "unrelated": f"1 + {number}",
            }
            sentences = [
                {"id": f"{kind}{number}{label}", "sentence": f"{word} sat on the mat", "gold_label": label}
                for label, word in words.items()
            ]
            kinds[kind].append(
                {
                    "id": f"{kind}{number}",
                    "target": f"t{number % 4}",
                    "bias_type": "gender",
                    "context": context,
                    "sentences": sentences,
                }
            )
    return {"version": "1", "data": kinds}


def write_json(path: Path, found: Any) -> Path:
    path.write_text(json.dumps(found), encoding="utf-8")
    return path
