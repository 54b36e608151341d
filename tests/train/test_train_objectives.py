"""Every objective through the loop: trained, written, re-opened, measured, resumed, continued; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import ingot
from ingot.adapt.load import load
from ingot.core.errors import IngotError
from ingot.train.metrics import read_metrics
from tiny import write_tokenizer

SMALL: dict[str, Any] = {"depth": 2, "length": 48, "batch_tokens": 256, "max_steps": 40, "loop": {"compile": "off"},
                         "corpus": {"allow_unknown_licence": True}}  # fmt: skip
SPECIAL = ["<|mask|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", *(f"<extra_id_{n}>" for n in range(12))]
CASES = [
    ("next-token", "gpt2"),
    ("fill-in-middle", "qwen3"),
    ("prefix-lm", "llama"),
    ("masked-lm", "bert"),
    ("span-corruption", "t5"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus and a tokenizer with the special tokens of every objective."""
    from tokenizers import Tokenizer

    path = tmp_path_factory.mktemp("objectives")
    lines = [f"the cat number {n} sat on the mat and the dog ran. 天空是藍色的{n}。" for n in range(120)]
    (path / "corpus.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    tokenizer = Tokenizer.from_file(str(write_tokenizer(path / "tok") / "tokenizer.json"))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(path / "tok" / "tokenizer.json"))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("objective", "family"), CASES, ids=[case[0] for case in CASES])
def test_each_objective_learns_and_is_continued(objective: str, family: str, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    model = ingot.pretrain(folder / "corpus.jsonl", tokenizer=folder / "tok", out=out, family=family,
                           objective=objective, lr=3e-3, **SMALL)  # fmt: skip
    losses = [line["loss"] for line in read_metrics(out / "metrics.jsonl")]
    assert losses[-1] < 0.9 * losses[0]
    numbers = model.hallmark.step.numbers
    assert numbers["heldout_loss"] < 0.95 * losses[0]
    assert ("bits_per_byte" in numbers) == (family not in ("bert", "t5"))
    tuned = ingot.tune(str(out), data=folder / "corpus.jsonl", out=tmp_path / "t", as_text=True, objective=objective,
                       method="full", lr=1e-3, max_steps=10, batch_tokens=256, loop={"compile": "off"},
                       corpus={"allow_unknown_licence": True})  # fmt: skip
    assert tuned.hallmark.step.numbers["loss"] < losses[5]
    again = load(out).network.state_dict()
    moved = [name for name, tensor in load(tmp_path / "t").network.state_dict().items()
             if not torch.equal(tensor, again[name])]  # fmt: skip
    assert moved


def refused(code: str, verb: Any, *args: Any, **options: Any) -> None:
    with pytest.raises(IngotError) as caught:
        verb(*args, **options)
    assert caught.value.code == code


def test_what_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    data, tok = folder / "corpus.jsonl", folder / "tok"
    plain = write_tokenizer(tmp_path / "plain")
    common = SMALL | {"out": tmp_path / "m"}
    refused("objective-form", ingot.pretrain, data, tokenizer=tok, objective="masked-lm", **common)
    refused("objective-form", ingot.pretrain, data, tokenizer=tok, family="bert", **common)
    refused("objective-lacks-tokens", ingot.pretrain, data, tokenizer=plain, objective="fill-in-middle", **common)
    unused = {"objectives": {"noise": 0.5}}
    refused("objective-option-unused", ingot.pretrain, data, tokenizer=tok, **common, **unused)
    assert not (tmp_path / "m").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_tuning_by_conversations_only_where_an_objective_knows_them(folder: Path, tmp_path: Path) -> None:
    ingot.pretrain(folder / "corpus.jsonl", tokenizer=folder / "tok", out=tmp_path / "m", **SMALL)
    chat = {"messages": [{"role": "user", "content": "cat"}, {"role": "assistant", "content": "sat"}]}
    (tmp_path / "chat.jsonl").write_text((json.dumps(chat) + "\n") * 4)
    common = {"data": tmp_path / "chat.jsonl", "max_steps": 3, "loop": {"compile": "off"}}
    refused("objective-needs-text", ingot.tune, str(tmp_path / "m"), out=tmp_path / "x", objective="fill-in-middle",
            **common)  # fmt: skip
    answer = {"objective": "prefix-lm", "objectives": {"split": "answer"}}
    tuned = ingot.tune(str(tmp_path / "m"), out=tmp_path / "t", **answer, **common)
    assert tuned.hallmark.step.numbers["targets"] > 0
    refused("window-too-long", ingot.tune, str(tmp_path / "m"), out=tmp_path / "x", length=49, **common)
