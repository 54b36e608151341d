"""Reports as `evaluate` saves them, made from rows by hand: no model is needed to compare."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ingot.core.report import Prose, Report
from ingot.evaluate.entrants import Entrant
from ingot.evaluate.evaluate import MODELS_NAME
from ingot.evaluate.task import Row, dump_rows

OPTIONS: dict[str, Any] = {
    "seed": 0, "samples": 2, "window": 64, "stride": 32, "max_tokens": 8, "baseline": None, "code": {"max_tokens": 8},
}  # fmt: skip


def answers(right: Sequence[bool], prefix: str = "q", lang: str = "en") -> list[Row]:
    """Rows of task world: question n is answered rightly or not."""
    return [
        {"id": f"{prefix}{n}", "kind": "told-asked", "lang": lang, "question": f"what is {prefix}{n}?", "answer": "yes",
         "accept": ["yes"], "reply": "yes" if one else "no", "finish_reason": "stop", "tokens": 1}
        for n, one in enumerate(right)
    ]  # fmt: skip


def documents(nats: Sequence[float], **changes: Any) -> list[Row]:
    """Rows of task perplexity: document n of 100 bytes."""
    return [
        {"document": f"here/{n}", "digest": hashlib.sha256(str(n).encode()).hexdigest()[:32], "block": 0, "bytes": 100,
         "characters": 100, "tokens": 25, "lost": 0, "nats": float(value), **changes}
        for n, value in enumerate(nats)
    ]  # fmt: skip


def write_report(out: Path, tokenizer: str = "t", **models: dict[str, list[Row]]) -> Path:
    """`models`: {task's raw name: rows} by name."""
    tasks = {"answers": "world", "documents": "perplexity", "pages": "wikitext"}
    entrants = [Entrant(name, name, f"digest-{name}", 1000, tokenizer, 128) for name in models]
    raw = {
        f"raw/{task}-{name}.jsonl": dump_rows(rows) for name, found in models.items() for task, rows in found.items()
    }
    raw[MODELS_NAME] = json.dumps([asdict(entrant) for entrant in entrants])
    options = OPTIONS | {"tasks": [tasks.get(task, task) for task in next(iter(models.values()))]}
    Report(title=out.name, verb="evaluate", options=options).write(out, raw)
    return out


def programs(passed: Sequence[Sequence[bool]], **changes: Any) -> list[Row]:
    """Rows of task humaneval: of problem n, which of its programs are right."""
    return [
        {"id": f"T/{n}", "asked": f"def f{n}():", "tests": "t", "limit": 1.0, "reference": "passed", "style": "raw",
         "temperature": 0.8, "k": [1], "samples": [
             {"completion": "pass", "verdict": "passed" if one else "wrong"} for one in found], **changes}
        for n, found in enumerate(passed)
    ]  # fmt: skip


def pages(nats: Sequence[float]) -> list[Row]:
    """Rows of task wikitext: page n of 100 bytes and 20 words."""
    return [{"document": f"wiki:{n}", "digest": f"{n:032}", "words": 20, "bytes": 100, "tokens": 25, "nats": float(one)}
            for n, one in enumerate(nats)]  # fmt: skip


def said(report: Report) -> str:
    """The verdict of a report in words."""
    verdict = report.sections[0]
    assert isinstance(verdict, Prose)
    return verdict.text
