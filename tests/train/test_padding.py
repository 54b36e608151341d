"""A tokenizer without a padding token, or whose padding is its end token: ends are learnt, padding never is.

The commonest recipe elsewhere (`pad_token = eos_token`, then padding masked out of the labels) makes models that never
stop. Here what is padding is told by place and not by token.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ingot.adapt.load import load
from ingot.data.objectives.catalogue import make_objective
from ingot.data.objectives.options import ObjectiveOptions
from ingot.data.pack import Rows
from ingot.train.account import Account
from ingot.train.loss import Inputs, prediction_loss
from ingot.train.reading import ConversationOptions, read_conversations
from tiny import LLAMA, write_model, write_tokenizer

ANSWERS = ["the cat", "sat", "天空是藍色的。"]


def model(folder: Path, pad: str | None) -> Path:
    """A model whose tokenizer has this padding token."""
    tokenizer = write_tokenizer(folder / "tok")
    path = tokenizer / "tokenizer_config.json"
    content: dict[str, Any] = json.loads(path.read_text())
    content.pop("pad_token")
    path.write_text(json.dumps(content | ({"pad_token": pad} if pad else {})))
    return write_model(folder / "base", LLAMA, tokenizer=tokenizer)


def learnt(folder: Path, pad: str | None) -> tuple[Rows, float, set[int]]:
    """Packed conversations, the loss of the first row, and the tokens that end a turn."""
    opened = load(model(folder, pad))
    records = [{"prompt": f"what of {n}?", "completion": answer} for n, answer in enumerate(ANSWERS)]
    data = folder / "chats.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    objective = make_objective("next-token", opened.tokenizer, 96)
    account = Account.of_chats(data, allow_unknown_licence=True)
    found = read_conversations(
        account, opened, objective, ObjectiveOptions(), 96, folder / "rows", ConversationOptions()
    ).rows
    inputs = Inputs.of(objective.lesson(found.batch(0, 1, 0), 0, 0), torch.device("cpu"))
    loss = float(prediction_loss(opened.network, inputs))
    return found, loss, {opened.tokenizer.eos_id or 0, opened.tokenizer.id("<|im_end|>") or 0}


def test_ends_are_learnt_and_padding_never_is(tmp_path: Path) -> None:
    seen = {}
    for name, pad in {"own": "<|pad|>", "end": "<|endoftext|>", "turn": "<|im_end|>", "none": None}.items():
        (tmp_path / name).mkdir()
        seen[name] = learnt(tmp_path / name, pad)
    rows, loss, ends = seen["own"]
    for found, other, _ in seen.values():
        padding = found.segments == -1
        assert padding.any()
        assert not found.targets[padding].any()
        assert sum(int(found.targets[found.ids == end].sum()) for end in ends) >= len(ANSWERS)
        assert np.array_equal(found.targets, rows.targets)
        assert np.array_equal(found.ids[~padding], rows.ids[~padding])
        assert other == pytest.approx(loss, abs=0)
