"""The verbs that train, as a user calls them: what they write, what they refuse, and going on after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ingot
from ingot.adapt.load import load
from ingot.core.errors import IngotError
from ingot.core.model_dir import read_header
from ingot.core.report import Report
from ingot.model.weights import read_tensor
from ingot.train.checkpoint import Place
from ingot.train.metrics import read_metrics
from tiny import GPT2, write_model, write_tokenizer

SMALL: dict[str, Any] = {
    "depth": 1,
    "length": 32,
    "batch_tokens": 128,
    "max_steps": 8,
    "loop": {"compile": "off", "precision": "fp32"},
}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    lines = [f"the cat number {n} sat on the mat and the dog ran. 天空是藍色的{n}。" for n in range(120)]
    path = tmp_path / "corpus.jsonl"
    records = [{"text": line, "licence": "CC0-1.0"} for line in lines]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    return write_tokenizer(tmp_path / "tok")


@pytest.mark.slow
def test_same_seed_same_bytes_and_a_proven_directory(corpus: Path, tokenizer: Path, tmp_path: Path) -> None:
    first, again, other = (
        ingot.pretrain(corpus, tokenizer=tokenizer, out=tmp_path / name, seed=seed, **SMALL)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first.files["model.safetensors"] == again.files["model.safetensors"]
    assert first.files["model.safetensors"] != other.files["model.safetensors"]
    step = first.hallmark.step
    assert step.proof[0].difference == 0
    assert step.numbers["steps"] == 8
    assert step.numbers["bits_per_byte"] > 0
    assert not list(tmp_path.glob(".*.training"))


@pytest.mark.peers
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_transformers_opens_it_with_equal_logits(family: str, corpus: Path, tokenizer: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ingot.pretrain(corpus, tokenizer=tokenizer, out=tmp_path / "m", family=family, **SMALL)
    peer = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32)
    ids = torch.tensor([load(tmp_path / "m").tokenizer.encode("the cat sat 天空")])
    assert AutoTokenizer.from_pretrained(tmp_path / "m").encode("the cat sat 天空") == ids[0].tolist()
    with torch.no_grad():
        assert (peer(input_ids=ids).logits - load(tmp_path / "m").logits(ids)).abs().max() <= 1e-4


@pytest.mark.slow
def test_full_tuning_moves_the_weights(corpus: Path, tokenizer: Path, tmp_path: Path) -> None:
    ingot.pretrain(corpus, tokenizer=tokenizer, out=tmp_path / "m", **SMALL)
    chat = {"messages": [{"role": "user", "content": "cat"}, {"role": "assistant", "content": "sat"}]}
    (tmp_path / "chat.jsonl").write_text((json.dumps(chat) + "\n") * 4)
    options = {"max_steps": 3, "loop": {"compile": "off", "precision": "fp32"}}
    tuned = ingot.tune(str(tmp_path / "m"), data=tmp_path / "chat.jsonl", out=tmp_path / "t", method="full", **options)
    assert tuned.kind == "model"
    ids = [[1, 2, 3]]
    assert not torch.equal(load(tmp_path / "m").logits(ids), load(tmp_path / "t").logits(ids))


def refused(code: str, corpus: Path, tokenizer: Path, out: Path, **options: Any) -> None:
    with pytest.raises(IngotError) as caught:
        ingot.pretrain(corpus, tokenizer=tokenizer, out=out, **SMALL | options)
    assert caught.value.code == code
    assert not out.exists() or any(out.iterdir())


def test_refusals(corpus: Path, tokenizer: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    refused("unknown-option", corpus, tokenizer, out, dept=3)
    refused("bad-option", corpus, tokenizer, out, lr=-1)
    empty, blank, latin = (tmp_path / name for name in ("empty.jsonl", "blank.jsonl", "latin.txt"))
    empty.write_text("")
    blank.write_text('{"text": " "}\n')
    latin.write_bytes("caf\xe9".encode("latin-1"))
    for path, code in ((empty, "empty-corpus"), (blank, "blank-corpus"), (latin, "not-utf8")):
        refused(code, path, tokenizer, tmp_path / code)
    out.mkdir()
    (out / "mine.txt").write_text("precious")
    refused("out-not-empty", corpus, tokenizer, out)
    assert (out / "mine.txt").read_text() == "precious"


SCRIPT = """
import json, sys
import ingot, ingot.train.loop as loop
loop.SAVE_SECONDS = 0.0  # a checkpoint at every step, so that many kills come while one is written
verb, options = json.loads(sys.argv[1])
getattr(ingot, verb)(**options)
"""


def start(verb: str, options: dict[str, Any]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, json.dumps([verb, options], default=str)], env=os.environ)


def kill_at_a_random_moment(process: subprocess.Popen[bytes], place: Place, begin: int, moment: float) -> int:
    """Kill -9 `moment` seconds after the run has gone beyond step `begin`; returns the newest checkpoint's step, having
    read the whole of it."""
    while place.newest() is None or place.newest_step() <= begin:
        assert process.poll() is None
        time.sleep(0.005)
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.wait()
    newest = place.newest()
    assert newest is not None
    tensors = [read_tensor(entry) for entry in read_header(newest / "state.safetensors").values()]
    assert len(tensors) > 10
    return place.newest_step()


@pytest.mark.slow
def test_killed_and_resumed_is_the_uninterrupted_run(corpus: Path, tokenizer: Path, tmp_path: Path) -> None:
    """kill -9 of the real command at random moments, dropout on, data shuffled, several epochs, again and again; then
    to the end with --resume: the same losses at every step, the same weights, bit for bit."""
    base = write_model(tmp_path / "base", GPT2, tokenizer=tokenizer, resid_pdrop=0.2, embd_pdrop=0.1, attn_pdrop=0.1)
    options = {"model": str(base), "data": corpus, "as_text": True, "method": "full", "length": 32,
               "batch_tokens": 128, "max_steps": 120, "loop": {"compile": "off", "precision": "fp32"}}  # fmt: skip
    assert start("tune", options | {"out": tmp_path / "whole"}).wait() == 0
    out, place = tmp_path / "killed", Place.beside(tmp_path / "killed")
    reached = 0
    moments = np.random.default_rng().uniform(0, 0.4, size=3)
    for number, moment in enumerate(moments):
        process = start("tune", options | {"out": out, "resume": number > 0})
        reached = kill_at_a_random_moment(process, place, reached, moment)
        assert not out.exists()
    assert start("tune", options | {"out": out, "resume": True}).wait() == 0
    whole, killed = (
        [(line["step"], line["loss"], line["norm"]) for line in read_metrics(path / "metrics.jsonl")]
        for path in (tmp_path / "whole", out)
    )
    assert killed == whole, f"killed after {moments}"
    weights = [load(path).model_dir.files["model.safetensors"] for path in (tmp_path / "whole", out)]
    assert weights[0] == weights[1]
    assert not place.path.exists()


def test_a_run_leaves_its_log_and_report(corpus: Path, tokenizer: Path, tmp_path: Path) -> None:
    model = ingot.pretrain(corpus, tokenizer=tokenizer, out=tmp_path / "m", **SMALL)
    report = Report.open(model.path / "training")
    assert report.numbers["steps"] == 8
    assert (model.path / "training" / "report.html").read_text().count("<svg") >= 5
    lines = [json.loads(line) for line in (model.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert set(lines[0]["layers"]) == {"embedding", "0", "rest"}


@pytest.mark.slow
def test_frozen_parameters_do_not_move(corpus: Path, tokenizer: Path, tmp_path: Path) -> None:
    loop = {"compile": "off", "freeze": "model.embed_tokens.*"}
    frozen, other = (
        ingot.pretrain(
            corpus, tokenizer=tokenizer, out=tmp_path / str(steps), **SMALL | {"max_steps": steps, "loop": loop}
        )
        for steps in (1, 6)
    )
    first, second = (load(model.path).decoder.state_dict() for model in (frozen, other))
    assert torch.equal(first["model.embed_tokens.weight"], second["model.embed_tokens.weight"])
    assert not torch.equal(first["model.layers.0.mlp.up_proj.weight"], second["model.layers.0.mlp.up_proj.weight"])
    refused("freeze-matches-nothing", corpus, tokenizer, tmp_path / "x", loop={"freeze": "model.embd.*"})


@pytest.mark.parametrize("ignored", [{"rank": 4}, {"lora": {"alpha": 8.0}}])
def test_full_tuning_refuses_what_belongs_to_lora(tmp_path: Path, ignored: dict[str, Any]) -> None:
    with pytest.raises(IngotError, match="only with method lora") as error:
        ingot.tune("m", data=tmp_path / "chat.jsonl", out=tmp_path / "t", method="full", **ignored)
    assert error.value.code == "options-conflict"


@pytest.mark.parametrize("ignored", [{"rank": 4}, {"new": {"vocab_size": 99}}])
def test_a_memory_plan_refuses_what_it_would_not_read(ignored: dict[str, Any]) -> None:
    with pytest.raises(IngotError, match="only with"):
        ingot.plan_memory(preset="gpt2", **ignored)
