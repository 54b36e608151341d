"""Preferences to train on, and log-probabilities of answers as they are written in books."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

import ingot
from ingot.core.model_dir import ModelDir
from ingot.data.pairs import read_pairs, render_pairs
from ingot.model.network import Network
from ingot.text.chat import Rendered
from ingot.text.tokenizer import Tokenizer
from tiny import LLAMA, write_model, write_tokenizer

LOOP = {"compile": "off", "precision": "fp32"}
NAMES = ("cat", "dog", "mat", "man", "world")


def records(count: int = 24) -> list[dict[str, Any]]:
    """Pairs whose answers differ in length."""
    return [{"prompt": f"where is the {NAMES[n % 5]} {n}",
             "chosen": "on the mat" + " and the man" * (9 if n % 6 == 0 else n % 2),
             "rejected": "hello " * (1 + n % 4) + str(n), "licence": "MIT"} for n in range(count)]  # fmt: skip


def labelled(count: int = 24) -> list[dict[str, Any]]:
    """Their answers, each by itself; more good ones than bad."""
    return [{"prompt": one["prompt"], "completion": one["rejected" if n % 3 == 0 else "chosen"], "label": n % 3 > 0,
             "licence": "MIT"} for n, one in enumerate(records(count))]  # fmt: skip


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def make_base(root: Path, config: dict[str, Any] = LLAMA) -> Path:
    return write_model(root / "base", config, tokenizer=write_tokenizer(root / "tok"))


def preferred(base: Path | str, out: Path, lines: list[dict[str, Any]] | None = None, **options: Any) -> ModelDir:
    """The verb, on these records or the usual ones."""
    data = write(out.parent / f"{out.name}.jsonl", records() if lines is None else lines)
    options = {"max_steps": 2, "batch_tokens": 256, "loop": LOOP} | options
    return ingot.prefer(str(base), data=data, out=out, **options)


def rendered(path: Path, tokenizer: Tokenizer) -> list[tuple[Rendered, Rendered]]:
    return [pair[:2] for pair in render_pairs(read_pairs(path), tokenizer)]


def logprob(network: Network, text: Rendered) -> torch.Tensor:
    """Of the answer behind its prompt, read alone."""
    ids = torch.tensor([text.ids])
    each = torch.log_softmax(network.head(network(ids))[0, :-1], -1).gather(1, ids[0, 1:, None])[:, 0]
    return each[torch.tensor(text.mask[1:])].sum()
